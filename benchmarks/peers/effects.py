"""Probes of what the perturbed pass leaves behind."""

import copy

import torch
from torch import Tensor, nn

from benchmarks.peers.adapters import Peer, Wish
from benchmarks.peers.outcome import NotOfferedError, Outcome
from benchmarks.peers.tools import closure_of, largest_difference


def batch_norm(peer: Peer) -> Outcome:
    """Batch-norm statistics are those of one plain forward pass."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    x = torch.randn(8, 4)
    plain = copy.deepcopy(model)
    plain(x)
    wanted, start = list(plain.buffers()), copy.deepcopy(model)

    def seen(model: nn.Module) -> str:
        mean = largest_difference(list(model.buffers())[:1], wanted[:1])
        count = int(list(model.buffers())[2])
        return f"running mean off by {mean:.1g}, {count} batch{'es' * (count > 1)} counted"

    optimizer = peer.make(model.parameters(), Wish(rho=0.5, model=model))
    peer.step(optimizer, closure_of(optimizer, lambda: model(x).square().mean()))
    right = all(map(torch.equal, model.buffers(), wanted))
    figure = seen(model)
    try:
        helped = start
        optimizer = peer.make(helped.parameters(), Wish(rho=0.5))
        home = [p.detach().clone() for p in helped.parameters()]

        def loss_of() -> Tensor:
            second = largest_difference(list(helped.parameters()), home) > 0
            (peer.hush if second else peer.unhush)(helped)
            return torch.as_tensor(helped(x).square().mean())

        peer.step(optimizer, closure_of(optimizer, loss_of))
    except NotOfferedError:
        return Outcome(right, figure)
    right_with_help = all(map(torch.equal, helped.buffers(), wanted))
    return Outcome(right or right_with_help, f"{figure}; with its helper: {seen(helped)}")


def helper_twice(peer: Peer) -> Outcome:
    """The helper for batch normalisation may be called twice in a row, and then undone."""
    norm = nn.BatchNorm1d(3)
    try:
        peer.hush(norm)
        peer.hush(norm)
        peer.unhush(norm)
    except NotOfferedError:
        return Outcome(None, "no helper")
    return Outcome(norm.momentum == 0.1, f"momentum 0.1 becomes {norm.momentum:g}")


def dropout(peer: Peer) -> Outcome:
    """Dropout masks are equal in both passes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 400), nn.Dropout(0.5), nn.Linear(400, 1))
    masks: list[Tensor] = []
    model[1].register_forward_hook(lambda _module, _args, out: masks.append(out != 0))
    optimizer = peer.make(model.parameters(), Wish(model=model))
    peer.step(optimizer, closure_of(optimizer, lambda: model(torch.ones(1, 4)).square().mean()))
    agree = (masks[-1] == masks[-2]).float().mean().item()
    return Outcome(agree == 1, f"{100 * agree:.0f} % of the entries agree")

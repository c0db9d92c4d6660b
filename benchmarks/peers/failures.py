"""Probes of what becomes of the weights: after failures, over many steps, and in their storage."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.adapters import Peer, Wish
from benchmarks.peers.outcome import Outcome, raised
from benchmarks.peers.tools import Loss, closure_of, cubic, largest_difference

DRIFT_STEPS = 2000


def _weights(*values: float) -> list[Tensor]:
    return [torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in values]


class _Second:
    """A loss that does something else in the perturbed pass."""

    def __init__(self, params: list[Tensor]) -> None:
        self._params, self._home = params, [p.detach().clone() for p in params]

    def __call__(self) -> bool:
        return largest_difference(self._params, self._home) > 0


def exception_in_pass_2(peer: Peer) -> Outcome:
    """An exception in the perturbed pass leaves the weights where they were."""
    params = _weights(1.0, -2.0)
    home = [p.detach().clone() for p in params]
    perturbed = _Second(params)

    def loss_of() -> Tensor:
        if perturbed():
            raise MemoryError("as if the memory had run out")
        return cubic(params, [torch.ones(1)] * 2)

    optimizer = peer.make(params, Wish(rho=0.5))
    try:
        peer.step(optimizer, closure_of(optimizer, loss_of))
    except MemoryError:
        off = largest_difference(params, home)
        return Outcome(off == 0, f"weights are off by {off:.2g}")
    return Outcome(False, "the exception was swallowed")


def storage(peer: Peer) -> Outcome:
    """Weights stay in their storage, so that views of them stay valid."""
    params = _weights(1.0, -2.0)
    places, views = [p.data_ptr() for p in params], [p.detach()[:] for p in params]
    optimizer = peer.make(params, Wish(rho=0.5))
    peer.step(optimizer, closure_of(optimizer, lambda: cubic(params, [torch.ones(1)] * 2)))
    stayed = [p.data_ptr() for p in params] == places
    off = largest_difference(views, params)
    return Outcome(stayed and off == 0, "same storage" if stayed else f"new storage; a view is off by {off:.2g}")


def drift(peer: Peer) -> Outcome:
    """At learning rate 0 nothing moves, in 2,000 steps."""
    figures = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = nn.Linear(16, 4).to(dtype)
        home = [p.detach().clone() for p in model.parameters()]
        optimizer = peer.make(model.parameters(), Wish(options={"lr": 0.0}))
        for _ in range(DRIFT_STEPS):
            x, labels = torch.randn(8, 16).to(dtype), torch.randint(4, (8,))
            loss_of = lambda: functional.cross_entropy(model(x).float(), labels)  # noqa: E731, B023
            peer.step(optimizer, closure_of(optimizer, loss_of))
        figures[dtype] = largest_difference(list(model.parameters()), home)
    worst = max(figures.values())
    return Outcome(worst == 0, f"float32: {figures[torch.float32]:.1g}, bfloat16: {figures[torch.bfloat16]:.1g}")


def gradient_in_pass_1_only(peer: Peer) -> Outcome:
    """A parameter that has no gradient in the perturbed pass comes back."""
    a, b = params = _weights(1.0, -2.0)
    perturbed = _Second(params)
    optimizer = peer.make(params, Wish(rho=0.5, options={"lr": 0.0}))

    def loss_of() -> Tensor:
        return a.pow(3).sum() if perturbed() else a.pow(3).sum() + b.pow(3).sum()

    peer.step(optimizer, closure_of(optimizer, loss_of))
    return Outcome(b.item() == -2.0, f"it is off by {abs(b.item() + 2):.2g}")


def not_a_number(peer: Peer) -> Outcome:
    """A gradient that is NaN, in either pass, reaches neither the weights nor the momentum."""
    spoilt = []
    for bad in (False, True):
        params = _weights(1.0, -2.0)
        perturbed = _Second(params)
        optimizer = peer.make(params, Wish(rho=0.5, options={"lr": 0.1, "momentum": 0.9}))

        def loss_of(params: list[Tensor] = params) -> Tensor:
            return cubic(params, [torch.ones(1)] * 2)

        def bad_loss(bad: bool = bad, perturbed: _Second = perturbed, loss_of: Loss = loss_of) -> Tensor:
            return torch.nan * loss_of() if perturbed() == bad else loss_of()

        for loss in (bad_loss, loss_of):
            peer.step(optimizer, closure_of(optimizer, loss))
        if not all(bool(p.isfinite()) for p in params):
            spoilt.append("2" if bad else "1")
    return Outcome(
        not spoilt, f"weights are NaN after one in pass {' or '.join(spoilt)}" if spoilt else "weights finite"
    )


def gradient_scaler(peer: Peer) -> Outcome:
    """`GradScaler.step(optimizer, closure)` steps on gradients without the loss scale."""
    ends = []
    for scaled in (True, False):
        params = _weights(1.0, -2.0)
        scaler = peer.scaler() if scaled else None
        optimizer = peer.make(params, Wish(rho=0.5, options={"lr": 0.01}, scaler=scaler))

        def loss_of(params: list[Tensor] = params) -> Tensor:
            loss = cubic(params, [torch.ones(1)] * 2)
            return loss if scaler is None else scaler.scale(loss)  # noqa: B023

        closure = closure_of(optimizer, loss_of)
        if scaler is None:
            peer.step(optimizer, closure)
        else:
            peer.scaled_step(optimizer, closure, scaler)
            scaler.update()
        ends.append([p.detach() for p in params])
    start = torch.tensor([1.0, -2.0]).double()
    updates = [(torch.cat(end) - start).norm() for end in ends]
    ratio = (updates[0] / updates[1]).item()
    return Outcome(abs(ratio - 1) < 1e-9, f"the step is {ratio:.6g} times as long as without a scaler")


def overflow(peer: Peer) -> Outcome:
    """An overflow in the perturbed pass, under a `GradScaler`, skips the step and lowers the scale."""
    params = _weights(1.0, -2.0)
    home = [p.detach().clone() for p in params]
    perturbed, scaler = _Second(params), peer.scaler()
    optimizer = peer.make(params, Wish(rho=0.5, scaler=scaler))

    def loss_of() -> Tensor:
        loss = cubic(params, [torch.ones(1)] * 2) * (torch.inf if perturbed() else 1.0)
        scaled: Tensor = scaler.scale(loss)
        return scaled

    try:
        peer.scaled_step(optimizer, closure_of(optimizer, loss_of), scaler)
        scaler.update()
    except Exception as error:
        return raised(error)
    off = largest_difference(params, home)
    scale = scaler.get_scale() / 2.0**16
    finite = all(bool(p.isfinite()) for p in params)
    weights = f"weights are off by {off:.2g}" if finite else "weights are not finite"
    return Outcome(off < 1e-12 and scale == 0.5, f"{weights}; the scale is multiplied by {scale:g}")

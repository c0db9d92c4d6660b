"""Probes with two processes that talk through gloo, as under `torchrun --nproc-per-node 2`."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.peers.adapters import Peer, Wish
from benchmarks.peers.outcome import Outcome, observed
from benchmarks.peers.tools import closure_of, largest_difference

_RANKS: Final = 2
_STEPS: Final = 4
_WISH: Final = Wish(rho=0.3)
_EXACT: Final = 1e-12  # float64


def fsdp(peer: Peer) -> Outcome:
    """Under FSDP2 (`fully_shard`) a run equals that of one process."""
    return _on_ranks(_fsdp, peer)


def ddp(peer: Peer) -> Outcome:
    """Under DistributedDataParallel a run equals that of one process, and all ranks hold the same weights."""
    return _on_ranks(_ddp, peer)


def m_sharpness(peer: Peer) -> Outcome:
    """Each rank perturbs along the gradient of its own share of the batch (m-sharpness)."""
    return _on_ranks(_m_sharpness, peer)


def _on_ranks(probe: Callable[[Peer], Outcome], peer: Peer) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (probe, peer, folder), nprocs=_RANKS)  # type: ignore[no-untyped-call]
        outcomes = [Outcome(**json.loads((Path(folder) / str(i)).read_text("utf-8"))) for i in range(_RANKS)]
    return min(outcomes, key=lambda outcome: (outcome.holds is not None, outcome.holds or False))


def _rank(rank: int, probe: Callable[[Peer], Outcome], peer: Peer, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=_RANKS, timeout=timedelta(seconds=60))
    outcome = observed(lambda: probe(peer))
    (Path(folder) / str(rank)).write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)).double()


def _batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(8, 5).double(), torch.randint(3, (8,))) for _ in range(_STEPS)]


def _share(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, labels = (tensor.chunk(_RANKS)[dist.get_rank()] for tensor in batch)
    return x, labels


def _train(peer: Peer, model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    optimizer = peer.make(model.parameters(), _WISH)
    for x, labels in batches:
        loss_of = lambda: functional.cross_entropy(model(x), labels)  # noqa: E731, B023
        peer.step(optimizer, closure_of(optimizer, loss_of))


def _one_process(peer: Peer) -> list[Tensor]:
    model = _network()
    _train(peer, model, _batches())
    return list(model.parameters())


def _fsdp(peer: Peer) -> Outcome:
    expected = _one_process(peer)
    model = _network()
    for layer in model.children():
        fully_shard(layer)
    fully_shard(model)
    _train(peer, model, [_share(batch) for batch in _batches()])
    weights = [p.full_tensor() for p in model.parameters()]  # type: ignore[attr-defined]
    error = largest_difference(weights, expected)
    return Outcome(error < _EXACT, f"off by {error:.1g}")


def _ddp(peer: Peer) -> Outcome:
    expected = _one_process(peer)
    model = DistributedDataParallel(_network())
    _train(peer, model, [_share(batch) for batch in _batches()])
    error = largest_difference(list(model.parameters()), expected)
    same = _same_everywhere(model)
    return Outcome(error < _EXACT and same, f"off by {error:.1g}" + "; ranks differ" * (not same))


def _m_sharpness(peer: Peer) -> Outcome:
    expected = _reference()
    model = DistributedDataParallel(_network())
    optimizer = peer.make(model.parameters(), Wish(rho=_WISH.rho, model=model, local=True))
    for x, labels in map(_share, _batches()):
        peer.local_step(optimizer, model, lambda: functional.cross_entropy(model(x), labels))  # noqa: B023
    error = largest_difference(list(model.parameters()), expected)
    whole = largest_difference(list(model.parameters()), _one_process(peer))
    figure = f"off by {error:.1g}" + "; as if the whole batch had perturbed" * (whole < _EXACT)
    return Outcome(error < _EXACT and _same_everywhere(model), figure)


def _same_everywhere(model: nn.Module) -> bool:
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    others = [torch.empty_like(weights) for _ in range(_RANKS)]
    dist.all_gather(others, weights)
    return all(torch.equal(weights, other) for other in others)


def _reference() -> list[Tensor]:
    """m-sharpness in one process, written out."""
    model = _network()
    params: list[Tensor] = list(model.parameters())
    for batch in _batches():
        means = [torch.zeros_like(p) for p in params]
        for x, labels in zip(*(tensor.chunk(_RANKS) for tensor in batch), strict=True):
            grads = torch.autograd.grad(functional.cross_entropy(model(x), labels), params)
            scale = _WISH.rho / torch.cat([g.flatten() for g in grads]).norm()
            moved = {name: p.detach() + scale * g for (name, p), g in zip(model.named_parameters(), grads, strict=True)}
            plus = {name: value.requires_grad_() for name, value in moved.items()}
            logits = torch.func.functional_call(model, plus, (x,))
            shifted = torch.autograd.grad(functional.cross_entropy(logits, labels), list(plus.values()))
            means = [mean + g / _RANKS for mean, g in zip(means, shifted, strict=True)]
        with torch.no_grad():
            for p, mean in zip(params, means, strict=True):
                p.sub_(_WISH.options["lr"] * mean)
    return params

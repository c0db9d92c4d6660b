"""Probes of the memory that a step takes and keeps, above that of two passes and a step of the base optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.memory import balances
from benchmarks.peers.adapters import Peer, Wish
from benchmarks.peers.outcome import Outcome
from benchmarks.peers.tools import closure_of

_CPU = torch.device("cpu")
_SLACK = 0.02  # of a copy: figures of the step, random numbers


def peak_memory(peer: Peer) -> Outcome:
    """At its peak a step takes at most one copy of the parameters (MLP 784-512-10, batch 256, SGD with momentum)."""
    above = _above_the_base(peer)[0]
    return Outcome(above < 1 + _SLACK, f"{above:.2f} copies")


def kept_memory(peer: Peer) -> Outcome:
    """Between steps nothing is kept."""
    above = _above_the_base(peer)[1]
    return Outcome(above < _SLACK, f"{above:.2f} copies")


def _above_the_base(peer: Peer) -> tuple[float, float]:
    """Memory at the peak of a step and between steps, in copies of the parameters."""
    wish = Wish(options={"lr": 0.01, "momentum": 0.9})

    def make(model: nn.Module) -> Any:
        return peer.make(model.parameters(), wish)

    def base(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), **wish.options)

    def two_passes(optimizer: Any, closure: Callable[[], Tensor]) -> None:
        closure()
        closure()
        optimizer.step()

    peak, kept = _used(make, peer.step)
    base_peak, base_kept = _used(base, two_passes)
    size = 4 * sum(p.numel() for p in _model().parameters())
    return (peak - base_peak) / size, (kept - base_kept) / size


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))


def _used(make: Callable[[nn.Module], Any], step: Callable[[Any, Callable[[], Tensor]], Any]) -> tuple[int, int]:
    torch.manual_seed(0)
    x, labels = torch.rand(256, 784), torch.randint(10, (256,))
    made: list[Any] = []

    def settle() -> None:
        model = _model()  # here, so that every release is one of memory that was seen to be taken
        made.extend([model, make(model)])
        for _ in range(2):
            once()
        made[1].zero_grad()

    def once() -> None:
        model, optimizer = made
        step(optimizer, closure_of(optimizer, lambda: functional.cross_entropy(model(x), labels)))

    (_, kept), (peak, _) = balances([settle, once], _CPU)
    return peak, kept

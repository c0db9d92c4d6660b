"""Ways to make one SAM step: the three calling styles of samirage, the two of pytorch-optimizer, and a bare loop."""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

import torch
from pytorch_optimizer import SAM as PeerSAM
from torch import Tensor

from benchmarks.workloads import Workload, loss_of
from samirage import SAM

RHO: Final = 0.05

Step = Callable[[], object]


class Trial:
    """One model under one optimizer, with a clock in its closure.

    Args:
        workload: What to train.
        device: Where.

    Attributes:
        inside: Seconds spent in the closure so far. (On an accelerator, which works on its own time, not to be used.)
        optimizer: The optimizer.
        step: Makes one step.
    """

    optimizer: torch.optim.Optimizer
    step: Step

    def __init__(self, workload: Workload, device: torch.device) -> None:
        torch.manual_seed(0)
        self.workload = workload
        self.model = workload.model().to(device)
        self.x, self.labels = (tensor.to(device) for tensor in workload.batch())
        self.inside = 0.0

    def base(self) -> torch.optim.Optimizer:
        """Return the workload's base optimizer."""
        make: Callable[..., torch.optim.Optimizer] = self.workload.base
        return make(self.model.parameters(), **self.workload.options)

    def closure(self) -> Tensor:
        """Run one forward and backward pass."""
        begun = time.perf_counter()
        self.optimizer.zero_grad()
        loss = loss_of(self.model, self.x, self.labels)
        torch.autograd.backward(loss)
        self.inside += time.perf_counter() - begun
        return loss


def bare(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Run two forward and backward passes and the base optimizer's step: the least that SAM can cost."""
    optimizer = trial.base()

    def step() -> None:
        trial.closure()
        trial.closure()
        optimizer.step()

    return optimizer, step


def by_closure(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Let samirage call the closure."""
    optimizer = SAM(trial.base(), rho=RHO)
    return optimizer, lambda: optimizer.step(trial.closure)


def by_block(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Run samirage's second pass in a `with` block."""
    optimizer = SAM(trial.base(), rho=RHO)

    def step() -> None:
        trial.closure()
        with optimizer.perturbed():
            trial.closure()
        optimizer.step()

    return optimizer, step


def by_two_calls(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Call samirage's `first_step` and `second_step`."""
    optimizer = SAM(trial.base(), rho=RHO)

    def step() -> None:
        trial.closure()
        optimizer.first_step(zero_grad=True)
        trial.closure()
        optimizer.second_step()

    return optimizer, step


def _peer(trial: Trial) -> PeerSAM:
    return PeerSAM(trial.model.parameters(), trial.workload.base, rho=RHO, **trial.workload.options)


def peer_by_closure(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Step pytorch-optimizer with a closure, after a first pass of one's own, as its documentation shows."""
    optimizer = _peer(trial)

    def step() -> None:
        trial.closure()
        optimizer.step(cast(Any, trial.closure))  # declared to return a float, which would wait for a device

    return optimizer, step


def peer_by_two_calls(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Call pytorch-optimizer's `first_step` and `second_step`."""
    optimizer = _peer(trial)

    def step() -> None:
        trial.closure()
        optimizer.first_step(zero_grad=True)
        trial.closure()
        optimizer.second_step()

    return optimizer, step


BARE: Final = "bare loop"
CONTENDERS: Final[Mapping[str, Callable[[Trial], tuple[torch.optim.Optimizer, Step]]]] = MappingProxyType(
    {
        BARE: bare,
        "samirage, step(closure)": by_closure,
        "samirage, perturbed()": by_block,
        "samirage, first_step + second_step": by_two_calls,
        "pytorch-optimizer, step(closure)": peer_by_closure,
        "pytorch-optimizer, first_step + second_step": peer_by_two_calls,
    }
)


def trial(name: str, workload: Workload, device: torch.device) -> Trial:
    """Set one contender up.

    Args:
        name: One of `CONTENDERS`.
        workload: What to train.
        device: Where.
    """
    made = Trial(workload, device)
    made.optimizer, made.step = CONTENDERS[name](made)
    return made

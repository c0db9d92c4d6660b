"""Ways to make one SAM step: samirage's three calling styles, the two of pytorch-optimizer, and two yardsticks.

The yardsticks are a bare loop, and SAM written down in the fewest calls, without figures, checks and a way back.
"""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

import torch
from pytorch_optimizer import SAM as PeerSAM
from torch import Tensor

from benchmarks.workloads import Workload, loss_of
from samirage import SAM, Guard, Monitor

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


def fewest_calls(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Run SAM in the fewest calls: one norm, one copy of the weights, one way there and one way back."""
    optimizer = trial.base()
    weights: list[Tensor] = list(trial.model.parameters())

    def step() -> None:
        trial.closure()
        with torch.no_grad():
            grads = [w.grad for w in weights if w.grad is not None]
            scale = RHO / float(torch.stack(torch._foreach_norm(grads)).norm())
            home = [w.clone() for w in weights]
            torch._foreach_add_(weights, grads, alpha=scale)
        trial.closure()
        with torch.no_grad():
            torch._foreach_copy_(weights, home)
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


def guarded_and_watched(trial: Trial) -> tuple[torch.optim.Optimizer, Step]:
    """Let samirage call the closure, under a guard and before the eyes of a monitor."""
    optimizer = SAM(trial.base(), rho=RHO, guard=Guard())
    monitor = Monitor(optimizer)

    def step() -> Monitor:  # which must live as long as the step
        optimizer.step(trial.closure)
        return monitor

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
GUARDED: Final = "samirage, step(closure), guard and monitor"
CONTENDERS: Final[Mapping[str, Callable[[Trial], tuple[torch.optim.Optimizer, Step]]]] = MappingProxyType(
    {
        BARE: bare,
        "SAM in the fewest calls": fewest_calls,
        "samirage, step(closure)": by_closure,
        "samirage, perturbed()": by_block,
        "samirage, first_step + second_step": by_two_calls,
        GUARDED: guarded_and_watched,
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

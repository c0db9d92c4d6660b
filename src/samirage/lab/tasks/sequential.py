"""Networks trained one after another by the optimizer itself: for what the ensemble engine does not do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from samirage.lab.engine.models import LOSSES
from samirage.lab.tasks.diagnosis_codes import ATTRIBUTES, codes
from samirage.lab.tasks.mnist import Digits, state_at_end
from samirage.monitor import Monitor, diagnose
from samirage.optim import SAM

_FIGURES: Final = ("loss", "grad_norm", "shift_ratio", "radius")


@dataclass(frozen=True)
class _Trained:
    """How one network ended."""

    course: dict[str, list[Tensor]]
    accuracy: float
    loss: float
    gradients: int
    status: int


def train_singly(
    digits: Digits,
    loss: str,
    make: Callable[[torch.nn.Module], SAM],
    seeds: Sequence[int],
    *,
    steps: int,
    advance: Callable[[int], None],
) -> xr.Dataset:
    """Train a network for each seed, with the full batch.

    Args:
        digits: The task.
        loss: Name of the loss, one of `LOSSES`.
        make: Makes the optimizer of a network.
        seeds: The seeds of the networks.
        steps: Gradient steps, at least 16.
        advance: Called with the number of passes done for each seed since the last call.

    Returns:
        The state at the end of every seed, with the names that `Digits.train` gives it. Shift ratio and gradient norm
        are medians over the last steps of two passes.
    """
    spent = 0

    def spend(gradients: int) -> None:
        nonlocal spent
        before, spent = spent // len(seeds), spent + gradients
        advance(spent // len(seeds) - before)

    done = [_train(digits, loss, make, seed, steps, spend) for seed in seeds]
    course = {name: torch.stack([torch.stack(one.course[name]) for one in done], dim=1) for name in _FIGURES}
    final_loss = np.array([one.loss for one in done], dtype=np.float32)
    results: dict[str, tuple[str, Any]] = {
        name: ("seed", values.numpy()) for name, values in state_at_end(course).items()
    }
    results |= {
        "final_test_accuracy": ("seed", np.array([one.accuracy for one in done], dtype=np.float32)),
        "final_loss": ("seed", final_loss),
        "diverged": ("seed", ~np.isfinite(final_loss)),
        "gradients": ("seed", np.array([one.gradients for one in done])),
        "status": ("seed", np.array([one.status for one in done], dtype=np.int8)),
    }
    return xr.Dataset(results, {"seed": np.array(seeds)}, dict(ATTRIBUTES))


def _train(
    digits: Digits,
    loss: str,
    make: Callable[[torch.nn.Module], SAM],
    seed: int,
    steps: int,
    advance: Callable[[int], None],
) -> _Trained:
    module = digits.network(seed)
    optimizer = make(module)
    monitor = Monitor(optimizer, window=max(16, steps // 4))
    gradients = 0

    def closure() -> Tensor:
        nonlocal gradients
        gradients += 1
        optimizer.zero_grad()
        value = LOSSES[loss](module(digits.x), digits.labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    course: dict[str, list[Tensor]] = {name: [] for name in _FIGURES}
    for _ in range(steps):
        before = gradients
        optimizer.step(closure)
        record = optimizer.record
        if record is not None and record.perturbed:  # a step of one pass has no shift ratio, and would hide the others'
            for name in _FIGURES:
                course[name].append(getattr(record, name).detach().cpu())
        advance(gradients - before)
    with torch.no_grad():
        accuracy = (module(digits.test_x).argmax(-1) == digits.test_labels).float().mean()
        final = LOSSES[loss](module(digits.x), digits.labels)
    status = codes([diagnose(monitor)])[0]
    return _Trained(course, float(accuracy), float(final), gradients, int(status))

"""What the optimizer remembers of its last step."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from samirage.sam import StepFigures


@dataclass(frozen=True, kw_only=True)
class StepRecord(StepFigures):
    """The figures of one optimizer step; tensors of shape () that stay on the device until read.

    All fields of `samirage.sam.StepFigures`, and the following. The losses, and `ascent_gain` with them, are known
    only when the step was given a closure; otherwise they are NaN.

    Attributes:
        step: Number of the step; the first is 0. Every completed step counts, a skipped one too.
        perturbed: Whether the step took its gradient at `x⁺` (two passes), not at `x` (one).
        skipped: Whether a gradient was not finite, so that the step left the weights and the base optimizer as they
            were: a boolean tensor, which `if record.skipped:` reads. On an accelerator without a GradScaler, a base
            optimizer that is not fused steps on a zero gradient instead.
        followed: Whether the step followed `g⁺`, boolean: it does not where the guard rejected it, in the probe of a
            warm start, and in a step of one pass.
        rejections: Number of steps that the guard has rejected so far, this one included.
        radius_factor: What the guard multiplied the radii of this step by, above 0 and at most 1.
        alignment: Cosine between the displacement as realised and as intended. Measured where weights of half precision
            were rounded at random; NaN otherwise.

    Example:
        >>> import torch
        >>> from samirage import SAM
        >>> w = torch.tensor([2.0], requires_grad=True)
        >>> optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = w.square().sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)
        >>> record = optimizer.record
        >>> record.step, record.perturbed, record.skipped.item(), record.radius.item(), record.shift_ratio.item()
        (0, True, False, 0.5, 1.25)
    """

    step: int
    perturbed: bool
    skipped: Tensor
    followed: Tensor
    rejections: Tensor
    radius_factor: Tensor
    alignment: Tensor

    def __getattr__(self, name: str) -> Any:
        """Compute the figures of a record that `late_record` has made, once the first is asked for.

        Raises:
            AttributeError: If a record has no such figure.
        """
        compute = self.__dict__.pop("_compute", None)
        if compute is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        self.__dict__.update(compute())
        return getattr(self, name)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: the figures."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


YES: Final = torch.tensor(True)
NO: Final = torch.tensor(False)


class Number(NamedTuple):
    """What a closure has returned, as a number of the host: its value, NaN if it was none, and its tensor's dtype."""

    value: float
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """Return it as a tensor of shape ()."""
        return torch.full((), self.value, dtype=self.dtype)


def number_of(loss: Any) -> Number:
    """Return what a closure has returned as a number; a tensor is read, for its storage may be reused."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return Number(loss.item(), loss.dtype)
    return Number(loss if isinstance(loss, int | float) else math.nan, torch.float64)


def as_scalar(loss: Any, like: Tensor) -> Tensor:
    """Return the loss as a tensor of shape (), NaN if it is no number; a copy, for its storage may be reused."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.detach().reshape(()).to(like.device, copy=True)
    value = loss if isinstance(loss, int | float) else torch.nan
    return torch.full((), value, dtype=like.dtype, device=like.device)  # a kernel, where torch.tensor copies and waits


def make_record(
    figures: StepFigures,
    *,
    step: int,
    decisive: Tensor,
    counters: tuple[Tensor, Tensor],
    followed: Tensor | None = None,
    alignment: Tensor | None = None,
) -> StepRecord:
    """Return the record of a step.

    Args:
        figures: Its figures.
        step: Its number.
        decisive: What is not finite if the step must be skipped.
        counters: The guard's number of rejections, and its factor of the radii.
        followed: Whether the step follows `g⁺`; None for a step of one pass.
        alignment: See `StepRecord`; None where it was not measured.

    Returns:
        The record.
    """
    rejections, factor = counters
    return StepRecord(
        **vars(figures),
        step=step,
        perturbed=followed is not None,
        skipped=~(decisive < math.inf),
        followed=torch.zeros_like(decisive, dtype=torch.bool) if followed is None else followed,
        rejections=rejections,
        radius_factor=factor,
        alignment=torch.full_like(decisive, torch.nan) if alignment is None else alignment,
    )


def late_record(*, step: int, skipped: bool, figures: Callable[[], StepFigures]) -> StepRecord:
    """Return the record of a step of two passes that follows `g⁺`, whose figures are computed when the first is read.

    Args:
        step: Its number.
        skipped: Whether a gradient was not finite.
        figures: Computes them.

    Returns:
        The record.
    """
    record = object.__new__(StepRecord)
    record.__dict__.update(
        step=step, perturbed=True, skipped=YES if skipped else NO, followed=YES, _compute=partial(_computed, figures)
    )
    return record


def _computed(figures: Callable[[], StepFigures]) -> dict[str, Tensor]:
    found = figures()
    like = found.grad_norm
    return vars(found) | {
        "rejections": torch.zeros_like(like, dtype=torch.int64),
        "radius_factor": torch.ones_like(like),
        "alignment": torch.full_like(like, torch.nan),
    }

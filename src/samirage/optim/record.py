"""What the optimizer remembers of its steps.

A record is a frozen dataclass of tensors. To make the tensors of a step on the host takes longer than the step of a
small model, and most are never read: a step leaves a `PendingRecord`, which becomes a record once somebody asks.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from samirage.sam import Decision, GuardState, StepFigures


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


YES: Final = torch.tensor(True)
NO: Final = torch.tensor(False)


def as_scalar(loss: Any, like: Tensor) -> Tensor:
    """Return the loss as a tensor of shape (), NaN if it is no number; a copy, for its storage may be reused."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.detach().reshape(()).to(like.device, copy=True)
    value = loss if isinstance(loss, int | float) else torch.nan
    return torch.full((), value, dtype=like.dtype, device=like.device)  # a kernel, where torch.tensor copies and waits


@dataclass
class PendingRecord:
    """What a step knows of its record so far.

    Attributes:
        step: Number of the step.
        perturbed: Whether the step takes two passes.
        skipped: Whether a gradient was not finite, shape ().
        figures: The figures, or what computes them.
        followed: Whether the step follows `g⁺`; None where nobody has judged: in a step of two passes it does.
        rejections: Number of rejections by the guard; None without one.
        radius_factor: The guard's factor of the radii; None without one.
        alignment: See `StepRecord`; None where it was not measured.
        decision: What the policy has decided; None where it was not asked.
        made: The record, once it is made.
    """

    step: int
    perturbed: bool
    skipped: Tensor
    figures: StepFigures | Callable[[], StepFigures]
    followed: Tensor | None = None
    rejections: Tensor | None = None
    radius_factor: Tensor | None = None
    alignment: Tensor | None = None
    decision: Decision | None = None
    made: StepRecord | None = None

    def tell_guard(self, guard: GuardState | None) -> None:
        """Write down how often the guard has rejected, and what it multiplied the radii of this step by."""
        if guard is not None:
            self.rejections, self.radius_factor = guard.rejections, guard.factor

    def known_figures(self) -> StepFigures:
        """Return the figures, computed if they are not."""
        if callable(self.figures):
            self.figures = self.figures()
        return self.figures

    def record(self) -> StepRecord:
        """Return the record, always the same."""
        if self.made is None:
            figures = self.known_figures()
            like = figures.grad_norm
            followed = torch.full_like(like, self.perturbed, dtype=torch.bool)
            self.made = StepRecord(
                **vars(figures),
                step=self.step,
                perturbed=self.perturbed,
                skipped=self.skipped,
                followed=followed if self.followed is None else self.followed,
                rejections=torch.zeros_like(like, dtype=torch.int64) if self.rejections is None else self.rejections,
                radius_factor=torch.ones_like(like) if self.radius_factor is None else self.radius_factor,
                alignment=torch.full_like(like, torch.nan) if self.alignment is None else self.alignment,
            )
        return self.made


_KEPT: Final = 1000  # records of the last steps
_FIRST: Final = 20  # records of the first steps, which say what is large and what is small


class History:
    """The records of the first steps of a run, and of the last."""

    def __init__(self) -> None:
        self._first: list[PendingRecord] = []
        self._last: deque[PendingRecord] = deque(maxlen=_KEPT)

    @property
    def first(self) -> list[StepRecord]:
        """At most the first 20 records."""
        return [pending.record() for pending in self._first]

    @property
    def last(self) -> list[StepRecord]:
        """At most the last 1,000 records."""
        return [pending.record() for pending in self._last]

    def add(self, pending: PendingRecord) -> None:
        """Add the record of a step; one that does not follow the last, as after a checkpoint, begins anew."""
        if self._last and pending.step != self._last[-1].step + 1:
            self._first.clear()
            self._last.clear()
        if len(self._first) < _FIRST:
            self._first.append(pending)
        self._last.append(pending)

"""What the optimizer remembers of its last step."""

from dataclasses import dataclass
from typing import Any

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
    alignment: Tensor


def as_scalar(loss: Any, like: Tensor) -> Tensor:
    """Return the loss as a tensor of shape (), NaN if it is no number; a copy, for its storage may be reused."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.detach().reshape(()).to(like.device, copy=True)
    value = loss if isinstance(loss, int | float) else torch.nan
    return torch.full((), value, dtype=like.dtype, device=like.device)  # a kernel, where torch.tensor copies and waits

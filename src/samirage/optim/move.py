"""The move of the weights to `x⁺` and back: what each of its implementations does.

One copy of `x` is kept meanwhile, and `x` comes back from it by an in-place copy: bit for bit, in the same storage,
whatever the precision. Subtracting the perturbation again would drift by a rounding error per step. Where `e` is a
multiple of `g`, the gradient of pass 1 is not needed at `x⁺`: after pass 2 the displacement is recovered in the
weights' own storage.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from samirage.optim.distributed import local, real
from samirage.sam import StepFigures


@dataclass(frozen=True)
class Measurement:
    """What pass 2 has brought.

    Attributes:
        skipped: Whether `‖g⁺‖` is not finite, shape ().
        figures: The figures of the step, or what computes them.
    """

    skipped: Tensor
    figures: StepFigures | Callable[[], StepFigures]


class AbstractMove(ABC):
    """The move of all parameters that have a gradient, made anew for every step.

    Constructing it computes the perturbation and moves nothing. It never changes a gradient. All of it runs under
    `torch.no_grad()`.

    Attributes:
        finite: Whether there is a direction to go, shape ().
        is_readable: Whether the host may look at it without waiting for a device.
        alignment: Cosine between the realised and the intended displacement; None where nothing was rounded at random.
        kept: After `measure`, where gradients are kept: the parameters that had a gradient in either pass, and of each
            `g` and `g⁺`, this rank's part, real, with the loss scale.
    """

    finite: Tensor
    is_readable: bool = True
    alignment: Tensor | None = None
    kept: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None

    @property
    @abstractmethod
    def grad_norm(self) -> Tensor:
        """`‖g‖`, shape ()."""

    @abstractmethod
    def go(self, seed: int) -> None:
        """Move the weights to `x⁺`; where the device alone knows that there is no direction, not at all.

        Args:
            seed: Seed of the random rounding; the number of the step, so that all ranks and a resumed run agree.
        """

    @abstractmethod
    def measure(
        self, params: Sequence[Tensor], *, loss: Any, loss_plus: Any, inverse_scale: Tensor | None
    ) -> Measurement:
        """Measure the step from the gradients of pass 2, and move the weights back to `x`.

        Args:
            params: All parameters of the optimizer; where one lacks a gradient or a displacement, it counts as 0.
            loss: `f`, in any form that a closure may return.
            loss_plus: `f⁺`, likewise.
            inverse_scale: What to multiply the gradients by to undo a loss scale, or None.

        Returns:
            The figures.
        """

    @abstractmethod
    def restore(self) -> None:
        """Move the weights back to `x`, bit for bit; harmless when they are there."""


def whole_grad(param: Tensor) -> Tensor:
    """Return the gradient in the shape of the parameter, this rank's part, real; zeros if there is none."""
    grad = param.grad
    return nothing(param) if grad is None else real(grad.to_dense() if grad.is_sparse else grad)


def nothing(param: Tensor) -> Tensor:
    """Zeros in the shape of the parameter that take no memory."""
    part = local(param)
    return real(part.new_zeros(()).expand_as(part))

"""The loss scale of fp16 training: what a `torch.amp.GradScaler` tells the optimizer, and what it must be told.

A scaler reaches the optimizer in two ways. Given to the constructor, it is asked directly (`GivenScaler`). Without
that, `scaler.step(optimizer)` sets two attributes on the optimizer for the time of its `step()` (`ScalerOfStep`):
`grad_scale` (None once the user has called `scaler.unscale_`) and `found_inf`; it does so for optimizers that declare
`_step_supports_amp_scaling`.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from samirage.sam import StepFigures


class AbstractLossScale(ABC):
    """What is known of the loss scale of a step."""

    @abstractmethod
    def require_fresh(self, closure: bool) -> None:
        """Check, at the beginning of a step, that the gradients to come will be scaled and can be accounted for.

        Args:
            closure: Whether the step is given a closure.

        Raises:
            RuntimeError: If the scaler was not updated since the last step, the gradients were unscaled too early, or
                `scaler.step(optimizer, closure)` cannot record an overflow.
        """

    @abstractmethod
    def inverse(self) -> Tensor | None:
        """Return the factor that undoes the scale of the gradients in `.grad`, or None where none is known or left."""

    @abstractmethod
    def overflow(self, closure: bool) -> Tensor | None:
        """Tell whether `scaler.step` has seen a gradient that is not finite.

        Args:
            closure: Whether the step was given a closure: `scaler.step` has then seen gradients of before the step.

        Returns:
            Boolean tensor of shape (), or None if it has seen none for which the step must be skipped.
        """

    @abstractmethod
    def unscale(self) -> None:
        """Undo the scale in `.grad`, as the scaler does."""

    @abstractmethod
    def report_overflow(self, bad: Tensor) -> None:
        """Tell the scaler of an overflow that it may not have found in `.grad`, as one in pass 1 or on another rank.

        Args:
            bad: Whether there was one, shape ().
        """


class GivenScaler(AbstractLossScale):
    """The scaler that the constructor was given.

    Args:
        optimizer: The optimizer whose gradients are scaled.
        scaler: The scaler, which is enabled.
    """

    def __init__(self, optimizer: Optimizer, scaler: GradScaler) -> None:
        self._optimizer, self._scaler = optimizer, scaler
        self._used: Any = None
        self._one_scaled()  # it takes up its scale with the first loss, but scaler.step may come before that

    def _one_scaled(self) -> Tensor:
        device: torch.device = self._optimizer.param_groups[0]["params"][0].device
        return self._scaler.scale(torch.ones((), device=device))

    def _is_unscaled(self) -> bool:
        stage: str = self._scaler._per_optimizer_states[id(self._optimizer)]["stage"].name
        return stage != "READY"

    def require_fresh(self, closure: bool) -> None:
        """See `AbstractLossScale.require_fresh`.

        Raises:
            RuntimeError: If they will not.
        """
        if self._scaler._per_optimizer_states is self._used:
            raise RuntimeError(
                "the GradScaler was not updated since the last step: call scaler.update() after each step"
            )
        if self._is_unscaled():
            raise RuntimeError(_TOO_EARLY)

    def inverse(self) -> Tensor | None:
        """Return 1/scale; None once the gradients are unscaled."""
        return None if self._is_unscaled() else self._one_scaled().double().reciprocal()

    def overflow(self, closure: bool) -> Tensor | None:
        """Return what `scaler.step` has found; None with a closure, whose gradients `unscale` lets the scaler judge."""
        found = None if closure else self._optimizer.__dict__.get("found_inf")
        return found > 0 if isinstance(found, Tensor) else None

    def unscale(self) -> None:
        """Undo the scale, and let the scaler see whether all of it is finite."""
        if not self._is_unscaled():
            self._scaler.unscale_(self._optimizer)
        self._used = self._scaler._per_optimizer_states

    def report_overflow(self, bad: Tensor) -> None:
        """Add it to what the scaler has found."""
        for found in self._scaler._per_optimizer_states[id(self._optimizer)]["found_inf_per_device"].values():
            found.add_(bad.to(found.device, non_blocking=True))


class ScalerOfStep(AbstractLossScale):
    """The scaler that is known while `scaler.step(optimizer)` runs.

    Args:
        optimizer: The optimizer, with the two attributes that the scaler has set.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def require_fresh(self, closure: bool) -> None:
        """See `AbstractLossScale.require_fresh`.

        Raises:
            RuntimeError: If they will not.
        """
        attributes = self._optimizer.__dict__
        if closure and attributes["grad_scale"] is None:
            raise RuntimeError(_TOO_EARLY)
        if closure and not isinstance(attributes["found_inf"], Tensor):
            raise RuntimeError(
                "scaler.step(optimizer, closure) without a gradient before it needs SAM(..., scaler=scaler): otherwise "
                "scaler.update() would find no record of an overflow check"
            )

    def inverse(self) -> Tensor | None:
        """Return 1/scale; None once the gradients are unscaled."""
        scale = self._optimizer.__dict__.get("grad_scale")
        return None if scale is None else scale.double().reciprocal()

    def overflow(self, closure: bool) -> Tensor | None:
        """Return what `scaler.step` has found."""
        found = self._optimizer.__dict__.get("found_inf")
        return found > 0 if isinstance(found, Tensor) else None

    def unscale(self) -> None:
        """Undo the scale, if the scaler has not."""
        inverse = self.inverse()
        if inverse is not None:
            for group in self._optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.mul_(inverse.to(p.grad.device, torch.float32))

    def report_overflow(self, bad: Tensor) -> None:
        """Do nothing: without a place for it, the scaler has found what there is in `.grad`."""


def forget_scaler_of_step(optimizer: Optimizer) -> None:
    """Drop what `scaler.step` has set, for it does not when the step raises."""
    optimizer.__dict__.pop("grad_scale", None)
    optimizer.__dict__.pop("found_inf", None)


def unscaled_plus(figures: StepFigures, inverse_scale: Tensor) -> StepFigures:
    """Return the figures with the loss scale taken out of those that grow with the shifted gradient alone."""
    inverse = inverse_scale.to(figures.grad_plus_norm)
    return replace(
        figures,
        grad_plus_norm=figures.grad_plus_norm * inverse,
        shift_ratio=figures.shift_ratio * inverse,
        slope_plus=figures.slope_plus * inverse,
    )


def unscaled(figures: StepFigures, inverse: Tensor) -> StepFigures:
    """Return the figures of a step whose loss scale `scaler.step(optimizer)` has brought only at its end.

    Args:
        figures: The figures, of scaled gradients.
        inverse: 1 / loss scale.

    Returns:
        The figures, of the gradients without the scale.
    """
    shifted = unscaled_plus(figures, inverse)
    return replace(
        figures,
        grad_norm=figures.grad_norm * inverse.to(figures.grad_norm),
        grad_plus_norm=shifted.grad_plus_norm,
        slope_plus=shifted.slope_plus,
    )


_TOO_EARLY = (
    "scaler.unscale_(optimizer) came too early: the perturbed pass makes the gradients that count, so call it between "
    "the perturbed pass and scaler.step(optimizer), and not at all with a closure"
)

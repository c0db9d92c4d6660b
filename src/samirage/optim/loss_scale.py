"""The loss scale of fp16 training: what a `torch.amp.GradScaler` tells the optimizer, and what it must be told.

A scaler reaches the optimizer in two ways. Given to the constructor, it is asked directly. Without that,
`scaler.step(optimizer)` sets two attributes on the optimizer for the time of its `step()`: `grad_scale` (None once the
user has called `scaler.unscale_`) and `found_inf`; it does so for optimizers that declare `_step_supports_amp_scaling`.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from samirage.optim.excursion import unscaled_plus
from samirage.optim.record import StepRecord
from samirage.sam import Variant, VariantOptions


class LossScale:
    """What is known of the loss scale.

    Args:
        optimizer: The optimizer whose gradients are scaled.
        scaler: The scaler, or None if it is only known while `scaler.step(optimizer)` runs.
    """

    def __init__(self, optimizer: Optimizer, scaler: GradScaler | None) -> None:
        self._optimizer = optimizer
        self._scaler = scaler
        self._used: Any = None
        scaler = self._active
        if scaler is not None:  # it takes up its scale with the first loss, but scaler.step may come before that
            scaler.scale(torch.ones((), device=self._device()))

    def _device(self) -> torch.device:
        device: torch.device = self._optimizer.param_groups[0]["params"][0].device
        return device

    @property
    def _active(self) -> GradScaler | None:
        return self._scaler if self._scaler is not None and self._scaler.is_enabled() else None

    def _is_unscaled(self, scaler: GradScaler) -> bool:
        stage: str = scaler._per_optimizer_states[id(self._optimizer)]["stage"].name
        return stage != "READY"

    def require_fresh(self, closure: bool) -> None:
        """Check, at the beginning of a step, that the gradients to come will be scaled and can be accounted for.

        Args:
            closure: Whether the step is given a closure.

        Raises:
            RuntimeError: If the scaler was not updated since the last step, the gradients were unscaled too early, or
                `scaler.step(optimizer, closure)` cannot record an overflow.
        """
        scaler, attributes = self._active, self._optimizer.__dict__
        if scaler is not None and scaler._per_optimizer_states is self._used:
            raise RuntimeError(
                "the GradScaler was not updated since the last step: call scaler.update() after each step"
            )
        unscaled = (
            self._is_unscaled(scaler)
            if scaler is not None
            else closure and "found_inf" in attributes and attributes["grad_scale"] is None
        )
        if unscaled:
            raise RuntimeError(
                "scaler.unscale_(optimizer) came too early: the perturbed pass makes the gradients that count, so call "
                "it between the perturbed pass and scaler.step(optimizer), and not at all with a closure"
            )
        if scaler is None and closure and "found_inf" in attributes and not isinstance(attributes["found_inf"], Tensor):
            raise RuntimeError(
                "scaler.step(optimizer, closure) without a gradient before it needs SAM(..., scaler=scaler): otherwise "
                "scaler.update() would find no record of an overflow check"
            )

    def inverse(self) -> Tensor | None:
        """Return the factor that undoes the scale of the gradients in `.grad`, or None where none is known or left."""
        scaler = self._active
        if scaler is not None:
            if self._is_unscaled(scaler):
                return None
            return scaler.scale(torch.ones((), device=self._device())).double().reciprocal()
        scale = self._optimizer.__dict__.get("grad_scale")
        return None if scale is None else scale.double().reciprocal()

    @property
    def is_known(self) -> bool:
        """Whether a scaler has a part in the step that is under way."""
        return self._active is not None or "found_inf" in self._optimizer.__dict__

    def overflow(self, closure: bool) -> Tensor | None:
        """Tell whether `scaler.step` has seen a gradient that is not finite.

        Args:
            closure: Whether the step was given a closure: `scaler.step` has then seen gradients of before the step.

        Returns:
            Boolean tensor of shape (), or None if it has seen none for which the step must be skipped.
        """
        found = self._optimizer.__dict__.get("found_inf")
        if not isinstance(found, Tensor) or (closure and self._active is not None):
            return None  # a scaler that was given judges the gradients that the closure made; see `unscale`
        return found > 0

    def report_overflow(self, bad: Tensor) -> None:
        """Tell the scaler of an overflow that it may not have found in `.grad`, as one in pass 1 or on another rank.

        Args:
            bad: Whether there was one, shape ().
        """
        scaler = self._active
        if scaler is not None:
            for found in scaler._per_optimizer_states[id(self._optimizer)]["found_inf_per_device"].values():
                found.add_(bad.to(found.device, non_blocking=True))

    def unscale(self) -> None:
        """Undo the scale in `.grad`, as the scaler does, and let the scaler see whether all of it is finite."""
        scaler = self._active
        if scaler is not None:
            if not self._is_unscaled(scaler):
                scaler.unscale_(self._optimizer)
            self._used = scaler._per_optimizer_states
            return
        inverse = self.inverse()
        if inverse is not None:
            for group in self._optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.mul_(inverse.to(p.grad.device, torch.float32))

    def forget(self) -> None:
        """Drop what `scaler.step` has set, for it does not when the step raises."""
        self._optimizer.__dict__.pop("grad_scale", None)
        self._optimizer.__dict__.pop("found_inf", None)


def unscaled_late(record: StepRecord, inverse: Tensor, variant: Variant | VariantOptions) -> StepRecord:
    """Correct a record from before `scaler.step(optimizer)`, which has brought the loss scale just now.

    Args:
        record: The record.
        inverse: 1 / loss scale.
        variant: The variant of the step.

    Returns:
        The record, of the gradients without the scale.

    Raises:
        RuntimeError: If the perturbation should have known the scale.
    """
    if variant == "unnormalized":
        raise RuntimeError(
            "variant 'unnormalized' depends on the scale of the gradients: give the scaler to the constructor, as "
            "SAM(..., variant='unnormalized', scaler=scaler)"
        )
    record = replace(record, grad_norm=record.grad_norm * inverse.to(record.grad_norm))
    unscaled = unscaled_plus(record, inverse)
    return replace(record, grad_plus_norm=unscaled.grad_plus_norm, slope_plus=unscaled.slope_plus)

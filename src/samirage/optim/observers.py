"""Observers: they look at every step of the optimizer, and never alter one."""

from typing import Protocol

from torch import Tensor

from samirage.optim.record import StepRecord


class Observer(Protocol):
    """Looks at the steps of an optimizer, without altering them: it must leave parameters and gradients as they are.

    Both methods run under `torch.no_grad()`, and should not wait for the device.
    """

    def saw_gradient(self, inverse_scale: Tensor | None) -> None:
        """Look at `g`, which the parameters hold in `.grad`, after pass 1 of a step of two passes.

        With shards of the batch it is called for each of them.

        Args:
            inverse_scale: What to multiply the gradients by to undo a loss scale, or None.
        """

    def saw_step(self, record: StepRecord, inverse_scale: Tensor | None) -> None:
        """Look at the direction that the base optimizer is about to follow, which the parameters hold in `.grad`.

        Args:
            record: The record of the step.
            inverse_scale: What to multiply the gradients of pass 1 by to undo a loss scale that has only become
                known now, or None.
        """

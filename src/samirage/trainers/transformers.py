"""SAM under the `Trainer` of Transformers, which calls `optimizer.step()` without a closure."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from samirage.errors import require
from samirage.optim import SAM
from samirage.trainers.replay import Replay

if TYPE_CHECKING:
    from transformers import Trainer

    _Base = Trainer
else:
    Trainer = require("transformers", "transformers").Trainer
    require("transformers", "accelerate")  # without it, the Trainer complains at length, and later
    _Base = object

__all__ = ["SAMTrainer", "SAMTrainerMixin"]


class SAMTrainerMixin(_Base):
    """Give a subclass of `transformers.Trainer` SAM's two passes: `class Mine(SAMTrainerMixin, Seq2SeqTrainer): …`.

    The optimizer that the Trainer makes is wrapped in `SAM`, or a `SAM` is given as `optimizers=(sam, None)`. When the
    gradient at `x` is complete, the micro-batches of the step (`gradient_accumulation_steps` of them) run through
    `training_step` again at `x⁺`, with the random numbers of pass 1. Then the Trainer goes on with the shifted
    gradient: it is the one that `max_grad_norm` clips and that `grad_norm` in the log measures. The logged loss is that
    at `x`. The losses of `record` are NaN.

    Args:
        *args: As for the Trainer.
        sam: Keyword arguments for `SAM`, such as `{"rho": 0.05}`; `model` and `scaler` are given already.
        **kwargs: As for the Trainer.

    Raises:
        ValueError: If `sam` is given beside an optimizer that is a SAM already.
    """

    def __init__(self, *args: Any, sam: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sam_options = dict(sam or {})
        self._replay: Replay[Any] = Replay()
        if isinstance(self.optimizer, SAM) and sam is not None:
            raise ValueError(
                "sam=… says how to wrap the Trainer's optimizer, but optimizers=… is a SAM already: leave one of them "
                "out"
            )

    @property
    def sam(self) -> SAM:
        """The SAM optimizer, inside the wrappers of Accelerate.

        Raises:
            TypeError: If there is none, as before `train()` or under DeepSpeed.
        """
        optimizer = _innermost(self.optimizer)
        if not isinstance(optimizer, SAM):
            raise TypeError(
                f"the Trainer's optimizer is no samirage.SAM but {type(optimizer).__name__}: train() makes it, except "
                "under DeepSpeed, which brings its own"
            )
        return optimizer

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the optimizer as the Trainer does, and wrap it in SAM.

        Args:
            *args: As for the Trainer.
            **kwargs: As for the Trainer.

        Returns:
            The optimizer.
        """
        self._replay.forget()
        super().create_optimizer(*args, **kwargs)
        if not isinstance(_innermost(self.optimizer), SAM):
            options = {"model": self.model, "scaler": self.accelerator.scaler} | self._sam_options
            assert self.optimizer is not None
            self.optimizer = SAM(self.optimizer, **options)
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run forward and backward on a micro-batch, and pass 2 of all micro-batches after the last one.

        Args:
            model: The model.
            inputs: The micro-batch.
            *args: As for the Trainer.
            **kwargs: As for the Trainer.

        Returns:
            The loss at `x`, shape ().
        """
        optimizer = self.sam
        self._replay.remember(optimizer, inputs)
        step = super().training_step
        loss = step(model, inputs, *args, **kwargs)

        def run(kept: Any, last: bool) -> None:
            with nullcontext() if last else self.accelerator.no_sync(model):
                step(model, kept, *args, **kwargs)

        if self.accelerator.sync_gradients:
            self._replay.second_pass(optimizer, run)
        return loss


class SAMTrainer(SAMTrainerMixin, Trainer):
    """A `transformers.Trainer` that trains with SAM: `SAMTrainer(model, args, train_dataset=…, sam={"rho": 0.05})`.

    See `SAMTrainerMixin`; `examples/transformers_mnist.py` is a whole program.
    """


def _innermost(optimizer: Any) -> Any:
    while not isinstance(optimizer, SAM) and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer

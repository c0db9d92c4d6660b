"""SAM under a Lightning `Trainer`: a callback makes pass 2, at any precision, with accumulation and clipping."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.amp import GradScaler
from torch.optim import Optimizer

from samirage.errors import require
from samirage.optim import SAM
from samirage.trainers.replay import Replay

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
    from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
else:
    # The same code comes as two packages with two classes `Callback`: take the one that the user has taken.
    _ROOT = "lightning.pytorch" if "lightning.pytorch" in sys.modules else "pytorch_lightning"
    Callback = require("lightning", _ROOT).Callback
    is_param_in_hook_signature = require("lightning", f"{_ROOT}.utilities.signature_utils").is_param_in_hook_signature

__all__ = ["SAMCallback"]


class SAMCallback(Callback):
    """Make the perturbed pass of each step, for a `LightningModule` whose `configure_optimizers` returns a `SAM`.

    With automatic optimization. When the gradient at `x` is complete, the micro-batches of the step
    (`accumulate_grad_batches` of them) run through `training_step` and backward again at `x⁺`, with the random numbers
    of pass 1. Then Lightning goes on with the shifted gradient: it is the one that is clipped, that other callbacks
    see in `on_before_optimizer_step` (if they stand after this one), and that the base optimizer gets. What
    `training_step` returned and logged is that of `x`; `self.log` is silent in pass 2. The losses of
    `optimizer.record` are NaN.

    Without this callback Lightning passes SAM a closure, which works as well in `"32-true"` and `"bf16-mixed"`, but
    `training_step` then logs in both passes, and neither `"16-mixed"` nor accumulation is possible.

    Example: `examples/lightning_mnist.py` is a whole program; what it adds to one without SAM is this.
        >>> import pytorch_lightning as pl
        >>> trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[SAMCallback()])
    """

    def __init__(self) -> None:
        self._replay: Replay[tuple[Any, int]] = Replay()

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Check that the optimizer is a SAM, and let Lightning clip its gradients.

        Args:
            trainer: The trainer.
            pl_module: The module.

        Raises:
            TypeError: If `configure_optimizers` did not return one SAM.
            ValueError: If the module optimizes by itself.
        """
        if not pl_module.automatic_optimization:
            raise ValueError(
                "SAMCallback is for automatic optimization: with automatic_optimization = False leave it out, and call "
                "self.optimizers().step(closure)"
            )
        optimizers = [type(optimizer).__name__ for optimizer in trainer.optimizers]
        if len(optimizers) != 1 or not isinstance(trainer.optimizers[0], SAM):
            raise TypeError(
                f"SAMCallback needs one samirage.SAM from configure_optimizers; got {', '.join(optimizers) or 'none'}: "
                "return SAM(torch.optim.SGD(self.parameters(), lr=0.1), rho=0.05, model=self)"
            )
        clip = partial(_clip, pl_module.clip_gradients, getattr(trainer.precision_plugin, "scaler", None))
        pl_module.clip_gradients = clip  # type: ignore[method-assign]

    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Restore the module.

        Args:
            trainer: The trainer.
            pl_module: The module.
            stage: What ends, such as `"fit"`.
        """
        vars(pl_module).pop("clip_gradients", None)

    def on_exception(self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException) -> None:
        """Restore the module.

        Args:
            trainer: The trainer.
            pl_module: The module.
            exception: What went wrong.
        """
        vars(pl_module).pop("clip_gradients", None)

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Keep the micro-batch.

        Args:
            trainer: The trainer.
            pl_module: The module.
            batch: The micro-batch, on its device.
            batch_idx: Its number in the epoch.
        """
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._replay.forget()
        optimizer = trainer.optimizers[0]
        assert isinstance(optimizer, SAM)
        self._replay.remember(optimizer, (batch, batch_idx))

    def on_before_optimizer_step(self, trainer: "Trainer", pl_module: "LightningModule", optimizer: Optimizer) -> None:
        """Make pass 2.

        Args:
            trainer: The trainer.
            pl_module: The module.
            optimizer: The optimizer.
        """
        assert isinstance(optimizer, SAM)
        with_index = is_param_in_hook_signature(pl_module.training_step, "batch_idx", min_args=2)

        def run(kept: tuple[Any, int], last: bool) -> None:
            block = None if last else getattr(trainer.strategy, "block_backward_sync", None)
            with nullcontext() if block is None else block():
                output = trainer.strategy.training_step(*kept if with_index else kept[:1])
                loss = output["loss"] if isinstance(output, Mapping) else output
                if loss is not None:
                    trainer.strategy.backward(loss / trainer.accumulate_grad_batches, optimizer)

        with _silent(pl_module):
            self._replay.second_pass(optimizer, run)


def _clip(
    clip: Callable[..., None],
    scaler: GradScaler | None,
    optimizer: SAM,
    gradient_clip_val: float | None = None,
    gradient_clip_algorithm: Any = None,
) -> None:
    """Clip the unscaled gradient; by itself Lightning refuses to for an optimizer that can unscale its gradients."""
    if gradient_clip_val and scaler is not None:
        scaler.unscale_(optimizer)
    optimizer._step_supports_amp_scaling = False
    try:
        clip(optimizer, gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm)
    finally:
        del optimizer._step_supports_amp_scaling


@contextmanager
def _silent(module: "LightningModule") -> Iterator[None]:
    """Let `module.log` do nothing: a second value for each step would be mixed into the means."""
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.log

"""One interface to all implementations, each driven as its own documentation shows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer import utils as pytorch_optimizer_utils
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

import samirage
from benchmarks.peers.outcome import NotOfferedError
from benchmarks.peers.sources import COMPOSER, DAVDA54, imported

Closure = Callable[[], Tensor]


@dataclass(frozen=True)
class Wish:
    """What an optimizer shall be like.

    Attributes:
        rho: Radius.
        base: Class of the base optimizer.
        options: Its hyperparameters.
        model: The model, for implementations that take it.
        scaler: The gradient scaler, likewise.
        every: Perturb in one of so many steps.
        local: Whether each rank perturbs along its own gradient.
    """

    rho: float = 0.05
    base: type[Optimizer] = torch.optim.SGD
    options: Mapping[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    model: nn.Module | None = None
    scaler: GradScaler | None = None
    every: int = 1
    local: bool = False


class Peer(ABC):
    """A SAM implementation.

    Args:
        files: Its files, by their path in the repository; none for an installed package.
    """

    title: ClassVar[str]
    source: ClassVar[str]

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._files,)

    @abstractmethod
    def make(self, params: Iterable[Any], wish: Wish) -> Any:
        """Return an optimizer of parameters or groups.

        Raises:
            NotOfferedError: If the implementation offers nothing of the kind.
        """

    @abstractmethod
    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Make a whole step as the documentation shows it for closures, and return what `step` returned."""

    def call(self, optimizer: Any, closure: Closure) -> Any:
        """Give `step` a closure, and do nothing else."""
        return optimizer.step(closure)

    def halves(self, optimizer: Any, closure: Closure) -> None:
        """Make a whole step with explicit calls.

        Raises:
            NotOfferedError: If the implementation has none.
        """
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        optimizer.second_step(zero_grad=True)

    def local_step(self, optimizer: Any, model: DistributedDataParallel, loss_of: Closure) -> None:
        """Make a whole step in which each rank perturbs along its own gradient.

        Raises:
            NotOfferedError: If the implementation knows no way.
        """
        raise NotOfferedError("no recipe")

    def scaler(self) -> Any:
        """Return the gradient scaler that the implementation works with."""
        return GradScaler("cpu", init_scale=2.0**16)

    def scaled_step(self, optimizer: Any, closure: Closure, scaler: Any) -> None:
        """Make a whole step through a gradient scaler, with a closure that scales the loss."""
        closure()
        scaler.step(optimizer, closure)

    def hush(self, model: nn.Module) -> None:
        """Call the implementation's helper that stops the statistics of batch normalisation.

        Raises:
            NotOfferedError: If there is none.
        """
        raise NotOfferedError("no helper")

    def unhush(self, model: nn.Module) -> None:
        """Call the implementation's helper that lets them run again.

        Raises:
            NotOfferedError: If there is none.
        """
        raise NotOfferedError("no helper")


class Samirage(Peer):
    """This package."""

    title = "samirage"
    source = f"samirage {samirage.__version__}"

    def make(self, params: Iterable[Any], wish: Wish) -> Any:
        """Wrap the base optimizer."""
        base: Callable[..., Optimizer] = wish.base
        scope = "local" if wish.local else "global"
        return samirage.SAM(
            base(params, **wish.options),
            rho=wish.rho,
            model=wish.model,
            scaler=wish.scaler,
            every=wish.every,
            scope=scope,  # type: ignore[arg-type]
        )

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Give `step` a closure; that is all."""
        return self.call(optimizer, closure)

    def local_step(self, optimizer: Any, model: DistributedDataParallel, loss_of: Closure) -> None:
        """Give `step` a closure; the optimizer knows the model."""

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of()
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)

    def scaled_step(self, optimizer: Any, closure: Closure, scaler: Any) -> None:
        """Give `step` a closure; the optimizer knows the scaler."""
        scaler.step(optimizer, closure)


class Davda54(Peer):
    """The repository's single file."""

    title = "davda54/sam"
    source = str(DAVDA54)

    def __init__(self, files: Mapping[str, Path]) -> None:
        super().__init__(files)
        self._sam = imported(files["sam.py"], "davda54_sam")
        self._helpers = imported(files["example/utility/bypass_bn.py"], "davda54_bypass_bn")

    def make(self, params: Iterable[Any], wish: Wish) -> Any:
        """Give the class of the base optimizer and its options."""
        if wish.every > 1:
            raise NotOfferedError("every step perturbs")
        return self._sam.SAM(params, wish.base, rho=wish.rho, **wish.options)

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Make the first pass oneself."""
        closure()
        return optimizer.step(closure)

    def local_step(self, optimizer: Any, model: DistributedDataParallel, loss_of: Closure) -> None:
        """Follow the README's recipe for several GPUs: the first backward pass alone within `no_sync`."""
        loss = loss_of()
        with model.no_sync():
            torch.autograd.backward(loss)
        optimizer.first_step(zero_grad=True)
        torch.autograd.backward(loss_of())
        optimizer.second_step(zero_grad=True)

    def hush(self, model: nn.Module) -> None:
        """Call the example's helper."""
        self._helpers.disable_running_stats(model)

    def unhush(self, model: nn.Module) -> None:
        """Call the example's helper."""
        self._helpers.enable_running_stats(model)


class PytorchOptimizer(Peer):
    """The package, with its SAM and, where only one of several steps shall perturb, its LookSAM."""

    title = "pytorch-optimizer"
    source = f"pytorch-optimizer {version('pytorch-optimizer')}"

    def make(self, params: Iterable[Any], wish: Wish) -> Any:
        """Give the class of the base optimizer and its options."""
        if wish.every > 1:
            return pytorch_optimizer.LookSAM(params, wish.base, rho=wish.rho, k=wish.every, **wish.options)
        return pytorch_optimizer.SAM(params, wish.base, rho=wish.rho, **wish.options)

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Make the first pass oneself."""
        closure()
        return optimizer.step(closure)

    def hush(self, model: nn.Module) -> None:
        """Call the package's helper."""
        pytorch_optimizer_utils.disable_running_stats(model)

    def unhush(self, model: nn.Module) -> None:
        """Call the package's helper."""
        pytorch_optimizer_utils.enable_running_stats(model)


class Composer(Peer):
    """Composer's optimizer and its gradient scaler, driven as its Trainer does, which is not run."""

    title = "mosaicml/composer"
    source = str(COMPOSER)

    def __init__(self, files: Mapping[str, Path]) -> None:
        super().__init__(files)
        # The rest of Composer is stood in for: the two classes use nothing of it but two collectives of one rank.
        names = ("Algorithm", "Event", "State", "Logger", "ClosureGradScaler", "ensure_tuple")
        alone = SimpleNamespace(all_gather_object=lambda flag: [flag], all_reduce=lambda *_, **__: None)
        rest = SimpleNamespace(**dict.fromkeys(names, object), dist=alone)
        stand_ins = dict.fromkeys(("composer.core", "composer.loggers", "composer.trainer._scaler"), rest)
        stand_ins |= dict.fromkeys(("composer", "composer.trainer", "composer.utils"), rest)
        self._sam = imported(files["composer/algorithms/sam/sam.py"], "composer_sam", stand_ins)
        self._scaler = imported(files["composer/trainer/_scaler.py"], "composer_scaler", stand_ins)

    def make(self, params: Iterable[Any], wish: Wish) -> Any:
        """Wrap the base optimizer."""
        base: Callable[..., Optimizer] = wish.base
        return self._sam.SAMOptimizer(base(params, **wish.options), rho=wish.rho, interval=wish.every)

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Give `step` a closure that takes what the Trainer's closures take."""
        return self.call(optimizer, closure)

    def call(self, optimizer: Any, closure: Closure) -> Any:
        """Give `step` a closure that takes what the Trainer's closures take."""
        return optimizer.step(closure=lambda **_: closure())

    def local_step(self, optimizer: Any, model: DistributedDataParallel, loss_of: Closure) -> None:
        """Offer nothing without the Trainer, whose closures leave the synchronisation out."""
        raise NotOfferedError("in its Trainer only, which was not run")

    def halves(self, optimizer: Any, closure: Closure) -> None:
        """Offer no explicit calls: `second_step` exists, but is meant for `step` alone."""
        raise NotOfferedError("closures only")

    def scaler(self) -> Any:
        """Return Composer's own, for closures."""
        return self._scaler.ClosureGradScaler("cpu", init_scale=2.0**16)

    def scaled_step(self, optimizer: Any, closure: Closure, scaler: Any) -> None:
        """Give the scaler's `step` a closure."""
        scaler.step(optimizer, closure=lambda **_: closure())

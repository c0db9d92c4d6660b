"""The training of one network on images: SGD with momentum, weight decay and a cosine, and SAM around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR

from samirage.lab.engine.ensemble import Recipe
from samirage.lab.tasks.diagnosis_codes import ATTRIBUTES, codes
from samirage.lab.tasks.image_data import Pictures
from samirage.lab.tasks.mnist import end_variables
from samirage.lab.tasks.process_group import AbstractCrew, Alone
from samirage.monitor import Monitor, diagnose
from samirage.monitor.monitor import MIN_STEPS
from samirage.optim import SAM, StepRecord

_FIGURES: Final = ("loss", "grad_norm", "shift_ratio", "radius")
LONGEST_WINDOW: Final = 2000  # steps of the monitor's window; it is a quarter of the run where that is less
_POINTS: Final = 60  # most points of a stored curve


@dataclass(frozen=True)
class Ways:
    """How the same training is computed, which is a matter of speed.

    Attributes:
        bfloat16: Whether forward passes compute in bfloat16 where that is safe (autocast); the weights stay in float32.
        compiled: Whether `torch.compile` compiles the network; only where one process trains it.
    """

    bfloat16: bool = False
    compiled: bool = False


def fast_ways(device: torch.device) -> Ways:
    """Return what is fast on a device: all of it on CUDA; on a CPU compiling takes longer than it saves.

    Args:
        device: The device.
    """
    on_cuda = device.type == "cuda"
    return Ways(bfloat16=on_cuda, compiled=on_cuda)


class ImageTraining:
    """A network in training; `run` does all of it, `epoch` a part.

    Args:
        network: The network, freshly initialised, on the device of the images.
        pictures: The images.
        recipe: How to train, with a batch size; the learning rate falls from `lr` to 0 along a cosine. The last images
            of an epoch that do not fill a batch are left out, other ones in each epoch.
        weight_decay: Weight decay of SGD, at least 0.
        ways: How to compute.
        crew: The processes that train the network together.
        watched: Whether to watch the run, for the diagnosis at its end; a run of fewer than 16 steps has none.

    Attributes:
        optimizer: The optimizer.
        gradients: Number of gradients so far.
    """

    def __init__(
        self,
        network: nn.Module,
        pictures: Pictures,
        recipe: Recipe,
        *,
        weight_decay: float,
        ways: Ways,
        crew: AbstractCrew | None = None,
        watched: bool = True,
    ) -> None:
        self._pictures, self._recipe, self._ways = pictures, recipe, ways
        self._crew = crew or Alone()
        if ways.compiled and self._crew.size == 1:
            network.compile()
        self._network = self._crew.spread(network, pictures.device)
        base = torch.optim.SGD(
            self._network.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=weight_decay
        )
        self.optimizer = SAM(
            base,
            rho=recipe.rho,
            variant=recipe.variant,
            model=self._network,
            warm_start=recipe.warm_start,
            schedule=recipe.schedule,
            guard=recipe.guard,
            replay_rng=False,  # both passes see the same augmented batch, and nothing in the network is random
        )
        window = min(max(MIN_STEPS, recipe.steps // 4), LONGEST_WINDOW)
        self._monitor = Monitor(self.optimizer, window=window) if watched and recipe.steps >= MIN_STEPS else None
        self._scheduler = CosineAnnealingLR(self.optimizer, recipe.steps)
        self._generator = torch.Generator(pictures.device).manual_seed(recipe.batch_seed)
        self._step = self.gradients = 0

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return steps_per_epoch(self._pictures.images, self._recipe)

    def epoch(self, advance: Callable[[int], None] = lambda passes: None) -> dict[str, Tensor]:
        """Train for an epoch, or for what is left of the recipe's steps.

        Args:
            advance: Called after every step with the number of passes that it took.

        Returns:
            The course of loss, gradient norm, shift ratio and radius, each of shape (steps,), on the CPU; NaN where a
            step has none; and the passes that every step took. The loss is that of the whole batch, before the step.
        """
        self._network.train()
        order = torch.randperm(self._pictures.images, generator=self._generator, device=self._pictures.device)
        # Nothing waits for the device before the end of the epoch.
        batches = torch.split(order, self._recipe.batch_size or len(order))[: self.steps_per_epoch]
        rows, passes = [], []
        for batch in batches[: self._recipe.steps - self._step]:
            before = self.gradients
            x = self._crew.share(self._pictures.augmented(batch, self._generator))
            labels = self._crew.share(self._pictures.labels[batch])
            self.optimizer.step(lambda x=x, labels=labels: self._backward(x, labels))
            self._scheduler.step()
            rows.append(_row(self.optimizer.record))
            self._step += 1
            passes.append(self.gradients - before)
            advance(passes[-1])
        course = torch.stack(rows, dim=1)
        course[0] = self._crew.total(course[0]) / self._crew.size
        return {**dict(zip(_FIGURES, course.cpu(), strict=True)), "passes": torch.tensor(passes)}

    def _backward(self, x: Tensor, labels: Tensor) -> Tensor:
        self.gradients += 1
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self._logits(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _logits(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._ways.bfloat16):
            logits: Tensor = self._network(x)
        return logits.float() if self._ways.bfloat16 else logits

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """Return accuracy and mean loss on the test images; the processes share the batches."""
        self._network.eval()
        batches = list(self._pictures.test_batches())
        sums = torch.zeros(3, dtype=torch.float64, device=self._pictures.device)
        for first in range(0, len(batches), self._crew.size):
            # Where the batches run out, a rank repeats one in vain: with FSDP all must take part in every pass.
            mine = first + self._crew.rank
            x, labels = batches[min(mine, len(batches) - 1)]
            logits = self._logits(x)
            found = torch.stack(
                [
                    (logits.argmax(-1) == labels).sum(),
                    functional.cross_entropy(logits, labels, reduction="sum"),
                    torch.tensor(len(labels), device=logits.device),
                ]
            )
            sums += found * (mine < len(batches))
        correct, loss, count = self._crew.total(sums).tolist()
        return correct / count, loss / count

    def run(
        self,
        seed: int,
        advance: Callable[[int], None] = lambda passes: None,
        after_epoch: Callable[[int, float, float], None] = lambda step, loss, accuracy: None,
    ) -> xr.Dataset:
        """Train to the end, with the test accuracy after every epoch, and diagnose.

        Args:
            seed: The seed, which labels the results.
            advance: Called after every step with the number of passes that it took.
            after_epoch: Called after every epoch with the number of steps so far, the mean loss of the epoch's batches
                and the test accuracy.

        Returns:
            Curves (`seed`, `step`) of loss, gradient norm, shift ratio and radius, thinned, and (`seed`, `eval_step`)
            of the test accuracy, and the state at the end, with the names that
            `samirage.lab.tasks.mnist.Digits.train` gives it.
        """
        tested, courses = {0: self.test()}, []
        while self._step < self._recipe.steps:
            courses.append(self.epoch(advance))
            tested[self._step] = self.test()
            after_epoch(self._step, float(courses[-1]["loss"].mean()), tested[self._step][0])
        course = {name: torch.cat([part[name] for part in courses])[:, None] for name in courses[0]}
        accuracy, loss = tested[self._step]
        stride = -(-self._recipe.steps // _POINTS)
        results: dict[str, tuple[Any, ...]] = {
            name: (("step", "seed"), course[name][::stride].numpy()) for name in _FIGURES
        }
        results |= end_variables(course)
        final_loss = course["loss"][-1].numpy()
        results |= {
            "test_accuracy": (("eval_step", "seed"), np.array([[a] for a, _ in tested.values()], dtype=np.float32)),
            "final_test_accuracy": ("seed", np.array([accuracy], dtype=np.float32)),
            "final_test_loss": ("seed", np.array([loss], dtype=np.float32)),
            "final_loss": ("seed", final_loss),
            "diverged": ("seed", ~np.isfinite(final_loss)),
            "gradients": ("seed", np.array([self.gradients])),
        }
        if self._recipe.guard is not None and self.optimizer.record is not None:
            results["rejections"] = ("seed", np.array([int(self.optimizer.record.rejections)]))
        attributes: dict[str, Any] = {}
        if self._monitor is not None:
            results["status"] = ("seed", codes([diagnose(self._monitor)]))
            attributes |= ATTRIBUTES
        coords = {
            "seed": np.array([seed]),
            "step": np.arange(0, self._recipe.steps, stride),
            "eval_step": np.array(list(tested)),
        }
        return xr.Dataset(results, coords, attributes).transpose("seed", ...)


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Return the number of whole batches in an epoch.

    Args:
        images: Number of training images.
        recipe: How to train.

    Example:
        >>> steps_per_epoch(50_000, Recipe(steps=1, lr=0.1, batch_size=128))
        390
    """
    return images // (recipe.batch_size or images)


def _row(record: StepRecord | None) -> Tensor:
    assert record is not None
    nothing = torch.full_like(record.grad_norm, torch.nan)
    looked = (record.shift_ratio, record.radius) if record.perturbed else (nothing, nothing)
    return torch.stack([value.detach().to(nothing) for value in (record.loss, record.grad_norm, *looked)])

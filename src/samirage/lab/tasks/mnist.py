"""Two-layer tanh networks that learn to read handwritten digits: the task of Figure 4 of arXiv 2509.21818.

The paper's loss, width, learning rate and radii are not known to us; those chosen here show the phenomenon clearly.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from samirage.criteria import HALLUCINATED_GRAD_FRACTION, HALLUCINATED_SHIFT_RATIO
from samirage.errors import UserError
from samirage.lab.data import datasets as data
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.models import LOSSES, MLP
from samirage.lab.engine.stacked import AbstractStack, stack
from samirage.lab.results.constants import END_FRACTION, JUDGED_BY
from samirage.sam import is_at_hallucinated_point
from samirage.sam.medians import median

if TYPE_CHECKING:
    from samirage.diagnosis import Watch

_CLASSES: Final = 10
_EVALUATIONS: Final = 60  # test accuracies along a run
_SHORTEST_WINDOW: Final = 16  # steps of a watch's window

# Learning rates at which plain gradient descent trains well within the steps of the laptop scale. The squared error of
# tanh outputs, a sum over ten classes, needs the smallest: at 1, its outputs saturate.
LEARNING_RATES: Final = {"softmax-squared": 1.0, "cross-entropy": 0.5, "tanh-squared": 0.1}


class Digits:
    """The data on a device, and the training of networks on it.

    Args:
        name: Name of the data set.
        images: Training images used; the first so many.
        hidden: Width of the hidden layer.
        device: Where to compute.
        data_dir: Folder of the data set, where it is not the one in the package.
        noise: Share of the training images, between 0 and 1, that get a wrong label, drawn once with a fixed seed.
        network: Makes a network from its number of inputs and of outputs; by default the tanh network.

    Attributes:
        width: Number of inputs.
        x: Training images, shape (images, width), pixels from 0 to 1.
        labels: Their digits, shape (images,).
        test_x: Test images.
        test_labels: Their digits.

    Raises:
        UserError: If the data set is not to be had, or has too few images.
    """

    def __init__(
        self,
        name: str,
        *,
        images: int,
        hidden: int,
        device: torch.device,
        data_dir: str | None = None,
        noise: float = 0.0,
        network: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        loaded = data.load(name, data_dir=data_dir)
        if not 1 <= images <= len(loaded.train_images):
            raise UserError(
                f"{images} images were asked for, and {name} has {len(loaded.train_images)}: use at most so many"
            )
        self._device = device
        self._network = network or (lambda inputs, classes: MLP([inputs, hidden, classes]))
        self.x, self.labels = self._tensors(
            loaded.train_images[:images], _relabelled(loaded.train_labels[:images], noise)
        )
        self.test_x, self.test_labels = self._tensors(loaded.test_images, loaded.test_labels)
        self.width = self.x.shape[1]

    def _tensors(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        # Pixels are scaled to 0 … 1 and not centred: pixels that are never inked stay exactly 0.
        x = torch.tensor(images.reshape(len(images), -1), dtype=torch.float32, device=self._device) / 255
        return x, torch.tensor(labels[: len(images)], dtype=torch.int64, device=self._device)

    def members(self, loss: str, seeds: Sequence[int]) -> AbstractStack:
        """Return freshly initialised networks, one for each seed.

        Args:
            loss: Name of the loss, one of `LOSSES`.
            seeds: Their seeds.

        Returns:
            The stack.
        """
        return stack([self.network(seed) for seed in seeds], LOSSES[loss], self.x, self.labels)

    def network(self, seed: int) -> nn.Module:
        """Return a freshly initialised network.

        Args:
            seed: Its seed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._network(self.width, _CLASSES).to(self._device)

    def train(
        self,
        loss: str,
        recipe: Recipe,
        seeds: Sequence[int],
        *,
        points: int,
        advance: Callable[[int], None],
        attributes: Mapping[str, Any],
        diagnosed: bool = False,
    ) -> xr.Dataset:
        """Train a network for each seed.

        Args:
            loss: Name of the loss, one of `LOSSES`.
            recipe: How to train.
            seeds: The seeds of the networks.
            points: Most points of a stored curve, at least 1.
            advance: Called with the number of passes done since the last call.
            attributes: What to say about the run in the data set.
            diagnosed: Whether to watch the run, and say for every seed what it was doing at the end.

        Returns:
            Curves (`seed`, `step`) of all figures of the steps and (`seed`, `eval_step`) of the test accuracy, and the
            state at the end of every seed.
        """
        members = self.members(loss, seeds)
        every = max(1, recipe.steps // min(points, _EVALUATIONS))
        accuracy: dict[int, Tensor] = {0: self._test_accuracy(members)}

        def after_step(step: int, passes: int) -> None:
            done = step + 1
            if done % every == 0 or done == recipe.steps:
                accuracy[done] = self._test_accuracy(members)
            advance(passes)

        watch = _watch(recipe.steps) if diagnosed else None
        course = train(members, recipe, after_step, watch)
        ended = end_variables(course, recipe)
        followed, passes = course.pop("followed"), course.pop("passes")
        stride = -(-recipe.steps // points)
        final_loss = LOSSES[loss](members.logits(self.x), self.labels)
        results: dict[str, tuple[Any, ...]] = {
            **{name: (("step", "seed"), _numpy(values[::stride])) for name, values in course.items()},
            **ended,
        }
        results |= {
            "test_accuracy": (("eval_step", "seed"), _numpy(torch.stack(list(accuracy.values())))),
            "final_test_accuracy": ("seed", _numpy(accuracy[recipe.steps])),
            "final_loss": ("seed", _numpy(final_loss)),
            "diverged": ("seed", _numpy(~torch.isfinite(final_loss))),
            "gradients": ("seed", _numpy(passes.sum(0))),
        }
        by_criterion = recipe.warm_start is not None and recipe.warm_start.until is not None
        if recipe.guard is not None and not by_criterion:  # whose probes are not followed either
            looked = course["radius"].isfinite()
            results["rejections"] = ("seed", _numpy((looked & ~followed).sum(0)))
        described = dict(attributes)
        if watch is not None:
            from samirage.lab.tasks.diagnosis_codes import ATTRIBUTES, codes_at_end

            results["status"] = ("seed", codes_at_end(watch))
            described |= ATTRIBUTES
        coords = {
            "seed": np.array(seeds),
            "step": np.arange(0, recipe.steps, stride),
            "eval_step": np.array(list(accuracy)),
        }
        return xr.Dataset(results, coords=coords, attrs=described).transpose("seed", ...)

    def _test_accuracy(self, members: AbstractStack) -> Tensor:
        return (members.logits(self.test_x).argmax(-1) == self.test_labels).float().mean(1)


def _watch(steps: int) -> "Watch":
    from samirage.diagnosis import Watch  # here, because most studies are not diagnosed
    from samirage.lab.tasks.diagnosis_codes import SAMPLE

    return Watch(window=max(_SHORTEST_WINDOW, steps // 4), sample=SAMPLE, batched=True)


def _relabelled(labels: NDArray[np.int64], noise: float) -> NDArray[np.int64]:
    """Give a share of the examples one of the other labels, each as likely."""
    draw = np.random.default_rng(0)
    wrong = draw.permutation(len(labels)) < round(noise * len(labels))
    return np.where(wrong, (labels + draw.integers(1, _CLASSES, len(labels))) % _CLASSES, labels)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()


def state_at_end(course: Mapping[str, Tensor], *, alternates: bool = False) -> dict[str, Tensor]:
    """Return medians over the last steps, and whether they say that the run ended at a hallucinated point.

    The last steps are a share `END_FRACTION` of all. Where some of SAM's steps take one pass, only those of two passes
    count, for the others have no shift ratio; if none of them is among the last steps, the last of them does. A run
    that is still in its warm start has no shift ratio at its end.

    Args:
        course: Loss, gradient norm, shift ratio and radius of every step, and the number of `passes` that it took, each
            of shape (steps, S).
        alternates: Whether some of SAM's steps take one pass; see `Recipe.alternates`.

    Returns:
        Name → shape (S,).
    """
    steps = len(course["loss"])
    window = max(1, round(END_FRACTION * steps))
    rows = list(range(steps - window, steps))
    if alternates:
        of_two = (course["passes"] > 1).any(1).nonzero().flatten().tolist()
        rows = [row for row in of_two if row in rows] or of_two[-1:]
    ratio, grad_norm, radius = (median(course[name][rows]) for name in ("shift_ratio", "grad_norm", "radius"))
    early_grad_norm = median(course["grad_norm"][:window])
    return {
        "final_shift_ratio": ratio,
        "final_grad_norm": grad_norm,
        "final_radius": radius,
        "hallucinated": is_at_hallucinated_point(
            ratio,
            grad_norm,
            early_grad_norm,
            max_shift_ratio=HALLUCINATED_SHIFT_RATIO,
            min_grad_fraction=HALLUCINATED_GRAD_FRACTION,
        ),
    }


def end_variables(
    course: Mapping[str, Tensor], recipe: Recipe
) -> dict[str, tuple[str, NDArray[Any], dict[str, float]]]:
    """Return the state at the end as variables of a data set; `hallucinated` says by what it was judged.

    Args:
        course: As for `state_at_end`.
        recipe: How the run was trained.

    Returns:
        Name → dimension, values of shape (S,), and attributes.
    """
    return {
        name: ("seed", _numpy(values), dict(JUDGED_BY) if name == "hallucinated" else {})
        for name, values in state_at_end(course, alternates=recipe.alternates).items()
    }

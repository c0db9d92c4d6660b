"""ResNet-18 on CIFAR-100 with stochastic gradients: the task of Figure 5 of arXiv 2509.21818.

Batch size, momentum, weight decay and the cosine are the usual ones for this network; the paper's learning rate and
number of epochs are not known to us.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import torch
from torch import nn

from samirage.lab.data import datasets as data
from samirage.lab.engine.compute import default_threads, usable_device
from samirage.lab.engine.ensemble import Recipe
from samirage.lab.engine.recipe import recipe_parts
from samirage.lab.tasks.image_data import Pictures, subset, synthetic
from samirage.lab.tasks.loop import Ways, fast_ways, steps_per_epoch
from samirage.lab.tasks.resnet import ResNet18

METHODS: Final = ("sgd", "sam", "switch", "decay", "guard")
PANEL: Final = "ResNet-18"
MOMENTUM: Final = 0.9


@dataclass(frozen=True)
class CifarConfig:
    """All that decides the numbers of a training.

    Attributes:
        scale: Preset that the values started from.
        data: Name of the data set: `"cifar100"`, or `"synthetic"` for an artificial one.
        classes: Number of classes, the first so many.
        images: Training images, as many of each class.
        size: Height and width of the images, to which those of the data set are shrunk.
        width: Channels of the first stage of the network.
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Learning rate at the beginning.
        seeds: Number of seeds.
        rhos: Perturbation radii.
        weight_decay: Weight decay.
        bfloat16: Whether forward passes compute in bfloat16 where that is safe.
        compiled: Whether the network is compiled.
        first_seed: The first seed; the others follow.
        device: Where to compute.
        threads: CPU threads.
    """

    scale: str
    data: str
    classes: int
    images: int
    size: int
    width: int
    epochs: int
    batch_size: int
    lr: float
    seeds: int
    rhos: tuple[float, ...]
    weight_decay: float = 5e-4
    bfloat16: bool = False
    compiled: bool = False
    first_seed: int = 0
    device: str = "cpu"
    threads: int = 1

    @property
    def ways(self) -> Ways:
        """How to compute."""
        return Ways(bfloat16=self.bfloat16, compiled=self.compiled)


# The learning rate of the laptop scale was chosen once, as the best for plain SGD of 0.01, 0.02, 0.05, 0.1 and 0.2.
# That of the paper scale is the usual one.
SCALES: Final = {
    "smoke": CifarConfig(
        "smoke", "synthetic", classes=4, images=128, size=8, width=4, epochs=6, batch_size=32, lr=0.05, seeds=2,
        rhos=(0.3, 0.8),
    ),
    "laptop": CifarConfig(
        "laptop", "cifar100", classes=10, images=1_000, size=16, width=16, epochs=5, batch_size=50, lr=0.02, seeds=3,
        rhos=(0.1, 0.3, 0.8),
    ),
    "paper": CifarConfig(
        "paper", "cifar100", classes=100, images=50_000, size=32, width=64, epochs=200, batch_size=128, lr=0.1, seeds=5,
        rhos=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    ),
}  # fmt: skip


def settings(scale: str, overrides: Mapping[str, Any]) -> CifarConfig:
    """Return the configuration of a scale.

    Args:
        scale: `"smoke"`, `"laptop"` or `"paper"`.
        overrides: Settings that differ from the scale's own, by name.

    Raises:
        UserError: If the device is not to be had.

    Example:
        >>> settings("paper", {"rhos": (0.3,)}).batch_size
        128
    """
    fast = fast_ways(usable_device(overrides.get("device", "cpu")))
    computed = {"threads": default_threads(), "bfloat16": fast.bfloat16, "compiled": fast.compiled}
    return replace(SCALES[scale], **{**computed, **overrides})


def pictures_of(config: CifarConfig, device: torch.device, data_dir: str | None) -> Pictures:
    """Return the images.

    Args:
        config: The configuration.
        device: Where they are to live.
        data_dir: Folder of the data set, unless it is to be found or downloaded.

    Raises:
        UserError: If the data set is not to be had.
    """
    if config.data == "synthetic":
        made = synthetic(classes=config.classes, images=config.images, size=config.size, seed=0)
        return Pictures(made, device)
    loaded = data.load(config.data, data_dir=data_dir)
    shrink = loaded.train_images.shape[1] // config.size
    return Pictures(subset(loaded, classes=config.classes, images=config.images, shrink=shrink), device)


def recipe_of(config: CifarConfig, method: str, rho: float, seed: int) -> Recipe:
    """Return how one of the methods trains.

    Args:
        config: The configuration.
        method: One of `METHODS`.
        rho: Perturbation radius; of no account for `"sgd"`.
        seed: Seed of the order of the batches and of their augmentation.
    """
    steps = config.epochs * steps_per_epoch(config.images, Recipe(1, lr=config.lr, batch_size=config.batch_size))
    return Recipe(
        steps=steps,
        lr=config.lr,
        rho=0.0 if method == "sgd" else rho,
        momentum=MOMENTUM,
        batch_size=config.batch_size,
        batch_seed=seed,
        **recipe_parts(method, steps=steps),
    )


@lru_cache
def passes_of(config: CifarConfig, method: str) -> int:
    """Return the gradients that a training is planned to take, which no radius and no seed decides.

    Args:
        config: The configuration.
        method: One of `METHODS`.
    """
    return recipe_of(config, method, 1.0, 0).passes  # tens of thousands of steps are counted, so it is done once


def network_of(config: CifarConfig, seed: int, device: torch.device) -> nn.Module:
    """Return a freshly initialised network.

    Args:
        config: The configuration.
        seed: Its seed.
        device: Where it is to be.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet18(config.classes, width=config.width).to(device)


def attributes_of(config: CifarConfig, method: str, recipe: Recipe) -> dict[str, Any]:
    """Return what the data set of a training says about it.

    Args:
        config: The configuration.
        method: How it was trained.
        recipe: The method as a recipe.
    """
    return {
        "study": "cifar",
        "panel": PANEL,
        "method": method,
        "x": recipe.rho,
        "rho": recipe.rho,
        "lr": recipe.lr,
        "steps": recipe.steps,
        "passes": passes_of(config, method),
    }

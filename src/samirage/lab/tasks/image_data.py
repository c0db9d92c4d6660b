"""Small colour images that live on the device: batches, random crops and reflections, and an artificial data set.

All images stay where they are trained with, as bytes; a batch is made of them there. Nothing is copied per step.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samirage.errors import UserError
from samirage.lab.data.datasets import ImageData

_PADDING: Final = 8  # images are shifted by at most one part in so many of their size: 4 pixels of 32
_EVALUATED: Final = 1000  # images in one forward pass without gradients


class Pictures:
    """A data set of colour images on a device.

    Args:
        data: The images, square, shape (n, size, size, 3).
        device: Where they are to live.

    Attributes:
        images: Number of training images.
        size: Height and width in pixels.
        classes: Number of classes: the largest label, and one.
        labels: Classes of the training images, shape (images,).
        test_labels: Classes of the test images.

    Example:
        >>> pictures = Pictures(synthetic(classes=4, images=40, size=8, seed=0), torch.device("cpu"))
        >>> x = pictures.augmented(torch.arange(10), torch.Generator().manual_seed(0))
        >>> x.shape, x.is_contiguous(memory_format=torch.channels_last)
        (torch.Size([10, 3, 8, 8]), True)
    """

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self.images, self.size = data.train_images.shape[:2]
        self.classes = 1 + int(max(data.train_labels.max(), data.test_labels.max()))
        self._padding = self.size // _PADDING
        around = (self._padding, self._padding)
        self._train = torch.tensor(np.pad(data.train_images, ((0, 0), around, around, (0, 0))), device=device)
        self._test = torch.tensor(data.test_images, device=device)
        self.labels = torch.tensor(data.train_labels, device=device)
        self.test_labels = torch.tensor(data.test_labels, device=device)
        # Each colour has mean 0 and standard deviation 1 over the training set.
        self._mean = torch.tensor(data.train_images.mean((0, 1, 2)), dtype=torch.float32, device=device)
        self._scale = torch.tensor(data.train_images.std((0, 1, 2)), dtype=torch.float32, device=device)

    @property
    def device(self) -> torch.device:
        """Where they live."""
        return self._train.device

    def augmented(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return training images, each shifted at random (black comes in from outside) and reflected or not.

        Args:
            rows: Their numbers, shape (n,).
            generator: Source of the random numbers, on the device.

        Returns:
            Shape (n, 3, size, size), channels last in memory.
        """
        n, device = len(rows), self.device
        shift = torch.randint(2 * self._padding + 1, (2, n, 1), generator=generator, device=device)
        mirrored = torch.rand(n, 1, generator=generator, device=device) < 0.5
        along = torch.arange(self.size, device=device).expand(n, -1)
        down, across = along + shift[0], torch.where(mirrored, along.flip(1), along) + shift[1]
        return self._standardized(self._train[rows[:, None, None], down[:, :, None], across[:, None, :]])

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test images as they are, with their classes, in batches."""
        split = (torch.split(tensor, _EVALUATED) for tensor in (self._test, self.test_labels))
        for images, labels in zip(*split, strict=True):
            yield self._standardized(images), labels

    def _standardized(self, images: Tensor) -> Tensor:
        return ((images - self._mean) / self._scale).permute(0, 3, 1, 2)


def subset(data: ImageData, *, classes: int, images: int, shrink: int = 1) -> ImageData:
    """Return a smaller data set: the first classes, as many images of each, and those as small as is wanted.

    Args:
        data: The whole one; its images have colours.
        classes: Number of classes.
        images: Number of training images, the first of each class; a multiple of `classes`. Of the test images, all of
            these classes are kept.
        shrink: By what height and width are divided; each new pixel is the mean of those that it stands for.

    Returns:
        The subset, ordered by class.

    Raises:
        UserError: If there are not so many.
    """
    each = images // classes
    train = [np.flatnonzero(data.train_labels == label)[:each] for label in range(classes)]
    if images % classes or not each or min(map(len, train)) < each:
        raise UserError(
            f"{images} images of {classes} classes were asked for, and {data.name} has not so many of each: use fewer, "
            "as many of each class"
        )
    test = [np.flatnonzero(data.test_labels == label) for label in range(classes)]
    chosen, tested = np.concatenate(train), np.concatenate(test)
    return ImageData(
        name=data.name,
        train_images=_shrunk(data.train_images[chosen], shrink),
        train_labels=data.train_labels[chosen],
        test_images=_shrunk(data.test_images[tested], shrink),
        test_labels=data.test_labels[tested],
    )


def _shrunk(images: NDArray[np.uint8], by: int) -> NDArray[np.uint8]:
    n, height, width, colours = images.shape
    blocks = images.reshape(n, height // by, by, width // by, by, colours)
    shrunk: NDArray[np.uint8] = np.rint(blocks.mean((2, 4))).astype(np.uint8)
    return shrunk


def synthetic(*, classes: int, images: int, size: int, seed: int) -> ImageData:
    """Make an artificial data set: each class is a coarse random pattern, of which every image shows a noisy copy.

    Args:
        classes: Number of classes.
        images: Number of training images, and of test images; a multiple of `classes`.
        size: Height and width, an even number.
        seed: Seed of patterns and noise.

    Returns:
        The data set.

    Example:
        >>> data = synthetic(classes=2, images=6, size=4, seed=0)
        >>> data.train_images.shape, data.test_labels.tolist()
        ((6, 4, 4, 3), [0, 1, 0, 1, 0, 1])
    """
    draw = np.random.default_rng(seed)
    patterns = draw.integers(64, 192, (classes, size // 2, size // 2, 3)).repeat(2, axis=1).repeat(2, axis=2)
    labels = np.arange(images) % classes

    def noisy() -> NDArray[np.uint8]:
        return np.clip(patterns[labels] + draw.normal(0, 32, (images, size, size, 3)), 0, 255).astype(np.uint8)

    return ImageData("synthetic", noisy(), labels, noisy(), labels.copy())

"""Even or odd: a small tanh network on pooled MNIST digits, small enough for proofs about it."""

import math

import numpy as np

from samirage.errors import UserError
from samirage.lab.data import datasets as data
from samirage.landscape import TanhNetwork

_PIXELS = 28
_TARGET = 0.875  # within reach of tanh, and exact


def parity_network(
    *, side: int = 2, images: int = 100, hidden: int = 1, weight_decay: float = 0.1, name: str = "mnist-mini"
) -> TanhNetwork:
    """Return the loss of a tanh network that tells even digits from odd ones, as a function of its parameters.

    Every image becomes `side × side` sums of square blocks of pixels, less their rounded mean over the images, divided
    by the power of two next to their standard deviation: whole numbers over a power of two, so that every machine gets
    the same data, bit for bit.

    Args:
        side: Blocks per side, a divisor of 28.
        images: Number of images, the first of the training set, at least 2.
        hidden: Width of the hidden layer.
        weight_decay: Coefficient of the penalty.
        name: Name of the data set.

    Returns:
        The function; its target is 0.875 for even digits and −0.875 for odd ones.

    Raises:
        UserError: If `side` or `images` is out of its range.

    Example:
        >>> parity_network(side=4, hidden=2).dim
        37
    """
    if isinstance(side, bool) or not isinstance(side, int) or side < 1 or _PIXELS % side:
        raise UserError(f"side must be a whole number that divides {_PIXELS}; got {side!r}")
    found = data.load(name)
    if isinstance(images, bool) or not isinstance(images, int) or not 2 <= images <= len(found.train_images):
        raise UserError(f"images must be a whole number from 2 to {len(found.train_images)}; got {images!r}")
    pixels = found.train_images[:images].astype(np.int64)
    block = _PIXELS // side
    sums = pixels.reshape(images, side, block, side, block).sum((2, 4)).reshape(images, side * side)
    centred = sums - np.rint(sums.mean(0)).astype(np.int64)
    spread = math.sqrt(float((centred**2).mean()))
    inputs = centred / 2.0 ** round(math.log2(spread))
    targets = np.where(found.train_labels[:images] % 2 == 0, _TARGET, -_TARGET)[:, None]
    return TanhNetwork(inputs, targets, hidden=hidden, weight_decay=weight_decay)

"""Tanh networks on a few inputs, small enough for a proof, and hallucinated points that they have by construction.

A tanh network and the one with all weights negated err alike where classes are alike; between such twins there is a
ridge. From a minimizer `x*` of the loss with weight decay, which is isolated, SAM with a radius just above `‖x*‖` looks
from the other side of the origin across the ridge at `x*`: the double well of a network.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from samirage.lab.data import datasets as data
from samirage.landscape import TanhNetwork
from samirage.points import HallucinatedPoint, find_hallucinated
from samirage.sam.map import sam_map

_GRID: Final = 16  # inputs are whole multiples of 1/16: a proof about them is a proof about numbers one can write down
_TARGET: Final = 0.875
_DIGITS: Final = (0, 1)
_WEIGHT_DECAY: Final = 0.05
_REACH: Final = 1.2  # radius by the distance of the minimizer from the origin
_DESCENT: Final = (2000, 0.2)  # steps and learning rate to the minimizer
_SAM: Final = (1500, 0.05)  # and of SAM


@dataclass(frozen=True)
class FoundPoint:
    """A hallucinated point of a small network.

    Attributes:
        f: The network's loss.
        rho: The radius.
        point: The point that SAM came to, polished; None if it came to none.
    """

    f: TanhNetwork
    rho: float
    point: HallucinatedPoint | None


def digit_network(*, side: int, hidden: int, images: int) -> TanhNetwork:
    """Return the loss of a network that tells zeros from ones in coarse images of `mnist-mini`.

    Args:
        side: The images are reduced to `side·side` pixels, from 1 to 28.
        hidden: Width of the hidden layer.
        images: Number of images; the first so many zeros and ones.

    Returns:
        The loss, of `hidden·(side² + 2) + 1` parameters.

    Example:
        >>> digit_network(side=3, hidden=1, images=20).dim
        12
    """
    loaded = data.load("mnist-mini")
    chosen = np.flatnonzero(np.isin(loaded.train_labels, _DIGITS))[:images]
    step = 28 // side
    border = (28 - side * step) // 2
    cut = slice(border, border + side * step)
    pixels = loaded.train_images[chosen][:, cut, cut].astype(np.float64).reshape(images, side, step, side, step)
    coarse = np.round((pixels.mean((2, 4)) / 255 - 0.25) * 2 * _GRID) / _GRID
    targets = np.where(loaded.train_labels[chosen, None] == _DIGITS[0], _TARGET, -_TARGET)
    return TanhNetwork(coarse.reshape(images, -1), targets, hidden=hidden, weight_decay=_WEIGHT_DECAY)


def find_point(f: TanhNetwork, *, seed: int = 0) -> FoundPoint:
    """Train the network plainly, then let SAM run from the other side of the origin.

    Args:
        f: The loss.
        seed: Seed of the first parameters.

    Returns:
        What SAM came to.
    """
    generator = torch.Generator().manual_seed(seed)
    x: Tensor = 0.3 * torch.randn(f.dim, dtype=torch.float64, generator=generator)
    steps, lr = _DESCENT
    for _ in range(steps):
        x = x - lr * f.grad(x)
    rho = _REACH * float(x.norm())
    steps, lr = _SAM
    y = (1 - _REACH) * x
    for _ in range(steps):
        y = sam_map(f.grad, y, rho=rho, lr=lr)
    found = find_hallucinated(f, rho=rho, methods=["sam"], starts=y[None], lr=lr, steps=1)
    return FoundPoint(f, rho, found[0] if found else None)

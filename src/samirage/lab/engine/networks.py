"""Small networks for images of 28×28 pixels given as vectors, of several architectures, by name."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from samirage.lab.engine.models import MLP

_SIDE: Final = 28  # pixels
_PATCH: Final = 7  # pixels: 16 patches


class Perceptron(nn.Sequential):
    """A multilayer perceptron with any activation between its layers, and PyTorch's default initialisation.

    Args:
        widths: Inputs, hidden layers, outputs; at least two numbers.
        activation: Makes the activation.

    Example:
        >>> Perceptron([784, 32, 10], nn.ReLU)(torch.zeros(5, 784)).shape
        torch.Size([5, 10])
    """

    def __init__(self, widths: Sequence[int], activation: Callable[[], nn.Module]) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), activation()]
        super().__init__(*layers[:-1])


class SmallCNN(nn.Module):
    """Two convolutions of stride 2 with tanh, and a linear layer.

    Args:
        classes: Number of classes.
        channels: Channels of the first convolution; the second has twice as many.

    Example:
        >>> SmallCNN(10)(torch.zeros(5, 784)).shape
        torch.Size([5, 10])
    """

    def __init__(self, classes: int, *, channels: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 5, stride=2, padding=2), nn.Tanh(),
            nn.Conv2d(channels, 2 * channels, 5, stride=2, padding=2), nn.Tanh(),
            nn.Flatten(), nn.Linear(2 * channels * (_SIDE // 4) ** 2, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 784) to logits (n, classes)."""
        return cast(Tensor, self.layers(x.reshape(-1, 1, _SIDE, _SIDE)))


class SmallTransformer(nn.Module):
    """One pre-norm transformer block over 16 patches of 7×7 pixels, and a linear layer over their mean.

    Args:
        classes: Number of classes.
        width: Length of the vector of a patch.

    Example:
        >>> SmallTransformer(10)(torch.zeros(5, 784)).shape
        torch.Size([5, 10])
    """

    def __init__(self, classes: int, *, width: int = 32) -> None:
        super().__init__()
        patches = (_SIDE // _PATCH) ** 2
        self.embed = nn.Linear(_PATCH**2, width)
        self.place = nn.Parameter(0.02 * torch.randn(patches, width))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 784) to logits (n, classes)."""
        rows = x.reshape(-1, _SIDE // _PATCH, _PATCH, _SIDE // _PATCH, _PATCH)
        h = self.embed(rows.transpose(2, 3).flatten(3).flatten(1, 2)) + self.place
        q, k, v = self.mix(self.norm1(h)).chunk(3, dim=-1)
        # Written out: the fused kernel has no rule for `vmap`.
        attention = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        h = h + self.out(attention @ v)
        h = h + self.feed(self.norm2(h))
        return cast(Tensor, self.head(self.norm3(h).mean(-2)))


def _mlp(*hidden: int) -> Callable[[int, int], nn.Module]:
    return lambda inputs, classes: MLP([inputs, *hidden, classes])


def _perceptron(activation: Callable[[], nn.Module], *hidden: int) -> Callable[[int, int], nn.Module]:
    return lambda inputs, classes: Perceptron([inputs, *hidden, classes], activation)


NETWORKS: Final[Mapping[str, Callable[[int, int], Any]]] = {
    "tanh 8": _mlp(8),
    "tanh 32": _mlp(32),
    "tanh 128": _mlp(128),
    "tanh 32-32": _mlp(32, 32),
    "tanh 32-32-32": _mlp(32, 32, 32),
    "ReLU 32": _perceptron(nn.ReLU, 32),
    "GELU 32": _perceptron(nn.GELU, 32),
    "CNN": lambda inputs, classes: SmallCNN(classes),
    "transformer": lambda inputs, classes: SmallTransformer(classes),
}
"""Makes a network from its number of inputs and of classes; by name, with the widths of the hidden layers."""

"""What is trained while an optimizer is timed: a small, a convolutional and an attention network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from samirage.lab.engine.models import MLP
from samirage.lab.tasks.resnet import ResNet18


@dataclass(frozen=True)
class Workload:
    """A model, a batch, and the base optimizer under which they are trained.

    Attributes:
        key: Short name.
        title: What it is, in words.
        model: Makes the model.
        batch: Makes inputs and labels.
        base: The base optimizer's class.
        options: Its hyperparameters.
    """

    key: str
    title: str
    model: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    base: type[torch.optim.Optimizer] = torch.optim.SGD
    options: dict[str, Any] = field(default_factory=lambda: {"lr": 1e-2, "momentum": 0.9})


class Transformer(nn.Module):
    """A causal transformer over bytes, pre-norm, without dropout.

    Args:
        width: Width of the residual stream, a multiple of 4.
        layers: Number of layers.
        length: Tokens in a sequence.
    """

    def __init__(self, width: int, layers: int, length: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(256, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map bytes (n, length) to logits of the next ones (n, length, 256)."""
        hidden = self.encoder(self.tokens(x) + self.places, mask=self.mask, is_causal=True)
        return cast(Tensor, self.head(hidden))


def loss_of(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy."""
    return functional.cross_entropy(model(x).flatten(0, -2), labels.flatten())


def workloads(*, tiny: bool = False) -> list[Workload]:
    """Return the workloads that the overhead is measured on.

    Args:
        tiny: Whether to make them so small that one run takes a second, to test the benchmark itself.
    """
    images, width = (4, 4) if tiny else (64, 64)
    sequences, length, breadth, layers = (2, 8, 16, 1) if tiny else (16, 128, 256, 4)
    return [
        Workload(
            "mlp",
            "MLP 784-32-10, batch 128, SGD with momentum",
            lambda: MLP([784, 32, 10]),
            lambda: (torch.rand(128, 784), torch.randint(10, (128,))),
        ),
        Workload(
            "resnet18",
            f"ResNet-18 for 32×32 images, width {width}, batch {images}, SGD with momentum",
            lambda: ResNet18(100, width=width),
            lambda: (torch.randn(images, 3, 32, 32), torch.randint(100, (images,))),
        ),
        Workload(
            "transformer",
            f"transformer, d = {breadth}, {layers} layers, {sequences} sequences of {length} bytes, AdamW",
            lambda: Transformer(breadth, layers, length),
            lambda: (torch.randint(256, (sequences, length)), torch.randint(256, (sequences, length))),
            torch.optim.AdamW,
            {"lr": 1e-4},
        ),
    ]

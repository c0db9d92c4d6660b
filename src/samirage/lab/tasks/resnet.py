"""The residual network of the CIFAR studies: ResNet-18 with a stem for small images.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", arXiv 1512.03385. Departure, as usual for images
of 32×32: the stem is one 3×3 convolution of stride 1, without the max-pooling that would shrink them at once.
"""

from typing import Final, cast

from torch import Tensor, nn
from torch.nn import functional

_STAGES: Final = 4
_BLOCKS: Final = 2  # per stage, of two convolutions each; with the stem and the last layer, 18 layers


class Block(nn.Module):
    """Two 3×3 convolutions with batch normalisation, and a shortcut around them.

    `y = relu(BN(conv(relu(BN(conv(x))))) + shortcut(x))`, where the shortcut is a 1×1 convolution with batch
    normalisation if the shape changes, and `x` itself if not. Stride `s` of the shortcut means every `s`-th pixel of
    `x`, taken before a convolution of stride 1, which is the same function.

    Args:
        channels: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution; 2 halves height and width.

    Example:
        >>> import torch
        >>> Block(3, 8, stride=2)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, h, w) to (n, width, h/stride, w/stride)."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        # Pixels are dropped before a convolution of stride 1, because oneDNN's weight gradient of a strided 1×1
        # convolution writes past its workspace in channels-last memory with few channels: fewer than 8 with AVX2, than
        # 16 with AVX-512 (https://github.com/uxlfoundation/oneDNN/issues/6035).
        return functional.relu(y + self.shortcut(x[..., :: self.stride, :: self.stride]))


class ResNet18(nn.Module):
    """ResNet-18 for small images, with PyTorch's default initialisation.

    Args:
        classes: Number of classes, at least 1.
        width: Channels of the stem and of the first stage, at least 1; each later stage has twice as many as the last.

    Example:
        >>> import torch
        >>> ResNet18(100, width=4)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """

    def __init__(self, classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks, channels = [], width
        for stage in range(_STAGES):
            for block in range(_BLOCKS):
                blocks.append(Block(channels, width << stage, stride=2 if stage and not block else 1))
                channels = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, h, w) to logits (n, classes)."""
        features = self.blocks(functional.relu(self.norm(self.stem(x))))
        return cast(Tensor, self.head(features.mean((-2, -1))))

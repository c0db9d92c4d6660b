"""Networks and losses of the studies.

A loss takes logits and labels and averages over the examples. It may be *bounded* (squared errors of squashed outputs)
or not (cross-entropy): only a bounded one has plateaus, far from any minimum, at which SAM can freeze.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Loss(Protocol):
    """A loss of logits and labels, averaged over examples."""

    def __call__(self, logits: Tensor, labels: Tensor, *, dim: int = -1) -> Tensor:
        """Return the mean over examples.

        Args:
            logits: One dimension counts examples, one classes; they are the last two. Others are kept.
            labels: Class of each example, shape (n,).
            dim: The dimension that counts classes: −1 or −2.

        Returns:
            The shape of the logits without the last two dimensions.
        """


class MLP(nn.Module):
    """A multilayer perceptron with tanh between its layers and PyTorch's default initialisation.

    `logits = W_L·tanh(… tanh(W_1·x + b_1) …) + b_L`

    Args:
        widths: Inputs, hidden layers, outputs; at least two numbers.

    Example:
        >>> MLP([784, 32, 10])(torch.zeros(5, 784)).shape
        torch.Size([5, 10])
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (..., widths[0]) to logits (..., widths[-1])."""
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return cast(Tensor, self.layers[-1](x))


def _targets(logits: Tensor, labels: Tensor, dim: int) -> Tensor:
    onehot = functional.one_hot(labels, logits.shape[dim]).to(logits.dtype)
    return onehot if dim == -1 else onehot.t()


def _squared_error(outputs: Tensor, labels: Tensor, dim: int) -> Tensor:
    # mse_loss differentiates in one pass over the outputs, where (…).square() takes three.
    error = functional.mse_loss(outputs, _targets(outputs, labels, dim).expand_as(outputs), reduction="none")
    return error.sum((-2, -1)) / len(labels)


def cross_entropy(logits: Tensor, labels: Tensor, *, dim: int = -1) -> Tensor:
    """Return the mean over examples of `−log softmax(logits)[label]`; unbounded.

    Args:
        logits: Shape (…, n, classes); or (…, classes, n) with `dim=-2`.
        labels: Class of each example, shape (n,).
        dim: The dimension of the classes, −1 or −2.

    Returns:
        Shape (…).

    Example:
        >>> cross_entropy(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        tensor(0.6931)
    """
    return -(_targets(logits, labels, dim) * torch.log_softmax(logits, dim)).sum(dim).mean(-1)


def softmax_squared(logits: Tensor, labels: Tensor, *, dim: int = -1) -> Tensor:
    """Return the mean over examples of `‖softmax(logits) − onehot(label)‖²`, between 0 and 2.

    Args:
        logits: Shape (…, n, classes); or (…, classes, n) with `dim=-2`.
        labels: Class of each example, shape (n,).
        dim: The dimension of the classes, −1 or −2.

    Returns:
        Shape (…).

    Example:
        >>> softmax_squared(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        tensor(0.5000)
    """
    return _squared_error(torch.softmax(logits, dim), labels, dim)


def tanh_squared(logits: Tensor, labels: Tensor, *, dim: int = -1) -> Tensor:
    """Return the mean over examples of `‖tanh(logits) − onehot(label)‖²`, between 0 and 4·classes.

    Args:
        logits: Shape (…, n, classes); or (…, classes, n) with `dim=-2`.
        labels: Class of each example, shape (n,).
        dim: The dimension of the classes, −1 or −2.

    Returns:
        Shape (…).

    Example:
        >>> tanh_squared(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        tensor(1.)
    """
    return _squared_error(torch.tanh(logits), labels, dim)


LOSSES: Final[dict[str, Loss]] = {
    "softmax-squared": softmax_squared,
    "cross-entropy": cross_entropy,
    "tanh-squared": tanh_squared,
}

"""A small tanh network with its data, as a function that ball arithmetic can follow."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samirage.landscape.analytic import AbstractFunction


class TanhNetwork(AbstractFunction):
    """The loss of a two-layer tanh network on given examples, as a function of its parameters.

    `f = 1/n·Σ_i ‖tanh(W_2·tanh(W_1·x_i + b_1) + b_2) − t_i‖² + weight_decay/2·‖parameters‖²`

    The parameters are `W_1, b_1, W_2, b_2`, each row after row, as `torch.nn.Linear` layers have them. With weight
    decay the minimizers are isolated, so that `samirage.points.prove` can prove what it says of them.

    Args:
        inputs: `x_i`, shape (n, inputs), finite; taken as float64.
        targets: `t_i`, shape (n, outputs), finite; taken as float64.
        hidden: Width of the hidden layer, at least 1.
        weight_decay: Coefficient of the quadratic penalty, at least 0.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> f = TanhNetwork([[1.0], [-1.0]], [[0.5], [-0.5]], hidden=2)
        >>> f.dim, f(torch.zeros(f.dim, dtype=torch.float64))
        (7, tensor(0.2500, dtype=torch.float64))
    """

    def __init__(
        self,
        inputs: NDArray[np.float64] | list[list[float]],
        targets: NDArray[np.float64] | list[list[float]],
        *,
        hidden: int,
        weight_decay: float = 0.0,
    ) -> None:
        self._inputs = np.asarray(inputs, dtype=np.float64)
        self._targets = np.asarray(targets, dtype=np.float64)
        shapes = self._inputs.shape, self._targets.shape
        if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][0] != shapes[1][0] or 0 in (*shapes[0], *shapes[1]):
            raise ValueError(
                f"inputs and targets must be of shape (n, inputs) and (n, outputs), with the same n; got {shapes[0]} "
                f"and {shapes[1]}"
            )
        if not (np.isfinite(self._inputs).all() and np.isfinite(self._targets).all()):
            raise ValueError("inputs and targets must hold finite numbers only")
        if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 1:
            raise ValueError(f"hidden must be a whole number of at least 1; got {hidden!r}")
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay must be a finite number of at least 0; got {weight_decay!r}")
        self._hidden = hidden
        self._weight_decay = float(weight_decay)

    @property
    def inputs(self) -> NDArray[np.float64]:
        """The inputs, shape (n, inputs)."""
        return self._inputs

    @property
    def targets(self) -> NDArray[np.float64]:
        """The targets, shape (n, outputs)."""
        return self._targets

    @property
    def hidden(self) -> int:
        """Width of the hidden layer."""
        return self._hidden

    @property
    def weight_decay(self) -> float:
        """Coefficient of the penalty."""
        return self._weight_decay

    @property
    def dim(self) -> int:
        """Number of parameters."""
        width, outputs = self._inputs.shape[1], self._targets.shape[1]
        return int(self._hidden * (width + 1) + outputs * (self._hidden + 1))

    def _value(self, x: Tensor) -> Tensor:
        width, outputs = self._inputs.shape[1], self._targets.shape[1]
        sizes = [self._hidden * width, self._hidden, outputs * self._hidden, outputs]
        w_1, b_1, w_2, b_2 = torch.split(x, sizes, -1)
        inputs, targets = (torch.as_tensor(a).to(x) for a in (self._inputs, self._targets))
        points = x.shape[:-1]
        first = inputs @ w_1.reshape(*points, self._hidden, width).mT + b_1.unsqueeze(-2)
        second = torch.tanh(first) @ w_2.reshape(*points, outputs, self._hidden).mT + b_2.unsqueeze(-2)
        loss = (torch.tanh(second) - targets).square().sum((-2, -1)) / len(self._inputs)
        return loss + self._weight_decay / 2 * x.square().sum(-1)

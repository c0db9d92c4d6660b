"""Points on a landscape as members of the ensemble engine: many starts of one function are one computation."""

from typing import Protocol

import torch
from torch import Tensor

from samirage.lab.engine.stacked import AbstractMembers


class Landscape(Protocol):
    """A function with its gradient, for many points at once, as in `samirage.landscape`."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `f(x)` and `g(x)`, shapes (S,) and (S, d), for points of shape (S, d)."""


class Particles(AbstractMembers):
    """S points on one function, with gradient noise if wanted.

    With noise the function is the mean of n examples `f_i(x) = f(x) + <xi_i, x>`, where the `xi_i` add up to zero: a
    batch of some of them has a noisy gradient, as minibatches have, and all of them together are `f`.

    Args:
        function: The function.
        starts: The points, shape (S, d); copied.
        noise: Standard deviation of every entry of the `xi_i`, at least 0.
        examples: Their number n, at least 1.
        seed: Their seed.

    Example:
        >>> from samirage.lab.engine.ensemble import Recipe, train
        >>> from samirage.landscape import Ring
        >>> points = Particles(Ring(), torch.tensor([[0.9, 0.0], [0.0, 0.3]]))
        >>> _ = train(points, Recipe(steps=400, lr=0.05, rho=1.5))
        >>> torch.linalg.vector_norm(points.params[0], dim=1)  # hallucinated: the minimizers are at distance 1
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self, function: Landscape, starts: Tensor, *, noise: float = 0.0, examples: int = 1024, seed: int = 0
    ) -> None:
        self._function = function
        self.params = [starts.clone()]
        self.size = examples
        self._noise: Tensor | None = None
        if noise:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(examples, starts.shape[1], generator=generator, dtype=torch.float64)
            self._noise = noise * (drawn - drawn.mean(0)).to(starts)

    def loss_and_grads(self, params: list[Tensor], grads: list[Tensor], rows: Tensor | None = None) -> Tensor:
        """Return the loss of every point, and write its gradient; see `AbstractMembers`."""
        loss, grad = self._function.value_and_grad(params[0])
        if self._noise is not None and rows is not None:
            slope = self._noise[rows].mean(0)
            loss, grad = loss + params[0] @ slope, grad + slope
        grads[0].copy_(grad)
        return loss

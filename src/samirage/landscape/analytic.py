"""An analytic function: one formula, from which values, derivatives and rigorous enclosures all follow."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import torch
from torch import Tensor

from samirage.landscape.smooth import Linearized

Scalar = Any
"""What a formula computes with: a torch tensor, a ball of python-flint (`arb`), a jet of either.

It knows `+`, `-`, `*`, `/` with its like and with Python numbers, `**` with a whole number, and the methods `exp()`,
`log()`, `sin()`, `cos()`, `tanh()`, `atan()` and `sqrt()`.
"""

_DENSE_DIM: Final = 64  # up to which a dense Hessian costs less than tracing the gradient once


class AbstractFunction(ABC):
    """A twice differentiable function `R^d → R`, called with a tensor of shape (…, d) to give one of shape (…).

    It is a `samirage.landscape.Smooth`. Derivatives come from automatic differentiation of the value.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of coordinates `d`."""

    @abstractmethod
    def _value(self, x: Tensor) -> Tensor:
        """Return `f(x)` for a checked `x` of shape (…, d)."""

    @property
    def minimizers(self) -> list[Tensor]:
        """Known local minimizers, float64, shape (d,) each; of a manifold of them, one representative."""
        return []

    @property
    def maximizers(self) -> list[Tensor]:
        """Known local maximizers, in the same form."""
        return []

    @property
    def saddles(self) -> list[Tensor]:
        """Known saddles, in the same form."""
        return []

    def _check(self, x: Tensor) -> None:
        name = type(self).__name__
        if not isinstance(x, Tensor) or not x.is_floating_point():
            given = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} takes a floating-point torch tensor; got {given}")
        if x.dim() == 0 or x.shape[-1] != self.dim:
            raise ValueError(
                f"{name} takes points of {self.dim} coordinates, shape (…, {self.dim}); got shape {tuple(x.shape)}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return `f(x)`, shape (…).

        Args:
            x: Points, shape (…, d), floating-point.

        Raises:
            TypeError: If `x` is not a floating-point tensor.
            ValueError: If its last dimension is not d.
        """
        self._check(x)
        return self._value(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `f(x)` and `g(x)`, shapes (…) and (…, d).

        Args:
            x: Points, shape (…, d).
        """
        self._check(x)

        def total(points: Tensor) -> tuple[Tensor, Tensor]:
            # Points do not mix, so that the gradient of the sum holds the gradient of each.
            values = self._value(points)
            return values.sum(), values

        grad, values = torch.func.grad(total, has_aux=True)(x)
        return values, grad

    def grad(self, x: Tensor) -> Tensor:
        """Return the gradient `g(x)`, shape (…, d).

        Args:
            x: Points, shape (…, d).
        """
        return self.value_and_grad(x)[1]

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return `H(x)·v`, shape (…, d).

        Args:
            x: Points, shape (…, d).
            v: Directions, same shape.
        """
        self._check(x)
        return self._pulled_back(x)[1](v)

    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessian `H(x)`, shape (…, d, d).

        Args:
            x: Points, shape (…, d).
        """
        self._check(x)
        _, product = self._pulled_back(x)
        basis = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        rows = torch.stack([product(row.expand_as(x).clone()) for row in basis], -2)
        return (rows + rows.mT) / 2

    def linearize(self, x: Tensor) -> Linearized:
        """Return the gradient at `x` with a fast Hessian product.

        Args:
            x: One point, shape (d,).

        Raises:
            ValueError: If `x` is not one point.
        """
        self._check(x)
        if x.dim() != 1:
            raise ValueError(f"linearize takes one point of shape ({self.dim},); got shape {tuple(x.shape)}")
        if self.dim <= _DENSE_DIM:
            hessian = self.hessian(x)
            return Linearized(self.grad(x), lambda v: hessian @ v)
        return Linearized(*self._pulled_back(x))

    def _pulled_back(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Gradient with its transposed derivative: H is symmetric, and reverse over reverse is the fast way here."""
        grad, pull, *_ = torch.func.vjp(self.grad, x)
        product = cast(Callable[[Tensor], tuple[Tensor]], pull)
        return grad, lambda v: product(v)[0]


class AbstractFormula(AbstractFunction):
    """An analytic function whose value is one formula in generic arithmetic.

    The formula is written once and evaluated on tensors here, on balls of python-flint for proofs, on jets for the
    derivatives of those.
    """

    @abstractmethod
    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return `f(x)` in the arithmetic of the coordinates.

        Python floats that occur as coefficients mean exactly the number that they hold.

        Args:
            x: The d coordinates, each a `Scalar` of the same kind.
        """

    def _value(self, x: Tensor) -> Tensor:
        value: Tensor = self.formula(x.unbind(-1))
        return value


class AbstractLeastSquares(AbstractFormula):
    """An analytic function that is defined as a sum of squares: `f(x) = Σ_i r_i(x)²`.

    Where all residuals vanish is a global minimizer, mostly one of a whole manifold of them.
    """

    @abstractmethod
    def residuals(self, x: Sequence[Scalar]) -> Sequence[Scalar]:
        """Return the residuals `r_i(x)`, at least one, in the arithmetic of the coordinates.

        Args:
            x: The d coordinates, each a `Scalar` of the same kind.
        """

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return the sum of the squared residuals in the arithmetic of the coordinates."""
        first, *others = [residual**2 for residual in self.residuals(x)]
        for square in others:
            first = first + square
        return first

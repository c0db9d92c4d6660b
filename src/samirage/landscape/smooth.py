"""What the analysis needs of a loss: value, gradient and Hessian-vector products at a point given as one vector.

Analytic functions and `Objective` (a network with its data) both speak this protocol, so that every method of
`samirage.points` works on both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Linearized:
    """The gradient linearized at one point: what is paid for once when many Hessian products follow.

    Attributes:
        grad: `g(x)`, shape (d,).
        hvp: Maps `v` of shape (d,) to `H(x)·v` of the same shape. The Hessian is symmetric, so this is its transpose's
            product too.
    """

    grad: Tensor
    hvp: Callable[[Tensor], Tensor]


class Smooth(Protocol):
    """A twice differentiable function of one vector.

    `x` has shape (…, d): leading dimensions count points, which never mix. All results have the dtype and device of
    `x` and no autograd history, unless `x` has one.
    """

    @property
    def dim(self) -> int:
        """Length `d` of the vector."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return `f(x)`, shape (…)."""

    def grad(self, x: Tensor) -> Tensor:
        """Return `g(x)`, shape (…, d)."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `f(x)` and `g(x)`, shapes (…) and (…, d), for the price of the gradient."""

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return `H(x)·v`, shape (…, d), for `x` and `v` of that shape."""

    def hessian(self, x: Tensor) -> Tensor:
        """Return `H(x)`, shape (…, d, d): symmetric; for small d."""

    def linearize(self, x: Tensor) -> Linearized:
        """Return the gradient at one point `x` of shape (d,) with a fast product `v ↦ H(x)·v`."""

"""What the analysis needs of a loss: value, gradient and Hessian-vector products at a point given as one vector.

Analytic functions and `Objective` (a network with its data) both speak this protocol, so that every method of
`samirage.points` works on both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from samirage.sam import AbstractVariant, Jacobian, Variant, displacement
from samirage.sam.map import surrogate


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
    `x`, and no autograd history where `x` has none.
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


def sam_jacobian(
    f: Smooth, x: Tensor, *, rho: float, variant: Variant | AbstractVariant = "sam", weight_decay: float = 0.0
) -> Jacobian:
    """Linearize the SAM map of `f` at one point: one gradient and two linearizations now, two HVPs per product later.

    Args:
        f: The function.
        x: One point, shape (d,), at which the gradient is not 0.
        rho: Perturbation radius, above 0.
        variant: `"sam"`, `"asam"` or `"unnormalized"`.
        weight_decay: Coefficient of the coupled decay, at least 0.

    Returns:
        The products with `A`, `M = H⁺·A + weight_decay·I`, `DT` and their transposes.

    Example:
        >>> import torch
        >>> from samirage.landscape import Ring
        >>> jacobian = sam_jacobian(Ring(), torch.tensor([0.5, 0.0]), rho=1.5)
        >>> jacobian.update(torch.tensor([1.0, 0.0])), jacobian.update(torch.tensor([0.0, 1.0]))
        (tensor([2., 0.]), tensor([0., 0.]))
    """
    here = f.linearize(x)
    there = f.linearize(x + displacement(x, here.grad, rho, variant=variant))
    return Jacobian(x, here.grad, here.hvp, there.hvp, rho, variant, weight_decay)


def surrogate_value(f: Smooth, x: Tensor, *, rho: float, variant: Variant | AbstractVariant = "sam") -> Tensor:
    """Return `f^SAM(x) = f(x + e(x))`: one gradient and one value.

    Args:
        f: The function.
        x: Points, shape (…, d).
        rho: Perturbation radius, at least 0.
        variant: `"sam"`, `"asam"` or `"unnormalized"`.

    Returns:
        Values, shape (…).

    Example:
        >>> import torch
        >>> from samirage.landscape import Ring
        >>> surrogate_value(Ring(), torch.tensor([0.5, 0.0]), rho=1.5)  # SAM sees a minimum here
        tensor(0.)
    """
    return surrogate(f, f.grad, x, rho=rho, variant=variant)

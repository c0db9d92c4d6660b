"""Enclosures of the SAM map over a box: gradient, `x⁺`, `A`, and the derivative of `g(x + rho·u(x))`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samirage.landscape import AbstractFormula, TanhNetwork
from samirage.points.balls import Ball, Matrix, column, flint, identity, norm
from samirage.points.jets import derivatives
from samirage.points.network_balls import network_derivatives

Enclose = Callable[[Matrix], tuple[Matrix, Matrix]]
"""Maps a box, a column of d balls, to enclosures of the gradient (d, 1) and the Hessian (d, d) over it."""


@dataclass(frozen=True)
class SamBox:
    """What SAM does over a whole box.

    Attributes:
        grad_norm: Encloses `‖g‖`; the rest means something only where it is above 0.
        x_plus: Encloses `x⁺ = x + rho·u(x)`, a column.
        grad_plus: Encloses `g⁺`, a column.
        hessian_plus: Encloses `H⁺`.
        update: Encloses `M = H⁺·A`, the derivative of `g⁺` with respect to `x`.
        perturbed: Encloses `A`, the derivative of `x⁺`.
    """

    grad_norm: Ball
    x_plus: Matrix
    grad_plus: Matrix
    hessian_plus: Matrix
    update: Matrix
    perturbed: Matrix


def enclose(f: Any) -> Enclose:
    """Return how to enclose the derivatives of a function.

    Args:
        f: An analytic function with a `formula`, or a `TanhNetwork`.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(f, TanhNetwork):
        return network_derivatives(f)
    if not isinstance(f, AbstractFormula):
        raise TypeError(
            f"a proof needs a formula that ball arithmetic can evaluate; {type(f).__name__} has none: use an analytic "
            "function, a SymPyFunction or a TanhNetwork"
        )
    formula = f.formula

    def by_jets(x: Matrix) -> tuple[Matrix, Matrix]:
        grad, hessian = derivatives(formula, x.entries())
        return column(grad), flint().arb_mat(hessian)

    return by_jets


def over_box(derive: Enclose, x: Matrix, rho: float) -> SamBox | None:
    """Enclose the SAM map over a box.

    Args:
        derive: Encloses gradient and Hessian of `f`.
        x: The box, a column of balls.
        rho: Perturbation radius, a float that means exactly the number it holds.

    Returns:
        The enclosures; None where the gradient may vanish in the box.
    """
    grad, hessian = derive(x)
    size = norm(grad)
    if not size > 0:
        return None
    radius = flint().arb(rho)
    u = grad * (1 / size)
    x_plus = x + u * radius
    grad_plus, hessian_plus = derive(x_plus)
    perturbed = identity(x.nrows()) + (hessian - u * (u.transpose() * hessian)) * (radius / size)
    return SamBox(size, x_plus, grad_plus, hessian_plus, hessian_plus * perturbed, perturbed)

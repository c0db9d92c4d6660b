"""Enclosures of the SAM map over a box: gradient, `x⁺`, `A`, and the derivative of `g(x + rho·u(x))`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from samirage.landscape import AbstractFormula, TanhNetwork
from samirage.points.proofs.balls import Ball, Matrix, column, flint, identity, norm
from samirage.points.proofs.jets import derivatives
from samirage.points.proofs.network_balls import network_derivatives

Enclose = Callable[[Matrix], tuple[Matrix, Matrix]]
"""Maps a box, a column of d balls, to enclosures of the gradient (d, 1) and the Hessian (d, d) over it."""

# What makes a function compute its formula: a subclass or an object that has others of these may compute anything.
_EVALUATION: Final = ("__call__", "_value", "value_and_grad", "grad")


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
        TypeError: If it is neither, or need not compute its formula: a subclass of `TanhNetwork`, or one of an analytic
            function that evaluates it in another way.
    """
    kind: type = TanhNetwork if isinstance(f, TanhNetwork) else AbstractFormula
    if not isinstance(f, AbstractFormula | TanhNetwork):
        raise TypeError(
            f"a proof needs a formula that ball arithmetic can evaluate; {type(f).__name__} has none: use an analytic "
            "function, a SymPyFunction or a TanhNetwork"
        )
    for name in _EVALUATION:
        if getattr(type(f), name, None) is not getattr(kind, name) or name in vars(f):
            raise TypeError(
                f"a proof is about the formula, and {type(f).__name__} computes something else, for it has a "
                f"`{name}` of its own: write all of f into `formula`"
            )
    if isinstance(f, TanhNetwork):
        if type(f) is not TanhNetwork:
            raise TypeError(
                f"proofs know TanhNetwork itself and no subclass, which may be another function; got {type(f).__name__}"
            )
        return network_derivatives(f)
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

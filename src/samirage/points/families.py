"""Families of hallucinated points, reduced to isolated ones: rotations, and sums of squares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from samirage.errors import require
from samirage.landscape import AbstractFormula, Scalar, Smooth
from samirage.points.balls import Floats, Matrix, box, column, flint, matrix, middle, norm
from samirage.points.enclosure import Enclose, SamBox, over_box
from samirage.points.jets import Jet

Residuals = Callable[[Sequence[Scalar]], Sequence[Scalar]]


def is_rotation_invariant(f: Any) -> bool:
    """Prove that a formula depends on the distance from the origin alone: symbolically, `x_i·∂_j f = x_j·∂_i f`.

    Args:
        f: A function; False for those whose formula is not a polynomial.

    Example:
        >>> from samirage.landscape import DoubleWell, Ring
        >>> is_rotation_invariant(Ring(dim=3)), is_rotation_invariant(DoubleWell())
        (True, False)
    """
    if not isinstance(f, AbstractFormula):
        return False
    sympy = require("proof", "sympy")
    x = sympy.symbols(f"x:{f.dim}", real=True)
    try:
        value = sympy.sympify(f.formula(x))
    except (AttributeError, TypeError):  # a function that symbols do not know as a method
        return False
    value = value.replace(lambda node: node.is_Float, lambda node: sympy.Rational(float(node)))
    pairs = ((i, j) for i in range(f.dim) for j in range(i))
    return all(sympy.expand(x[i] * value.diff(x[j]) - x[j] * value.diff(x[i])) == 0 for i, j in pairs)


class Ray(AbstractFormula):
    """A function of the distance from the origin, as a function of one coordinate: `t ↦ f(t, 0, …, 0)`.

    Args:
        f: The function, which is rotation invariant.
    """

    def __init__(self, f: Any) -> None:
        self._f = f

    @property
    def dim(self) -> int:
        """One coordinate."""
        return 1

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return `f(t, 0, …, 0)` in the arithmetic of the coordinate."""
        zero = x[0] * 0
        return self._f.formula([x[0], *[zero] * (self._f.dim - 1)])

    def distance(self, x: Floats) -> Floats:
        """Return the distance of a point from the origin, rounded, shape (1,)."""
        return np.array([float(norm(matrix(x)).mid())])


def residuals_of(f: Smooth) -> Residuals | None:
    """Return the residuals of a function that is defined as the sum of their squares; None for others.

    Args:
        f: A function.
    """
    found: Residuals | None = getattr(f, "residuals", None)
    return found


@dataclass(frozen=True)
class SliceBox:
    """The residuals at `x⁺` over a box in a slice.

    Attributes:
        value: Encloses the residuals at the centre, a column of k balls.
        derivative: Encloses their derivative with respect to the k free coordinates.
        inside: What SAM does over the box.
    """

    value: Matrix
    derivative: Matrix
    inside: SamBox


class Slice:
    """The equations `residuals(x⁺(x)) = 0` in as many coordinates of x; the others are held.

    The free coordinates are those in which the equations are best conditioned.

    Args:
        residuals: Maps d coordinates to k ≤ d residuals.
        derive: Encloses gradient and Hessian of `f`.
        centre: The point, shape (d,).
        rho: Perturbation radius.
    """

    def __init__(self, residuals: Residuals, derive: Enclose, centre: Floats, rho: float) -> None:
        self.centre, self.rho = centre, rho
        self._residuals, self._derive = residuals, derive
        at = over_box(derive, matrix(centre), rho)
        assert at is not None
        self._value, slopes = self._at(at)
        count = self._value.nrows()
        # Greedy: the coordinate that reaches farthest, then the one that does so at right angles to it, and so on.
        columns = torch.as_tensor(middle(slopes))
        free: list[int] = []
        for _ in range(min(count, len(centre))):
            best = int(columns.norm(dim=0).argmax())
            free.append(best)
            unit = columns[:, best] / columns[:, best].norm()
            columns = columns - torch.outer(unit, unit @ columns)
        self.free = tuple(sorted(free))

    def over(self, radius: float) -> SliceBox | None:
        """Enclose the equations over a box in the slice.

        Args:
            radius: Half-width of the box.

        Returns:
            The enclosure; None where the gradient may vanish in the box, or there are more residuals than coordinates.
        """
        x = box(self.centre, 0.0)
        wide = box(self.centre, radius)
        for i in self.free:
            x[i, 0] = wide[i, 0]
        inside = over_box(self._derive, x, self.rho)
        if inside is None or self._value.nrows() != len(self.free):
            return None
        _, slopes = self._at(inside)
        rows = [[slopes[i, j] for j in self.free] for i in range(slopes.nrows())]
        return SliceBox(self._value, flint().arb_mat(rows), inside)

    def _at(self, sam: SamBox) -> tuple[Matrix, Matrix]:
        jets = self._residuals(Jet.variables(sam.x_plus.entries()))
        slopes = flint().arb_mat([jet.grad for jet in jets])
        return column([jet.value for jet in jets]), slopes * sam.perturbed

"""Families of hallucinated points, reduced to isolated ones: rotations, and sums of squares.

Whether a function belongs to such a family is decided in exact rational arithmetic, not by what it claims of itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from samirage.landscape import AbstractFormula, Scalar
from samirage.points.proofs.balls import Floats, Matrix, box, column, flint, is_finite, matrix, middle, norm
from samirage.points.proofs.enclosure import Enclose, SamBox, over_box
from samirage.points.proofs.exact import Algebra, TooLargeError
from samirage.points.proofs.jets import Jet

Residuals = Callable[[Sequence[Scalar]], Sequence[Scalar]]


def is_rotation_invariant(f: Any) -> bool:
    """Prove that a formula depends on the distance from the origin alone: exactly, `x_i·∂_j f = x_j·∂_i f`.

    Denominators and the arguments of logarithms and roots have to be so too: then `f` is defined at all points of a
    sphere, or at none.

    Args:
        f: A function of two or more coordinates. False proves nothing.

    Example:
        >>> from samirage.landscape import DoubleWell, Ring
        >>> is_rotation_invariant(Ring(dim=3)), is_rotation_invariant(DoubleWell())
        (True, False)
    """
    if not isinstance(f, AbstractFormula) or f.dim < 2:
        return False
    algebra = Algebra(f.dim)
    x, zero = algebra.coordinates, algebra.constant(0)
    try:
        value = zero + f.formula(x)
        parts = (value, *algebra.partial)
        for i in range(f.dim - 1):  # the rotations in these planes generate all others
            turn = [zero] * f.dim
            turn[i], turn[i + 1] = -x[i + 1], x[i]
            if not all(algebra.derivative(each, turn).is_zero for each in parts):
                return False
    except (AttributeError, TypeError, ValueError, TooLargeError):  # a formula that is none, or too long
        return False
    return True


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

    def distance(self, x: Floats) -> Matrix:
        """Enclose the distance of a point from the origin, a column of one ball."""
        return column([norm(matrix(x))])


def residuals_of(f: Any) -> Residuals | None:
    """Return the residuals of a function that is proved to be the sum of their squares; None for others.

    Args:
        f: A function; whatever residuals it claims, its formula is held against them exactly.
    """
    claimed: Residuals | None = getattr(f, "residuals", None)
    if claimed is None or not isinstance(f, AbstractFormula):
        return None
    algebra = Algebra(f.dim)
    try:
        rest = algebra.constant(0) + f.formula(algebra.coordinates)
        for residual in claimed(algebra.coordinates):
            rest = rest - (residual + algebra.constant(0)) ** 2  # a residual may be a number, to be squared exactly
    except (AttributeError, TypeError, ValueError, TooLargeError):
        return None
    # The checker takes residuals that are defined everywhere only: without denominators, logarithms and roots.
    return claimed if rest.is_zero and not algebra.partial else None


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
            The enclosure; None where the gradient may vanish in the box, f may be undefined at `x⁺`, or there are more
            residuals than coordinates.
        """
        x = box(self.centre, 0.0)
        wide = box(self.centre, radius)
        for i in self.free:
            x[i, 0] = wide[i, 0]
        inside = over_box(self._derive, x, self.rho)
        if inside is None or not is_finite(inside.grad_plus) or self._value.nrows() != len(self.free):
            return None
        _, slopes = self._at(inside)
        rows = [[slopes[i, j] for j in self.free] for i in range(slopes.nrows())]
        return SliceBox(self._value, flint().arb_mat(rows), inside)

    def _at(self, sam: SamBox) -> tuple[Matrix, Matrix]:
        x = Jet.variables(sam.x_plus.entries())
        jets = [x[0] * 0 + residual for residual in self._residuals(x)]
        slopes = flint().arb_mat([jet.grad for jet in jets])
        return column([jet.value for jet in jets]), slopes * sam.perturbed

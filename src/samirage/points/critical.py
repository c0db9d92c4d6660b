"""What a critical point of `f` is: from the ends of the Hessian's spectrum, and along its zero modes from `f` itself.

A zero mode counts as a direction of a manifold of minimizers (or maximizers) only where the gradient was seen to stay 0
along it, see `samirage.points.zero_modes`; elsewhere the point is degenerate, and the Hessian does not tell what it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.equation import DENSE_DIM, Equation, stationary
from samirage.points.spectrum import random_start, symmetric_ends
from samirage.points.zero_modes import Modes, all_modes, follow, matrix_modes, product_modes
from samirage.sam import Status

CriticalKind = Literal["minimizer", "maximizer", "saddle", "plateau", "degenerate"]

HALLUCINATED: Final[dict[CriticalKind, Status]] = {
    "minimizer": Status.HALLUCINATED_MINIMIZER,
    "maximizer": Status.HALLUCINATED_MAXIMIZER,
    "saddle": Status.HALLUCINATED_SADDLE,
    "plateau": Status.HALLUCINATED_PLATEAU,
    "degenerate": Status.UNDECIDED,
}
"""The status of a point at which SAM rests, by what `x⁺` is."""

DEGENERATE: Final = (
    "along zero modes of H⁺ the gradient does not stay 0, as it would on a manifold of minimizers: x⁺ is degenerate, "
    "and higher derivatives decide what it is"
)
"""Why a critical point has no better name."""

_LANCZOS_TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class Critical:
    """What a critical point is.

    Attributes:
        kind: `"saddle"` where `f` rises from the point one way and falls another, as at an inflection or a monkey
            saddle too; `"plateau"` where the gradient stays 0 all around; `"degenerate"` where the curvatures that are
            not 0 have one sign, or there are none, and no manifold explains the others.
        is_degenerate: Whether there are zero modes that were followed and are not those of a manifold.
    """

    kind: CriticalKind
    is_degenerate: bool = False


def critical_kind(
    equation: Equation,
    x: Tensor,
    ends: tuple[float, float],
    modes: Callable[[], Modes],
    *,
    unit: float,
    length: float,
    tolerance: float,
) -> Critical:
    """Name a critical point.

    Args:
        equation: The gradient, which is 0 there; see `samirage.points.equation.stationary`.
        x: The critical point, shape (d,).
        ends: Smallest and largest eigenvalue of the Hessian there.
        modes: Returns the zero modes of the Hessian; only called where there are some.
        unit: A curvature to compare with: where all curvatures are small against it, the point is flat.
        length: A length on which the gradient changes.
        tolerance: Relative size below which a curvature counts as 0.

    Returns:
        What it is.

    Example:
        >>> from samirage.landscape import Ring
        >>> ring, x = stationary(Ring()), torch.tensor([1.0, 0.0])
        >>> modes = lambda: matrix_modes(Ring().hessian(x), 1e-6)
        >>> critical_kind(ring, x, (0.0, 2.0), modes, unit=1.0, length=1.0, tolerance=1e-6)
        Critical(kind='minimizer', is_degenerate=False)
    """
    low, high = ends
    largest = max(abs(low), abs(high))
    if largest <= tolerance * unit:
        course = follow(equation, x, all_modes(x, unit), length=length, tolerance=tolerance)
        if course.stays:
            return Critical("plateau")
        return Critical("saddle" if course.rises and course.falls else "degenerate", True)
    rises, falls = high > tolerance * largest, low < -tolerance * largest
    if rises and falls:
        return Critical("saddle")
    if min(abs(low), abs(high)) > tolerance * largest:
        return Critical("minimizer" if rises else "maximizer")
    course = follow(equation, x, modes(), length=length, tolerance=tolerance)
    if course.stays:
        return Critical("minimizer" if rises else "maximizer")
    return Critical("saddle" if (rises or course.rises) and (falls or course.falls) else "degenerate", True)


def critical_point(
    f: Smooth, x: Tensor, *, unit: float, length: float, tolerance: float, slope: Tensor | float = 0.0
) -> Critical:
    """Compute the Hessian at a critical point, or the ends of its spectrum, and name the point.

    Args:
        f: The function; up to `DENSE_DIM` coordinates its Hessian is formed, beyond, Lanczos' method is used.
        x: The critical point, shape (d,).
        unit: A curvature to compare with.
        length: A length on which the gradient changes.
        tolerance: Relative size below which a curvature counts as 0; at least 1e-4 where no Hessian is formed.
        slope: What the gradient is there, shape (d,), where that is not 0.

    Returns:
        What it is; see `critical_kind`.

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> critical_point(DoubleWell(), torch.zeros(2), unit=1.0, length=1.0, tolerance=1e-6).kind
        'saddle'
    """
    modes: Callable[[], Modes]
    if f.dim <= DENSE_DIM:
        hessian = f.hessian(x)
        values = torch.linalg.eigvalsh(hessian)
        low, high = float(values[0]), float(values[-1])
        modes = lambda: matrix_modes(hessian, tolerance)  # noqa: E731
    else:
        hvp = f.linearize(x).hvp
        tolerance = max(tolerance, _LANCZOS_TOLERANCE)
        found = symmetric_ends(hvp, random_start(x, seed=0), tolerance=_LANCZOS_TOLERANCE)
        low, high = found.values.tolist()
        modes = lambda: product_modes(hvp, hvp, found.nearest_0, max(abs(low), abs(high)))  # noqa: E731
    return critical_kind(stationary(f, slope), x, (low, high), modes, unit=unit, length=length, tolerance=tolerance)

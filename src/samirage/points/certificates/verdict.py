"""What the spectra at a point say: what the critical point `x⁺` is, and whether SAM is attracted.

Neither follows from eigenvalues alone where some are 0. A zero mode counts as a direction of a manifold (of
minimizers, or of points at which SAM rests) only where the equation was seen to hold all along it, see
`samirage.points.certificates.zero_modes`; elsewhere the point is degenerate, and higher derivatives decide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.certificates.certificate import Stability
from samirage.points.certificates.spectrum import Spectrum, random_start, symmetric_ends
from samirage.points.certificates.zero_modes import Modes, all_modes, follow, matrix_modes, product_modes
from samirage.points.equation import DENSE_DIM, Equation, stationary
from samirage.sam import Status, max_stable_lr, multipliers

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
        modes = lambda: product_modes(hvp, hvp, found)  # noqa: E731
    return critical_kind(stationary(f, slope), x, (low, high), modes, unit=unit, length=length, tolerance=tolerance)


def decide(
    mu: Spectrum, *, lr: float | None, momentum: float, tolerance: float, is_manifold: Callable[[], bool]
) -> tuple[Stability, float]:
    """Decide on attraction: all `mu` but zero modes must lie right of 0, and the learning rate below their bounds.

    Zero modes may be left out only where they are those of a manifold of points of rest.

    Args:
        mu: Eigenvalues of `M` with their residuals.
        lr: Learning rate, or None for small steps.
        momentum: Coefficient of the heavy ball.
        tolerance: Size, relative to the largest eigenvalue, below which one counts as 0, and residual that is allowed.
        is_manifold: Tells whether SAM rests all along the zero modes; only called where the answer depends on it.

    Returns:
        The verdict, and the largest residual relative to the largest eigenvalue.

    Example:
        >>> mu = Spectrum(torch.tensor([4.0, 1.0, 1e-12]) + 0j, torch.zeros(3), products=0)
        >>> verdict, _ = decide(mu, lr=0.3, momentum=0.0, tolerance=1e-6, is_manifold=lambda: True)
        >>> verdict.attractor, verdict.max_stable_lr, verdict.zero_modes
        (True, 0.5, 1)
    """
    sizes = mu.values.abs()
    scale = float(sizes.max())
    counted = mu.values[sizes > tolerance * scale]
    zero_modes = len(mu.values) - len(counted)
    residual = float(mu.residuals.max()) / scale if scale > 0 else 0.0
    contraction = None
    if lr is not None and len(counted):
        contraction = float(multipliers(counted, lr=lr, momentum=momentum).abs().max())

    attracts, bound, reason = _judged(mu, counted, lr, momentum, tolerance, is_manifold)
    return Stability(attracts, bound, contraction, zero_modes, reason), residual


def _judged(
    mu: Spectrum,
    counted: Tensor,
    lr: float | None,
    momentum: float,
    tolerance: float,
    is_manifold: Callable[[], bool],
) -> tuple[bool | None, float | None, str]:
    scale = float(mu.values.abs().max())
    if not len(counted):
        return None, None, "all eigenvalues of M vanish, so that attraction depends on higher derivatives"
    sound = mu.residuals <= tolerance * scale
    if bool((sound & (mu.values.real < -tolerance * scale)).any()):
        return False, 0.0, ""
    if not bool(sound.all()):
        residual = float(mu.residuals.max()) / scale
        return None, None, f"the residual of an eigenvalue of M, {residual:.1e}, exceeds the tolerance"
    if bool((counted.real <= tolerance * scale).any()):
        return None, None, "an eigenvalue of M lies on the imaginary axis, as far as the tolerance tells"
    bound = float(max_stable_lr(counted.to(torch.complex128), momentum=momentum).min())
    stable = lr is None or lr < bound
    if len(counted) < len(mu.values) and not is_manifold():
        zero = len(mu.values) - len(counted)
        reason = f"SAM does not rest along zero modes of M ({zero}): attraction depends on higher derivatives"
        return None if stable else False, None, reason
    if lr is not None and abs(lr / bound - 1) <= tolerance:
        return None, bound, "the learning rate is the largest stable one, as far as the tolerance tells"
    return stable, bound, ""


def attracts_small_steps(
    mu: Tensor, *, tolerance: float, is_manifold: Callable[[], bool]
) -> tuple[bool | None, float | None]:
    """Tell whether small SAM steps are attracted, and up to which learning rate, from all eigenvalues of `M`, exact.

    Args:
        mu: The eigenvalues, shape (d,), complex.
        tolerance: Size, relative to the largest, up to which one counts as 0.
        is_manifold: As for `decide`.

    Returns:
        Whether all but zero modes lie right of 0, and the largest stable learning rate (0 if not); None for both where
        that depends on zero modes that are not those of a manifold, or there are no others.

    Example:
        >>> attracts_small_steps(torch.tensor([4.0, 1.0, 0.0]) + 0j, tolerance=1e-7, is_manifold=lambda: True)
        (True, 0.5)
    """
    size = mu.abs()
    counted = mu[size > tolerance * size.max()]
    if not len(counted):
        return None, None
    lr = float(max_stable_lr(counted).min())
    if lr > 0 and len(counted) < len(mu) and not is_manifold():
        return None, None
    return lr > 0, lr

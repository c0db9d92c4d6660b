"""Prove that SAM converges to a point from everywhere near it: its map contracts in a suitable norm.

Let `s` lie between the spectral radius of `DT` at the centre and 1, and let `Q` be (about) the solution of
`Q − DTᵀQDT/s² = I`, in floats. If `Q ≻ 0` and `q²Q − DTᵀQDT ≻ 0` for all `DT` over a box, with `q < 1`, then in the
norm `‖v‖² = vᵀQv` every step from a point of the box brings it nearer to the fixed point by the factor `q` (mean value
theorem). The largest ellipsoid of that norm about the fixed point that fits into the box is therefore mapped into
itself, and everything in it converges. All eigenvalues of `DT` at the fixed point lie within the circle of radius `q`.
`s` is an estimate that only serves to choose `Q`; what is proved is `q`.
"""

from typing import Final

import numpy as np

from samirage.points.proofs.balls import Floats, Matrix, identity, is_positive_definite, matrix, middle, widened
from samirage.points.proofs.enclosure import Enclose, over_box
from samirage.points.proofs.proof import rounded_down, rounded_up
from samirage.points.proofs.record import Attraction

_DOUBLINGS: Final = 60
_SMALL_DIM: Final = 64  # up to which many half-widths are tried
_MARGIN: Final = 8.0  # the half-width is stated this much smaller than it could be, for checkers with wider enclosures


def prove_attraction(derive: Enclose, centre: Matrix, rho: float, lr: float, radius: float) -> Attraction | None:
    """Prove that SAM converges to the zero that a box of half-width `radius` holds.

    Args:
        derive: Encloses gradient and Hessian of `f`.
        centre: Encloses the centre of the box, a column of d balls.
        rho: Perturbation radius.
        lr: Learning rate.
        radius: Half-width of the box that holds the fixed point.

    Returns:
        What is proved; None where nothing is.
    """
    at = over_box(derive, centre, rho)
    if at is None:
        return None
    count, scale = centre.nrows(), 1 + float(np.abs(middle(centre)).max())
    step = np.eye(count) - lr * middle(at.update)
    largest = float(np.abs(np.linalg.eigvals(step)).max())
    if not largest < 1:
        return None
    spectral = (1 + largest) / 2
    norm = lyapunov(step / spectral)
    if norm is None:
        return None
    factor = rounded_up((1 + spectral) / 2)
    if not factor < 1:
        factor = (1 + spectral) / 2
    half_width, widest = 2 * _MARGIN * radius, None
    step_up = 2.0 if count <= _SMALL_DIM else 10.0
    while half_width < 1e3 * scale:
        if not _contracts(derive, centre, rho, lr, norm, factor, half_width):
            break
        widest, half_width = half_width, half_width * step_up
    if widest is None:
        return None
    widest = rounded_down(widest / _MARGIN)
    curvatures = np.linalg.eigvalsh(norm)
    low, high = 0.99 * curvatures[0], 1.01 * curvatures[-1]
    one = identity(count)
    bounded = is_positive_definite(matrix(norm) - one * low) and is_positive_definite(one * high - matrix(norm))
    if not (bounded and low > 0):
        return None
    # The fixed point lies within the radius of the centre, in each coordinate.
    basin = rounded_down(0.99 * (widest - radius) * float(np.sqrt(low / high)))
    return Attraction(lr, factor, widest, basin)


def lyapunov(step: Floats) -> Floats | None:
    """Return about the solution of `Q − stepᵀ·Q·step = I`: the sum of `(stepᵀ)^k·step^k`, by doubling.

    Args:
        step: A matrix of spectral radius below 1, shape (d, d).

    Returns:
        A symmetric matrix of floats; None where the sum does not converge in float64.

    Example:
        >>> lyapunov(np.array([[0.5]])).round(6)
        array([[1.333333]])
    """
    total, power = np.eye(len(step)), step
    for _ in range(_DOUBLINGS):
        with np.errstate(over="ignore", invalid="ignore"):
            added = power.T @ total @ power
            total = total + added
        if not np.isfinite(total).all():
            return None
        if float(np.abs(added).max()) <= 1e-14 * float(np.abs(total).max()):
            return np.asarray((total + total.T) / 2)
        with np.errstate(over="ignore", invalid="ignore"):
            power = power @ power
    return None


def _contracts(
    derive: Enclose, centre: Matrix, rho: float, lr: float, norm: Floats, factor: float, half_width: float
) -> bool:
    inside = over_box(derive, widened(centre, half_width), rho)
    if inside is None:
        return False
    step = identity(centre.nrows()) - inside.update * lr
    q = matrix(norm)
    return is_positive_definite(q * factor * factor - step.transpose() * (q * step))

"""Krawczyk's operator: a proof that a box holds exactly one zero of a system of equations.

For `F: R^n → R^n`, a box `X = m + [−r, r]^n` and any matrix `Y`, let
`K = m − Y·F(m) + (I − Y·DF(X))·(X − m)`. If `K` lies in the interior of `X`, then `F` has exactly one zero in `X`, and
its derivative is regular throughout `X` (Krawczyk 1969; Rump 1983).
"""

import numpy as np

from samirage.points.proofs.balls import Floats, Matrix, box, identity, is_finite, magnitude, matrix, middle


def reach(value: Matrix, derivative: Matrix, radius: float) -> float:
    """Return `max|K − m|/r`: below 1, the box holds exactly one zero.

    Args:
        value: Encloses `F(m)`, a column.
        derivative: Encloses `DF` over the box.
        radius: Half-width `r` of the box.

    Returns:
        An upper bound; infinity where the derivative is singular, or not bounded.

    Example:
        >>> from samirage.points.proofs.balls import precision
        >>> with precision():  # F(x) = x² − 2 about 1.4142, in a box of half-width 0.001
        ...     x = box(np.array([1.4142]), 0.001)
        ...     bool(reach(matrix(np.array([1.4142**2 - 2])), x * 2, 0.001) < 1)
        True
    """
    if not (is_finite(value) and is_finite(derivative)):
        return float("inf")
    centre = middle(derivative)
    try:
        inverse = np.linalg.inv(centre)
    except np.linalg.LinAlgError:
        return float("inf")
    if not np.isfinite(inverse).all():
        return float("inf")
    y = matrix(np.asarray(inverse, dtype=np.float64))
    n = derivative.nrows()
    moved = y * value * -1 + (identity(n) - y * derivative) * box(np.zeros(n), radius)
    with np.errstate(over="ignore"):
        return float(magnitude(moved).max() / radius)


def newton_shift(value: Floats, derivative: Floats) -> float:
    """Return how far Newton's step would go, in the largest coordinate: about how far off the middle is.

    Args:
        value: `F(m)`, shape (n,).
        derivative: `DF(m)`, shape (n, n).

    Example:
        >>> newton_shift(np.array([1.0]), np.array([[4.0]]))
        0.25
    """
    if not (np.isfinite(derivative).all() and np.isfinite(value).all()):
        return float("inf")
    return float(np.abs(np.linalg.lstsq(derivative, value, rcond=1e-14)[0]).max())

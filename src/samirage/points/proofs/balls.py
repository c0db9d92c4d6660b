"""Small tools for ball arithmetic (python-flint): conversions that lose nothing, and positive definiteness, proved.

A ball holds a real number with an error bound; every operation encloses all results that its inputs allow. A vector is
an `arb_mat` with one column.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samirage.errors import require

Ball = Any
"""`flint.arb`; python-flint has no types for a checker to read."""
Matrix = Any
"""`flint.arb_mat`."""
Floats = NDArray[np.float64]

PRECISION_BITS: Final = 113  # that of IEEE quadruple precision: rounding is then far below any box
_PERRON_STEPS: Final = 20
_SLACK: Final = 1 + 1e-9  # outward, more than the rounding of the float64 sums and conversions below


def flint() -> Any:
    """Return the module python-flint, or say what to install."""
    return require("proof", "flint")


@contextmanager
def precision(bits: int = PRECISION_BITS) -> Iterator[None]:
    """Compute with so many bits within the block.

    Args:
        bits: Precision of the midpoints.
    """
    context = flint().ctx
    before = context.prec
    context.prec = bits
    try:
        yield
    finally:
        context.prec = before


def matrix(values: Floats) -> Matrix:
    """Return floats, exactly, as a matrix of balls; a vector becomes one column.

    Args:
        values: Shape (n, m) or (n,).
    """
    rows = values if values.ndim == 2 else values[:, None]
    return flint().arb_mat(*rows.shape, rows.ravel().tolist())


def box(centre: Floats, radius: float) -> Matrix:
    """Return the box of half-width `radius` about a point, as a column.

    Args:
        centre: Shape (n,).
        radius: Half-width, at least 0.
    """
    arb = flint().arb
    return flint().arb_mat(len(centre), 1, [arb(value, radius) for value in centre.tolist()])


def widened(balls: Matrix, radius: float) -> Matrix:
    """Return a column with `radius` added to the error bound of every entry.

    Args:
        balls: A column.
        radius: At least 0.
    """
    wide = flint().arb(0, radius)
    return column([ball + wide for ball in balls.entries()])


def identity(n: int) -> Matrix:
    """Return the identity matrix.

    Args:
        n: Its size.
    """
    return matrix(np.eye(n))


def middle(balls: Matrix) -> Floats:
    """Return the midpoints, rounded to float64, shape (n, m).

    Args:
        balls: Any matrix.
    """
    values = [float(ball.mid()) for ball in balls.entries()]
    return np.array(values).reshape(balls.nrows(), balls.ncols())


def magnitude(balls: Matrix) -> Floats:
    """Return upper bounds of the absolute values, shape (n, m).

    Args:
        balls: Any matrix.

    Example:
        >>> magnitude(box(np.array([-1.0]), 0.5)) >= 1.5
        array([[ True]])
    """
    values = [float(ball.abs_upper()) for ball in balls.entries()]
    # The conversion rounds to nearest: a relative error that the slack covers, and an absolute one near 0.
    return np.array(values).reshape(balls.nrows(), balls.ncols()) * _SLACK + 5e-324


def bounds(balls: Matrix) -> Floats:
    """Return lower and upper ends of a column, rounded outward, shape (n, 2).

    Args:
        balls: A column.
    """
    ends = np.array([[float(ball.lower()), float(ball.upper())] for ball in balls.entries()])
    return np.stack([np.nextafter(ends[:, 0], -np.inf), np.nextafter(ends[:, 1], np.inf)], 1)


def norm(balls: Matrix) -> Ball:
    """Return the Euclidean norm of a column.

    Args:
        balls: A column.
    """
    return (balls.transpose() * balls)[0, 0].sqrt()


def is_finite(balls: Matrix) -> bool:
    """Tell whether all balls are bounded.

    Args:
        balls: Any matrix.
    """
    return all(ball.is_finite() for ball in balls.entries())


def radii(balls: Matrix) -> Floats:
    """Return upper bounds of the distance from `middle` that an entry can have, shape (n, m).

    Args:
        balls: Any matrix.
    """
    values = [(float(ball.rad()), abs(float(ball.mid()))) for ball in balls.entries()]
    # The middle, rounded to float64, is off by half a unit in the last place at most.
    ends = [radius * _SLACK + size * 2.0**-52 + 5e-324 for radius, size in values]
    return np.array(ends).reshape(balls.nrows(), balls.ncols())


def is_positive_definite(balls: Matrix) -> bool:
    """Prove that every symmetric matrix within an enclosure is positive definite; False proves nothing.

    A member differs from the middle `B` by at most `R`, entry by entry, so its eigenvalues differ by at most the
    spectral radius of `R`, which is at most `max (R·w)_i/w_i` for any positive `w` (Collatz). So `B`, less that
    multiple of the identity, has to be positive definite: with its approximate eigenvectors `V`, `VᵀBV` is nearly
    diagonal, and positive definite by Gershgorin's theorem if every diagonal entry exceeds the sum of the absolute
    values of the others in its row; which also makes `V` regular, and then so is `B` by congruence.

    Args:
        balls: A square matrix, of which symmetric members are meant.

    Example:
        >>> with precision():
        ...     is_positive_definite(matrix(np.array([[2.0, 1.0], [1.0, 2.0]])))
        True
    """
    if not is_finite(balls):
        return False
    centre, apart = middle(balls), radii(balls)
    apart = np.maximum(apart, apart.T) + np.abs(centre - centre.T)
    symmetric = (centre + centre.T) / 2
    weights = np.ones(len(apart))
    for _ in range(_PERRON_STEPS):
        weights = apart @ weights + 1e-3 * apart.max()
        weights /= weights.max()
    shift = float((apart @ weights / weights).max()) * _SLACK
    shifted = symmetric - shift * np.eye(len(symmetric))
    vectors = matrix(np.linalg.eigh(shifted)[1])
    rotated = vectors.transpose() * (matrix(symmetric) - identity(len(symmetric)) * shift) * vectors
    off = magnitude(rotated)
    np.fill_diagonal(off, 0.0)
    diagonal = np.array([float(rotated[i, i].lower()) for i in range(rotated.nrows())])
    return bool((diagonal > off.sum(1) * _SLACK).all())


def column(balls: Sequence[Ball]) -> Matrix:
    """Return balls as a column.

    Args:
        balls: The entries.
    """
    return flint().arb_mat(len(balls), 1, list(balls))

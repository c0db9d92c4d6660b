"""Linear algebra of the checker, in ball arithmetic: interval Newton, and definiteness by Schur complements."""

from typing import Any, Final

import numpy as np

from samirage.errors import require

_LEAF: Final = 4  # size of a matrix whose pivots are computed one by one


def newton_confirms(value: Any, derivative: Any, half_width: float) -> bool:
    """Interval Newton: `m − DF(X)⁻¹·F(m)` lies in the interior of X, so that there is exactly one zero.

    The equations are first multiplied by an approximate inverse of the derivative: any regular matrix leaves the zeros
    as they are, and a matrix near the identity is eliminated without growth of the balls.

    Args:
        value: Encloses `F(m)`, a column of n balls.
        derivative: Encloses `DF` all over the box X, n by n.
        half_width: Half-width of X in every coordinate.

    Example:
        >>> from flint import arb, arb_mat
        >>> x = arb(1.5, 0.25)  # F(x) = x² − 2 about 1.5
        >>> newton_confirms(arb_mat([[arb(0.25)]]), arb_mat([[2 * x]]), 0.25)
        True
    """
    flint = require("proof", "flint")
    n = derivative.nrows()
    middle = np.array([[float(derivative[i, j].mid()) for j in range(n)] for i in range(n)])
    try:
        scale = flint.arb_mat(n, n, np.linalg.inv(middle).ravel().tolist())
        step = (scale * derivative).solve(scale * value)
    except (ZeroDivisionError, ValueError, np.linalg.LinAlgError):  # the balls hold a singular matrix, or no number
        return False
    return all(entry.abs_upper() < half_width for entry in step.entries())


def shifted(matrix: Any, by: Any) -> Any:
    """Return a square matrix plus a multiple of the identity.

    Args:
        matrix: The matrix.
        by: The multiple.
    """
    moved = matrix * 1
    for i in range(matrix.nrows()):
        moved[i, i] = moved[i, i] + by
    return moved


def is_positive(matrix: Any) -> bool:
    """Whether every symmetric member is positive definite: shown in one of two ways.

    By elimination in balls, which is the sharper way for few coordinates; or because the middle is positive definite by
    more than the Frobenius norm of the rest.

    Args:
        matrix: A square matrix of balls.

    Example:
        >>> from flint import arb_mat
        >>> is_positive(arb_mat([[2, 1], [1, 2]])), is_positive(arb_mat([[1, 2], [2, 1]]))
        (True, False)
    """
    if _eliminates(matrix):
        return True
    if not all(entry.is_finite() for entry in matrix.entries()):
        return False
    flint = require("proof", "flint")
    n = matrix.nrows()
    middle = flint.arb_mat(n, n, [entry.mid() for entry in matrix.entries()])
    # A symmetric member differs from the symmetric part of the middle by the radii and half of what is not symmetric.
    apart = (middle - middle.transpose()) / 2
    distances = [a.rad() + abs(b) for a, b in zip(matrix.entries(), apart.entries(), strict=True)]
    radius = sum((entry * entry for entry in distances), flint.arb(0)).sqrt()
    return _eliminates(shifted((middle + middle.transpose()) / 2, -radius))


def _block(matrix: Any, rows: range, columns: range) -> Any:
    flint = require("proof", "flint")
    return flint.arb_mat(len(rows), len(columns), [matrix[i, j] for i in rows for j in columns])


def _eliminates(matrix: Any) -> bool:
    """A symmetric matrix is positive definite if a leading block and its Schur complement are."""
    n = matrix.nrows()
    if n <= _LEAF:
        # Symmetric elimination: every pivot is positive.
        rows = [[matrix[i, j] for j in range(n)] for i in range(n)]
        for k in range(n):
            if not rows[k][k] > 0:
                return False
            for i in range(k + 1, n):
                factor = rows[i][k] / rows[k][k]
                for j in range(k + 1, n):
                    rows[i][j] = rows[i][j] - factor * rows[k][j]
        return True
    half = n // 2
    top, bottom = range(half), range(half, n)
    leading, corner = _block(matrix, top, top), _block(matrix, top, bottom)
    if not _eliminates(leading):
        return False
    try:
        solved = leading.solve(corner)
    except ZeroDivisionError:
        return False
    return _eliminates(_block(matrix, bottom, bottom) - corner.transpose() * solved)

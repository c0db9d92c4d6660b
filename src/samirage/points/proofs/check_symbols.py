"""What the checker shows of a function as a whole: SymPy expressions with rational numbers, substituted and expanded.

SymPy is never given a float: it would round where it adds two of them. Every float of a formula arrives as the rational
number that it holds, and is added to others as such.
"""

from collections.abc import Callable, Sequence
from typing import Any

from samirage.errors import require
from samirage.points.proofs.check_scalars import Symbol

Formula = Callable[[Sequence[Any]], Any]


def depends_on_distance_alone(formula: Formula, dim: int) -> bool:
    """Show that a formula is invariant under rotations: by the angle `atan(4/3)`, in the planes of neighbouring axes.

    Multiples of this angle are dense, because it is no rational multiple of π; and rotations in these planes generate
    all. Denominators and arguments of logarithms and roots are held to the same, so that the formula is defined
    everywhere on a sphere, or nowhere.

    Args:
        formula: The formula.
        dim: Number of coordinates; False for one, where there is nothing to rotate.
    """
    if dim < 2:
        return False
    sympy = require("proof", "sympy")
    x, partial = _coordinates(dim)
    parts = [_expression(formula([Symbol(s, partial) for s in x])), *partial]
    for i in range(dim - 1):
        turn = {x[i]: (3 * x[i] - 4 * x[i + 1]) / 5, x[i + 1]: (4 * x[i] + 3 * x[i + 1]) / 5}
        if not all(sympy.expand(part.xreplace(turn) - part) == 0 for part in parts):
            return False
    return True


def is_sum_of_squares(formula: Formula, residuals: Callable[[Sequence[Any]], Sequence[Any]], dim: int) -> bool:
    """Show that a formula is the sum of the squares of residuals, and therefore nowhere negative.

    The residuals must be defined everywhere, without denominators, logarithms and roots: `x·y²` is the square of
    `sqrt(x)·y` for positive x alone.

    Args:
        formula: The formula.
        residuals: The residuals.
        dim: Number of coordinates.
    """
    sympy = require("proof", "sympy")
    x, partial = _coordinates(dim)
    symbols = [Symbol(s, partial) for s in x]
    squares = sum((_expression(r) ** 2 for r in residuals(symbols)), sympy.Integer(0))
    if any(part.free_symbols or part == 0 for part in partial):
        return False
    return bool(sympy.expand(squares - _expression(formula(symbols))) == 0)


def _coordinates(dim: int) -> tuple[Sequence[Any], list[Any]]:
    # Real, and nothing more: with a sign assumed, SymPy would take sqrt(x²) for x.
    return require("proof", "sympy").symbols(f"x:{dim}", real=True), []


def _expression(value: Any) -> Any:
    sympy = require("proof", "sympy")
    expression = value.node if isinstance(value, Symbol) else Symbol.constant(value)
    if expression.has(sympy.Float):
        raise AssertionError("SymPy was given a float")
    return expression

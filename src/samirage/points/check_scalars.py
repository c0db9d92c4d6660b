"""Scalars that the checker of proofs puts into formulas: power series with ball coefficients, and exact expressions."""

from collections.abc import Callable
from typing import Any, Self

from samirage.errors import require


class _Lifted:
    """A value of another library, with the operators and methods that formulas use.

    Args:
        node: The value.
    """

    def __init__(self, node: Any) -> None:
        self.node = node

    def _constant(self, number: Any) -> Any:
        """Return a Python number in the arithmetic of the node."""
        return number

    def _with(self, other: Any, operation: Callable[[Any, Any], Any]) -> Self:
        joined = other.node if isinstance(other, _Lifted) else self._constant(other)
        return type(self)(operation(self.node, joined))

    def __add__(self, other: Any) -> Self:
        return self._with(other, lambda a, b: a + b)

    def __mul__(self, other: Any) -> Self:
        return self._with(other, lambda a, b: a * b)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Any) -> Self:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Self:
        return self._with(other, lambda a, b: b - a)

    def __neg__(self) -> Self:
        return self * -1

    def __truediv__(self, other: Any) -> Self:
        return self._with(other, lambda a, b: a / b)

    def __rtruediv__(self, other: Any) -> Self:
        return self._with(other, lambda a, b: b / a)

    def __pow__(self, exponent: int) -> Self:
        return type(self)(self.node**exponent)


class Series(_Lifted):
    """A power series of python-flint, `arb_series`."""

    def __pow__(self, exponent: int) -> Self:
        # python-flint's own power of a constant series whose ball holds 0 is not a number.
        power = self.node * 0 + 1
        for _ in range(exponent):
            power = power * self.node
        return type(self)(power)

    def tanh(self) -> Self:
        """Hyperbolic tangent, which python-flint has for numbers only."""
        return type(self)(1 - 2 / ((self.node * 2).exp() + 1))

    def __getattr__(self, name: str) -> Callable[[], Self]:
        if name not in {"exp", "log", "sin", "cos", "atan", "sqrt"}:
            raise AttributeError(name)
        return lambda: type(self)(getattr(self.node, name)())


class Symbol(_Lifted):
    """A SymPy expression; floats in formulas become the rational numbers that they are."""

    def _constant(self, number: Any) -> Any:
        return require("proof", "sympy").Rational(number)

    def __getattr__(self, name: str) -> Callable[[], Self]:
        if name not in {"exp", "log", "sin", "cos", "tanh", "atan", "sqrt"}:
            raise AttributeError(name)
        return lambda: type(self)(getattr(require("proof", "sympy"), name)(self.node))

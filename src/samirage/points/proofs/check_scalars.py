"""Scalars that the checker of proofs puts into formulas: power series with ball coefficients, and exact expressions."""

import math
from collections.abc import Callable
from typing import Any, NoReturn, Self

from samirage.errors import require

_FUNCTIONS = frozenset({"exp", "log", "sin", "cos", "tanh", "atan", "sqrt"})


def _refuse_inexact(number: Any) -> None:
    if not isinstance(number, int | float):
        raise TypeError(f"a formula may combine its coordinates with ints and floats only; got {number!r:.60}")
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"the coefficients of a formula must be finite; got {number!r}")


class _Lifted:
    """A value of another library, with the operators and methods that formulas use.

    Args:
        node: The value.
    """

    __array_ufunc__ = None  # NumPy's scalars leave mixed operations to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, node: Any) -> None:
        self.node = node

    @staticmethod
    def constant(number: Any) -> Any:
        """Return a number of a formula, exactly, in the arithmetic of the node.

        Args:
            number: An int or a float.

        Raises:
            TypeError: If it is something else.
        """
        raise NotImplementedError

    def _wrap(self, node: Any) -> Self:
        return type(self)(node)

    def _of(self, other: Any) -> Any:
        return other.node if isinstance(other, type(self)) else self.constant(other)

    def __add__(self, other: Any) -> Self:
        return self._wrap(self.node + self._of(other))

    def __mul__(self, other: Any) -> Self:
        return self._wrap(self.node * self._of(other))

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Any) -> Self:
        return self._wrap(self.node - self._of(other))

    def __rsub__(self, other: Any) -> Self:
        return self._wrap(self._of(other) - self.node)

    def __neg__(self) -> Self:
        return self._wrap(-self.node)

    def __truediv__(self, other: Any) -> Self:
        return self._quotient(self.node, self._of(other))

    def __rtruediv__(self, other: Any) -> Self:
        return self._quotient(self._of(other), self.node)

    def __pow__(self, exponent: int) -> Self:
        if type(exponent) is not int or exponent < 0:
            raise TypeError(f"a formula takes whole powers of at least 0; got {exponent!r}")
        return self._power(exponent)

    def _quotient(self, over: Any, under: Any) -> Self:
        return self._wrap(over / under)

    def _power(self, exponent: int) -> Self:
        return self._wrap(self.node**exponent)

    def __getattr__(self, name: str) -> Callable[[], Self]:
        if name not in _FUNCTIONS:
            raise AttributeError(name)
        return lambda: self._applied(name)

    def _applied(self, name: str) -> Self:
        raise NotImplementedError

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a formula may not compare its coordinates: it must be one expression for all of them")

    def __bool__(self) -> NoReturn:
        raise TypeError("a formula may not branch on its coordinates: it must be one expression for all of them")


class Series(_Lifted):
    """A power series of python-flint, `arb_series`."""

    @staticmethod
    def constant(number: Any) -> Any:
        """Return a number as a ball without a radius."""
        _refuse_inexact(number)
        return require("proof", "flint").arb(number)

    def _quotient(self, over: Any, under: Any) -> Self:
        try:
            return self._wrap(over / under)
        except (ValueError, ZeroDivisionError):  # the denominator may vanish: no number, of which nothing is shown
            flint = require("proof", "flint")
            return self._wrap(flint.arb_series([flint.arb("nan")] * self.node.prec, prec=self.node.prec))

    def _power(self, exponent: int) -> Self:
        # python-flint's own power of a constant series whose ball holds 0 is not a number.
        power = self.node * 0 + 1
        for _ in range(exponent):
            power = power * self.node
        return self._wrap(power)

    def _applied(self, name: str) -> Self:
        if name == "tanh":  # which python-flint has for numbers only
            return 1 - self._quotient(2, (self.node * 2).exp() + 1)
        return self._wrap(getattr(self.node, name)())


class Symbol(_Lifted):
    """A SymPy expression without floats.

    Args:
        node: The expression.
        partial: Collects denominators and arguments of logarithms and roots, even of those that cancel later.
    """

    def __init__(self, node: Any, partial: list[Any]) -> None:
        super().__init__(node)
        self._partial = partial

    @staticmethod
    def constant(number: Any) -> Any:
        """Return a number as the rational that it is."""
        _refuse_inexact(number)
        return require("proof", "sympy").Rational(*number.as_integer_ratio())

    def _wrap(self, node: Any) -> Self:
        return type(self)(node, self._partial)

    def _quotient(self, over: Any, under: Any) -> Self:
        self._partial.append(under)
        return self._wrap(over / under)

    def _applied(self, name: str) -> Self:
        if name in {"log", "sqrt"}:
            self._partial.append(self.node)
        return self._wrap(getattr(require("proof", "sympy"), name)(self.node))

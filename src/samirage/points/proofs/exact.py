"""Exact arithmetic of formulas: polynomials with rational coefficients in the coordinates and in values of functions.

`x·exp(x²) + y/3` is a polynomial in `x`, `y` and one further indeterminate, the value of `exp` at the polynomial `x²`.
Every float is the rational number that it holds, from the first operation on. If two polynomials are equal here, then
the functions are equal wherever they are defined; two that differ may still be equal as functions (`exp(x)·exp(−x)` is
not seen to be 1), so that an identity that is not found proves nothing.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final, NoReturn, Self

Monomial = tuple[tuple[int, int], ...]
"""Indeterminates with their powers, in order; the indeterminates are numbered."""
Terms = dict[Monomial, Fraction]

_MOST_PRODUCTS: Final = 2_000_000  # of terms, in one algebra: some seconds
_RECIPROCAL: Final = "1/"
# Where these are defined depends on their argument.
_PARTIAL: Final = frozenset({_RECIPROCAL, "log", "sqrt"})


class TooLargeError(Exception):
    """Raised when a formula would take too long to multiply out."""


class Exact:
    """An element of an `Algebra`, with the operators and methods that formulas use.

    Args:
        algebra: Where it lives.
        terms: Coefficient of every monomial, none of them 0.
    """

    __slots__ = ("algebra", "terms")
    __array_ufunc__ = None  # NumPy's scalars leave mixed operations to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, algebra: "Algebra", terms: Terms) -> None:
        self.algebra = algebra
        self.terms = terms

    @property
    def is_zero(self) -> bool:
        """Whether this is the polynomial 0."""
        return not self.terms

    def _other(self, other: Any) -> "Exact":
        if isinstance(other, Exact):
            return other
        return self.algebra.constant(other)

    def _new(self, terms: Terms) -> Self:
        return type(self)(self.algebra, terms)

    def __add__(self, other: Any) -> Self:
        terms = dict(self.terms)
        for monomial, coefficient in self._other(other).terms.items():
            total = terms.pop(monomial, 0) + coefficient
            if total:
                terms[monomial] = Fraction(total)
        return self._new(terms)

    def __mul__(self, other: Any) -> Self:
        right = self._other(other)
        self.algebra.spend(len(self.terms) * len(right.terms))
        terms: Terms = {}
        for p, a in self.terms.items():
            for q, b in right.terms.items():
                monomial = _joined(p, q)
                terms[monomial] = terms.get(monomial, Fraction(0)) + a * b
        return self._new({monomial: c for monomial, c in terms.items() if c})

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Self:
        return self._new({monomial: -c for monomial, c in self.terms.items()})

    def __sub__(self, other: Any) -> Self:
        return self + -self._other(other)

    def __rsub__(self, other: Any) -> Self:
        return (-self).__add__(other)

    def __truediv__(self, other: Any) -> Self:
        return self.__mul__(self._other(other)._reciprocal())

    def __rtruediv__(self, other: Any) -> "Exact":
        return self._reciprocal().__mul__(other)

    def __pow__(self, exponent: int) -> Self:
        if type(exponent) is not int or exponent < 0:
            raise TypeError(f"a formula takes whole powers of at least 0; got {exponent!r}")
        result = self._new(self.algebra.constant(1).terms)
        for _ in range(exponent):
            result = result * self
        return result

    def _reciprocal(self) -> "Exact":
        if set(self.terms) == {()}:
            return self.algebra.constant(1 / self.terms[()])
        return self.algebra.value_of(_RECIPROCAL, self)

    def exp(self) -> "Exact":
        """`e^x`."""
        return self.algebra.value_of("exp", self)

    def log(self) -> "Exact":
        """Natural logarithm."""
        return self.algebra.value_of("log", self)

    def sin(self) -> "Exact":
        """Sine."""
        return self.algebra.value_of("sin", self)

    def cos(self) -> "Exact":
        """Cosine."""
        return self.algebra.value_of("cos", self)

    def tanh(self) -> "Exact":
        """Hyperbolic tangent."""
        return self.algebra.value_of("tanh", self)

    def atan(self) -> "Exact":
        """Inverse tangent."""
        return self.algebra.value_of("atan", self)

    def sqrt(self) -> "Exact":
        """Square root."""
        return self.algebra.value_of("sqrt", self)

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a formula may not compare its coordinates: it must be one expression for all of them")

    def __bool__(self) -> NoReturn:
        raise TypeError("a formula may not branch on its coordinates: it must be one expression for all of them")


class Algebra:
    """The polynomials in `dim` coordinates and in all values of functions that have occurred.

    Args:
        dim: Number of coordinates.

    Example:
        >>> algebra = Algebra(2)
        >>> x, y = algebra.coordinates
        >>> (0.1 * x + 0.2 * x - 0.3 * x).is_zero  # the three floats are not 1/10, 2/10 and 3/10
        False
        >>> ((x + y) * (x - y) - (x**2 - y**2)).is_zero
        True
        >>> algebra.derivative((x**2 + y**2).exp(), [-y, x]).is_zero  # along a rotation
        True
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._values: list[tuple[str, Exact]] = []
        self._places: dict[tuple[str, frozenset[tuple[Monomial, Fraction]]], int] = {}
        self._products = 0
        self.partial: list[Exact] = []
        """The denominators, and the arguments of `log` and `sqrt`, that have occurred."""
        self.coordinates = [self._indeterminate(i) for i in range(dim)]

    def constant(self, number: Any) -> Exact:
        """Return a number, exactly.

        Args:
            number: An int, a float or a Fraction.

        Raises:
            TypeError: If it is something else.
            ValueError: If it is not finite.
        """
        if not isinstance(number, int | float | Fraction):
            raise TypeError(f"a formula may combine its coordinates with ints and floats only; got {number!r:.60}")
        try:
            exact = Fraction(number)
        except (OverflowError, ValueError):
            raise ValueError(f"the coefficients of a formula must be finite; got {number!r}") from None
        return Exact(self, {(): exact} if exact else {})

    def value_of(self, name: str, argument: Exact) -> Exact:
        """Return the value of a function as an indeterminate of its own: the same for the same argument.

        Args:
            name: `"exp"`, `"log"`, … or `"1/"`.
            argument: Where it is evaluated.
        """
        key = name, frozenset(argument.terms.items())
        if key not in self._places:
            self._places[key] = self._dim + len(self._values)
            self._values.append((name, argument))
            if name in _PARTIAL:
                self.partial.append(argument)
        return self._indeterminate(self._places[key])

    def derivative(self, value: Exact, slopes: Sequence[Exact]) -> Exact:
        """Return the derivative of an element along a vector field.

        Args:
            value: The element.
            slopes: The derivatives of the coordinates, one for each.
        """
        result = self.constant(0)
        for place in sorted({i for monomial in value.terms for i, _ in monomial}):
            slope = slopes[place] if place < self._dim else self._slope(place, slopes)
            if not slope.is_zero:
                result = result + _partial_derivative(value, place) * slope
        return result

    def spend(self, products: int) -> None:
        """Count products of terms.

        Args:
            products: How many more there will be.

        Raises:
            TooLargeError: If that makes too many.
        """
        self._products += products
        if self._products > _MOST_PRODUCTS:
            raise TooLargeError

    def _indeterminate(self, place: int) -> Exact:
        return Exact(self, {((place, 1),): Fraction(1)})

    def _slope(self, place: int, slopes: Sequence[Exact]) -> Exact:
        """Chain rule for the value of a function."""
        name, argument = self._values[place - self._dim]
        inner = self.derivative(argument, slopes)
        return inner if inner.is_zero else _outer(name, argument) * inner


def _outer(name: str, u: Exact) -> Exact:
    """Derivative of a function at `u`."""
    if name == "exp":
        return u.exp()
    if name == "log":
        return 1 / u
    if name == "sin":
        return u.cos()
    if name == "cos":
        return -u.sin()
    if name == "tanh":
        return 1 - u.tanh() ** 2
    if name == "atan":
        return 1 / (1 + u**2)
    if name == "sqrt":
        return 1 / (2 * u.sqrt())
    return -((1 / u) ** 2)


def _partial_derivative(value: Exact, place: int) -> Exact:
    terms: Terms = {}
    for monomial, coefficient in value.terms.items():
        powers = dict(monomial)
        power = powers.pop(place, 0)
        if power > 1:
            powers[place] = power - 1
        if power:
            terms[tuple(sorted(powers.items()))] = coefficient * power
    return Exact(value.algebra, terms)


def _joined(p: Monomial, q: Monomial) -> Monomial:
    if not p:
        return q
    powers = dict(p)
    for place, power in q:
        powers[place] = powers.get(place, 0) + power
    return tuple(sorted(powers.items()))

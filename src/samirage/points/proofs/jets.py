"""Second-order jets: value, gradient and Hessian of a formula at once, in any arithmetic, such as balls.

A jet is a truncated Taylor polynomial `c + <grad, t> + ½·tᵀ·hessian·t` in the d displacements t. Evaluating a formula
on the jets of its coordinates gives its derivatives by the chain rule; on balls, enclosures of them over the whole box.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self

Number = Any
"""The arithmetic of the coefficients: python-flint's `arb`, or anything that knows the same operations."""


class Jet:
    """A scalar with its first and second derivatives.

    Args:
        value: `c`.
        grad: First derivatives, a list of d numbers.
        hessian: Second derivatives, the lower triangle: row i holds i + 1 numbers.

    Example:
        >>> x, y = Jet.variables([2.0, 3.0])
        >>> f = x**2 * y
        >>> f.value, f.grad, f.hessian
        (12.0, [12.0, 4.0], [[6.0], [4.0, 0.0]])
    """

    __slots__ = ("grad", "hessian", "value")
    __array_ufunc__ = None  # NumPy's scalars leave mixed operations to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Number, grad: list[Number], hessian: list[list[Number]]) -> None:
        self.value = value
        self.grad = grad
        self.hessian = hessian

    @classmethod
    def variables(cls, x: Sequence[Number]) -> list[Self]:
        """Return the jets of the d coordinates.

        Args:
            x: The coordinates.
        """
        zero = x[0] * 0
        d = len(x)
        return [
            cls(value, [zero + (i == k) for i in range(d)], [[zero] * (i + 1) for i in range(d)])
            for k, value in enumerate(x)
        ]

    def __add__(self, other: Any) -> Self:
        if not isinstance(other, Jet):
            return type(self)(self.value + _exact(other), self.grad, self.hessian)
        return type(self)(
            self.value + other.value,
            [a + b for a, b in zip(self.grad, other.grad, strict=True)],
            [[a + b for a, b in zip(p, q, strict=True)] for p, q in zip(self.hessian, other.hessian, strict=True)],
        )

    __radd__ = __add__

    def __neg__(self) -> Self:
        return self._scaled(-1)

    def __sub__(self, other: Any) -> Self:
        return self.__add__(-other)

    def __rsub__(self, other: Any) -> Self:
        return (-self).__add__(other)

    def __mul__(self, other: Any) -> Self:
        if not isinstance(other, Jet):
            return self._scaled(_exact(other))
        a, b = self, other
        return type(self)(
            a.value * b.value,
            [a.value * q + b.value * p for p, q in zip(a.grad, b.grad, strict=True)],
            [
                [
                    a.value * b.hessian[i][j]
                    + b.value * a.hessian[i][j]
                    + a.grad[i] * b.grad[j]
                    + a.grad[j] * b.grad[i]
                    for j in range(i + 1)
                ]
                for i in range(len(a.grad))
            ],
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Self:
        if not isinstance(other, Jet):
            other = _exact(other)
            return type(self)(
                self.value / other, [p / other for p in self.grad], [[p / other for p in row] for row in self.hessian]
            )
        return self.__mul__(other._reciprocal())

    def __rtruediv__(self, other: Any) -> Self:
        return self._reciprocal().__mul__(other)

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a formula may not compare its coordinates: it must be one expression for all of them")

    def __bool__(self) -> NoReturn:
        raise TypeError("a formula may not branch on its coordinates: it must be one expression for all of them")

    def __pow__(self, exponent: int) -> Self:
        if not isinstance(exponent, int) or exponent < 0:
            raise TypeError(f"a jet takes whole powers of at least 0; got {exponent!r}")
        c = self.value
        if exponent == 0:
            return self._chain(c * 0 + 1, c * 0, c * 0)
        second = exponent * (exponent - 1) * _power(c, exponent - 2) if exponent > 1 else c * 0
        return self._chain(_power(c, exponent), exponent * _power(c, exponent - 1), second)

    def exp(self) -> Self:
        """`e^x`."""
        e = self.value.exp()
        return self._chain(e, e, e)

    def log(self) -> Self:
        """Natural logarithm."""
        inverse = 1 / self.value
        return self._chain(self.value.log(), inverse, -inverse * inverse)

    def sin(self) -> Self:
        """Sine."""
        s, c = self.value.sin(), self.value.cos()
        return self._chain(s, c, -s)

    def cos(self) -> Self:
        """Cosine."""
        s, c = self.value.sin(), self.value.cos()
        return self._chain(c, -s, -c)

    def tanh(self) -> Self:
        """Hyperbolic tangent."""
        t = self.value.tanh()
        slope = 1 - t * t
        return self._chain(t, slope, -2 * t * slope)

    def atan(self) -> Self:
        """Inverse tangent."""
        slope = 1 / (1 + self.value * self.value)
        return self._chain(self.value.atan(), slope, -2 * self.value * slope * slope)

    def sqrt(self) -> Self:
        """Square root."""
        root = self.value.sqrt()
        slope = 1 / (2 * root)
        return self._chain(root, slope, -slope / (2 * self.value))

    def _reciprocal(self) -> Self:
        r = 1 / self.value
        return self._chain(r, -r * r, 2 * r * r * r)

    def _scaled(self, factor: Any) -> Self:
        return type(self)(
            self.value * factor, [p * factor for p in self.grad], [[p * factor for p in row] for row in self.hessian]
        )

    def _chain(self, value: Number, first: Number, second: Number) -> Self:
        """Jet of `φ(self)` from `φ`, `φ'` and `φ''` at the value."""
        return type(self)(
            value,
            [first * p for p in self.grad],
            [
                [first * h + second * self.grad[i] * self.grad[j] for j, h in enumerate(row)]
                for i, row in enumerate(self.hessian)
            ],
        )


def _exact(number: Any) -> int | float:
    """Return a coefficient that means exactly what it holds.

    Raises:
        TypeError: If it is none, such as a float of another precision.
    """
    if not isinstance(number, int | float):
        raise TypeError(f"a formula may combine its coordinates with ints and floats only; got {number!r:.60}")
    return number


def _power(c: Number, exponent: int) -> Number:
    """Multiply out: python-flint's own power of a ball that holds 0 is not a number."""
    result = c * 0 + 1
    for _ in range(exponent):
        result = result * c
    return result


def derivatives(
    formula: Callable[[Sequence[Any]], Any], x: Sequence[Number]
) -> tuple[list[Number], list[list[Number]]]:
    """Return gradient and Hessian of a formula.

    Args:
        formula: Maps the coordinates to a scalar, in generic arithmetic.
        x: The coordinates, at least one.

    Returns:
        The gradient, and the full symmetric Hessian as rows.

    Example:
        >>> derivatives(lambda x: x[0] ** 3 + x[0] * x[1], [2.0, 5.0])
        ([17.0, 2.0], [[12.0, 1.0], [1.0, 0.0]])
    """
    variables = Jet.variables(x)
    jet = variables[0] * 0 + formula(variables)  # a formula may return a number
    d = len(x)
    full = [[jet.hessian[max(i, j)][min(i, j)] for j in range(d)] for i in range(d)]
    return jet.grad, full

"""A function of the user's own: a torch function, or a SymPy expression, which balls can evaluate too."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from samirage.errors import require
from samirage.landscape.analytic import AbstractFormula, AbstractFunction, Scalar

_EXACT: Final = 2**53  # whole numbers up to here are exact in float64
_METHODS: Final = ("exp", "log", "sin", "cos", "tanh", "atan")


Points = Sequence[Sequence[float] | Tensor]


class _Known:
    """Holds the critical points that the user knows."""

    def _know(self, dim: int, minimizers: Points, maximizers: Points, saddles: Points) -> None:
        self._minimizers, self._maximizers, self._saddles = (
            [_point(point, dim) for point in points] for points in (minimizers, maximizers, saddles)
        )

    @property
    def minimizers(self) -> list[Tensor]:
        """The minimizers given."""
        return self._minimizers

    @property
    def maximizers(self) -> list[Tensor]:
        """The maximizers given."""
        return self._maximizers

    @property
    def saddles(self) -> list[Tensor]:
        """The saddles given."""
        return self._saddles


def _point(point: Sequence[float] | Tensor, dim: int) -> Tensor:
    found = torch.as_tensor(point, dtype=torch.float64).detach().clone()
    if found.shape != (dim,):
        raise ValueError(f"a critical point must have {dim} coordinates; got shape {tuple(found.shape)}")
    return found


class TorchFunction(_Known, AbstractFunction):
    """A twice differentiable torch function of one vector.

    Batches of points go through `torch.vmap`, so the function may not branch on the values in its tensor.

    Args:
        fn: Maps a tensor of shape (d,) to one of shape ().
        dim: Number of coordinates `d`, at least 1.
        minimizers: Known local minimizers.
        maximizers: Known local maximizers.
        saddles: Known saddles.

    Raises:
        TypeError: If `fn` cannot be called.
        ValueError: If `dim` is out of its range or a point has another number of coordinates.

    Example:
        >>> f = TorchFunction(lambda x: torch.cosh(x[0]) * x[1] ** 2, dim=2)
        >>> f.grad(torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
        tensor([[0., 2.],
                [0., 6.]])
    """

    def __init__(
        self,
        fn: Callable[[Tensor], Tensor],
        dim: int,
        *,
        minimizers: Points = (),
        maximizers: Points = (),
        saddles: Points = (),
    ) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be a function of a tensor; got {type(fn).__name__}")
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a whole number of at least 1; got {dim!r}")
        self._fn = fn
        self._dim = dim
        self._know(dim, minimizers, maximizers, saddles)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self._dim

    def _one(self, x: Tensor) -> Tensor:
        value = self._fn(x)
        if not isinstance(value, Tensor) or value.shape != ():
            given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"fn must return one number, a tensor of shape (), for a vector; got {given}")
        return value

    def _value(self, x: Tensor) -> Tensor:
        if x.dim() == 1:
            return self._one(x)
        return torch.func.vmap(self._one)(x.reshape(-1, self.dim)).reshape(x.shape[:-1])


class SymPyFunction(_Known, AbstractFormula):
    """A function given as a SymPy expression: tensors evaluate it, and balls do for a proof.

    Args:
        expression: Sums, products and powers of the symbols, of whole, rational and floating-point numbers, of pi and
            E, and exp, log, sin, cos, tan, sinh, cosh, tanh, atan and sqrt of such. It is taken as SymPy holds it:
            SymPy rounds when it adds or multiplies Floats itself (`0.1*x + 0.2*x`), and never Rationals.
        symbols: The coordinates, in order.
        minimizers: Known local minimizers.
        maximizers: Known local maximizers.
        saddles: Known saddles.

    Raises:
        ValueError: If the expression holds another symbol or function, or a point has another number of coordinates.

    Example:
        >>> import sympy
        >>> x, y = sympy.symbols("x y")
        >>> f = SymPyFunction((x**2 - 1) ** 2 / 4 + sympy.Rational(2, 5) * y**2, [x, y], saddles=[[0, 0]])
        >>> f(torch.tensor([0.0, 1.0]))
        tensor(0.6500)
    """

    def __init__(
        self,
        expression: Any,
        symbols: Sequence[Any],
        *,
        minimizers: Points = (),
        maximizers: Points = (),
        saddles: Points = (),
    ) -> None:
        sympy = require("lab", "sympy")
        self._symbols = tuple(symbols)
        self._expression = sympy.sympify(expression)
        strangers = self._expression.free_symbols - set(self._symbols)
        if not self._symbols or strangers:
            names = ", ".join(sorted(map(str, strangers)))
            raise ValueError(
                f"symbols must list every symbol of the expression; got {list(symbols)}, which lacks {names}"
                if strangers
                else "symbols must list at least one symbol; got none"
            )
        self._know(self.dim, minimizers, maximizers, saddles)
        self.formula(torch.ones(self.dim, dtype=torch.float64).unbind())  # names what it cannot evaluate, now

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self._symbols)

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return the expression in the arithmetic of the coordinates."""
        zero = x[0] * 0
        known = dict(zip(self._symbols, x, strict=True))
        return _evaluated(self._expression, known, zero)


def _evaluated(node: Any, known: dict[Any, Scalar], zero: Scalar) -> Scalar:
    """Evaluate an expression; every constant begins as the exact `zero`, in the arithmetic of the coordinates."""
    if node not in known:
        known[node] = _computed(node, known, zero)
    return known[node]


def _computed(node: Any, known: dict[Any, Scalar], zero: Scalar) -> Scalar:
    def of(child: Any) -> Scalar:
        return _evaluated(child, known, zero)

    if node.is_Number:
        return zero + _number(node) if node.is_Integer or node.is_Float else (zero + _whole(node.p)) / _whole(node.q)
    name = type(node).__name__
    if name == "Pi":
        return (zero + 1).atan() * 4
    if name == "Exp1":
        return (zero + 1).exp()
    if node.is_Add or node.is_Mul:
        # A number among the arguments joins as a Python number, to save the arithmetic of a constant scalar.
        numbers = [a for a in node.args if a.is_Integer or a.is_Float]
        result, *rest = [of(a) for a in node.args if a not in numbers]
        for value in [*rest, *map(_number, numbers)]:
            result = result + value if node.is_Add else result * value
        return result
    if node.is_Pow:
        base, exponent = node.args
        if exponent.is_Integer:
            power = of(base) ** abs(_whole(exponent))
            return power if exponent > 0 else 1 / power
        if exponent.is_Rational and exponent.q == 2:
            power = of(base).sqrt() ** abs(_whole(exponent.p))
            return power if exponent > 0 else 1 / power
        return (of(base).log() * of(exponent)).exp()
    if name in _METHODS:
        return getattr(of(node.args[0]), name)()
    # These are computed here: SymPy, asked to rewrite them, would round the floats that it adds on the way.
    if name == "tan":
        return of(node.args[0]).sin() / of(node.args[0]).cos()
    if name in {"sinh", "cosh"}:
        e = of(node.args[0]).exp()
        return (e - 1 / e if name == "sinh" else e + 1 / e) / 2
    raise ValueError(
        f"the expression holds '{node}', and only +, *, **, numbers and exp, log, sin, cos, tan, sinh, cosh, tanh, "
        "atan and sqrt can be evaluated, because they are smooth"
    )


def _number(node: Any) -> int | float:
    if node.is_Integer:
        return _whole(node)
    rational = require("lab", "sympy").Rational
    if rational(node) != rational(float(node)):
        raise ValueError(f"write numbers of more than 53 bits as a Rational; got the Float {node}")
    return float(node)


def _whole(number: Any) -> int:
    if abs(number) > _EXACT:
        raise ValueError(f"whole numbers in the expression must lie within ±2^53 to be exact; got {number}")
    return int(number)

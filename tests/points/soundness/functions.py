"""Functions from plain data: random formulas as expression trees, in every form that the prover takes, honest or not.

A tree is a number, `["x", i]`, or an operation with its operands, such as `["*", 0.1, ["^", ["x", 0], 2]]`. It is JSON,
so that a record can name its function by its arguments alone, and mutations of those make another function.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import sympy

from samirage.landscape import (
    AbstractFormula,
    AbstractLeastSquares,
    SymPyFunction,
    TanhNetwork,
)
from samirage.points.proofs.named import BUILT_IN, make_function

Tree = Any
"""A number, or a list whose head names the operation."""

BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
UNARY: Final = ("exp", "log", "sin", "cos", "tanh", "atan", "sqrt")
_MOST_POWER: Final = 12
_DEEPEST: Final = 60


def check_tree(tree: Tree, dim: int, depth: int = 0) -> bool:
    """Return whether the tree holds a coordinate.

    Raises:
        ValueError: If it is none.
    """
    if depth > _DEEPEST:
        raise ValueError("the tree is too deep")
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        if not math.isfinite(tree) or abs(tree) > 1e20:
            raise ValueError(f"a tree holds finite numbers up to 1e20; got {tree!r}")
        return False
    if not isinstance(tree, list) or not tree or not isinstance(tree[0], str):
        raise ValueError(f"this is no tree: {tree!r}")
    head, *rest = tree
    if head == "x" and len(rest) == 1 and _is_whole(rest[0]) and 0 <= rest[0] < dim:
        return True
    if head == "^" and len(rest) == 2 and _is_whole(rest[1]) and 0 <= rest[1] <= _MOST_POWER:
        return check_tree(rest[0], dim, depth + 1)
    if head in BINARY and len(rest) == 2:
        left, right = (check_tree(child, dim, depth + 1) for child in rest)  # both, whatever the first is
        return left or right
    if head in UNARY and len(rest) == 1 and check_tree(rest[0], dim, depth + 1):
        return True
    raise ValueError(f"this is no operation of a tree: {tree!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def evaluate(tree: Tree, x: Sequence[Any]) -> Any:
    """Return the value in the arithmetic of the coordinates; numbers that meet numbers are Python's, rounded."""
    if not isinstance(tree, list):
        return tree
    head, *rest = tree
    if head == "x":
        return x[rest[0]]
    if head == "^":
        return evaluate(rest[0], x) ** rest[1]
    if head in BINARY:
        try:
            return BINARY[head](evaluate(rest[0], x), evaluate(rest[1], x))
        except (ZeroDivisionError, OverflowError) as error:
            raise ValueError(f"the numbers of {tree!r} cannot be joined: {error}") from None
    return getattr(evaluate(rest[0], x), head)()


class TreeFunction(AbstractFormula):
    """The function of a tree."""

    def __init__(self, dim: int, tree: Tree) -> None:
        if not (_is_whole(dim) and 1 <= dim <= 8):
            raise ValueError(f"dim must be a whole number from 1 to 8; got {dim!r}")
        if not check_tree(tree, dim):
            raise ValueError("the tree holds no coordinate")
        self._dim, self._tree = dim, tree

    @property
    def dim(self) -> int:
        return self._dim

    def formula(self, x: Sequence[Any]) -> Any:
        return evaluate(self._tree, x)


class TreeSquares(AbstractLeastSquares):
    """A sum of squares of trees, as it should be written."""

    def __init__(self, dim: int, residuals: Sequence[Tree]) -> None:
        self._trees = _residuals(dim, residuals)
        self._dim = dim

    @property
    def dim(self) -> int:
        return self._dim

    def residuals(self, x: Sequence[Any]) -> Sequence[Any]:
        return [evaluate(tree, x) for tree in self._trees]


class ClaimedSquares(TreeFunction):
    """A function with an attribute `residuals`, true or not."""

    def __init__(self, dim: int, tree: Tree, residuals: Sequence[Tree]) -> None:
        super().__init__(dim, tree)
        self._trees = _residuals(dim, residuals)

    def residuals(self, x: Sequence[Any]) -> Sequence[Any]:
        return [evaluate(tree, x) for tree in self._trees]


class PenalizedSquares(TreeSquares):
    """A sum of squares, to which a subclass adds weight decay in its formula and leaves the residuals as they were."""

    def __init__(self, dim: int, residuals: Sequence[Tree], decay: float) -> None:
        super().__init__(dim, residuals)
        self._decay = _number("decay", decay)

    def formula(self, x: Sequence[Any]) -> Any:
        total = super().formula(x)
        for coordinate in x:
            total = total + coordinate**2 * (self._decay / 2)
        return total


class PenalizedValue(TreeFunction):
    """A function to whose values a subclass adds weight decay, and not to its formula."""

    def __init__(self, dim: int, tree: Tree, decay: float) -> None:
        super().__init__(dim, tree)
        self._decay = _number("decay", decay)

    def _value(self, x: Any) -> Any:
        return super()._value(x) + self._decay / 2 * x.square().sum(-1)


class PenalizedNetwork(TanhNetwork):
    """A network to whose values a subclass adds more weight decay than its attribute says."""

    def __init__(self, *data: Any, extra: float, **settings: Any) -> None:
        super().__init__(*data, **settings)
        self._extra = _number("extra", extra)

    def _value(self, x: Any) -> Any:
        return super()._value(x) + self._extra / 2 * x.square().sum(-1)


class MisstatedNetwork(TanhNetwork):
    """A network whose attribute `weight_decay` is not that of its values."""

    def __init__(self, *data: Any, stated: float, **settings: Any) -> None:
        super().__init__(*data, **settings)
        self._stated = _number("stated", stated)

    @property
    def weight_decay(self) -> float:
        return self._stated


def _residuals(dim: int, residuals: Any) -> list[Tree]:
    if not isinstance(residuals, list) or not residuals:
        raise ValueError(f"residuals must be a list of trees; got {residuals!r}")
    for tree in residuals:
        if not check_tree(tree, dim):
            raise ValueError("a residual holds no coordinate")
    return residuals


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {value!r}")
    return value


def to_sympy(dim: int, tree: Tree) -> tuple[Any, list[Any]]:
    """Return the expression of a tree, as SymPy makes it from floats of 53 bits, and its symbols."""
    if not (_is_whole(dim) and 1 <= dim <= 8) or not check_tree(tree, dim):
        raise ValueError("the tree holds no coordinate, or dim is out of its range")
    symbols = list(sympy.symbols(f"x:{dim}", real=True))

    def of(node: Tree) -> Any:
        if isinstance(node, float):
            return sympy.Float(node)
        if not isinstance(node, list):
            return sympy.Integer(node)
        head, *rest = node
        if head == "x":
            return symbols[rest[0]]
        if head == "^":
            return of(rest[0]) ** rest[1]
        return BINARY[head](*map(of, rest)) if head in BINARY else getattr(sympy, head)(of(rest[0]))

    return of(tree), symbols


def _sympy(dim: int, tree: Tree) -> SymPyFunction:
    return SymPyFunction(*to_sympy(dim, tree))


def _network(kind: Callable[..., TanhNetwork]) -> Callable[..., TanhNetwork]:
    def make(inputs: Any, targets: Any, hidden: int, weight_decay: float = 0.0, **lie: Any) -> TanhNetwork:
        try:
            arrays = [np.array(rows, dtype=np.float64) for rows in (inputs, targets)]
        except (TypeError, ValueError, OverflowError):
            raise ValueError("inputs and targets must be rows of numbers") from None
        if not _is_whole(hidden) or hidden > 4 or any(a.size > 64 for a in arrays):
            raise ValueError("the network is too large")
        return kind(*arrays, hidden=hidden, weight_decay=_number("weight_decay", weight_decay), **lie)

    return make


FACTORIES: Final[dict[str, Callable[..., Any]]] = {
    "soundness:formula": TreeFunction,
    "soundness:squares": TreeSquares,
    "soundness:claimed-squares": ClaimedSquares,
    "soundness:penalized-squares": PenalizedSquares,
    "soundness:penalized-value": PenalizedValue,
    "soundness:sympy": _sympy,
    "soundness:network": _network(TanhNetwork),
    "soundness:penalized-network": _network(PenalizedNetwork),
    "soundness:misstated-network": _network(MisstatedNetwork),
}


def make(name: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Make a function of this module or a built-in one.

    Raises:
        ValueError: If there is none, or the arguments are not its own.
    """
    if name in BUILT_IN:
        return make_function(name, arguments)
    if name not in FACTORIES:
        raise ValueError(f"unknown function {name!r}")
    try:
        return FACTORIES[name](**(arguments or {}))
    except TypeError as error:
        raise ValueError(f"{name} cannot be called so: {error}") from None


def formula_of(name: str, arguments: Mapping[str, Any]) -> Any:
    """Return what the prover can see of a function that is not what it seems: the function without the lie."""
    kept = {key: value for key, value in arguments.items() if key not in {"decay", "extra", "stated"}}
    if name == "soundness:misstated-network":
        kept["weight_decay"] = arguments["stated"]
    honest = {
        "soundness:penalized-squares": "soundness:squares",
        "soundness:penalized-value": "soundness:formula",
        "soundness:penalized-network": "soundness:network",
        "soundness:misstated-network": "soundness:network",
    }
    if name == "soundness:claimed-squares":
        del kept["tree"]
        return make("soundness:squares", kept)
    return make(honest.get(name, name), kept)

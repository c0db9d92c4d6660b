"""The functions again, in mpmath with 150 digits: values by code of their own, derivatives by differences.

A central difference with a step of 1e-45 is exact to about 1e-90, and one of second order with 1e-35 to about 1e-70:
there is no chain rule here that could be wrong as the prover's might be. Every float is the rational number it holds.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import mpmath

from tests.points.soundness.functions import to_sympy

Number = Any
"""An mpmath number, or a Python one that has not met any yet."""
Vector = list[Any]

mp: Final = mpmath.MPContext()
mp.dps = 150
_STEP_1: Final = mp.mpf(10) ** -45
_STEP_2: Final = mp.mpf(10) ** -35
_STEP_JACOBIAN: Final = mp.mpf(10) ** -30
_MOST_STEPS: Final = 60


class Exact:
    """A function with its derivatives and its SAM map, at 60 digits or better.

    Args:
        value: Maps a vector to a number.
        dim: Number of coordinates.
    """

    def __init__(self, value: Callable[[Vector], Any], dim: int) -> None:
        self._value = value
        self.dim = dim
        self.solved: dict[Any, Vector | None] = {}

    def value(self, x: Vector) -> Any:
        """Value.

        Raises:
            ValueError: If the function is not defined there as one of real numbers.
        """
        found = self._value(x)
        if isinstance(found, mp.mpc):
            raise ValueError("the function is not defined there")
        return found

    def grad(self, x: Vector) -> Vector:
        """Gradient, by central differences."""
        return [
            (self.value(_moved(x, i, _STEP_1)) - self.value(_moved(x, i, -_STEP_1))) / (2 * _STEP_1)
            for i in range(self.dim)
        ]

    def hessian(self, x: Vector) -> Any:
        """Hessian, by second differences."""
        h, found = _STEP_2, mp.matrix(self.dim)
        here = self.value(x)
        for i in range(self.dim):
            found[i, i] = (self.value(_moved(x, i, h)) - 2 * here + self.value(_moved(x, i, -h))) / h**2
            for j in range(i):
                corners = [a * b * self.value(_moved(_moved(x, i, a * h), j, b * h)) for a in (1, -1) for b in (1, -1)]
                found[i, j] = found[j, i] = sum(corners) / (4 * h**2)
        return found

    def curvatures(self, x: Vector) -> Vector:
        """Eigenvalues of the Hessian, smallest first."""
        values = mp.eigsy(self.hessian(x), eigvals_only=True)
        return sorted(values)

    def plus(self, x: Vector, rho: Any) -> Vector:
        """Return `x⁺ = x + rho·g/‖g‖`."""
        grad = self.grad(x)
        size = norm(grad)
        return [a + rho * b / size for a, b in zip(x, grad, strict=True)]

    def grad_plus(self, x: Vector, rho: Any) -> Vector:
        """Return `g(x⁺)`."""
        return self.grad(self.plus(x, rho))

    def update(self, x: Vector, rho: Any, free: Sequence[int]) -> Any:
        """Return the derivative of `g⁺` in the free coordinates, a matrix of d rows."""
        h = _STEP_JACOBIAN
        found = mp.matrix(self.dim, len(free))
        for column, i in enumerate(free):
            ahead, behind = self.grad_plus(_moved(x, i, h), rho), self.grad_plus(_moved(x, i, -h), rho)
            for row in range(self.dim):
                found[row, column] = (ahead[row] - behind[row]) / (2 * h)
        return found

    def along(self, direction: Vector) -> "Exact":
        """Return the function on a line through the origin."""
        return Exact(lambda t: self.value([t[0] * e for e in direction]), 1)


def _moved(x: Vector, i: int, by: Any) -> Vector:
    return [*x[:i], x[i] + by, *x[i + 1 :]]


def norm(vector: Sequence[Any]) -> Any:
    """Euclidean norm."""
    return mp.sqrt(mp.fsum(v * v for v in vector))


def vector(numbers: Sequence[float]) -> Vector:
    """Return floats as what they are, exactly."""
    return [mp.mpf(number) for number in numbers]


def solve(exact: Exact, start: Vector, rho: Any, free: Sequence[int]) -> Vector | None:
    """Solve `g⁺ = 0` in the free coordinates by the method of Gauss and Newton; None where it does not converge.

    Where it converges and `g⁺` is not 0, its norm only has a minimum there: the caller looks.
    """
    key = (tuple(start), rho, tuple(free))
    if key not in exact.solved:
        exact.solved[key] = _solved(exact, start, rho, free)
    return exact.solved[key]


def _solved(exact: Exact, start: Vector, rho: Any, free: Sequence[int]) -> Vector | None:
    x, jacobian, last = start, None, mp.mpf(1)
    for _ in range(_MOST_STEPS):
        try:
            value = mp.matrix(exact.grad_plus(x, rho))
            if jacobian is None or last > 1e-12:
                jacobian = exact.update(x, rho, free)
            step = mp.lu_solve(jacobian, -value) if len(free) == exact.dim else mp.qr_solve(jacobian, -value)[0]
        except (ZeroDivisionError, ValueError):
            return None
        last = norm(step)
        if last > 1e6:
            return None
        x = list(x)
        for column, i in enumerate(free):
            x[i] = x[i] + step[column]
        if last < mp.mpf(10) ** -65:
            return x
    return None


def of_tree(tree: Any) -> Callable[[Vector], Number]:
    """Compile a tree; numbers that meet numbers do so in Python, as in the formula that a user writes."""
    functions = {name: getattr(mp, name) for name in ("exp", "log", "sin", "cos", "tanh", "atan", "sqrt")}
    compiled: Callable[[Vector], Number] = eval(f"lambda x: {_source(tree)}", functions)
    return compiled


def _source(tree: Any) -> str:
    if not isinstance(tree, list):
        return f"({tree!r})"
    match tree:
        case ["x", i]:
            return f"x[{i}]"
        case ["^", base, exponent]:
            return f"({_source(base)})**{exponent}"
        case [function, argument]:
            return f"{function}({_source(argument)})"
        case [operation, a, b]:
            return f"({_source(a)} {operation} {_source(b)})"
    raise AssertionError(tree)


def _of_sympy(node: Any, known: Mapping[Any, Any]) -> Any:
    if node in known:
        return known[node]
    if node.is_Float or node.is_Rational:
        if node.is_Float:
            sign, mantissa, exponent, _ = node._mpf_
            return mp.mpf(-mantissa if sign else mantissa) * mp.mpf(2) ** exponent
        return mp.mpf(int(node.p)) / int(node.q)
    children = [_of_sympy(child, known) for child in node.args]
    if node.is_Add:
        return mp.fsum(children)
    if node.is_Mul:
        return mp.fprod(children)
    if node.is_Pow:
        exponent = node.args[1]
        return children[0] ** (int(exponent) if exponent.is_Integer else children[1])
    name = type(node).__name__
    return getattr(mp, name)(*children)


def _half_square(x: Vector) -> Any:
    return mp.fsum(c * c for c in x) / 2


def _network(inputs: Any, targets: Any, hidden: int, decay: Any, x: Vector) -> Any:
    width, outputs = len(inputs[0]), len(targets[0])
    w_1 = [x[j * width : (j + 1) * width] for j in range(hidden)]
    at = hidden * width
    b_1 = x[at : at + hidden]
    at += hidden
    w_2 = [x[at + k * hidden : at + (k + 1) * hidden] for k in range(outputs)]
    b_2 = x[at + outputs * hidden :]
    total = mp.mpf(0)
    for row, wanted in zip(inputs, targets, strict=True):
        units = [mp.tanh(mp.fdot(w, row) + b) for w, b in zip(w_1, b_1, strict=True)]
        given = [mp.tanh(mp.fdot(w, units) + b) for w, b in zip(w_2, b_2, strict=True)]
        total += mp.fsum((a - t) ** 2 for a, t in zip(given, wanted, strict=True))
    return total / len(inputs) + decay * _half_square(x)


def _network_dim(a: Mapping[str, Any]) -> int:
    width, outputs = len(a["inputs"][0]), len(a["targets"][0])
    return int(a["hidden"] * (width + 1) + outputs * (a["hidden"] + 1))


def _exact_network(a: Mapping[str, Any]) -> Exact:
    decay = mp.mpf(a.get("weight_decay", 0.0)) + mp.mpf(a.get("extra", 0.0))
    return Exact(partial(_network, a["inputs"], a["targets"], a["hidden"], decay), _network_dim(a))


def _exact_sympy(a: Mapping[str, Any]) -> Exact:
    expression, symbols = to_sympy(a["dim"], a["tree"])
    return Exact(lambda x: _of_sympy(expression, dict(zip(symbols, x, strict=True))), a["dim"])


def _double_well(a: Mapping[str, Any]) -> Exact:
    stiffness, coupling = mp.mpf(a.get("stiffness", 0.4)), mp.mpf(a.get("coupling", 0.15))
    return Exact(lambda x: (x[0] ** 2 - 1) ** 2 / 4 + stiffness * x[1] ** 2 + coupling * x[0] * x[1], 2)


def _ring(a: Mapping[str, Any]) -> Exact:
    radius = mp.mpf(a.get("radius", 1.0))
    return Exact(lambda x: (2 * _half_square(x) - radius**2) ** 2 / 4, a.get("dim", 2))


def _multi_well(a: Mapping[str, Any]) -> Exact:
    return Exact(lambda x: mp.fsum((c**2 - 1) ** 2 for c in x) / 4, a.get("dim", 2))


def _bump(a: Mapping[str, Any]) -> Exact:
    height, width = mp.mpf(a.get("height", 2.0)), mp.mpf(a.get("width", 0.5))
    centre = [mp.mpf(c) for c in a.get("centre", (1.5, 0.0))]

    def value(x: Vector) -> Any:
        apart = [p - c for p, c in zip(x, centre, strict=True)]
        return _half_square(x) + height * mp.exp(-_half_square(apart) / width**2)

    return Exact(value, len(centre))


def _moat(a: Mapping[str, Any]) -> Exact:
    width, height, skew = (
        mp.mpf(a.get(key, default)) for key, default in (("width", 1.0), ("height", 0.8), ("skew", 0.6))
    )

    def value(x: Vector) -> Any:
        slanted = skew * x[0]
        h = 2 * (mp.exp(slanted) - slanted - 1) / (skew * width) ** 2 + (x[1] / height) ** 2
        return (h - 1) ** 2 / 4

    return Exact(value, 2)


def _tree(a: Mapping[str, Any]) -> Exact:
    decay, tree = mp.mpf(a.get("decay", 0.0)), of_tree(a["tree"])
    return Exact(lambda x: tree(x) + (decay * _half_square(x) if decay else 0), a["dim"])


def _squares(a: Mapping[str, Any]) -> Exact:
    decay, trees = mp.mpf(a.get("decay", 0.0)), [of_tree(tree) for tree in a["residuals"]]
    return Exact(lambda x: mp.fsum(tree(x) ** 2 for tree in trees) + decay * _half_square(x), a["dim"])


_MADE: Final[dict[str, Callable[[Mapping[str, Any]], Exact]]] = {
    "double-well": _double_well,
    "ring": _ring,
    "multi-well": _multi_well,
    "bump-on-bowl": _bump,
    "moat": _moat,
    "soundness:formula": _tree,
    "soundness:claimed-squares": _tree,
    "soundness:penalized-value": _tree,
    "soundness:squares": _squares,
    "soundness:penalized-squares": _squares,
    "soundness:sympy": _exact_sympy,
    "soundness:network": _exact_network,
    "soundness:penalized-network": _exact_network,
    "soundness:misstated-network": _exact_network,
}


def exact(name: str, arguments: Mapping[str, Any]) -> Exact:
    """Return the function of this name with these arguments, which `make` takes.

    Raises:
        KeyError: If none has this name.
    """
    return _MADE[name](arguments)

"""An independent check of recorded proofs: other derivatives, other theorems, no code of the prover.

| | the prover | this checker |
|---|---|---|
| derivatives | second-order jets | Taylor series in one variable along lines, and polarization |
| exactly one zero | Krawczyk's operator | interval Newton: a ball linear system is solved |
| positive definite | congruence, Gershgorin's theorem, a Perron bound | Schur complements, a Frobenius bound |
| contraction | norm by doubling | norm from SciPy's Lyapunov solver |
| rotation invariance | generators, by differentiation | invariance under (3/5, 4/5)-rotations, which are dense |

Only python-flint, and the formula of the function itself, are shared.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from samirage.errors import require
from samirage.points.check_network import network_check_derivatives
from samirage.points.check_scalars import Series, Symbol

_BITS: Final = 160
_LEAF: Final = 4  # size of a matrix whose pivots are computed one by one


@dataclass(frozen=True)
class Check:
    """The outcome of a check.

    Attributes:
        confirmed: Whether every part of the record holds.
        lines: What was checked, and how it went, one sentence each.
    """

    confirmed: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.lines, "CONFIRMED" if self.confirmed else "NOT CONFIRMED"])


def check_record(record: str | Path, make: Callable[[str, dict[str, Any]], Any] | None = None) -> Check:
    """Check a recorded proof.

    Args:
        record: The text that `Proof.record` gave, or the path of a file that holds it.
        make: Makes the function from its name and arguments; by default `samirage.points.make_function`. For names of
            the form `module:factory`, the module is imported: check only records whose modules you trust.

    Returns:
        The outcome.

    Raises:
        ValueError: If it is no such record.
    """
    content = _read(record)
    if make is None:
        from samirage.points.named import make_function

        make = make_function
    f = make(content["function"], content["arguments"])
    context = require("proof", "flint").ctx
    before, context.prec = context.prec, _BITS
    try:
        return _checked(f, content)
    finally:
        context.prec = before


def _read(record: str | Path) -> dict[str, Any]:
    text = record.read_text(encoding="utf-8") if isinstance(record, Path) else record
    try:
        content = json.loads(text)
        if content["format"] != "samirage-proof/1":
            raise ValueError(f"its format is {content['format']!r}")
        numbers = [content["rho"], content["half_width"], content["grad_norm_above"], *content["centre"]]
        if not (np.isfinite(numbers).all() and content["half_width"] > 0 and content["rho"] > 0):
            raise ValueError("its numbers are out of range")
        needed = {"function", "arguments", "reduction", "free", "min_curvature", "attraction"}
        if missing := needed - set(content):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"this is no record of a proof, as `samirage prove --out FILE` writes it: {error}") from None
    checked: dict[str, Any] = content
    return checked


def _checked(f: Any, content: dict[str, Any]) -> Check:
    flint = require("proof", "flint")
    centre = [flint.arb(c) for c in content["centre"]]
    lines: list[str] = []
    if len(centre) != f.dim:
        return Check(False, (f"the record has {len(centre)} coordinates and the function {f.dim}",))
    derive = _along_lines(f.formula) if hasattr(f, "formula") else network_check_derivatives(f)
    if content["reduction"] == "rotation":
        if not _is_invariant(f):
            return Check(False, ("the function could not be shown to depend on the distance from 0 alone",))
        lines.append("f depends on the distance from the origin alone: invariant under a dense set of rotations")
        whole, rest = f.formula, f.dim - 1
        derive = _along_lines(lambda t: whole([t[0], *[t[0] * 0] * rest]))
        # The distance of the given point, as the float from which the record's interval was made.
        total = sum((c * c for c in centre), flint.arb(0)).sqrt()
        centre = [flint.arb(float(total.mid()))]
    if content["reduction"] == "least squares":
        return _least_squares(f, content, derive, centre)
    parts = [_zero(derive, centre, content), _curvature(derive, centre, content)]
    if content["attraction"] is not None:
        parts.append(_attraction(derive, centre, content))
    return Check(all(good for good, _ in parts), (*lines, *(line for _, line in parts)))


Derive = Callable[[Sequence[Any]], tuple[Any, Any]]
Part = tuple[bool, str]


def _along_lines(formula: Callable[[Sequence[Any]], Any]) -> Derive:
    """Gradient and Hessian from the Taylor coefficients of `t ↦ f(x + t·v)` for `v = e_i` and `e_i + e_j`."""
    flint = require("proof", "flint")

    def line(x: Sequence[Any], moving: set[int]) -> tuple[Any, Any]:
        series = [Series(flint.arb_series([c, flint.arb(int(i in moving))], prec=3)) for i, c in enumerate(x)]
        value = formula(series)
        coefficients = [*value.node.coeffs(), flint.arb(0), flint.arb(0), flint.arb(0)]
        return coefficients[1], coefficients[2] * 2

    def derive(x: Sequence[Any]) -> tuple[Any, Any]:
        d = len(x)
        axes = [line(x, {i}) for i in range(d)]
        hessian = flint.arb_mat(d, d)
        for i in range(d):
            hessian[i, i] = axes[i][1]
            for j in range(i):
                hessian[i, j] = hessian[j, i] = (line(x, {i, j})[1] - axes[i][1] - axes[j][1]) / 2
        return flint.arb_mat(d, 1, [first for first, _ in axes]), hessian

    return derive


@dataclass(frozen=True)
class _Sam:
    """`‖g‖`, `g⁺`, `H⁺` and `H⁺·A` over a box."""

    size: Any
    plus: list[Any]
    grad_plus: Any
    hessian_plus: Any
    perturbed: Any
    update: Any


def _sam(derive: Derive, x: Sequence[Any], rho: float) -> _Sam:
    """`A` is written here as the derivative of `x + rho·g/‖g‖` by the quotient rule, entry by entry."""
    flint = require("proof", "flint")
    d = len(x)
    grad, hessian = derive(x)
    g = [grad[i, 0] for i in range(d)]
    size = sum((a * a for a in g), flint.arb(0)).sqrt()
    radius = flint.arb(rho)
    plus = [c + radius * a / size for c, a in zip(x, g, strict=True)]
    pulled = hessian * grad  # the derivative of ‖g‖²/2
    outer = grad * pulled.transpose()
    first, second = radius / size, radius / (size * size * size)
    perturbed = hessian * first - outer * second
    for i in range(d):
        perturbed[i, i] = perturbed[i, i] + 1
    grad_plus, hessian_plus = derive(plus)
    return _Sam(size, plus, grad_plus, hessian_plus, perturbed, hessian_plus * perturbed)


def _ball(centre: Sequence[Any], half_width: float) -> list[Any]:
    flint = require("proof", "flint")
    wide = flint.arb(0, half_width)
    return [c + wide for c in centre]


def _newton_confirms(value: Any, derivative: Any, half_width: float) -> bool:
    """Interval Newton: `m − DF(X)⁻¹·F(m)` lies in the interior of X, so that there is exactly one zero.

    The equations are first multiplied by an approximate inverse of the derivative: any regular matrix leaves the zeros
    as they are, and a matrix near the identity is eliminated without growth of the balls.
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


def _zero(derive: Derive, centre: list[Any], content: dict[str, Any]) -> Part:
    width, rho = content["half_width"], content["rho"]
    inside = _sam(derive, _ball(centre, width), rho)
    at = _sam(derive, centre, rho)
    one = _newton_confirms(at.grad_plus, inside.update, width)
    steep = bool(inside.size > content["grad_norm_above"]) and content["grad_norm_above"] > 0
    return one and steep, (
        f"interval Newton {'finds' if one else 'does NOT find'} exactly one zero of g⁺ within {width:.3g}, and ‖g‖ "
        f"{'exceeds' if steep else 'is NOT shown to exceed'} {content['grad_norm_above']:.6g} there"
    )


def _curvature(derive: Derive, centre: list[Any], content: dict[str, Any]) -> Part:
    bound = content["min_curvature"]
    if not (isinstance(bound, float) and bound > 0):
        return False, "the record gives no lower bound of the curvatures at x⁺"
    inside = _sam(derive, _ball(centre, content["half_width"]), content["rho"])
    good = _is_positive(_shifted(inside.hessian_plus, -bound))
    outcome = "exceeds" if good else "is NOT shown to exceed"
    return good, f"every eigenvalue of H⁺ {outcome} {bound:.6g} (Schur complements)"


def _shifted(matrix: Any, by: Any) -> Any:
    moved = matrix * 1
    for i in range(matrix.nrows()):
        moved[i, i] = moved[i, i] + by
    return moved


def _block(matrix: Any, rows: range, columns: range) -> Any:
    flint = require("proof", "flint")
    return flint.arb_mat(len(rows), len(columns), [matrix[i, j] for i in rows for j in columns])


def _is_positive(matrix: Any) -> bool:
    """Whether every symmetric member is positive definite: shown in one of two ways.

    By elimination in balls, which is the sharper way for few coordinates; or because the middle is positive definite by
    more than the Frobenius norm of the rest.
    """
    if _eliminates(matrix):
        return True
    flint = require("proof", "flint")
    n = matrix.nrows()
    middle = flint.arb_mat(n, n, [entry.mid() for entry in matrix.entries()])
    if not all(entry.is_finite() for entry in matrix.entries()):
        return False
    radius = sum((entry.rad() * entry.rad() for entry in matrix.entries()), flint.arb(0)).sqrt()
    # Only the lower triangle of the middle is looked at, so its upper one may differ by as much as the radii.
    apart = middle - middle.transpose()
    radius = radius + sum((entry * entry for entry in apart.entries()), flint.arb(0)).sqrt()
    return _eliminates(_shifted(middle, -radius))


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


def _attraction(derive: Derive, centre: list[Any], content: dict[str, Any]) -> Part:
    flint = require("proof", "flint")
    claim = content["attraction"]
    lr, width, factor, basin = claim["lr"], claim["half_width"], claim["factor"], claim["basin_radius"]
    failed = f"SAM with lr = {lr:g} could NOT be shown to converge from within {basin:.3g}"
    if not (0 < factor < 1 and 0 < claim["spectral"] < 1 and width > content["half_width"] and lr > 0 and basin > 0):
        return False, failed
    d = len(centre)
    at = _sam(derive, centre, content["rho"]).update
    step = np.eye(d) - lr * np.array([[float(at[i, j].mid()) for j in range(d)] for i in range(d)])
    solver = require("proof", "scipy.linalg")
    norm = solver.solve_discrete_lyapunov(step.T / claim["spectral"], np.eye(d))
    norm = (norm + norm.T) / 2
    q = flint.arb_mat(d, d, norm.ravel().tolist())
    inside = _sam(derive, _ball(centre, width), content["rho"])
    moved = _shifted(inside.update * -lr, 1)
    if not _is_positive(q * (flint.arb(factor) ** 2) - moved.transpose() * (q * moved)):
        return False, failed
    values = np.linalg.eigvalsh(norm)
    low, high = 0.999 * values[0], 1.001 * values[-1]
    if not (low > 0 and _is_positive(_shifted(q, -low)) and _is_positive(_shifted(q * -1, high))):
        return False, failed
    own = 0.999 * (width - content["half_width"]) * float(np.sqrt(low / high))
    if own < basin:
        return False, failed
    return True, f"SAM with lr = {lr:g} converges from within {basin:.3g}: it contracts by {factor:.6g} a step"


def _is_invariant(f: Any) -> bool:
    sympy = require("proof", "sympy")
    x = sympy.symbols(f"x:{f.dim}")

    def exact(coordinates: Sequence[Any]) -> Any:
        value = sympy.sympify(f.formula(coordinates))
        return value.replace(lambda node: node.is_Float, lambda node: sympy.Rational(float(node)))

    for i in range(f.dim - 1):
        turned = list(x)
        turned[i] = (3 * x[i] - 4 * x[i + 1]) / 5
        turned[i + 1] = (4 * x[i] + 3 * x[i + 1]) / 5
        if sympy.expand(exact(turned) - exact(x)) != 0:
            return False
    return True


def _least_squares(f: Any, content: dict[str, Any], derive: Derive, centre: list[Any]) -> Check:
    flint = require("proof", "flint")
    sympy = require("proof", "sympy")
    d, free, width = f.dim, content["free"], content["half_width"]
    symbols = [Symbol(s) for s in sympy.symbols(f"x:{d}", positive=True)]
    squares = sum((r.node**2 for r in f.residuals(symbols)), sympy.Integer(0))
    if sympy.expand(squares - f.formula(symbols).node) != 0:
        return Check(False, ("the function could not be shown to be the sum of the squares of its residuals",))
    wide = [c + flint.arb(0, width) if i in free else c for i, c in enumerate(centre)]
    at, inside = _sam(derive, centre, content["rho"]), _sam(derive, wide, content["rho"])
    count = len(free)
    value = flint.arb_mat(count, 1, [r[0] for r in _first_order(f.residuals, at.plus)])
    slopes = flint.arb_mat([r[1] for r in _first_order(f.residuals, inside.plus)]) * inside.perturbed
    derivative = flint.arb_mat(count, count, [slopes[i, j] for i in range(count) for j in free])
    one = _newton_confirms(value, derivative, width)
    steep = bool(inside.size > content["grad_norm_above"]) and content["grad_norm_above"] > 0
    return Check(
        one and steep,
        (
            "f is the sum of the squares of its residuals, symbolically",
            f"interval Newton {'finds' if one else 'does NOT find'} exactly one zero of the residuals at x⁺ in the "
            f"slice of half-width {width:.3g}, and ‖g‖ {'exceeds' if steep else 'is NOT shown to exceed'} "
            f"{content['grad_norm_above']:.6g} there",
        ),
    )


def _first_order(functions: Callable[[Sequence[Any]], Sequence[Any]], x: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    flint = require("proof", "flint")
    columns = []
    for k in range(len(x)):
        series = [Series(flint.arb_series([c, flint.arb(int(i == k))], prec=2)) for i, c in enumerate(x)]
        columns.append([[*r.node.coeffs(), flint.arb(0), flint.arb(0)] for r in functions(series)])
    return [(columns[0][r][0], [column[r][1] for column in columns]) for r in range(len(columns[0]))]

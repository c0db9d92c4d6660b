"""An independent check of recorded proofs: other derivatives, other theorems, no code of the prover.

| | the prover | this checker |
|---|---|---|
| derivatives | second-order jets | Taylor series in one variable along lines, and polarization |
| exactly one zero | Krawczyk's operator | interval Newton: a ball linear system is solved |
| positive definite | congruence, Gershgorin's theorem, a Perron bound | Schur complements, a Frobenius bound |
| contraction | norm by doubling | norm from SciPy's Lyapunov solver |
| rotation invariance | its own polynomials, differentiated along rotations | SymPy, after a rotation by (3/5, 4/5) |
| sum of squares | its own polynomials | SymPy |

Only python-flint, the formula of the function itself, and the format of records (`samirage.points.proofs.record`) are
shared.
The sentence of a record is made anew of its fields, and every field is checked: what is confirmed is the sentence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from samirage.errors import require
from samirage.landscape import AbstractFormula, TanhNetwork
from samirage.points.proofs.check_linear import is_positive, newton_confirms, shifted
from samirage.points.proofs.check_network import network_check_derivatives
from samirage.points.proofs.check_scalars import Series
from samirage.points.proofs.check_symbols import depends_on_distance_alone, is_sum_of_squares
from samirage.points.proofs.record import Attraction, Record, Theorem, read_record

_BITS: Final = 160

Derive = Callable[[Sequence[Any]], tuple[Any, Any]]
Part = tuple[bool, str]
Make = Callable[[str, Mapping[str, Any]], Any]


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


def check_record(record: str | Path, make: Make | None = None) -> Check:
    """Check a recorded proof. Nothing that the record names is imported or called, but for built-in functions.

    Args:
        record: The text that `Proof.record` gave, or the path of a file that holds it.
        make: Makes the function from the name and the arguments in the record; by default
            `samirage.points.built_in_function`, which refuses all others. For a function of your own pass what makes
            it, such as `samirage.points.own_function("module:name")`.

    Returns:
        The outcome.

    Raises:
        ValueError: If it is no such record, or names a function that is not built in.
        TypeError: If the function has no formula.

    Example:
        >>> from samirage.landscape import Ring
        >>> import torch
        >>> from samirage.points import prove
        >>> text = prove(Ring(), torch.tensor([0.5, 0.0]), rho=1.5).record("ring")
        >>> check_record(text).confirmed, check_record(text.replace("1.5", "1.4")).confirmed
        (True, False)
    """
    read = read_record(_text(record))
    if make is None:
        from samirage.points.proofs.named import built_in_function

        make = built_in_function
    claimed, dim = len(read.theorem.centre), read.arguments.get("dim")
    if isinstance(dim, int) and dim != claimed:  # asked before a function of any size is made
        return Check(False, (f"the record has {claimed} coordinates and the function {dim}",))
    context = require("proof", "flint").ctx
    before, context.prec = context.prec, _BITS
    try:
        return _checked(make(read.function, read.arguments), read)
    except ArithmeticError as error:
        raise ValueError(
            f"the function {read.function} cannot be evaluated with the arguments of the record ({error}): they are "
            "out of the range of floating-point numbers"
        ) from None
    finally:
        context.prec = before


def _text(record: str | Path) -> str:
    if not isinstance(record, Path):
        return record
    try:
        return record.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{record} cannot be read as text ({error}): name a file with a record") from None


def _checked(f: Any, record: Record) -> Check:
    theorem = record.theorem
    called = ", ".join(f"{name}={value!r}" for name, value in record.arguments.items())
    about, claim = f"f is {record.function}({called})", f"claimed: {theorem.statement}"
    if record.statement != theorem.statement:
        return Check(False, (about, "the statement of the record is not what its fields say", claim))
    if len(theorem.centre) != f.dim:
        return Check(False, (about, f"the record has {len(theorem.centre)} coordinates and the function {f.dim}"))
    parts = _parts(f, theorem)
    return Check(all(good for good, _ in parts), (about, claim, *(line for _, line in parts)))


def _parts(f: Any, theorem: Theorem) -> list[Part]:
    flint = require("proof", "flint")
    derive = _derivatives(f)
    centre = [flint.arb(c) for c in theorem.centre]
    if theorem.reduction == "least squares":
        return _least_squares(f, theorem, derive, centre)
    first: list[Part] = []
    if theorem.reduction == "rotation":
        if not (isinstance(f, AbstractFormula) and depends_on_distance_alone(f.formula, f.dim)):
            return [(False, "the function could not be shown to depend on the distance from 0 alone")]
        first = [(True, "f depends on the distance from the origin alone: invariant under a dense set of rotations")]
        whole, rest = f.formula, f.dim - 1
        derive = _along_lines(lambda t: whole([t[0], *[t[0] * 0] * rest]))
        centre = [sum((c * c for c in centre), flint.arb(0)).sqrt()]
    parts = [*first, _zero(derive, centre, theorem), _curvature(derive, centre, theorem)]
    if theorem.attraction is not None:
        parts.append(_attraction(derive, centre, theorem, theorem.attraction))
    return parts


# A function whose class, or the object itself, has others of these need not compute its formula.
_COMPUTES: Final = ("_value", "__call__", "grad", "value_and_grad")


def _derivatives(f: Any) -> Derive:
    """Enclose derivatives of what is known to be `f`: the class of networks itself, or a formula evaluated as such.

    Raises:
        TypeError: If `f` is neither.
    """
    own = [name for name in _COMPUTES if name in getattr(f, "__dict__", {})]
    if type(f) is TanhNetwork and not own:
        return network_check_derivatives(f)
    if isinstance(f, AbstractFormula):
        own += [name for name in _COMPUTES if getattr(type(f), name, None) is not getattr(AbstractFormula, name)]
        if not own:
            return _along_lines(f.formula)
    raise TypeError(
        f"{type(f).__name__} is not a function that can be checked: it must be a TanhNetwork itself, or have a "
        "`formula` and no evaluation of its own beside it"
    )


def _along_lines(formula: Callable[[Sequence[Any]], Any]) -> Derive:
    """Gradient and Hessian from the Taylor coefficients of `t ↦ f(x + t·v)` for `v = e_i` and `e_i + e_j`."""
    flint = require("proof", "flint")

    def line(x: Sequence[Any], moving: set[int]) -> tuple[Any, Any]:
        series = [Series(flint.arb_series([c, flint.arb(int(i in moving))], prec=3)) for i, c in enumerate(x)]
        coefficients = _coefficients(formula(series))
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


def _coefficients(value: Any) -> list[Any]:
    """The first three Taylor coefficients; a formula may also return a number."""
    zero = require("proof", "flint").arb(0)
    if not isinstance(value, Series):
        return [Series.constant(value), zero, zero]
    return [*value.node.coeffs(), zero, zero, zero][:3]


@dataclass(frozen=True)
class _Sam:
    """`‖g‖`, `x⁺`, `g⁺`, `H⁺`, `A` and `H⁺·A` over a box."""

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
    wide = require("proof", "flint").arb(0, half_width)
    return [c + wide for c in centre]


def _one_and_steep(one: bool, inside: _Sam, theorem: Theorem, what: str) -> Part:
    steep = bool(inside.size > theorem.grad_norm_above)
    return one and steep, (
        f"interval Newton {'finds' if one else 'does NOT find'} exactly one zero of {what}, and ‖g‖ "
        f"{'exceeds' if steep else 'is NOT shown to exceed'} {theorem.grad_norm_above!r} there"
    )


def _zero(derive: Derive, centre: list[Any], theorem: Theorem) -> Part:
    inside = _sam(derive, _ball(centre, theorem.half_width), theorem.rho)
    at = _sam(derive, centre, theorem.rho)
    one = newton_confirms(at.grad_plus, inside.update, theorem.half_width)
    return _one_and_steep(one, inside, theorem, f"g⁺ within {theorem.half_width!r}")


def _curvature(derive: Derive, centre: list[Any], theorem: Theorem) -> Part:
    bound = theorem.min_curvature
    assert bound is not None
    inside = _sam(derive, _ball(centre, theorem.half_width), theorem.rho)
    good = is_positive(shifted(inside.hessian_plus, -bound))
    outcome = "exceeds" if good else "is NOT shown to exceed"
    return good, f"every eigenvalue of H⁺ {outcome} {bound!r} (Schur complements)"


def _attraction(derive: Derive, centre: list[Any], theorem: Theorem, claim: Attraction) -> Part:
    flint = require("proof", "flint")
    failed = f"SAM with lr = {claim.lr!r} could NOT be shown to converge from within {claim.basin_radius!r}"
    d = len(centre)
    at = _sam(derive, centre, theorem.rho).update
    with np.errstate(over="ignore"):
        step = np.eye(d) - claim.lr * np.array([[float(at[i, j].mid()) for j in range(d)] for i in range(d)])
    norm = _norm(step, claim.factor)
    if norm is None:
        return False, failed
    q = flint.arb_mat(d, d, norm.ravel().tolist())
    inside = _sam(derive, _ball(centre, claim.half_width), theorem.rho)
    moved = shifted(inside.update * -claim.lr, 1)
    # From one point of the box to another SAM's map is the mean of its derivatives, and that lies in the balls.
    if not is_positive(q * (flint.arb(claim.factor) ** 2) - moved.transpose() * (q * moved)):
        return False, failed
    values = np.linalg.eigvalsh(norm)
    low, high = 0.999 * values[0], 1.001 * values[-1]
    if not (low > 0 and is_positive(shifted(q, -low)) and is_positive(shifted(q * -1, high))):
        return False, failed
    # The largest ellipsoid of the norm about the point that fits into the box is mapped into itself.
    own = 0.999 * (claim.half_width - theorem.half_width) * float(np.sqrt(low / high))
    if own < claim.basin_radius:
        return False, failed
    return True, (
        f"SAM with lr = {claim.lr!r} converges from within {claim.basin_radius!r}: it contracts by {claim.factor!r} or "
        f"less a step within {claim.half_width!r}"
    )


def _norm(step: Any, factor: float) -> Any:
    """A norm in which steps should contract by `factor`; floats, of which the caller proves what is needed."""
    solver = require("proof", "scipy.linalg")
    if not np.isfinite(step).all():
        return None
    largest = float(np.abs(np.linalg.eigvals(step)).max())
    between = (largest + 2 * factor) / 3
    if not largest < between:
        return None
    norm = solver.solve_discrete_lyapunov(step.T / between, np.eye(len(step)))
    return (norm + norm.T) / 2 if np.isfinite(norm).all() else None


def _least_squares(f: Any, theorem: Theorem, derive: Derive, centre: list[Any]) -> list[Part]:
    flint = require("proof", "flint")
    residuals = getattr(f, "residuals", None)
    if residuals is None or not isinstance(f, AbstractFormula) or not is_sum_of_squares(f.formula, residuals, f.dim):
        return [(False, "the function could not be shown to be the sum of the squares of its residuals")]
    free, width = theorem.free, theorem.half_width
    wide = [c + flint.arb(0, width) if i in free else c for i, c in enumerate(centre)]
    at, inside = _sam(derive, centre, theorem.rho), _sam(derive, wide, theorem.rho)
    values, slopes = _first_order(residuals, at.plus), _first_order(residuals, inside.plus)
    count = len(free)
    if len(values) != count:
        return [(False, f"there are {len(values)} residuals and {count} free coordinates")]
    if not all(entry.is_finite() for entry in inside.grad_plus.entries()):
        return [(False, "f is NOT shown to be defined at x⁺")]
    moving = flint.arb_mat([slope for _, slope in slopes]) * inside.perturbed
    derivative = flint.arb_mat(count, count, [moving[i, j] for i in range(count) for j in free])
    one = newton_confirms(flint.arb_mat(count, 1, [value for value, _ in values]), derivative, width)
    return [
        (True, "f is the sum of the squares of its residuals, symbolically"),
        _one_and_steep(one, inside, theorem, f"the residuals at x⁺ in the slice of half-width {width!r}"),
    ]


def _first_order(functions: Callable[[Sequence[Any]], Sequence[Any]], x: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Value and gradient of every function."""
    flint = require("proof", "flint")
    columns = []
    for k in range(len(x)):
        series = [Series(flint.arb_series([c, flint.arb(int(i == k))], prec=2)) for i, c in enumerate(x)]
        columns.append([_coefficients(value) for value in functions(series)])
    return [(columns[0][r][0], [column[r][1] for column in columns]) for r in range(len(columns[0]))]

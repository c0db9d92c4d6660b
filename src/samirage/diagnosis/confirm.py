"""Extra passes over the loss itself that confirm a diagnosis, or refute it.

They are made at the present weights `x` of the run, on an objective that is deterministic: the whole data set, or the
function. They look along the ascent direction (a line scan), at the Hessians (extreme eigenvalues by Lanczos), at the
shifted gradient for half the radius, and at what plain gradient descent does from `x`. A run that bounces is nowhere
critical: its Hessian is taken where, on the line along the ascent direction, the slope vanishes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

import torch
from torch import Tensor

from samirage.diagnosis.figures import Figure
from samirage.diagnosis.rules import Condition
from samirage.diagnosis.thresholds import Thresholds
from samirage.sam import Status, ascent_direction, extreme_eigenvalues

_SCAN_POINTS: Final = 24  # on the line from x to x + 1.5 rho·u
_LANCZOS_STEPS: Final = 30
_DESCENT_STEPS: Final = 100
_NEWTON_STEPS: Final = 4
_HALVINGS: Final = 60  # of the learning rate, until gradient descent descends
_SUFFICIENT: Final = 0.3  # of the fall that the slope promises (Armijo's condition)
_RELATIVE_CURVATURE: Final = 0.01  # of the largest curvature at x: what is less is not negative
_FLAT: Final = 0.05  # of the largest curvature at x: where all is less, it is a plateau

_AT_REST: Final = frozenset(
    {
        Status.HALLUCINATED_MINIMIZER,
        Status.HALLUCINATED_SADDLE,
        Status.HALLUCINATED_PLATEAU,
        Status.HALLUCINATED_MAXIMIZER,
        Status.DRIFTING,
    }
)
_BOUNCING: Final = frozenset({Status.BOUNCING_MINIMIZER, Status.SADDLE_TRAP, Status.MAXIMIZER_TRAP})


class _Linearized(Protocol):
    @property
    def hvp(self) -> Callable[[Tensor], Tensor]: ...


class Loss(Protocol):
    """What the extra passes need of a loss; `samirage.landscape.Objective` and the analytic functions have it."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return `f(x)`, shape (…), for points of shape (…, d)."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `f(x)` and `g(x)`."""

    def linearize(self, x: Tensor) -> _Linearized:
        """Return an object whose `hvp` maps `v` to `H(x)·v`, for one point."""


@dataclass(frozen=True)
class Confirmation:
    """What the extra passes found.

    Attributes:
        verdict: Whether they bear the diagnosis out; "could not check" where they have no say in it.
        status: The status that they point to.
        evidence: What was measured; first what the conclusion rests on.
    """

    verdict: Literal["confirmed", "refuted", "could not check"]
    status: Status
    evidence: tuple[Figure, ...]


@dataclass(frozen=True)
class _Probe:
    """What was measured at one point; see `_MEANINGS`."""

    shift_ratio: float
    half_radius_ratio: float
    higher_between: float
    curvature_along: float
    least: float
    trapping: float
    least_plus: float
    most_plus: float
    largest_plus: float
    fall: float
    descent: float


_MEANINGS: Final = {
    "shift_ratio": ("r(x)", "shifted gradient over gradient, whole data"),
    "half_radius_ratio": ("r(ρ/2)/r", "the same for half the radius, over that"),
    "higher_between": ("ridge", "highest loss between x and x⁺ above both, over the span of the line"),
    "curvature_along": ("uᵀHu", "curvature along u, over the largest"),
    "least": ("λmin(H)", "least curvature, over the largest"),
    "trapping": ("−λmin/h*", "negative curvature over what makes SAM's bouncing a trap"),
    "least_plus": ("λmin(H⁺)", "least curvature at x⁺, over the largest at x"),
    "most_plus": ("λmax(H⁺)", "greatest curvature at x⁺, over the largest at x"),
    "largest_plus": ("|λ(H⁺)|", "largest curvature at x⁺, over that at x"),
    "fall": ("GD fall", "what gradient descent gains, over what the slope promises"),
    "descent": ("GD Δf", "fall of the loss in 100 steps of gradient descent, over the loss"),
}


def confirm_status(
    status: Status, loss: Loss, x: Tensor, *, rho: float, lr: float, thresholds: Thresholds, seed: int = 0
) -> Confirmation:
    """Make the extra passes at a point, and hold the diagnosis against them.

    Args:
        status: The diagnosis from the free figures.
        loss: The objective.
        x: The weights, shape (d,).
        rho: The radius, above 0.
        lr: The learning rate, above 0, as that of plain gradient steps: with momentum or an adaptive base optimizer the
            threshold of the saddle trap is a rough one.
        thresholds: The thresholds of the diagnosis.
        seed: Seed of the Lanczos start vectors.

    Returns:
        The confirmation.
    """
    if status not in _AT_REST | _BOUNCING | {Status.HALLUCINATED_BOUNCE, Status.STATIONARY}:
        return Confirmation("could not check", status, ())
    probe = _measure(loss, x, rho, lr, seed, bouncing=status in _BOUNCING)
    found, conditions = _conclude(status, probe, thresholds)
    asked = {condition.figure: condition for condition in conditions}
    evidence = []
    for name in sorted(_MEANINGS, key=lambda name: name not in asked):
        figure, value = Figure(name, *_MEANINGS[name], getattr(probe, name)), getattr(probe, name)
        if name in asked:
            c = asked[name]
            figure = replace(figure, threshold=c.threshold, below=c.below, margin=c.margin(value), passed=c.test(value))
        evidence.append(figure)
    return Confirmation("confirmed" if found is status else "refuted", found, tuple(evidence))


def _conclude(status: Status, p: _Probe, t: Thresholds) -> tuple[Status, list[Condition]]:
    """Return what the point is, and the conditions under which it is that."""

    def below(figure: str, threshold: float) -> Condition:
        return Condition(figure, True, threshold)

    def at_least(figure: str, threshold: float) -> Condition:
        return Condition(figure, False, threshold)

    tolerance = _RELATIVE_CURVATURE
    falls = at_least("fall", _SUFFICIENT)
    if status is Status.STATIONARY:
        return _first(
            p, [(status, [at_least("least", -tolerance)]), (Status.SADDLE_TRAP, [below("least", -tolerance)])]
        )
    if status is Status.DRIFTING:
        return _first(p, [(status, [at_least("higher_between", tolerance), falls])])
    if status is Status.HALLUCINATED_BOUNCE:
        return _first(p, [(status, [falls, at_least("descent", t.loss_trend)])])
    if status in _BOUNCING:
        return _first(
            p,
            [
                (Status.MAXIMIZER_TRAP, [below("curvature_along", -tolerance)]),
                (Status.SADDLE_TRAP, [at_least("trapping", 1.0)]),
                (Status.BOUNCING_MINIMIZER, [below("trapping", 1.0), at_least("curvature_along", 0.0)]),
            ],
        )
    # At a true critical point r halves with the radius; at a hallucinated one the slope comes back.
    at_rest = [below("shift_ratio", t.slope_ratio), at_least("half_radius_ratio", 1.0), falls]
    return _first(
        p,
        [
            (Status.HALLUCINATED_PLATEAU, [*at_rest, below("largest_plus", _FLAT)]),
            (Status.HALLUCINATED_MAXIMIZER, [*at_rest, below("most_plus", -tolerance)]),
            (Status.HALLUCINATED_SADDLE, [*at_rest, below("least_plus", -tolerance)]),
            (Status.HALLUCINATED_MINIMIZER, [*at_rest, at_least("least_plus", -tolerance)]),
        ],
    )


def _first(probe: _Probe, cases: list[tuple[Status, list[Condition]]]) -> tuple[Status, list[Condition]]:
    for status, conditions in cases:
        if all(c.test(getattr(probe, c.figure)) for c in conditions):
            return status, conditions
    return Status.UNDECIDED, cases[-1][1]


def _measure(loss: Loss, x: Tensor, rho: float, lr: float, seed: int, *, bouncing: bool) -> _Probe:
    value, grad = loss.value_and_grad(x)
    grad_norm = float(torch.linalg.vector_norm(grad))
    (u,) = ascent_direction([grad])
    value_plus, grad_plus = loss.value_and_grad(x + rho * u)
    plus_norm = float(torch.linalg.vector_norm(grad_plus))
    _, grad_half = loss.value_and_grad(x + rho / 2 * u)
    hvp = loss.linearize(_bottom(loss, x, u, rho) if bouncing else x).hvp
    least, largest = extreme_eigenvalues(hvp, x, steps=_LANCZOS_STEPS, seed=seed)
    along = float(torch.dot(u, hvp(u)))
    least_plus, most_plus = extreme_eigenvalues(loss.linearize(x + rho * u).hvp, x, steps=_LANCZOS_STEPS, seed=seed)
    scale = max(abs(least), abs(largest)) or math.nan
    heights = loss(x + torch.linspace(0, 1.5 * rho, _SCAN_POINTS + 1, dtype=x.dtype, device=x.device)[:, None] * u)
    between = heights[1 : 2 * _SCAN_POINTS // 3]
    span = float((heights.max() - heights.min()).clamp(min=torch.finfo(x.dtype).tiny))
    fall, descent = _descend(loss, x, lr)
    # While SAM bounces along a curvature λ, it contracts a direction of curvature −h if h exceeds this.
    trap = lr * largest**2 / (2 - lr * largest) if 0 < lr * largest < 2 else math.inf
    return _Probe(
        shift_ratio=_over(plus_norm, grad_norm),
        half_radius_ratio=_over(float(torch.linalg.vector_norm(grad_half)), plus_norm) if plus_norm else math.inf,
        higher_between=float(between.max() - torch.maximum(value, value_plus)) / span,
        curvature_along=along / scale,
        least=least / scale,
        trapping=-least / trap,
        least_plus=least_plus / scale,
        most_plus=most_plus / scale,
        largest_plus=max(abs(least_plus), abs(most_plus)) / scale,
        fall=fall,
        descent=descent,
    )


def _bottom(loss: Loss, x: Tensor, u: Tensor, rho: float) -> Tensor:
    """Return the point on the line through `x` along `u` at which the slope vanishes, by Newton's method."""
    t = 0.0
    for _ in range(_NEWTON_STEPS):
        y = x + t * u
        slope = float(torch.dot(u, loss.value_and_grad(y)[1]))
        curvature = float(torch.dot(u, loss.linearize(y).hvp(u)))
        t = max(-rho, min(rho, t - _over(slope, curvature))) if curvature else t
    return x + t * u


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan


def _descend(loss: Loss, x: Tensor, lr: float) -> tuple[float, float]:
    """Run plain gradient descent with the largest learning rate, at most `lr`, at which it descends.

    Returns:
        What it gains, over what the slope promises; and over the loss.
    """
    begin, grad = loss.value_and_grad(x)
    promised, y, value = 0.0, x, begin
    for _ in range(_DESCENT_STEPS):
        square = float(grad.square().sum())
        for _ in range(_HALVINGS):
            new = y - lr * grad
            new_value, new_grad = loss.value_and_grad(new)
            if float(value - new_value) >= _SUFFICIENT * lr * square:
                break
            lr /= 2
        else:
            break
        promised += lr * square
        y, value, grad = new, new_value, new_grad
    gained = float(begin - value)
    size = max(abs(float(begin)), abs(float(value)))
    return _over(gained, promised), _over(gained, size)

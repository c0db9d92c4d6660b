"""Branches: how a hallucinated point moves as `rho` varies, where it turns, and where it begins and ends.

While the critical point `x⁺` stays where it is, the hallucinated points that look at it solve

`g(x) + λ·(x − x⁺) = 0` with `λ > 0`, and `rho = ‖x − x⁺‖`, `λ = ‖g‖/rho`.

These are d equations in the d + 1 unknowns `(x, λ)`: a smooth curve, which is followed by its arc length, so that it
may turn in `rho` (a fold). It stays smooth where `λ` passes 0, at another stationary point of `f`, at which `u` itself
is not defined: there the branch of hallucinated points begins or ends. This is the "nontrivial interval" of Theorem 2.2
of Park, Jang, Ryu and Yang (arXiv 2509.21818), computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.certificates.verdict import attracts_small_steps
from samirage.points.equation import DENSE_DIM, check_gradient, check_point, check_rho
from samirage.points.find.evidence import ZERO_MODE, HallucinatedPoint, evidence
from samirage.points.polish import least_squares, polish

_CORRECTIONS: Final = 12
_EXACT: Final = 1e-11  # error of the equations that counts as 0, relative to gradients on the branch
_GROW, _SHRINK = 1.3, 0.5
_LOCATE: Final = 45  # halvings by which an event is located
_CROWD: Final = 7  # powers of ten by which points crowd towards a stationary end


class Event(StrEnum):
    """What can happen along a branch."""

    FOLD = "fold"
    """The branch turns in rho: two points meet, and exist on one side only."""
    STABILITY = "stability"
    """SAM's attraction for small learning rates begins or ends."""
    STATIONARY = "stationary"
    """The gradient vanishes: the branch ends at another stationary point of f, whose distance is the radius."""
    TARGET = "target"
    """The branch runs into the critical point itself: rho goes to 0."""
    LIMIT = "limit"
    """The given bounds of rho, or the largest number of points, was reached; the branch goes on beyond."""
    CLOSED = "closed"
    """The branch came back to where it started."""


@dataclass(frozen=True, eq=False)
class BranchEvent:
    """Something that happens at one place of a branch.

    Attributes:
        event: What.
        rho: At which radius.
        x: At which point, shape (d,).
        index: It happens between the points `index` and `index + 1` of the branch, or at its first or last one.
    """

    event: Event
    rho: float
    x: Tensor
    index: int


@dataclass(frozen=True, eq=False)
class Branch:
    """A curve of hallucinated points that look at the same critical point.

    Attributes:
        x_plus: The critical point, shape (d,).
        x: The points in the order of the arc length, shape (n, d).
        rho: Their radii, shape (n,).
        grad_norm: `‖g‖` there, shape (n,).
        attracts: Whether SAM is attracted for small learning rates, shape (n,); None for many coordinates.
        max_stable_lr: Largest stable learning rate, shape (n,); None as above.
        events: Ends, folds and changes of stability, in the order of the arc length.
    """

    x_plus: Tensor
    x: Tensor
    rho: Tensor
    grad_norm: Tensor
    attracts: Tensor | None
    max_stable_lr: Tensor | None
    events: list[BranchEvent]


def branch(
    f: Smooth, x: Tensor, rho: float, *, rho_range: tuple[float, float] | None = None, max_points: int = 400
) -> Branch:
    """Follow a hallucinated point both ways as `rho` varies, through folds, to where the branch ends.

    Args:
        f: The function.
        x: A hallucinated point at `rho`, shape (d,); it is polished first.
        rho: Its radius, above 0.
        rho_range: Radii at which to stop; by default a thousandth of `rho` and ten times `rho`.
        max_points: Most points in each direction.

    Returns:
        The branch, from one end to the other.

    Raises:
        ValueError: If an argument is out of its range, or `x` is not near a hallucinated point.

    Example:
        >>> from samirage.landscape import Ring
        >>> curve = branch(Ring(), torch.tensor([0.5, 0.0]), rho=1.5)  # ‖x‖ = rho − 1
        >>> [(e.event.value, round(e.rho, 6)) for e in curve.events]
        [('stationary', 2.0), ('stationary', 1.0)]
        >>> bool(torch.allclose(curve.x.norm(dim=1), curve.rho - 1))
        True
    """
    rho = check_rho(rho)
    low, high = (rho / 1000, 10 * rho) if rho_range is None else map(check_rho, rho_range)
    if not low < rho < high:
        raise ValueError(f"rho_range must hold rho = {rho:g} strictly between its ends; got {(low, high)!r}")
    if isinstance(max_points, bool) or not isinstance(max_points, int) or max_points < 2:
        raise ValueError(f"max_points must be a whole number of at least 2; got {max_points!r}")
    start = check_point(f, x)
    check_gradient(f, start)
    polished = polish(f, start, rho)
    grad = f.grad(polished.x)
    size = float(grad.norm())
    if not polished.residual < 1e-9 * max(1.0, size) or size == 0:
        raise ValueError(
            f"x is not near a hallucinated point at rho = {rho:g}: polishing stopped at ‖g⁺‖ = {polished.residual:.1e}"
        )
    curve = _Curve(f, polished.x + rho * grad / size, size)
    first = torch.cat([polished.x, torch.tensor([size / rho], dtype=torch.float64, device=grad.device)])
    tangent = curve.tangent(first, torch.ones_like(first))
    if float(curve.rho_slope(first, tangent)) < 0:
        tangent = -tangent
    ways = [_follow(curve, first, sign * tangent, low, high, max_points, 0.02 * rho) for sign in (1.0, -1.0)]
    if ways[0][1] is Event.CLOSED:
        ways[1] = ([first], Event.CLOSED)
    # From the end at which rho had increased, back through the start, to the other end.
    states = torch.stack([*reversed(ways[0][0]), *ways[1][0][1:]])
    return _described(curve, states, ways[0][1], ways[1][1])


class _Curve:
    """The equations `(g(x) + λ·(x − x⁺))·weight = 0` in the state `(x, λ)`, of which x is measured in its own units."""

    def __init__(self, f: Smooth, x_plus: Tensor, size: float) -> None:
        self.f = f
        self.x_plus = x_plus
        self.size = size

    def split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return state[..., :-1], state[..., -1]

    def rho(self, state: Tensor) -> Tensor:
        radius: Tensor = (self.split(state)[0] - self.x_plus).norm(dim=-1)
        return radius

    def rho_slope(self, state: Tensor, tangent: Tensor) -> Tensor:
        """Derivative of `rho²/2` along the tangent: 0 at a fold."""
        x, _ = self.split(state)
        return ((x - self.x_plus) * tangent[:-1]).sum()

    def error(self, state: Tensor) -> Tensor:
        x, multiplier = self.split(state)
        return self.f.grad(x) + multiplier * (x - self.x_plus)

    def shortest_solution(self, state: Tensor, target: Tensor) -> Tensor:
        """The shortest `s` with `J·s = target`, `J = [H + λI, x − x⁺]`."""
        x, multiplier = self.split(state)
        away = x - self.x_plus
        if self.f.dim <= DENSE_DIM:
            identity = torch.eye(self.f.dim, dtype=x.dtype, device=x.device)
            matrix = torch.cat([self.f.hessian(x) + multiplier * identity, away[:, None]], 1)
            shortest: Tensor = torch.linalg.lstsq(matrix, target[:, None], rcond=1e-12, driver="gelsd").solution[:, 0]
            return shortest
        hvp = self.f.linearize(x).hvp
        product: Callable[[Tensor], Tensor] = lambda s: hvp(s[:-1]) + multiplier * s[:-1] + s[-1] * away  # noqa: E731
        return least_squares(
            product,
            lambda y: torch.cat([hvp(y) + multiplier * y, (away @ y)[None]]),
            target,
            max_products=400,
            tolerance=1e-10,
        )

    def tangent(self, state: Tensor, like: Tensor) -> Tensor:
        """Unit vector of the curve, on the side of another vector: what J annihilates of that vector."""
        x, multiplier = self.split(state)
        rest = self.f.hvp(x, like[:-1]) + multiplier * like[:-1] + like[-1] * (x - self.x_plus)
        along = like - self.shortest_solution(state, rest)
        unit: Tensor = along / along.norm()
        return unit

    def correct(self, state: Tensor) -> tuple[Tensor, bool, int]:
        """Go the shortest way back to the curve."""
        for step in range(_CORRECTIONS):
            error = self.error(state)
            if not bool(error.isfinite().all()):
                return state, False, step
            if float(error.norm()) <= _EXACT * self.size:
                return state, True, step
            state = state - self.shortest_solution(state, error)
        return state, float(self.error(state).norm()) <= 100 * _EXACT * self.size, _CORRECTIONS


def _follow(
    curve: _Curve, state: Tensor, tangent: Tensor, low: float, high: float, max_points: int, step: float
) -> tuple[list[Tensor], Event]:
    states, begin, largest, smallest = [state], state, 5 * step, 1e-9 * step
    while len(states) < max_points:
        trial, good, corrections = curve.correct(state + step * tangent)
        moved = trial - state
        # A step that turned sharply may have jumped to another branch.
        if good and float(moved @ tangent) > 0.9 * float(moved.norm()) and float(moved.norm()) < 2 * step:
            event = _end(curve, state, trial, low, high)
            if event is Event.STATIONARY:
                end = _locate(curve, state, trial, lambda s: -s[-1])
                # Points that crowd towards the end tell whether SAM is attracted all the way to it.
                near = [curve.correct(end + 0.1**k * (state - end)) for k in range(1, _CROWD)]
                return [*states, *(point for point, found, _ in near if found), end], event
            if event is Event.LIMIT:
                bound = low if float(curve.rho(trial)) < low else high
                trial = _locate(curve, state, trial, partial(_beyond, curve, bound))
            if event is not None:
                return [*states, trial], event
            tangent = curve.tangent(trial, tangent)
            state = trial
            states.append(state)
            if len(states) > 3 and float((state - begin).norm()) < step and float((states[1] - begin) @ tangent) > 0:
                return [*states, begin], Event.CLOSED
            step = min(step * (_GROW if corrections <= 3 else 1.0), largest)
        else:
            step *= _SHRINK
            if step < smallest:
                break
    return states, Event.LIMIT


def _end(curve: _Curve, state: Tensor, trial: Tensor, low: float, high: float) -> Event | None:
    radius = float(curve.rho(trial))
    if radius < 1e-3 * float(curve.rho(state)) or radius < 1e-9:
        return Event.TARGET
    if float(trial[-1]) <= 0:
        return Event.STATIONARY
    return Event.LIMIT if not low <= radius <= high else None


def _beyond(curve: _Curve, bound: float, state: Tensor) -> Tensor:
    return curve.rho(state) - bound


def _locate(curve: _Curve, a: Tensor, b: Tensor, sign: Callable[[Tensor], Tensor]) -> Tensor:
    """Find, between two neighbours on the curve, where a function changes sign: by halving the chord."""
    before = float(sign(a)) > 0
    for _ in range(_LOCATE):
        middle, good, _ = curve.correct((a + b) / 2)
        if not good:
            break
        if (float(sign(middle)) > 0) == before:
            a = middle
        else:
            b = middle
    return b


def _described(curve: _Curve, states: Tensor, up: Event, down: Event) -> Branch:
    f = curve.f
    x, _ = curve.split(states)
    rho = curve.rho(states)
    grad_norm = f.grad(x).norm(dim=1)
    attracts = lr = None
    inner = [i for i, s in enumerate(states) if float(s[-1]) > 1e-9 * curve.size / float(rho.max())]
    if f.dim <= DENSE_DIM:
        # At a stationary end A grows without bound, and no learning rate is stable.
        rates = _stable_rates({i: evidence(f, x[i], float(rho[i])) for i in inner})
        attracts = torch.tensor([rates.get(i, 0.0) > 0 for i in range(len(x))])
        lr = torch.tensor([rates.get(i, 0.0) for i in range(len(x))])
    events = [BranchEvent(up, float(rho[0]), x[0], 0)]
    for i in range(len(states) - 1):
        events += _between(curve, states, i, attracts, set(inner))
    events.append(BranchEvent(down, float(rho[-1]), x[-1], len(x) - 1))
    return Branch(curve.x_plus, x, rho, grad_norm, attracts, lr, events)


def _stable_rates(found: dict[int, HallucinatedPoint]) -> dict[int, float]:
    """Largest stable learning rates along a branch, 0 where none is.

    Next to a stationary end rounding hides whether zero modes are those of a manifold. Along a branch they stay so.
    """
    rates: dict[int, float] = {}
    for order in (sorted(found), sorted(found, reverse=True)):
        on_manifold = False
        for i in order:
            rate = found[i].max_stable_lr
            mu = found[i].mu
            if rate is None and on_manifold and mu is not None:
                rate = attracts_small_steps(mu, tolerance=ZERO_MODE, is_manifold=lambda: True)[1]
            on_manifold = bool(rate)
            rates[i] = max(rates.get(i, 0.0), rate or 0.0)
    return rates


def _between(curve: _Curve, states: Tensor, i: int, attracts: Tensor | None, inner: set[int]) -> list[BranchEvent]:
    """Events between two neighbours: a fold, where rho turns; a change of stability."""
    a, b = states[i], states[i + 1]
    found = []

    def add(event: Event, state: Tensor) -> None:
        found.append(BranchEvent(event, float(curve.rho(state)), curve.split(state)[0], i))

    def slope(state: Tensor) -> Tensor:
        return curve.rho_slope(state, curve.tangent(state, b - a))

    if float(slope(a)) * float(slope(b)) < 0:
        add(Event.FOLD, _locate(curve, a, b, slope))
    if attracts is not None and {i, i + 1} <= inner and bool(attracts[i] != attracts[i + 1]):

        def attracting(state: Tensor) -> Tensor:
            here = evidence(curve.f, curve.split(state)[0], float(curve.rho(state)))
            # An eigenvalue that passes 0 is no zero mode of a manifold, and none is asked about.
            attracts = (
                here.mu is not None and attracts_small_steps(here.mu, tolerance=ZERO_MODE, is_manifold=lambda: True)[0]
            )
            return torch.tensor(1.0 if attracts else -1.0)

        add(Event.STABILITY, _locate(curve, a, b, attracting))
    return found

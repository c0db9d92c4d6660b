"""What can be worked out by hand about SAM, against what searching, following and running SAM find.

Nothing here hands a search the answer: points are found from random starts or on spheres, orbits from runs of SAM,
ends of intervals by continuation and, apart from it, by halving.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from samirage.landscape import BumpOnBowl, DoubleWell, Moat, MultiWell, Quadratic, Ring, Smooth
from samirage.points import (
    End,
    HallucinatedPoint,
    HallucinatedPoints,
    Orbit,
    basins,
    certify,
    find_hallucinated,
    polish_orbit,
    radius_interval,
)
from samirage.sam import Status
from samirage.sam.map import displacement, sam_map

WINDOW_TOLERANCE: Final = 1e-3
_EXACT: Final = 1e-9  # error of what is found to machine precision, with room for its conditioning
_HALVINGS: Final = 40
_LR: Final = 0.1


@dataclass(frozen=True)
class ClosedForm:
    """One number, worked out and found.

    Attributes:
        quantity: What it is, in words.
        expected: By the closed form.
        found: By the tools.
        tolerance: How far apart they may be.
        residual: `‖g⁺‖` of the point, or the error of the orbit, that was found; NaN where there is none.
    """

    quantity: str
    expected: float
    found: float
    tolerance: float = _EXACT
    residual: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        return abs(self.found - self.expected) <= self.tolerance


def quadratic() -> list[ClosedForm]:
    """The 2-cycle along the steepest direction, and the saddle trap."""
    lr, rho, steepest = _LR, 0.5, 4.0
    f = Quadratic([steepest, 1.0])
    orbit = settled(f, torch.tensor([0.3, 0.2], dtype=torch.float64), rho, lr)
    grads = f.grad(orbit.x)
    plus = f.grad(orbit.x + displacement(orbit.x, grads, rho))
    size = float(orbit.x.norm(dim=1).max())

    def trapped(curvature: float) -> bool:
        saddle = Quadratic([steepest, -curvature])
        # On the orbit the coordinates do not mix: a small displacement across it grows or shrinks by its own factor.
        x = torch.stack([orbit.x[0, 0], torch.tensor(1e-6, dtype=torch.float64)])
        return abs(float(_run(saddle, x, rho, lr, 2)[1])) < 1e-6

    points = find_hallucinated(f, rho=1.5)
    return [
        ClosedForm(
            "half-width of the 2-cycle, lr·rho·λ/(2 − lr·λ)",
            lr * rho * steepest / (2 - lr * steepest),
            size,
            residual=orbit.residual,
        ),
        ClosedForm("shift ratio on it, 2/(lr·λ)", 2 / (lr * steepest), float(plus[0].norm() / grads[0].norm())),
        ClosedForm("cos(g, g⁺) on it", 1.0, _cosine(grads[0], plus[0])),
        ClosedForm("cos(g⁺, g⁺ a step later) on it", -1.0, _cosine(plus[0], plus[1])),
        ClosedForm(
            "curvature −h from which a saddle traps SAM, h = lr·λ²/(2 − lr·λ)",
            lr * steepest**2 / (2 - lr * steepest),
            _halve(trapped, 3.0, 0.01),
            tolerance=1e-6,
        ),
        ClosedForm("hallucinated points", 0, len(points)),
    ]


def ring() -> list[ClosedForm]:
    """The hallucinated ring inside the ring of minimizers; at smaller and larger radii there is none."""
    f, rho, window = Ring(), 1.5, (-1.7, 1.7, -1.6, 1.65)
    points = find_hallucinated(f, rho=rho)
    distances = torch.stack([p.x.norm() for p in points])
    worst = distances[(distances - 0.5).abs().argmax()]
    x = points[-1].x
    plain, heavy = certify(f, x, rho, _LR), certify(f, x, rho, _LR, momentum=0.9)
    interval = radius_interval(f, x, rho)
    ends = basins(f, rho=rho, lr=0.05, window=window, resolution=16, steps=1500)
    below = basins(f, rho=0.5, lr=_LR, window=window, resolution=16, steps=600)
    beyond = basins(f, rho=2.5, lr=0.05, window=window, resolution=16, steps=1500)
    decay = 0.05
    resting = _decayed(f, torch.tensor([0.3, 0.4], dtype=torch.float64), rho, 0.2, decay)
    roots = np.roots([1, 0, decay - 1, decay * rho])  # of (s² − 1)s + decay·(s + rho), s = t − rho
    inward = min((root.real for root in roots if abs(root.imag) < 1e-12), key=lambda s: abs(s + 1))
    decayed = certify(f, resting, rho, _LR, weight_decay=decay)
    return [
        ClosedForm("distance ‖x‖ = rho − R, the worst point", rho - 1, float(worst), residual=residual(points)),
        ClosedForm("share of SAM's starts that end there", 1.0, _share(ends.ends, Status.HALLUCINATED_MINIMIZER)),
        ClosedForm("eigenvalue of M across it, 2R²", 2.0, float(plain.mu[0])),
        ClosedForm("zero modes along it", 1, plain.zero_modes),
        ClosedForm("largest stable lr, 1/R²", 1.0, float(plain.max_stable_lr or math.nan)),
        ClosedForm("the same at momentum 0.9, 1.9/R²", 1.9, float(heavy.max_stable_lr or math.nan)),
        ClosedForm("smallest radius, R", 1.0, interval.low, tolerance=WINDOW_TOLERANCE),
        ClosedForm("largest radius, 2R", 2.0, interval.high, tolerance=WINDOW_TOLERANCE),
        ClosedForm("share of starts at hallucinated points at rho = 0.5", 0.0, _hallucinated(below.ends)),
        ClosedForm("share of starts at hallucinated points at rho = 2.5", 0.0, _hallucinated(beyond.ends)),
        ClosedForm(
            "distance with weight decay, a root of a cubic",
            rho + inward,
            float(resting.norm()),
            residual=decayed.update_norm,
        ),
    ]


def double_well() -> list[ClosedForm]:
    """The point at rho = 1.5, its stability, and the window of radii that attract."""
    f, rho = DoubleWell(), 1.5
    points = find_hallucinated(f, rho=rho)
    point = next(p for p in points if p.x[0] > 0)
    x = point.x
    plain, heavy = certify(f, x, rho, _LR), certify(f, x, rho, _LR, momentum=0.9)
    lowest = _descended(f)
    reach = float(lowest.norm())
    interval = radius_interval(f, x, rho)
    (window,) = interval.attracting or [(math.nan, math.nan)]

    def exists(radius: float) -> bool:
        return attractors(radius) > 0

    def attractors(radius: float) -> int:
        found = find_hallucinated(f, f.minimizers[0], rho=radius, methods=["sphere"], starts=16)
        return sum(bool(p.attracts) for p in found)

    half = 5e-6  # half a unit of the last digit in which the number is known
    return [
        ClosedForm("minimum, √(1 + coupling²/(2·stiffness))", math.sqrt(1 + 0.15**2 / 0.8), float(lowest[0].abs())),
        ClosedForm("first coordinate at rho = 1.5", 0.47093, float(x[0]), half, residual(points)),
        ClosedForm("second coordinate", -0.02220, float(x[1]), half),
        ClosedForm("‖g‖", 0.374, point.grad_norm, 5e-4),
        ClosedForm("larger eigenvalue of M", 3.92, float(plain.mu[0]), 5e-3),
        ClosedForm("smaller eigenvalue of M", 1.80, float(plain.mu[1]), 5e-3),
        ClosedForm("largest stable lr", 0.510, float(plain.max_stable_lr or math.nan), 5e-4),
        ClosedForm("the same by running SAM", float(plain.max_stable_lr or math.nan), _stable_lr(f, x, rho, 0.0), 1e-3),
        ClosedForm(
            "with momentum 0.9, by running SAM",
            float(heavy.max_stable_lr or math.nan),
            _stable_lr(f, x, rho, 0.9),
            1e-3,
        ),
        ClosedForm("attracts from rho = distance to the saddle, followed", reach, window[0], WINDOW_TOLERANCE),
        ClosedForm("attracts to rho = distance of the minima, followed", 2 * reach, window[1], WINDOW_TOLERANCE),
        ClosedForm("the lower end, by halving", reach, _halve(exists, 1.5, 0.9, 14), WINDOW_TOLERANCE),
        ClosedForm("the upper end, by halving", 2 * reach, _halve(exists, 1.5, 2.4, 14), WINDOW_TOLERANCE),
        ClosedForm("attractors at rho = 1.03", 0, attractors(1.03)),
        ClosedForm("attractors at rho = 2.07", 0, attractors(2.07)),
    ]


def multi_well() -> list[ClosedForm]:
    """The point of Theorem 2.2 on the diagonal, which repels, and the attractors beside it."""
    f, rho = MultiWell(2), 1.5
    points = find_hallucinated(f, rho=rho)
    diagonal = next(p for p in points if p.kind is Status.HALLUCINATED_MINIMIZER and bool((p.x > 0).all())
                    and abs(float(p.x[0] - p.x[1])) < 1e-6)  # fmt: skip
    side = next(p for p in points if p.kind is Status.HALLUCINATED_MINIMIZER and abs(abs(float(p.x[0])) - 1) < 1e-6)
    t = rho / math.sqrt(2) - 1
    slope = math.sqrt(2) * (t - t**3)
    interval = radius_interval(f, diagonal.x, rho)
    (window,) = interval.attracting or [(math.nan, math.nan)]
    return [
        ClosedForm("diagonal point, rho/√2 − 1", t, float(diagonal.x[0]), residual=residual(points)),
        ClosedForm("its a = 1 + rho·(3t² − 1)/‖g‖", 1 + rho * (3 * t**2 - 1) / slope, _lowest_a(diagonal)),
        ClosedForm("its attraction", 0, float(certify(f, diagonal.x, rho).attractor or 0)),
        ClosedForm("it exists from rho = √2", math.sqrt(2), interval.low, WINDOW_TOLERANCE),
        ClosedForm("it exists to rho = 2√2", 2 * math.sqrt(2), interval.high, WINDOW_TOLERANCE),
        ClosedForm("it attracts from rho = 1.5·√2", 1.5 * math.sqrt(2), window[0], WINDOW_TOLERANCE),
        ClosedForm("largest stable lr of the point on an edge, 1/9", 1 / 9, float(side.max_stable_lr or math.nan)),
    ]


def bump_on_bowl() -> list[ClosedForm]:
    """The point of Theorem 2.2, beyond the bump: it exists, and repels."""
    f, rho = BumpOnBowl(), 1.9
    points = find_hallucinated(f, f.minimizers[0], rho=rho)
    point = next(p for p in points if "superlevel" in p.found_by)
    low, top, behind = (float(p[0][0]) for p in (f.minimizers, f.maximizers, f.saddles))
    place = low + rho
    bump = 8.0 * math.exp(-2 * (place - 1.5) ** 2)  # height/width²·exp(…), with the bump's defaults
    slope, across = place - bump * (place - 1.5), 1 - bump
    interval = radius_interval(f, point.x, rho)
    certificate = certify(f, point.x, rho)
    return [
        ClosedForm("place on the axis, minimum + rho", place, float(point.x[0]), residual=residual(points)),
        ClosedForm("‖g‖ there", abs(slope), point.grad_norm),
        ClosedForm("its a = 1 + rho·f_yy/‖g‖", 1 + rho * across / abs(slope), _lowest_a(point)),
        ClosedForm("its attraction", 0, float(certificate.attractor or 0)),
        ClosedForm("share of SAM's runs from beside it that leave", 1.0, _leaving(f, point.x, rho)),
        ClosedForm("it exists from rho = distance to the top", top - low, interval.low, WINDOW_TOLERANCE),
        ClosedForm("it exists to rho = distance to the pass behind", behind - low, interval.high, WINDOW_TOLERANCE),
    ]


def moat() -> list[ClosedForm]:
    """A curve of hallucinated minimizers without symmetry: on the axis of reflection its place is known."""
    f, rho = Moat(), 1.5
    points = find_hallucinated(f, rho=rho)
    axis = min(points, key=lambda p: abs(float(p.x[0])))
    certificate = certify(f, points[-1].x, rho)
    return [
        ClosedForm("on the axis, y = rho − height", rho - 0.8, float(axis.x[1].abs()), residual=residual(points)),
        ClosedForm("f at x⁺, the worst point", 0.0, max(p.loss_plus for p in points)),
        ClosedForm("zero modes along the curve", 1, certificate.zero_modes),
        ClosedForm("attraction", 1, float(certificate.attractor or 0)),
    ]


CLOSED_FORMS: Final[dict[str, Callable[[], list[ClosedForm]]]] = {
    "quadratic": quadratic,
    "ring": ring,
    "double-well": double_well,
    "multi-well": multi_well,
    "bump-on-bowl": bump_on_bowl,
    "moat": moat,
}


# --- finding -----------------------------------------------------------------------------------------


def settled(f: Smooth, x: Tensor, rho: float, lr: float, *, steps: int = 2000) -> Orbit:
    """Return the 2-cycle that SAM settles to.

    Args:
        f: The function.
        x: Start, shape (d,), float64.
        rho: Perturbation radius.
        lr: Learning rate.
        steps: Steps before the orbit is read off and polished.

    Returns:
        The orbit.

    Raises:
        RuntimeError: If SAM did not settle to one.
    """
    x = _run(f, x, rho, lr, steps)
    orbit = polish_orbit(f, torch.stack([x, sam_map(f.grad, x, rho=rho, lr=lr)]), rho=rho, lr=lr)
    if orbit is None or orbit.period != 2:
        raise RuntimeError(f"SAM did not settle to a 2-cycle within {steps} steps")
    return orbit


def residual(points: HallucinatedPoints) -> float:
    """Return the largest `‖g⁺‖` of the points."""
    return max(p.grad_plus_norm for p in points)


def _run(f: Smooth, x: Tensor, rho: float, lr: float, steps: int) -> Tensor:
    for _ in range(steps):
        x = sam_map(f.grad, x, rho=rho, lr=lr)
    return x


def _decayed(f: Smooth, x: Tensor, rho: float, lr: float, decay: float) -> Tensor:
    """Run SAM with coupled weight decay until it rests."""
    for _ in range(2000):
        x = sam_map(f.grad, x, rho=rho, lr=lr) - lr * decay * x
    return x


def _descended(f: Smooth) -> Tensor:
    """A minimum, by plain steps from a random start."""
    x = torch.randn(f.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(2000):
        x = x - 0.2 * f.grad(x)
    return x


def _halve(holds: Callable[[float], bool], inside: float, outside: float, halvings: int = _HALVINGS) -> float:
    """Return where, between a number at which something holds and one at which it does not, it ends to hold."""
    for _ in range(halvings):
        middle = (inside + outside) / 2
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2


def _stable_lr(f: Smooth, x: Tensor, rho: float, momentum: float) -> float:
    """The largest learning rate at which SAM, started beside a point, comes back to it: by running it."""

    def returns(lr: float) -> bool:
        y, velocity = x + 1e-7, torch.zeros_like(x)
        for _ in range(1000):
            grad = f.grad(y)
            velocity = momentum * velocity + f.grad(y + displacement(y, grad, rho))
            y = y - lr * velocity
        return bool((y - x).norm() < 1e-7)

    return _halve(returns, 1e-2, 2.0, 12)


def _leaving(f: Smooth, x: Tensor, rho: float) -> float:
    """Share of SAM's runs, started around a point, that end farther away than they began."""
    angles = torch.linspace(0, 2 * math.pi, 13, dtype=torch.float64)[:-1] + 0.1
    begin = x + 1e-3 * torch.stack([angles.cos(), angles.sin()], 1)
    end = _run(f, begin, rho, 0.02, 4000)
    return float(((end - x).norm(dim=1) > 0.1).double().mean())


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def _lowest_a(point: HallucinatedPoint) -> float:
    assert point.a is not None
    return float(point.a[0])


def _share(ends: Sequence[End], kind: Status) -> float:
    return math.fsum(end.share for end in ends if end.kind is kind)


def _hallucinated(ends: Sequence[End]) -> float:
    return math.fsum(end.share for end in ends if end.kind.is_hallucinated)

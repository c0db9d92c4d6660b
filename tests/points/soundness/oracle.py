"""Whether a theorem is true, as far as 60 digits and a simulation tell: what is said to be false is false."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from tests.points.soundness.exact import Exact, Vector, mp, norm, solve
from tests.points.soundness.theorem import Attracts, Theorem

ZERO: Final = mp.mpf(10) ** -45
"""What counts as 0: far above the errors of the oracle, far below those that a float can make."""

_PROBES: Final = 2
_MOST_STEPS: Final = 40
_FALL: Final = 1e-2


def judge(theorem: Theorem, exact: Exact, seed: int = 0) -> list[str]:
    """Return what is false about a theorem, one sentence each; nothing where all holds.

    Args:
        theorem: What is claimed.
        exact: The function that it is about.
        seed: Of the random probes.
    """
    rng = random.Random(seed)
    if len(theorem.centre) != exact.dim:
        return ["the point has not as many coordinates as the function"]
    try:
        if theorem.reduction == "rotation":
            return _rotation(theorem, exact, rng)
        return _isolated(theorem, exact, rng) if theorem.reduction == "none" else _squares(theorem, exact, rng)
    except (ZeroDivisionError, ValueError, TypeError, OverflowError) as error:
        return [f"it cannot be evaluated at 60 digits: {error!r}"]


def _within(theorem: Theorem, x: Vector) -> bool:
    return all(abs(x[i] - theorem.middle[i]) <= theorem.half_width for i in theorem.free)


def _random_in(theorem: Theorem, rng: random.Random, corner: bool) -> Vector:
    x = list(theorem.middle)
    for i in theorem.free:
        x[i] += mp.mpf(theorem.half_width) * (rng.choice((-1, 1)) if corner else rng.uniform(-1, 1))
    return x


def _probes(theorem: Theorem, rng: random.Random) -> list[Vector]:
    return [_random_in(theorem, rng, corner=i == 0) for i in range(_PROBES if theorem.half_width < 1e-6 else 4)]


def _roots(theorem: Theorem, exact: Exact, probes: Sequence[Vector]) -> tuple[Vector | None, list[str]]:
    """Find the zero of `g⁺` in the box, and another one if there is."""
    found: Vector | None = None
    for start in (theorem.middle, *probes):
        x = solve(exact, start, theorem.rho, theorem.free)
        if x is None or not _within(theorem, x) or norm(exact.grad_plus(x, theorem.rho)) > ZERO:
            continue
        if found is not None and norm(a - b for a, b in zip(x, found, strict=True)) > ZERO:
            return found, ["the box holds two zeros of g⁺"]
        found = x
    return found, [] if found is not None else ["the box holds no zero of g⁺"]


def _isolated(theorem: Theorem, exact: Exact, rng: random.Random) -> list[str]:
    probes = _probes(theorem, rng)
    root, wrong = _roots(theorem, exact, probes)
    if root is None:
        return wrong
    wrong += _gradients(theorem, exact, [root, *probes])
    plus = exact.plus(root, theorem.rho)
    if theorem.min_curvature is not None:
        wrong += _curvature(theorem.min_curvature, exact.curvatures(plus)[0])
    wrong += _x_plus(theorem, plus)
    if theorem.attraction is not None:
        wrong += _attraction(theorem, theorem.attraction, exact, root, rng)
    return wrong


def _x_plus(theorem: Theorem, plus: Vector) -> list[str]:
    ends = theorem.x_plus_box
    if ends is None or all(a - ZERO <= v <= b + ZERO for v, (a, b) in zip(plus, ends, strict=True)):
        return []
    return ["x⁺ lies outside of its box"]


def _gradients(theorem: Theorem, exact: Exact, probes: Sequence[Vector]) -> list[str]:
    sizes = [norm(exact.grad(x)) for x in probes]
    wrong = []
    if not min(sizes) > theorem.grad_above:
        wrong.append(f"‖g‖ is {mp.nstr(min(sizes), 8)} in the box, not above {theorem.grad_above!r}")
    if theorem.grad_below is not None and not max(sizes) < theorem.grad_below:
        wrong.append(f"‖g‖ is {mp.nstr(max(sizes), 8)} in the box, not below {theorem.grad_below!r}")
    return wrong


def _curvature(bound: float, lowest: Any) -> list[str]:
    if lowest > bound:
        return []
    return [f"the smallest eigenvalue of H⁺ is {mp.nstr(lowest, 12)}, and does not exceed {bound!r}"]


def _random_direction(dim: int, rng: random.Random) -> Vector:
    free = [mp.mpf(rng.gauss(0, 1)) for _ in range(dim)]
    size = norm(free)
    return [v / size for v in free]


def _rotation(theorem: Theorem, exact: Exact, rng: random.Random) -> list[str]:
    """Every x with `‖x‖ = t`, for exactly one t in a range, is a hallucinated point."""
    if exact.dim < 2:
        return ["there are no rotations of one coordinate"]
    distance = theorem.middle[0]
    directions = [[mp.mpf(c) / distance for c in theorem.centre]]
    directions += [[mp.mpf(int(i == k)) for i in range(exact.dim)] for k in (0, exact.dim - 1)]
    directions += [_random_direction(exact.dim, rng) for _ in range(2)]
    # On one line the theorem is that of an isolated point, but that the middle is no float.
    line, ray = replace(theorem, free=(0,)), exact.along(directions[0])
    wrong = _isolated(line, ray, random.Random(0))
    root, _ = _roots(line, ray, ())
    if root is None or wrong:
        return wrong
    for direction in directions:
        x = [root[0] * e for e in direction]
        grad, plus = exact.grad(x), exact.plus(x, theorem.rho)
        size = norm(exact.grad(plus))
        if size > ZERO:
            wrong.append(f"‖g⁺‖ is {mp.nstr(size, 5)} at a point of the distance {mp.nstr(root[0], 17)}")
            continue
        if not norm(grad) > theorem.grad_above:
            wrong.append(f"‖g‖ is {mp.nstr(norm(grad), 8)} at a point of the family")
        if theorem.min_curvature is not None:
            along = mp.fdot(direction, exact.hessian(plus) * mp.matrix(direction))
            wrong += _curvature(theorem.min_curvature, along)
            if exact.curvatures(plus)[0] < -ZERO:
                wrong.append("x⁺ is no minimizer: H⁺ has a negative eigenvalue")
    return wrong


def _squares(theorem: Theorem, exact: Exact, rng: random.Random) -> list[str]:
    """A sum of squares vanishes at `x⁺`, for exactly one x in a slice."""
    probes = _probes(theorem, rng)
    root, wrong = _roots(theorem, exact, probes)
    if root is None:
        return wrong
    wrong += _gradients(theorem, exact, [root, *probes])
    plus = exact.plus(root, theorem.rho)
    value = exact.value(plus)
    if abs(value) > ZERO:
        wrong.append(f"f is {mp.nstr(value, 5)} at x⁺: its residuals do not vanish there")
    for _ in range(20):
        other = [c + mp.mpf(rng.gauss(0, 1)) * rng.choice((1e-3, 0.3, 3)) for c in plus]
        if _is_below(exact, other, value - ZERO):
            wrong.append("x⁺ is no global minimizer of f")
            break
    lowest = exact.curvatures(plus)[0]
    if len(theorem.free) < exact.dim and abs(lowest) > ZERO:
        wrong.append(f"x⁺ is said not to be isolated, and the smallest eigenvalue of H⁺ is {mp.nstr(lowest, 5)}")
    return wrong + _x_plus(theorem, plus)


def _is_below(exact: Exact, x: Vector, value: Any) -> bool:
    try:
        return bool(exact.value(x) < value)
    except ValueError:  # f is not defined there
        return False


def _spectral_radius(exact: Exact, x: Vector, rho: float, lr: float) -> Any:
    step = mp.eye(exact.dim) - mp.mpf(lr) * exact.update(x, rho, range(exact.dim))
    if exact.dim == 1:
        return abs(step[0, 0])
    values = mp.eig(step, left=False, right=False)
    return max(abs(v) for v in values)


def _attraction(theorem: Theorem, claim: Attracts, exact: Exact, root: Vector, rng: random.Random) -> list[str]:
    wrong = []
    radius = _spectral_radius(exact, root, theorem.rho, claim.lr)
    if not radius <= claim.factor < 1:
        return [f"the spectral radius of the SAM map is {mp.nstr(radius, 8)}, and the factor {claim.factor!r}"]
    if not claim.half_width > theorem.half_width:
        wrong.append("the box of the contraction need not hold the point")
    # A contraction in one norm all over the box, which is how it is shown, bounds every spectral radius in it.
    corner = [c + mp.mpf(claim.half_width) * rng.choice((-1, 1)) * mp.mpf("0.999") for c in theorem.middle]
    there = _spectral_radius(exact, corner, theorem.rho, claim.lr)
    if there > claim.factor:
        wrong.append(f"the spectral radius is {mp.nstr(there, 8)} in the box of a contraction by {claim.factor!r}")
    # In one dimension all norms are the same; in more, the ellipsoid within the box says how far apart they can be.
    allowed = mp.mpf(1) if exact.dim == 1 else mp.mpf(2 * max(1.0, claim.half_width / claim.basin))
    ahead = _random_direction(exact.dim, rng)
    for direction in (ahead, [-e for e in ahead]):
        start = [c + mp.mpf(claim.basin) * mp.mpf("0.999999") * e for c, e in zip(root, direction, strict=True)]
        wrong += _simulated(theorem.rho, claim, exact, root, start, allowed)
    if exact.dim == 1:
        wrong += _simulated(theorem.rho, claim, exact, root, corner, allowed, most_steps=1)
    return wrong


def _simulated(
    rho: float, claim: Attracts, exact: Exact, root: Vector, x: Vector, allowed: Any, most_steps: int = _MOST_STEPS
) -> list[str]:
    """Run SAM: it has to come nearer, and may not go away first by more than norms allow."""
    first = norm(a - b for a, b in zip(x, root, strict=True))
    for n in range(1, most_steps + 1):
        step = exact.grad_plus(x, rho)
        x = [a - mp.mpf(claim.lr) * b for a, b in zip(x, step, strict=True)]
        apart = norm(a - b for a, b in zip(x, root, strict=True)) / first
        if apart > allowed * mp.mpf(claim.factor) ** n + ZERO:
            return [f"SAM from within {claim.basin!r} is {mp.nstr(apart, 4)} times as far away after {n} steps"]
        if apart < _FALL:
            break
    return []

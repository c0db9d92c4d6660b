"""Find hallucinated points: by the construction that proves that they exist, on spheres, and with SAM itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.equation import DENSE_DIM, Place, check_differentiable, check_gradient, check_point, check_rho
from samirage.points.find.evidence import HallucinatedPoint, evidence
from samirage.points.find.sphere import SphereSearch, sharpen, sphere_candidates
from samirage.points.find.superlevel import SuperlevelSearch, superlevel_candidate
from samirage.points.polish import polish
from samirage.sam.map import displacement, sam_map

Method = Literal["superlevel", "sphere", "sam"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

_RESIDUAL: Final = 1e-10  # ‖g⁺‖ of a point that is returned, at most
_SHIFT_RATIO: Final = 1e-6  # and ‖g⁺‖/‖g‖
_PROMISING: Final = 0.1  # shift ratio at the end of a SAM run from which polishing is tried
_STATIONARY: Final = 1e-6  # ‖g‖ at the target, relative to gradients at the distance rho from it
_RADII: Final = 16  # tried within a range
_SAME: Final = 1e-6  # distance of points that count as one, relative to rho


class HallucinatedPoints(list[HallucinatedPoint]):
    """A list of hallucinated points that also says, in `searched`, what was searched: of interest when it is empty."""

    def __init__(self, points: Sequence[HallucinatedPoint], searched: str) -> None:
        super().__init__(points)
        self.searched = searched

    def __repr__(self) -> str:
        return super().__repr__() if self else f"[]  # {self.searched}"


@dataclass(frozen=True)
class _Candidate:
    x: Tensor
    rho: float
    method: Method


def find_hallucinated(
    f: Smooth,
    target: Tensor | None = None,
    *,
    rho: float | None = None,
    rho_range: tuple[float, float] | None = None,
    methods: Sequence[Method] = METHODS,
    starts: int | Tensor = 64,
    lr: float | None = None,
    steps: int = 500,
    seed: int = 0,
) -> HallucinatedPoints:
    """Find points at which `g(x + rho·u(x)) = 0` although `g(x) ≠ 0`, and polish them to machine precision.

    Three methods, all of them by default:

    - `"superlevel"`: the construction of Theorem 2.2 (and 2.4) of arXiv 2509.21818, from every maximizer that `f`
      names. It shows that points exist; they are mostly repellers.
    - `"sphere"`: critical points of `f` on the sphere of radius `rho` about the target, with inward gradient. These are
      all the points that look at the target; its minima are where attractors come from.
    - `"sam"`: SAM itself, from many starts at once. It finds attractors, whatever they look at.

    What is not found may still exist: on a circle (two dimensions) the search is complete but for pairs of points
    within a thousandth of the circumference; in higher dimensions it is a sample.

    Args:
        f: The function: analytic, or an `Objective`.
        target: A stationary point (minimizer or saddle), shape (d,), that `x⁺` is to be. By default every minimizer
            and saddle that `f` names is tried, and SAM's points may look anywhere.
        rho: Perturbation radius, above 0; or:
        rho_range: Two radii, between which evenly spaced ones are tried.
        methods: Which methods to use.
        starts: Number of starts on the sphere and of SAM; or SAM's starts themselves, shape (n, d).
        lr: SAM's learning rate at first, above 0; it falls tenfold over the run. By default half the inverse of the
            largest curvature at the target.
        steps: SAM's steps, at least 1.
        seed: Seed of the random starts.

    Returns:
        The distinct points, all with `‖g⁺‖ < 1e-10`, those that attract SAM first; an empty list, whose `searched` says
        what was tried, when there are none.

    Raises:
        ValueError: If an argument is out of its range, `f` is not finite or not deterministic, the target is not
            stationary, or `f` has a kink there or at a point that was found.

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> f = DoubleWell()
        >>> points = find_hallucinated(f, f.minimizers[0], rho=1.5)
        >>> print(points[0])
        hallucinated minimizer at rho = 1.5: ‖g‖ = 0.374, f = 0.15, f⁺ = -0.0143; attracts SAM for lr < 0.51
        >>> find_hallucinated(f, f.minimizers[0], rho=3.0)
        []  # no hallucinated point found at rho = 3: 1 sphere, and SAM from 64 starts for 500 steps, lr from 0.2...
    """
    radii = _radii(rho, rho_range)
    unknown = sorted(set(methods) - set(METHODS))
    if unknown or not methods:
        raise ValueError(f"methods must be some of {', '.join(METHODS)}; got {list(methods)!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1; got {steps!r}")
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a finite number above 0; got {lr!r}")
    known = [*getattr(f, "minimizers", []), *getattr(f, "saddles", [])]
    targets = [_checked_target(f, target, radii)] if target is not None else [t.double() for t in known]
    given_starts = None if isinstance(starts, int) else _checked_starts(f, starts)
    count = starts if isinstance(starts, int) else len(starts)
    if count < 1:
        raise ValueError(f"starts must be at least 1, or points of shape (n, {f.dim}); got {starts!r}")
    if "sam" in methods and given_starts is None and not targets:
        raise ValueError("f names no stationary points: give a target, or starts of shape (n, d) for SAM")

    candidates: list[_Candidate] = []
    searched = []
    maximizers = [m.double() for m in getattr(f, "maximizers", [])]
    if "superlevel" in methods and maximizers:
        searched.append(f"the superlevel sets of {_count(len(maximizers), 'maximizer')}")
        for radius in radii:
            candidates += _on_superlevel_sets(f, targets, maximizers, radius, seed)
    if "sphere" in methods and targets:
        searched.append(_count(len(targets) * len(radii), "sphere"))
        search = SphereSearch(starts=count, seed=seed)
        for radius in radii:
            for centre in targets:
                candidates += [_Candidate(x, radius, "sphere") for x in sphere_candidates(f, centre, radius, search)]
    if "sam" in methods:
        first = given_starts[0] if given_starts is not None else targets[0]
        rate = _default_lr(f, first) if lr is None else lr
        searched.append(f"SAM from {_count(count, 'start')} for {steps} steps, lr from {rate:.3g}")
        for radius in radii:
            begin = _random_starts(targets, radius, count, seed) if given_starts is None else given_starts
            candidates += _by_sam(f, begin, radius, rate, steps)

    points = _distinct(f, candidates, targets if target is not None else None)
    span = f"rho = {radii[0]:g}" if len(radii) == 1 else f"{len(radii)} radii from {radii[0]:g} to {radii[-1]:g}"
    verdict = f"{len(points) or 'no'} hallucinated point{'s' * (len(points) > 1)} found at {span}"
    return HallucinatedPoints(points, f"{verdict}: {', and '.join(searched) or 'nothing to search from'}")


def _radii(rho: float | None, rho_range: tuple[float, float] | None) -> list[float]:
    if (rho is None) == (rho_range is None):
        raise ValueError("give either rho=… or rho_range=(low, high)")
    if rho_range is None:
        assert rho is not None
        return [check_rho(rho)]
    low, high = map(check_rho, rho_range)
    if not low < high:
        raise ValueError(f"rho_range must hold two radii, the smaller first; got {rho_range!r}")
    return [low + (high - low) * i / (_RADII - 1) for i in range(_RADII)]


def _checked_target(f: Smooth, target: Tensor, radii: Sequence[float]) -> Tensor:
    """Return the target, moved by Newton's method onto the stationary point that it is near to machine precision.

    Raises:
        ValueError: If it is not stationary.
    """
    x = check_point(f, target, "target")
    _, grad = check_gradient(f, x, "target")
    generator = torch.Generator().manual_seed(0)
    around = torch.randn(8, f.dim, generator=generator, dtype=torch.float64).to(x.device)
    usual = float(f.grad(x + radii[0] * around / around.norm(dim=1, keepdim=True)).norm(dim=1).median())
    size = float(grad.norm())
    if size > _STATIONARY * usual:
        raise ValueError(
            f"target must be a stationary point of f: ‖g‖ is {size:.1e} there, and about {usual:.1e} at the distance "
            "rho from it; minimize further, or name another point"
        )
    check_differentiable(f, [Place("target", x, grad, f.linearize(x).hvp)], radius=radii[0], scale=usual)
    if f.dim > DENSE_DIM or size == 0:
        return x
    refined: Tensor = x - torch.linalg.lstsq(f.hessian(x), grad[:, None], rcond=1e-8, driver="gelsd").solution[:, 0]
    return refined if float(f.grad(refined).norm()) < size else x


def _checked_starts(f: Smooth, starts: Tensor) -> Tensor:
    if not isinstance(starts, Tensor) or starts.dim() != 2 or starts.shape[1] != f.dim or not len(starts):
        given = f"shape {tuple(starts.shape)}" if isinstance(starts, Tensor) else repr(starts)
        raise ValueError(f"starts must be at least 1, or points of shape (n, {f.dim}); got {given}")
    return starts.detach().double()


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n > 1)}"


def _on_superlevel_sets(
    f: Smooth, targets: Sequence[Tensor], maximizers: Sequence[Tensor], rho: float, seed: int
) -> list[_Candidate]:
    found = []
    for centre in targets:
        for maximizer in maximizers:
            x = superlevel_candidate(f, centre, maximizer, rho, SuperlevelSearch(seed=seed))
            if x is not None:
                sharp = sharpen(f, centre, rho, x[None]) if f.dim <= DENSE_DIM else x[None]
                found += [_Candidate(point, rho, "superlevel") for point in sharp]
    return found


def _default_lr(f: Smooth, x: Tensor) -> float:
    """Half the inverse of the largest curvature at a point, by power iteration."""
    hvp = f.linearize(x).hvp
    v = torch.randn(f.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x.device)
    curvature = 0.0
    for _ in range(20):
        v = hvp(v / v.norm())
        curvature = float(v.norm())
        if curvature == 0:
            break
    return 0.5 / curvature if curvature > 0 else 0.1


def _random_starts(targets: Sequence[Tensor], rho: float, count: int, seed: int) -> Tensor:
    """Points within the distance 2·rho of the targets, their distances evenly spread."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.stack([targets[i % len(targets)] for i in range(count)])
    directions = torch.randn(centres.shape, generator=generator, dtype=torch.float64).to(centres.device)
    distances = 2 * rho * (torch.arange(count, dtype=torch.float64, device=centres.device) + 0.5)[:, None] / count
    starts: Tensor = centres + distances * directions / directions.norm(dim=1, keepdim=True)
    return starts


def _by_sam(f: Smooth, x: Tensor, rho: float, lr: float, steps: int) -> list[_Candidate]:
    for step in range(steps):
        # The learning rate falls tenfold over the run: attractors that only hold small steps are found too.
        x = sam_map(f.grad, x, rho=rho, lr=lr * 10 ** (-step / steps))
    x = x[x.isfinite().all(1)]
    if not len(x):
        return []
    grad = f.grad(x)
    ratio = f.grad(x + displacement(x, grad, rho)).norm(dim=1) / grad.norm(dim=1)
    ends: list[Tensor] = []
    for point in x[ratio < _PROMISING]:
        if all(float((point - other).norm()) > 1e-4 * rho for other in ends):
            ends.append(point)
    return [_Candidate(point, rho, "sam") for point in ends]


def _distinct(f: Smooth, candidates: Sequence[_Candidate], targets: Sequence[Tensor] | None) -> list[HallucinatedPoint]:
    found: list[tuple[_Candidate, list[Method]]] = []
    for candidate in candidates:
        near = next((entry for entry in found if _same(entry[0], candidate)), None)
        if near is None:
            x = polish(f, candidate.x, candidate.rho).x
            polished = _Candidate(x, candidate.rho, candidate.method)
            if not _is_hallucinated(f, polished, targets):
                continue
            near = next((entry for entry in found if _same(entry[0], polished)), None)
            if near is None:
                found.append((polished, [candidate.method]))
                continue
        if candidate.method not in near[1]:
            near[1].append(candidate.method)
    points = [evidence(f, c.x, c.rho, found_by=tuple(methods)) for c, methods in found]
    return sorted(points, key=lambda p: (p.rho, p.attracts is not True, not p.kind.value.endswith("minimizer")))


def _same(a: _Candidate, b: _Candidate) -> bool:
    return a.rho == b.rho and float((a.x - b.x).norm()) <= _SAME * a.rho


def _is_hallucinated(f: Smooth, candidate: _Candidate, targets: Sequence[Tensor] | None) -> bool:
    grad = f.grad(candidate.x)
    plus = candidate.x + displacement(candidate.x, grad, candidate.rho)
    residual, size = float(f.grad(plus).norm()), float(grad.norm())
    if not (residual < _RESIDUAL and residual < _SHIFT_RATIO * size):
        return False
    places = []
    for point, name in ((candidate.x, "a point that was found"), (plus, "the perturbed point of one that was found")):
        here = f.linearize(point)
        places.append(Place(name, point, here.grad, here.hvp))
    check_differentiable(f, places, radius=candidate.rho, scale=size)
    return targets is None or any(float((plus - t).norm()) <= _SAME * candidate.rho for t in targets)

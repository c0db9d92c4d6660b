"""Periodic orbits of the SAM map: what "bouncing" is, exactly.

An orbit of period p is a zero of one system over all its p points, `T(x_i) = x_{i+1}`, `T(x_p) = x_1`, solved by
Newton's method, so that unstable orbits are found as well as stable ones. The eigenvalues of `DT(x_p)⋯DT(x_1)` are its
multipliers: it attracts if they all lie within the unit circle.

Along an eigenvector of curvature `λ` at a stationary point, a quadratic has the 2-cycle with the half-width
`R = |lr·rho·λ/(2 − lr·λ)|` (Long and Bartlett, arXiv 2309.12488, for the steepest direction of a minimum); here these
are the first guesses.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.certificates.zero_modes import follow, matrix_modes
from samirage.points.equation import DENSE_DIM, Equation, check_gradient, check_point, check_rho, dense_update
from samirage.sam.map import VectorMap, sam_map

_NEWTON_STEPS: Final = 60
_EXACT: Final = 1e-12  # residual relative to the size of the orbit
_SAME: Final = 1e-7
_NEUTRAL: Final = 1e-6  # multipliers so near to 1 belong to a family of orbits, and neither attract nor repel


@dataclass(frozen=True, eq=False)
class Orbit:
    """A periodic orbit of the SAM map.

    Attributes:
        x: Its points in order, shape (p, d).
        multipliers: Eigenvalues of the derivative of p steps, shape (d,), complex, the largest first.
        residual: Largest `‖T(x_i) − x_{i+1}‖`.
        stable: Whether all multipliers lie within the unit circle, but for those that are 1 along a family of orbits;
            None where one is 1 and there is no family, so that higher derivatives decide.
    """

    x: Tensor
    multipliers: Tensor
    residual: float
    stable: bool | None

    @property
    def period(self) -> int:
        """Number of points."""
        return len(self.x)

    def __str__(self) -> str:
        size = float((self.x - self.x.mean(0)).norm(dim=1).max())
        kind = {True: "stable", False: "unstable", None: "undecided"}[self.stable]
        largest = float(self.multipliers[0].abs())
        return f"{kind} orbit of period {self.period}, radius {size:.4g}, |multiplier| {largest:.4g}"


def find_orbits(
    f: Smooth, centre: Tensor, *, rho: float, lr: float, max_period: int = 8, starts: int = 8, steps: int = 2000
) -> list[Orbit]:
    """Find periodic orbits near a point: 2-cycles along its axes of curvature, and what SAM settles to from around it.

    Args:
        f: The function, of at most `DENSE_DIM` coordinates.
        centre: A minimum, saddle, maximum or hallucinated point, shape (d,).
        rho: Perturbation radius, above 0.
        lr: Learning rate, above 0.
        max_period: Longest period to look for in SAM's runs, at least 2.
        starts: Number of SAM runs, from near to the centre to a distance of `rho`.
        steps: Length of these runs.

    Returns:
        Distinct orbits of period 2 and more, stable ones first; fixed points are `find_hallucinated`'s.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from samirage.landscape import Quadratic
        >>> f = Quadratic([4.0, 1.0])  # R = 0.1·0.5·4/(2 − 0.4) = 0.125
        >>> for orbit in find_orbits(f, torch.zeros(2), rho=0.5, lr=0.1):
        ...     print(orbit)
        stable orbit of period 2, radius 0.125, |multiplier| 0.64
        unstable orbit of period 2, radius 0.02632, |multiplier| 888
    """
    rho = check_rho(rho)
    if not lr > 0:
        raise ValueError(f"lr must be above 0; got {lr!r}")
    if max_period < 2:
        raise ValueError(f"max_period must be at least 2; got {max_period!r}")
    centre = check_point(f, centre, "centre")
    check_gradient(f, centre, "centre")
    if f.dim > DENSE_DIM:
        raise ValueError(f"orbits are computed in at most {DENSE_DIM} coordinates; got {f.dim}")
    guesses = [*_axes(f, centre, rho, lr), *_runs(f, centre, rho, lr, max_period, starts, steps)]
    found: list[Orbit] = []
    for guess in guesses:
        orbit = polish_orbit(f, guess, rho=rho, lr=lr)
        if orbit is not None and orbit.period > 1 and not any(_same(orbit, other) for other in found):
            found.append(orbit)
    return sorted(found, key=lambda o: (not o.stable, o.period, -float(o.multipliers[0].abs()) * bool(o.stable)))


def polish_orbit(f: Smooth, points: Tensor, *, rho: float, lr: float) -> Orbit | None:
    """Solve for the periodic orbit near a list of points, by Newton's method on all of them together.

    Args:
        f: The function.
        points: About the points of the orbit, in order, shape (p, d), float64.
        rho: Perturbation radius.
        lr: Learning rate.

    Returns:
        The orbit, with its smallest period; None where Newton's method does not converge.

    Example:
        >>> from samirage.landscape import Quadratic
        >>> guess = torch.tensor([[0.1, 0.0], [-0.1, 0.0]], dtype=torch.float64)
        >>> polish_orbit(Quadratic([4.0, 1.0]), guess, rho=0.5, lr=0.1).x[:, 0]
        tensor([ 0.1250, -0.1250], dtype=torch.float64)
    """
    x = points
    residual = _error(f, x, rho, lr)
    for _ in range(_NEWTON_STEPS):
        size = float(residual.norm())
        matrix = _derivative(f, x, rho, lr)
        if not bool(matrix.isfinite().all()):
            return None
        step = torch.linalg.lstsq(matrix, residual.reshape(-1, 1), rcond=1e-11, driver="gelsd").solution.view_as(x)
        length = 1.0
        while length > 1e-6 and not float(_error(f, x - length * step, rho, lr).norm()) < size:
            length /= 2
        if length <= 1e-6:
            break
        x = x - length * step
        residual = _error(f, x, rho, lr)
    if not float(residual.norm()) < _EXACT * (1 + float(x.norm())):
        return None
    return _described(f, _shortest(x), rho, lr)


def _error(f: Smooth, x: Tensor, rho: float, lr: float) -> Tensor:
    """By how much every point of orbits, shape (…, p, d), misses the next."""
    return sam_map(f.grad, x, rho=rho, lr=lr) - x.roll(-1, -2)


def _derivative(f: Smooth, x: Tensor, rho: float, lr: float) -> Tensor:
    """Derivative of the errors by the points of one orbit, shape (p·d, p·d)."""
    p, d = x.shape
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    matrix = torch.zeros(p, d, p, d, dtype=x.dtype, device=x.device)
    for i, point in enumerate(x):
        matrix[i, :, i, :] += identity - lr * dense_update(f, point, rho)
        matrix[i, :, (i + 1) % p, :] -= identity
    return matrix.reshape(p * d, p * d)


def _is_family(f: Smooth, x: Tensor, rho: float, lr: float, neutral: int) -> bool:
    """Tell whether as many families of orbits as there are neutral multipliers pass through an orbit."""
    shape = x.shape

    def linearized(flat: Tensor) -> tuple[VectorMap, VectorMap]:
        matrix = _derivative(f, flat.view(shape), rho, lr)
        return matrix.mv, matrix.mT.mv

    return follow(
        Equation(lambda rows: _error(f, rows.view(-1, *shape), rho, lr).flatten(1), linearized),
        x.flatten(),
        matrix_modes(_derivative(f, x, rho, lr), _NEUTRAL),
        length=float((x - x.mean(0)).norm(dim=1).max()),
        tolerance=_NEUTRAL,
        multiplicity=neutral,
    ).stays


def _described(f: Smooth, x: Tensor, rho: float, lr: float) -> Orbit:
    product = torch.eye(f.dim, dtype=x.dtype, device=x.device)
    for point in x:
        product = product - lr * dense_update(f, point, rho) @ product
    multipliers = torch.linalg.eigvals(product)
    multipliers = multipliers[multipliers.abs().argsort(descending=True)]
    counted = multipliers[(multipliers - 1).abs() > _NEUTRAL]
    stable: bool | None = bool((counted.abs() < 1).all())
    if stable and len(counted) < len(multipliers):
        stable = _is_family(f, x, rho, lr, len(multipliers) - len(counted)) or None
    residual = float(_error(f, x, rho, lr).norm(dim=1).max())
    return Orbit(x, multipliers, residual, stable)


def _shortest(x: Tensor) -> Tensor:
    """The orbit run through once."""
    scale = _SAME * (1 + float(x.norm()))
    for period in range(1, len(x)):
        if len(x) % period == 0 and float((x - x.roll(-period, 0)).norm()) < scale:
            return x[:period]
    return x


def _axes(f: Smooth, centre: Tensor, rho: float, lr: float) -> Iterator[Tensor]:
    curvatures, axes = torch.linalg.eigh(f.hessian(centre))
    for curvature, axis in zip(curvatures.tolist(), axes.mT, strict=True):
        if curvature != 0 and lr * curvature != 2:
            away = abs(lr * rho * curvature / (2 - lr * curvature)) * axis
            yield torch.stack([centre + away, centre - away])


def _runs(
    f: Smooth, centre: Tensor, rho: float, lr: float, max_period: int, starts: int, steps: int
) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(starts, f.dim, generator=generator, dtype=torch.float64).to(centre.device)
    distances = rho * torch.logspace(-3, 0, starts, dtype=torch.float64, device=centre.device)[:, None]
    x = centre + distances * directions / directions.norm(dim=1, keepdim=True)
    for _ in range(steps):
        x = sam_map(f.grad, x, rho=rho, lr=lr)
    course = [x]
    for _ in range(max_period):
        course.append(sam_map(f.grad, course[-1], rho=rho, lr=lr))
    path = torch.stack(course, 1)
    seen: list[Tensor] = []
    for run in path[path.isfinite().flatten(1).all(1)]:
        if any(float((run - other).norm(dim=1).min()) < 1e-9 for other in seen):
            continue
        seen.append(run[:1])
        span = float((run - run[0]).norm(dim=1).max())
        back = (run[1:] - run[0]).norm(dim=1)
        period = int((back < 1e-2 * span).to(torch.int8).argmax()) + 1
        if span > 0 and float(back[period - 1]) < 1e-2 * span:
            yield run[:period]


def _same(a: Orbit, b: Orbit) -> bool:
    scale = 1e-6 * (1 + float(a.x.norm()))
    return a.period == b.period and any(float((a.x - b.x.roll(k, 0)).norm()) < scale for k in range(a.period))

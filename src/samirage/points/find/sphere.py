"""Critical points of `f` on the sphere of radius `rho` about a stationary point, at which the gradient points inward.

These are exactly the hallucinated points that look at the centre: `x⁺ = x + rho·u(x)` is the centre. With the
multiplier `λ` they solve

`g(x) + λ·(x − centre) = 0`, `‖x − centre‖ = rho`, `λ > 0`,

and `λ = ‖g‖/rho`. The Hessian of `f` on the sphere is `P(H + λI)P = λ·A` on the tangent space: at a strict minimum on
the sphere all eigenvalues of `A` are positive, which is where SAM's attractors come from; the points of Theorem 2.2 of
Park, Jang, Ryu and Yang (arXiv 2509.21818) are maxima.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.equation import DENSE_DIM

SphereKind = Literal["minimum", "saddle", "maximum", "degenerate"]

_ANGLES: Final = 2048  # of the scan of a circle
_BISECTIONS: Final = 60
_NEWTON_STEPS: Final = 30
_FLAT: Final = 1e-9  # curvatures on the sphere below this part of the largest count as 0


@dataclass(frozen=True)
class SphereSearch:
    """How hard to look on a sphere.

    Attributes:
        starts: Number of random points on the sphere to start from.
        descent_steps: Steps of descent (and as many of ascent) before Newton's method takes over.
        seed: Seed of the random points.
    """

    starts: int = 64
    descent_steps: int = 200
    seed: int = 0


def sphere_candidates(f: Smooth, centre: Tensor, rho: float, search: SphereSearch) -> Tensor:
    """Return critical points of `f` on a sphere with inward gradient, minima first; duplicates among them.

    In one dimension the sphere is two points; a circle is scanned; from three dimensions on, random points descend,
    others ascend, and Newton's method sharpens both and the random points themselves, for the saddles. In more than
    `DENSE_DIM` dimensions only descent is tried, and the points that it gives are as good as descent makes them.

    Args:
        f: The function.
        centre: A stationary point, shape (d,), float64.
        rho: Radius of the sphere.
        search: How hard to look.

    Returns:
        Shape (n, d).

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> f = DoubleWell()
        >>> sphere_candidates(f, f.minimizers[0], 1.5, SphereSearch())
        tensor([[ 0.4709, -0.0222]], dtype=torch.float64)
    """
    if f.dim == 1:
        points = centre + rho * torch.tensor([[1.0], [-1.0]], dtype=centre.dtype, device=centre.device)
        return points[_inward(f, points, centre)]
    if f.dim == 2:
        points = _scan_circle(f, centre, rho)
        return points[_inward(f, points, centre)]
    generator = torch.Generator().manual_seed(search.seed)
    directions = torch.randn(search.starts, f.dim, generator=generator, dtype=torch.float64).to(centre.device)
    starts = centre + rho * directions / directions.norm(dim=1, keepdim=True)
    low = _descend(f, centre, rho, starts, search.descent_steps, sign=1.0)
    if f.dim > DENSE_DIM:
        return low[_inward(f, low, centre)]
    high = _descend(f, centre, rho, starts, search.descent_steps, sign=-1.0)
    points = sharpen(f, centre, rho, torch.cat([low, high, starts]))
    return points[_inward(f, points, centre)]


def sharpen(f: Smooth, centre: Tensor, rho: float, points: Tensor) -> Tensor:
    """Return those points that Newton's method on `(x, λ)` takes to critical points of `f` on the sphere.

    Args:
        f: The function; its Hessians are formed.
        centre: Centre of the sphere, shape (d,).
        rho: Radius.
        points: Where to start, shape (n, d), on the sphere.

    Returns:
        Shape (at most n, d).
    """
    x = points
    if not len(x):
        return x
    grad = f.grad(x)
    multiplier = -((x - centre) * grad).sum(1) / rho**2
    identity = torch.eye(f.dim, dtype=x.dtype, device=x.device)
    for _ in range(_NEWTON_STEPS):
        away = x - centre
        first = grad + multiplier[:, None] * away
        second = (away.square().sum(1) - rho**2) / 2
        matrix = torch.zeros(len(x), f.dim + 1, f.dim + 1, dtype=x.dtype, device=x.device)
        matrix[:, :-1, :-1] = f.hessian(x) + multiplier[:, None, None] * identity
        matrix[:, :-1, -1] = matrix[:, -1, :-1] = away
        step, *_ = torch.linalg.solve_ex(matrix, -torch.cat([first, second[:, None]], 1))
        # A step across the whole sphere leaves the region in which the linear model means anything.
        length = step[:, :-1].norm(dim=1, keepdim=True)
        step = torch.where(step.isfinite().all(1, keepdim=True), step, torch.zeros_like(step))
        step = step * (0.5 * rho / length.clamp(min=0.5 * rho))
        x, multiplier = x + step[:, :-1], multiplier + step[:, -1]
        grad = f.grad(x)
    away = x - centre
    error = (grad + multiplier[:, None] * away).norm(dim=1)
    on_sphere = (away.norm(dim=1) - rho).abs() < 1e-9 * rho
    return x[on_sphere & (error < 1e-9 * (1 + grad.norm(dim=1)))]


def sphere_curvatures(grad: Tensor, hessian: Tensor, rho: float) -> Tensor:
    """Return the eigenvalues of the Hessian of `f` on the sphere, at a critical point with inward gradient.

    They are `(‖g‖/rho)·a_i`, with `a_i` the eigenvalues of `A` on the tangent space: `a_i < 0` where the centre lies
    beyond the i-th centre of curvature of the level set.

    Args:
        grad: `g` there, shape (d,), not 0.
        hessian: `H` there, shape (d, d).
        rho: Radius of the sphere.

    Returns:
        Shape (d − 1,), ascending.

    Example:
        >>> sphere_curvatures(torch.tensor([1.0, 0.0]), -4 * torch.eye(2), rho=0.5)
        tensor([-2.])
    """
    size = grad.norm()
    frame = torch.cat([(grad / size)[:, None], torch.eye(len(grad), dtype=grad.dtype, device=grad.device)], 1)
    tangent = torch.linalg.qr(frame).Q[:, 1:]
    curvatures: Tensor = torch.linalg.eigvalsh(tangent.mT @ hessian @ tangent) + size / rho
    return curvatures


def sphere_kind(curvatures: Tensor) -> SphereKind:
    """Tell what `f`, restricted to the sphere, has at a critical point with these curvatures.

    Args:
        curvatures: Eigenvalues of the Hessian on the sphere, shape (d − 1,).

    Returns:
        `"degenerate"` where a curvature vanishes, as along a manifold of critical points. In one dimension the sphere
        is two points without a tangent, and each counts as a minimum.

    Example:
        >>> sphere_kind(torch.tensor([-2.0, -1.0])), sphere_kind(torch.tensor([-2.0, 1.0]))
        ('maximum', 'saddle')
    """
    if not len(curvatures):
        return "minimum"
    size = curvatures.abs()
    if float(size.min()) <= _FLAT * float(size.max()):
        return "degenerate"
    positive = int((curvatures > 0).sum())
    return "minimum" if positive == len(curvatures) else "maximum" if positive == 0 else "saddle"


def _inward(f: Smooth, points: Tensor, centre: Tensor) -> Tensor:
    if not len(points):
        return torch.zeros(0, dtype=torch.bool, device=points.device)
    away = points - centre
    grad = f.grad(points)
    # At a critical point all of the gradient is radial; a sign that rounding decides is none.
    slope = (away * grad).sum(-1) / away.norm(dim=-1)
    inward: Tensor = slope < -1e-10 * (grad.norm(dim=-1) + torch.finfo(grad.dtype).eps)
    return inward


def _scan_circle(f: Smooth, centre: Tensor, rho: float) -> Tensor:
    """Every angle at which the slope along the circle changes sign, minima first, to the last bit."""

    def frame(angle: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)

    def slope(angle: Tensor) -> Tensor:
        radial, tangent = frame(angle)
        along: Tensor = (f.grad(centre + rho * radial) * tangent).sum(1)
        return along

    # An offset, so that critical points on the axes do not fall onto the grid, where a sign can be 0.
    steps = torch.arange(_ANGLES + 1, dtype=torch.float64, device=centre.device)
    grid = (steps + 0.0625) * (2 * math.pi / _ANGLES)
    slopes = slope(grid)
    rising = (slopes[:-1] < 0) & (slopes[1:] > 0)
    falling = (slopes[:-1] > 0) & (slopes[1:] < 0)
    found = []
    for crossing, sign in ((rising, 1.0), (falling, -1.0)):
        low, high = grid[:-1][crossing], grid[1:][crossing]
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            before = sign * slope(middle) < 0 if len(middle) else middle > 0
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        found.append(centre + rho * frame((low + high) / 2)[0])
    return torch.cat(found)


def _descend(f: Smooth, centre: Tensor, rho: float, points: Tensor, steps: int, *, sign: float) -> Tensor:
    """Gradient descent of `sign·f` on the sphere, each point with a step length of its own that adapts."""
    x = points
    value, grad = f.value_and_grad(x)
    length = torch.full((len(x), 1), 0.1 * rho, dtype=x.dtype, device=x.device)
    for _ in range(steps):
        normal = (x - centre) / rho
        tangent = sign * (grad - normal * (normal * grad).sum(1, keepdim=True))
        slope = tangent.norm(dim=1, keepdim=True)
        move = normal - (length / rho) * tangent / slope.clamp(min=torch.finfo(x.dtype).tiny)
        trial = centre + rho * move / move.norm(dim=1, keepdim=True)
        trial_value, trial_grad = f.value_and_grad(trial)
        better = (sign * trial_value <= sign * value - 1e-4 * (length * slope)[:, 0])[:, None]
        x = torch.where(better, trial, x)
        grad = torch.where(better, trial_grad, grad)
        value = torch.where(better[:, 0], trial_value, value)
        length = torch.where(better, length * 1.5, length / 2).clamp(max=rho)
    return x

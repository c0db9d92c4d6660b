"""The equation of hallucinated points, `g(x + rho·u(x)) = 0` where `g(x) ≠ 0`, and what is checked before it is solved.

All of `samirage.points` works in float64, on any `samirage.landscape.Smooth`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth, sam_jacobian
from samirage.sam import AbstractVariant, Variant
from samirage.sam.map import Jacobian, VectorMap, displacement, update_vector

DENSE_DIM: Final = 300
"""Number of coordinates up to which methods form Hessians again and again; beyond, they use products with vectors."""

SPECTRUM_DIM: Final = 500
"""The same for a certificate, which forms them only once, for all eigenvalues."""

_KINK: Final = 0.02  # relative difference between a Hessian product and the difference quotient of the gradient
_NOISE: Final = 50  # rounding units of the gradient that its difference quotient may be off
_REPEATS: Final = 1000  # rounding units by which two evaluations may differ, where sums are reordered


@dataclass(frozen=True)
class Equation:
    """An equation `F(z) = 0` in as many unknowns.

    Attributes:
        residual: Maps points, shape (n, d), to `F`, of that shape.
        linearized: Maps one point, shape (d,), to the products with the derivative of `F` there and its transpose.
    """

    residual: VectorMap
    linearized: Callable[[Tensor], tuple[VectorMap, VectorMap]]


def check_rho(rho: float) -> float:
    """Return the radius as a float.

    Args:
        rho: Perturbation radius.

    Raises:
        ValueError: If it is not a finite number above 0.

    Example:
        >>> check_rho(1.5)
        1.5
    """
    if isinstance(rho, bool) or not isinstance(rho, int | float) or not (math.isfinite(rho) and rho > 0):
        raise ValueError(f"rho must be a finite number above 0, for SAM looks nowhere at 0; got {rho!r}")
    return float(rho)


def check_point(f: Smooth, x: Tensor, name: str = "x", *, keep_dtype: bool = False) -> Tensor:
    """Return the point, detached.

    Args:
        f: The function.
        x: The point, shape (d,).
        name: What to call it in an error.
        keep_dtype: Whether to compute in the dtype of `x`, float32 or float64, in place of float64.

    Raises:
        TypeError: If the dtype is to be kept and is another.
        ValueError: If it has not the shape (d,), or holds values that are not finite.
    """
    if keep_dtype and (not isinstance(x, Tensor) or x.dtype not in {torch.float32, torch.float64}):
        given = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a float32 or float64 tensor; got {given}")
    point = x.detach() if keep_dtype else torch.as_tensor(x).detach().to(torch.float64)
    if point.shape != (f.dim,):
        raise ValueError(f"{name} must be one point of shape ({f.dim},); got shape {tuple(point.shape)}")
    if not bool(point.isfinite().all()):
        raise ValueError(f"{name} must hold finite numbers only; got {int((~point.isfinite()).sum())} that are not")
    return point


def check_gradient(f: Smooth, x: Tensor, name: str = "x") -> tuple[Tensor, Tensor]:
    """Return value and gradient at a point, after making sure that they are finite, and the same when asked again.

    Args:
        f: The function.
        x: The point, shape (d,).
        name: What to call it in an error.

    Raises:
        ValueError: If they are not finite, or a second evaluation differs by more than sums in another order do.
    """
    value, grad = f.value_and_grad(x)
    if not bool(value.isfinite() & grad.isfinite().all()):
        raise ValueError(f"f or its gradient is not finite at {name}: choose another point or a smaller rho")
    apart = float(torch.linalg.vector_norm(f.grad(x) - grad))
    if apart > _REPEATS * torch.finfo(x.dtype).eps * float(torch.linalg.vector_norm(grad)):
        raise ValueError(
            f"f is not deterministic: two gradients at {name} differ by {apart:.1e}; take out dropout, random "
            "augmentation and the like"
        )
    return value, grad


@dataclass(frozen=True)
class Place:
    """A point, with the gradient linearized there.

    Attributes:
        name: What to call it in an error.
        x: The point, shape (d,).
        grad: `g` there, shape (d,).
        hvp: Maps `v` to `H(x)·v`.
    """

    name: str
    x: Tensor
    grad: Tensor
    hvp: VectorMap


def check_differentiable(f: Smooth, places: Sequence[Place], *, radius: float, scale: float, seed: int = 0) -> None:
    """Compare Hessian products with difference quotients, which see kinks nearby that derivatives do not.

    Kinks that lie further than about 1e-5 of the radius away, or only touch directions that are not tried, are not
    seen.

    Args:
        f: The function.
        places: The points; at each one direction is tried, neither along the gradient nor at right angles to it.
        radius: The length on which `f` is looked at.
        scale: Size of gradients, whose rounding counts as noise; at least that of those near the point is taken.
        seed: Seed of the directions.

    Raises:
        ValueError: If they differ.
    """
    random = torch.randn(f.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rounding = torch.finfo(places[0].x.dtype).eps
    step = rounding ** (1 / 3) * radius
    directions = []
    for place in places:
        v, size = random.to(place.x), torch.linalg.vector_norm(place.grad)
        along = place.grad / size if size > 0 else torch.zeros_like(v)
        v = v / torch.linalg.vector_norm(v) + torch.where(torch.dot(v, along) < 0, -along, along)  # never cancels
        directions.append(v / torch.linalg.vector_norm(v))
    around = f.grad(torch.stack([p.x + s * v for p, v in zip(places, directions, strict=True) for s in (step, -step)]))
    for place, v, (ahead, behind) in zip(places, directions, around.view(len(places), 2, -1), strict=True):
        quotient, product = (ahead - behind) / (2 * step), place.hvp(v)
        vectors = torch.stack([quotient - product, quotient, product, ahead, behind])
        apart, *curved, one, other = torch.linalg.vector_norm(vectors, dim=1).tolist()
        if not apart <= _KINK * max(curved) + _NOISE * rounding * max(scale, one, other) / step:
            raise ValueError(
                f"f is not twice differentiable near {place.name}, as far as differences of its gradient show: it has "
                "a kink (a ReLU, an absolute value, a maximum) or breaks the graph of its derivatives; use a smooth "
                "function such as tanh"
            )


def jacobian(f: Smooth, x: Tensor, rho: float) -> tuple[Jacobian, Tensor]:
    """Return the SAM map linearized at a point, and `g⁺` there.

    Args:
        f: The function.
        x: The point, shape (d,), with a gradient that is not 0.
        rho: Perturbation radius.
    """
    here = f.linearize(x)
    there = f.linearize(x + displacement(x, here.grad, rho))
    return Jacobian(x, here.grad, here.hvp, there.hvp, rho), there.grad


def stationary(f: Smooth, slope: Tensor | float = 0.0) -> Equation:
    """Return the equation of critical points, `g(x) = slope`.

    Args:
        f: The function.
        slope: What the gradient is to be, shape (d,): 0 but with weight decay.
    """

    def linearized(x: Tensor) -> tuple[VectorMap, VectorMap]:
        hvp = f.linearize(x).hvp
        return hvp, hvp

    return Equation(lambda x: f.grad(x) - slope, linearized)


def at_rest(
    f: Smooth, rho: float, *, variant: Variant | AbstractVariant = "sam", weight_decay: float = 0.0
) -> Equation:
    """Return the equation of points at which SAM rests, `d(x) = g(x + e(x)) + weight_decay·x = 0`.

    Args:
        f: The function.
        rho: Perturbation radius.
        variant: A name, or an object whose steps are a map; see `samirage.sam.sam_map`.
        weight_decay: Coefficient of the coupled weight decay.
    """

    def linearized(x: Tensor) -> tuple[VectorMap, VectorMap]:
        m = sam_jacobian(f, x, rho=rho, variant=variant, weight_decay=weight_decay)
        return m.update, m.update_transpose

    return Equation(lambda x: update_vector(f.grad, x, rho=rho, variant=variant, weight_decay=weight_decay), linearized)


def dense_update(f: Smooth, x: Tensor, rho: float) -> Tensor:
    """Return `M = H⁺·A`, the derivative of `g(x + rho·u(x))`, as a matrix.

    Args:
        f: The function.
        x: The point, shape (d,), with a gradient that is not 0.
        rho: Perturbation radius.

    Returns:
        Shape (d, d); not symmetric.
    """
    grad = f.grad(x)
    return f.hessian(x + displacement(x, grad, rho)) @ dense_perturbed(grad, f.hessian(x), rho)


def dense_perturbed(grad: Tensor, hessian: Tensor, rho: float) -> Tensor:
    """Return `A = I + (rho/‖g‖)·P·H`, the derivative of `x⁺`, as a matrix.

    Args:
        grad: `g`, shape (…, d), not 0.
        hessian: `H`, shape (…, d, d).
        rho: Perturbation radius.

    Example:
        >>> dense_perturbed(torch.tensor([2.0, 0.0]), 4 * torch.eye(2), rho=1.0)
        tensor([[1., 0.],
                [0., 3.]])
    """
    size = grad.norm(dim=-1, keepdim=True)
    u = (grad / size).unsqueeze(-1)
    identity = torch.eye(grad.shape[-1], dtype=grad.dtype, device=grad.device)
    perturbed: Tensor = identity + rho / size.unsqueeze(-1) * (hessian - u * (u.mT @ hessian))
    return perturbed

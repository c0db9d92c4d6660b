"""The equation of hallucinated points, `g(x + rho·u(x)) = 0` where `g(x) ≠ 0`, and what is checked before it is solved.

All of `samirage.points` works in float64, on any `samirage.landscape.Smooth`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth, sam_jacobian
from samirage.sam import Variant
from samirage.sam.map import Jacobian, VectorMap, displacement, update_vector

DENSE_DIM: Final = 300
"""Number of coordinates up to which Hessians are formed; beyond, they enter through products with vectors."""

_MAX_KINK: Final = 1e-3  # relative difference between a Hessian product and what the gradient does nearby


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


def check_point(f: Smooth, x: Tensor, name: str = "x") -> Tensor:
    """Return the point in float64, detached.

    Args:
        f: The function.
        x: The point, shape (d,).
        name: What to call it in an error.

    Raises:
        ValueError: If it has not the shape (d,), or holds values that are not finite.
    """
    point = torch.as_tensor(x).detach().to(torch.float64)
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
        ValueError: If they are not finite, or a second evaluation gives others.
    """
    value, grad = f.value_and_grad(x)
    if not bool(value.isfinite() & grad.isfinite().all()):
        raise ValueError(f"f or its gradient is not finite at {name}: choose another point")
    again = f.grad(x)
    if not torch.equal(grad, again):
        apart = float((grad - again).norm())
        raise ValueError(
            f"f is not deterministic: two gradients at {name} differ by {apart:.1e}; take out dropout, random "
            "augmentation and the like"
        )
    return value, grad


def check_differentiable(f: Smooth, x: Tensor, name: str = "x") -> None:
    """Look for a kink at a point: there the gradient changes otherwise than the Hessian says.

    Kinks that lie further than about 1e-6 away, or only touch directions that are not tried, are not seen.

    Args:
        f: The function.
        x: The point, shape (d,).
        name: What to call it in an error.

    Raises:
        ValueError: If there is a kink.
    """
    step = 1e-6 * max(1.0, float(x.norm()) / math.sqrt(f.dim))
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(f.dim, generator=generator, dtype=torch.float64).to(x.device) for _ in range(3)]
    for v in directions:
        v = v / v.norm()
        before, here, after = (f.grad(x + t * v) for t in (-step, 0.0, step))
        forward, backward = (after - here) / step, (here - before) / step
        product = f.hvp(x, v)
        # A smooth gradient gives the same slope on both sides, and that of the Hessian, up to step·(third derivative)
        # and rounding/step. An absolute value at its very kink bends alike on both sides: only the Hessian tells.
        size = float(torch.maximum(forward.norm(), backward.norm()))
        noise = 1e-16 * float(here.norm() + after.norm() + before.norm()) * math.sqrt(f.dim) / step
        apart = max(float((forward - backward).norm()), float(((forward + backward) / 2 - product).norm()))
        if apart > _MAX_KINK * size + 100 * noise + 1e-9:
            raise ValueError(
                f"f does not look twice differentiable at {name}: its gradient bends there (a ReLU, an absolute value, "
                "a maximum?); use a smooth function such as tanh, or another point"
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


def at_rest(f: Smooth, rho: float, *, variant: Variant = "sam", weight_decay: float = 0.0) -> Equation:
    """Return the equation of points at which SAM rests, `d(x) = g(x + e(x)) + weight_decay·x = 0`.

    Args:
        f: The function.
        rho: Perturbation radius.
        variant: `"sam"`, `"asam"` or `"unnormalized"`.
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

"""Polishing: from a point near a hallucinated one to machine precision, by Newton or Levenberg-Marquardt steps.

Both solve `M·s = −g⁺`, with `M = H⁺·A` the derivative of `g(x + rho·u(x))`. On a manifold of hallucinated points `M` is
singular, and the step is the shortest one. In high dimensions the system is solved in the damped least-squares sense by
conjugate gradients on products with `M` and `Mᵀ` (Levenberg-Marquardt); no matrix is formed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.equation import DENSE_DIM, dense_update, jacobian
from samirage.sam.map import update_vector

_CUTOFF: Final = 1e-11  # singular values below this part of the largest count as 0
_SMALLEST_STEP: Final = 2.0**-30
_DAMPING: Final = (1e-12, 1e6)  # range of the damping, relative to the largest curvature


@dataclass(frozen=True)
class Polished:
    """Where polishing ended.

    Attributes:
        x: The point, shape (d,), float64.
        residual: `‖g⁺‖` there.
        converged: Whether the residual is below the tolerance.
        steps: Number of steps that were taken.
    """

    x: Tensor
    residual: float
    converged: bool
    steps: int


def polish(
    f: Smooth, x: Tensor, rho: float, *, tolerance: float = 1e-12, max_steps: int = 100, max_products: int = 200
) -> Polished:
    """Solve `g(x + rho·u(x)) = 0` from a nearby point.

    It goes on beyond the tolerance for as long as each step at least halves the residual, so that the result is as
    exact as float64 allows.

    Args:
        f: The function.
        x: Where to start, shape (d,), float64, with a gradient that is not 0.
        rho: Perturbation radius, above 0.
        tolerance: Residual `‖g⁺‖` that counts as 0.
        max_steps: Most steps, at least 1.
        max_products: Most products with `M` and `Mᵀ` per step, for functions of more than `DENSE_DIM` coordinates.

    Returns:
        The polished point.

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> polish(DoubleWell(), torch.tensor([0.5, 0.0], dtype=torch.float64), rho=1.5).x
        tensor([ 0.4709, -0.0222], dtype=torch.float64)
    """
    solve = _newton_step if f.dim <= DENSE_DIM else _damped_step
    damping = 1e-3
    residual = float(update_vector(f.grad, x, rho=rho).norm())
    steps = 0
    while steps < max_steps and residual > 0:
        before = residual
        x, residual, damping = solve(f, x, rho, residual, damping, max_products)
        steps += 1
        if not residual < before or (residual < tolerance and residual > before / 2):
            break
    return Polished(x, residual, residual < tolerance, steps)


def _newton_step(
    f: Smooth, x: Tensor, rho: float, residual: float, damping: float, max_products: int
) -> tuple[Tensor, float, float]:
    """Take the longest of the steps `s, s/2, s/4, …` along the Newton direction that lowers the residual."""
    matrix = dense_update(f, x, rho)
    if not bool(matrix.isfinite().all()):
        return x, residual, damping
    u, values, vt = torch.linalg.svd(matrix)
    inverse = torch.where(values > _CUTOFF * values[0], 1 / values, torch.zeros_like(values))
    step = -(vt.mT @ (inverse * (u.mT @ update_vector(f.grad, x, rho=rho))))
    length = 1.0
    while length >= _SMALLEST_STEP:
        trial = x + length * step
        there = float(update_vector(f.grad, trial, rho=rho).norm())
        if there < residual:
            return trial, there, damping
        length /= 2
    return x, residual, damping


def _damped_step(
    f: Smooth, x: Tensor, rho: float, residual: float, damping: float, max_products: int
) -> tuple[Tensor, float, float]:
    """Minimize `‖M·s + g⁺‖² + damping·λ·‖s‖²`, with less damping after a success and more after a failure."""
    here, grad_plus = jacobian(f, x, rho)
    direction = here.update_transpose(grad_plus)
    scale = float(here.update(direction).norm() ** 2 / direction.norm() ** 2)  # a lower bound of the largest of MᵀM
    while damping <= _DAMPING[1]:
        step = least_squares(
            here.update, here.update_transpose, -grad_plus, damping=damping * scale, max_products=max_products
        )
        trial = x + step
        there = float(update_vector(f.grad, trial, rho=rho).norm())
        if there < residual:
            return trial, there, max(damping / 10, _DAMPING[0])
        damping *= 10
    return x, residual, damping


def least_squares(
    product: Callable[[Tensor], Tensor],
    transpose: Callable[[Tensor], Tensor],
    target: Tensor,
    *,
    damping: float = 0.0,
    max_products: int = 200,
    tolerance: float = 1e-12,
) -> Tensor:
    """Minimize `‖K·s − target‖² + damping·‖s‖²` by conjugate gradients on the normal equations (CGLS).

    Started at 0, so that of several minimizers the shortest is found.

    Args:
        product: Maps `s` to `K·s`.
        transpose: Maps `y` to `Kᵀ·y`.
        target: Right-hand side, shape (m,).
        damping: Weight of the length of `s`, at least 0.
        max_products: Most products with `K`.
        tolerance: It ends when the gradient has fallen to this part of its first value.

    Returns:
        `s`.

    Example:
        >>> k = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
        >>> least_squares(k.mv, k.mT.mv, torch.tensor([6.0, 1.0]))
        tensor([2., 0.])
    """
    residual = target.clone()
    gradient = transpose(residual)
    solution = torch.zeros_like(gradient)
    direction = gradient
    size = first = float(gradient @ gradient)
    for _ in range(max_products):
        if size <= tolerance**2 * first or size == 0:
            break
        image = product(direction)
        curvature = float(image @ image) + damping * float(direction @ direction)
        if curvature == 0:  # the square underflows
            break
        alpha = size / curvature
        solution = solution + alpha * direction
        residual = residual - alpha * image
        gradient = transpose(residual) - damping * solution
        size, old = float(gradient @ gradient), size
        direction = gradient + size / old * direction
    return solution

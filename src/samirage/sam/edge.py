"""SAM's edge of stability (Long and Bartlett, arXiv 2309.12488)."""

import torch
from torch import Tensor


def sam_edge(grad_norm: Tensor, *, rho: float, lr: float) -> Tensor:
    """Return the largest Hessian eigenvalue at which SAM's steps along it do not grow.

    `lambda_edge = ‖g‖/(2 rho)·(sqrt(1 + 8 rho/(lr ‖g‖)) − 1)`, which tends to gradient descent's `2/lr` as `rho → 0`
    and shrinks with the gradient, so that SAM bounces at flatter places than gradient descent does.

    Args:
        grad_norm: `‖g‖`, at least 0; any shape.
        rho: Perturbation radius, at least 0.
        lr: Learning rate `eta`, above 0.

    Returns:
        The edge, same shape as `grad_norm`, in units of curvature.

    Raises:
        ValueError: If `rho` is negative or `lr` is not positive.

    Example:
        >>> sam_edge(torch.tensor(1.0), rho=0.0, lr=0.1)
        tensor(20.)
        >>> sam_edge(torch.tensor(1.0), rho=0.1, lr=0.1)
        tensor(10.)
    """
    if not rho >= 0:
        raise ValueError(f"rho must be at least 0; got {rho}")
    if not lr > 0:
        raise ValueError(f"lr must be above 0; got {lr}")
    # (sqrt(1 + t) − 1) = t/(sqrt(1 + t) + 1) with t = 8 rho/(lr ‖g‖): no cancellation for small t, and none at rho = 0.
    t = 8 * rho / (lr * grad_norm)
    at_zero = 2 / lr if rho == 0 else 0.0
    return torch.where(grad_norm > 0, 4 / lr / (torch.sqrt(1 + t) + 1), torch.full_like(grad_norm, at_zero))

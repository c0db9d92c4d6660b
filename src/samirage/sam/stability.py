"""When a fixed point of the SAM map attracts, from the eigenvalues `mu` of `M`, the derivative of the update.

Gradient steps multiply the component along an eigenvector by `1 − lr·mu`. The heavy ball with momentum `b` has two
multipliers `z` per `mu`, the roots of `z² − (1 + b − lr·mu)·z + b = 0`, which lie within the unit disc if and only if
`((Re(lr·mu) − (1 + b))/(1 + b))² + (Im(lr·mu)/(1 − b))² < 1`: `lr·mu` lies within an ellipse through 0.
"""

import torch
from torch import Tensor


def multipliers(mu: Tensor, *, lr: float, momentum: float = 0.0) -> Tensor:
    """Return by how much one step multiplies each eigen-component: the eigenvalues of `DT`, or of its companion form.

    Args:
        mu: Eigenvalues of `M`, any shape, real or complex.
        lr: Learning rate, above 0.
        momentum: Coefficient `b` of the heavy ball, from 0 to below 1.

    Returns:
        Complex, shape (…, 2): the roots for each `mu`; the second is 0 without momentum.

    Example:
        >>> multipliers(torch.tensor([2.0]), lr=0.25)
        tensor([[0.5000+0.j, 0.0000+0.j]])
    """
    half = (1 + momentum - lr * mu.to(torch.promote_types(mu.dtype, torch.complex64))) / 2
    root = torch.sqrt(half * half - momentum)
    # The root of larger size first, without cancellation; the product of both is the momentum.
    larger = torch.where((half.conj() * root).real >= 0, half + root, half - root)
    smaller = torch.where(larger == 0, larger, momentum / torch.where(larger == 0, torch.ones_like(larger), larger))
    return torch.stack([larger, smaller], -1)


def max_stable_lr(mu: Tensor, *, momentum: float = 0.0) -> Tensor:
    """Return the learning rate below which the component of each eigenvalue shrinks.

    `2·Re(mu)/(1 + b) / ((Re(mu)/(1 + b))² + (Im(mu)/(1 − b))²)`, which is `2·Re(mu)/|mu|²` without momentum.

    Args:
        mu: Eigenvalues of `M`, any shape, real or complex.
        momentum: Coefficient `b` of the heavy ball, from 0 to below 1.

    Returns:
        Same shape, real; 0 where `Re(mu) ≤ 0`, where no learning rate is small enough.

    Example:
        >>> max_stable_lr(torch.tensor([4.0, -1.0])), max_stable_lr(torch.tensor([4.0]), momentum=0.5)
        (tensor([0.5000, 0.0000]), tensor([0.7500]))
    """
    real = mu.real / (1 + momentum)
    imaginary = mu.imag / (1 - momentum) if mu.is_complex() else torch.zeros_like(mu)
    # Divided by the size first: squares of small eigenvalues underflow.
    size = torch.hypot(real, imaginary)
    bound = 2 * (real / size) / size
    return torch.where(real > 0, bound, torch.zeros_like(real))

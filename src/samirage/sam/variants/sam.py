"""Plain SAM.

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", arXiv
2010.01412: `e = rho·g/‖g‖`.

Departure: a zero gradient perturbs by zero; there is no epsilon in the denominator.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from samirage.sam.reductions import norm, reciprocals, rho_over
from samirage.sam.variants.base import AbstractMultiple


@dataclass(frozen=True)
class PlainSAM(AbstractMultiple):
    """Plain SAM, which `variant="sam"` stands for: `e = rho·g/‖g‖`, and the base optimizer follows `g⁺`.

    Example:
        >>> PlainSAM().multiple(4.0, rho=0.5)
        0.125
    """

    scale_free: ClassVar[bool] = True

    def multiple(self, grad_norm: float | Tensor, rho: float | Tensor) -> float | Tensor:
        """Return `rho/‖g‖`."""
        return rho_over(grad_norm, rho)

    def displacement_product(self, x: Tensor, grad: Tensor, hvp_v: Tensor, v: Tensor, rho: float) -> Tensor:
        """Return `De·v = (rho/‖g‖)·P·H·v` with `P = I − u·uᵀ`."""
        u, size = unit(grad)
        return rho / size * off(u, hvp_v)

    def displacement_transpose_product(
        self, x: Tensor, grad: Tensor, v: Tensor, rho: float
    ) -> tuple[Tensor | None, Tensor]:
        """Return 0 and `q` with `Deᵀ·v = H·q`: `De = (rho/‖g‖)·P·H`."""
        u, size = unit(grad)
        return None, rho * off(u, v) / size


def unit(v: Tensor) -> tuple[Tensor, Tensor]:
    """Return direction and length of every vector, the length with a last dimension of 1, in the dtype of `v`.

    Args:
        v: Vectors, shape (…, d).

    Returns:
        Shapes (…, d) and (…, 1).

    Example:
        >>> unit(torch.tensor([3.0, 4.0]))
        (tensor([0.6000, 0.8000]), tensor([5.]))
    """
    size = norm([v.reshape(-1, v.shape[-1])], batched=True).reshape(*v.shape[:-1], 1)
    return v * reciprocals(size).to(v.dtype), size.to(v.dtype)


def off(unit: Tensor, v: Tensor) -> Tensor:
    """Return the part of `v` at right angles to a unit vector.

    Args:
        unit: Unit vectors, shape (…, d).
        v: Vectors, same shape.

    Returns:
        Shape (…, d).

    Example:
        >>> off(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 3.0]))
        tensor([0., 3.])
    """
    return torch.sub(v, unit * (unit * v).sum(-1, keepdim=True))

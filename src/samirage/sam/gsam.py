"""GSAM: Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training", arXiv 2203.08065.

The base optimizer follows `g⁺ − alpha·g_⊥`, where `g_⊥ = g − (<g, g⁺>/‖g⁺‖²)·g⁺` is the part of `g` orthogonal to `g⁺`:
to first order the additional step leaves `f⁺` as it is and raises `f`, and so narrows the gap between them.

Departures: the radius is `rho`, constant unless a schedule changes it, while the paper ties it to the learning rate,
`rho_t = rho_min + (rho_max − rho_min)·(lr_t − lr_min)/(lr_max − lr_min)` (a schedule can do that, too). There is no
epsilon in a denominator; where `g⁺ = 0`, nothing of `g` is parallel to it and `g_⊥ = g`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from samirage.sam.perturbation import Variant


@dataclass(frozen=True)
class GSAM:
    """Surrogate-gap guided SAM; it needs memory for a copy of `g` during pass 2, besides SAM's copy of the weights.

    Attributes:
        alpha: Weight of the step along `g_⊥`, finite and at least 0; 0 is plain SAM.

    Raises:
        ValueError: If `alpha` is out of its range.

    Example:
        >>> g, g_plus = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])  # g_⊥ = (0, 1)
        >>> GSAM(alpha=0.5).direction(g, g_plus, inner=torch.tensor(6.0), square_plus=torch.tensor(4.0))
        tensor([ 2.0000, -0.5000])
    """

    alpha: float = 0.4

    rule: ClassVar[Variant] = "sam"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"GSAM alpha must be finite and at least 0; got {self.alpha!r}")

    def direction(self, grad: Tensor, grad_plus: Tensor, *, inner: Tensor, square_plus: Tensor) -> Tensor:
        """Return `g⁺ − alpha·g_⊥`, for one tensor of the parameter vector.

        Args:
            grad: The part of `g` that belongs to the tensor.
            grad_plus: The same part of `g⁺`.
            inner: `<g, g⁺>` over the whole vector, shape ().
            square_plus: `‖g⁺‖²` over the whole vector, shape ().

        Returns:
            Tensor of the same shape.
        """
        share = torch.where(square_plus > 0, inner / square_plus, 0.0).to(grad_plus)
        return grad_plus - self.alpha * (grad - share * grad_plus)

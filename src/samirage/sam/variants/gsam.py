"""GSAM: Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training", arXiv 2203.08065.

The base optimizer follows `g⁺ − alpha·g_⊥`, where `g_⊥ = g − (<g, g⁺>/‖g⁺‖²)·g⁺` is the part of `g` orthogonal to `g⁺`:
to first order the additional step leaves `f⁺` as it is and raises `f`, and so narrows the gap between them.

Departures: the radius is `rho`, constant unless a schedule changes it, while the paper ties it to the learning rate,
`rho_t = rho_min + (rho_max − rho_min)·(lr_t − lr_min)/(lr_max − lr_min)` (a schedule can do that, too). There is no
epsilon in a denominator; where `g⁺ = 0`, nothing of `g` is parallel to it and `g_⊥ = g`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from samirage.sam.checks import checked_number
from samirage.sam.reductions import SINGLE, Reductions, rho_over
from samirage.sam.variants.base import AbstractMultiple, State


@dataclass(frozen=True)
class GSAM(AbstractMultiple):
    """Surrogate-gap guided SAM; it needs memory for a copy of `g` during pass 2, besides SAM's copy of the weights.

    Attributes:
        alpha: Weight of the step along `g_⊥`, finite and at least 0; 0 is plain SAM.

    Raises:
        ValueError: If `alpha` is out of its range.

    Example:
        >>> g, g_plus = [torch.tensor([3.0, 1.0])], [torch.tensor([2.0, 0.0])]  # g_⊥ = (0, 1)
        >>> GSAM(alpha=0.5).direction(g, g_plus, {})[0]
        [tensor([ 2.0000, -0.5000])]
    """

    alpha: float = 0.4

    scale_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_number("GSAM alpha", self.alpha, least=0)

    def multiple(self, grad_norm: float | Tensor, rho: float | Tensor) -> float | Tensor:
        """Return `rho/‖g‖`, as for plain SAM."""
        return rho_over(grad_norm, rho)

    def direction(
        self, grads: Sequence[Tensor], grads_plus: Sequence[Tensor] | None, state: State, reduce: Reductions = SINGLE
    ) -> tuple[Sequence[Tensor], State]:
        """Return `d = g⁺ − alpha·g_⊥`; see `AbstractVariant.direction`."""
        if grads_plus is None:
            return grads, state
        length_plus, inner = reduce.together([grads_plus], [(grads, grads_plus)])
        share = torch.where(length_plus > 0, inner / length_plus.square(), 0.0)
        return [
            q - self.alpha * (g - reduce.expand(share, q).to(q.dtype) * q)
            for g, q in zip(grads, grads_plus, strict=True)
        ], state

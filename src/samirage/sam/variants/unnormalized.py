"""Unnormalized SAM.

Andriushchenko and Flammarion, "Towards Understanding Sharpness-Aware Minimization", arXiv 2206.06232: `e = rho·g`.
"""

from dataclasses import dataclass

from torch import Tensor

from samirage.sam.variants.base import AbstractMultiple


@dataclass(frozen=True)
class Unnormalized(AbstractMultiple):
    """Unnormalized SAM, which `variant="unnormalized"` stands for: `e = rho·g`, and the base optimizer follows `g⁺`.

    Example:
        >>> Unnormalized().multiple(4.0, rho=0.5)
        0.5
    """

    def multiple(self, grad_norm: float | Tensor, rho: float | Tensor) -> float | Tensor:
        """Return `rho`; NaN where `‖g‖` is not finite, so that not a part of `e` is finite then."""
        return (1.0 + 0.0 * grad_norm) * rho

    def displacement_product(self, x: Tensor, grad: Tensor, hvp_v: Tensor, v: Tensor, rho: float) -> Tensor:
        """Return `De·v = rho·H·v`."""
        return rho * hvp_v

    def displacement_transpose_product(
        self, x: Tensor, grad: Tensor, v: Tensor, rho: float
    ) -> tuple[Tensor | None, Tensor]:
        """Return 0 and `q = rho·v`, with which `Deᵀ·v = H·q`."""
        return None, rho * v

"""LookSAM: SAM in one of k steps, and its direction again in the others.

Liu, Mai, Chen, Hsieh and You, "Towards Efficient and Scalable Sharpness-Aware Minimization", arXiv 2203.02714. Every
kth step is SAM's, and keeps `g_v = g⁺ − (<g, g⁺>/‖g‖²)·g`, the part of `g⁺` orthogonal to `g`, over the whole parameter
vector. The k − 1 steps after it take one pass and follow `g + alpha·(‖g‖/‖g_v‖)·g_v`.

Departures: the layer-wise form for large batches (Look-LayerSAM) is not here. A `g_v` that is no longer than the
rounding errors of `g⁺` counts as 0: the formula would otherwise blow up a direction made of rounding errors.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from samirage.sam.perturbation import Variant

_ROUNDINGS: Final = 8  # of the last place: that many may lie between g⁺ and a multiple of g that is equal to it


@dataclass(frozen=True)
class LookSAM:
    """SAM in one of k steps, whose direction the others reuse; it keeps one more copy of the parameters, `g_v`.

    Attributes:
        k: Number of steps of which one takes two passes, at least 1; 1 is plain SAM.
        alpha: Weight of the reused direction, finite and at least 0; 0 is `SAM(…, every=k)`.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> g, g_plus = torch.tensor([2.0, 0.0]), torch.tensor([2.0, 1.0])
        >>> look = LookSAM(k=5, alpha=0.5)
        >>> g_v = look.kept(g, g_plus, inner=torch.tensor(4.0), square=torch.tensor(4.0))
        >>> g_v, look.direction(torch.tensor([0.0, 8.0]), g_v, square=torch.tensor(64.0), square_kept=torch.tensor(1.0))
        (tensor([0., 1.]), tensor([ 0., 12.]))
    """

    k: int = 5
    alpha: float = 0.7

    rule: ClassVar[Variant] = "sam"

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"LookSAM k must be a whole number of at least 1; got {self.k!r}")
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"LookSAM alpha must be finite and at least 0; got {self.alpha!r}")

    def kept(self, grad: Tensor, grad_plus: Tensor, *, inner: Tensor, square: Tensor) -> Tensor:
        """Return `g_v`, for one tensor of the parameter vector.

        Args:
            grad: The part of `g` that belongs to the tensor.
            grad_plus: The same part of `g⁺`.
            inner: `<g, g⁺>` over the whole vector, shape ().
            square: `‖g‖²` over the whole vector, shape ().

        Returns:
            Tensor of the same shape.
        """
        return grad_plus - torch.where(square > 0, inner / square, 0.0).to(grad) * grad

    def is_noise(self, square_kept: Tensor, square_plus: Tensor, *, eps: float) -> Tensor:
        """Tell whether `g_v` is nothing but rounding errors; False where a gradient was not finite.

        Args:
            square_kept: `‖g_v‖²`, shape ().
            square_plus: `‖g⁺‖²`, shape ().
            eps: Spacing of the numbers around 1 in which `g_v` was computed.

        Returns:
            Boolean tensor of shape ().
        """
        return square_kept <= (_ROUNDINGS * eps) ** 2 * square_plus

    def direction(self, grad: Tensor, kept: Tensor, *, square: Tensor, square_kept: Tensor) -> Tensor:
        """Return `g + alpha·(‖g‖/‖g_v‖)·g_v`, for one tensor of the parameter vector; `g` where `g_v = 0`.

        Args:
            grad: The part of `g` that belongs to the tensor.
            kept: The same part of `g_v`.
            square: `‖g‖²` over the whole vector, shape ().
            square_kept: `‖g_v‖²` over the whole vector, shape ().

        Returns:
            Tensor of the same shape.
        """
        stretch = torch.where(square_kept > 0, (square / square_kept).sqrt(), 0.0).to(grad)
        return grad + self.alpha * stretch * kept

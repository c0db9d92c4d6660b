"""LookSAM: SAM in one of k steps, and its direction again in the others.

Liu, Mai, Chen, Hsieh and You, "Towards Efficient and Scalable Sharpness-Aware Minimization", arXiv 2203.02714. Every
kth step is SAM's, and keeps `g_v = g⁺ − (<g, g⁺>/‖g‖²)·g`, the part of `g⁺` orthogonal to `g`, over the whole parameter
vector. The k − 1 steps after it take one pass and follow `g + alpha·(‖g‖/‖g_v‖)·g_v`.

Departures: the layer-wise form for large batches (Look-LayerSAM) is not here. A `g_v` that is no longer than the
rounding errors of `g⁺` counts as 0: the formula would otherwise blow up a direction made of rounding errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from samirage.sam.checks import checked_count, checked_number
from samirage.sam.reductions import SINGLE, Reductions, rho_over
from samirage.sam.variants.base import AbstractMultiple, State, Use

_ROUNDINGS: Final = 8  # of the last place: that many may lie between g⁺ and a multiple of g that is equal to it


@dataclass(frozen=True)
class LookSAM(AbstractMultiple):
    """SAM in one of k steps, whose direction the others reuse; it keeps one more copy of the parameters, `g_v`.

    Attributes:
        k: Number of steps of which one takes two passes, at least 1; 1 is plain SAM.
        alpha: Weight of the reused direction, finite and at least 0; 0 is `SAM(…, every=k)`.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> look = LookSAM(k=5, alpha=0.5)
        >>> _, state = look.direction([torch.tensor([2.0, 0.0])], [torch.tensor([2.0, 1.0])], {})
        >>> state["g_v"], look.direction([torch.tensor([0.0, 8.0])], None, state)[0]
        ([tensor([0., 1.])], [tensor([ 0., 12.])])
    """

    k: int = 5
    alpha: float = 0.7

    state_names: ClassVar[tuple[str, ...]] = ("g_v",)
    scale_free: ClassVar[bool] = True  # g_v counts by its direction alone

    def __post_init__(self) -> None:
        checked_count("LookSAM k", self.k)
        checked_number("LookSAM alpha", self.alpha, least=0)

    def multiple(self, grad_norm: float | Tensor, rho: float | Tensor) -> float | Tensor:
        """Return `rho/‖g‖`, as for plain SAM."""
        return rho_over(grad_norm, rho)

    def passes(self, step: int) -> int:
        """Return 2 in one of k steps, and 1 in the others."""
        return 1 if step % self.k else 2

    def direction(
        self, grads: Sequence[Tensor], grads_plus: Sequence[Tensor] | None, state: State, reduce: Reductions = SINGLE
    ) -> tuple[Sequence[Tensor], State]:
        """Return `g⁺`, and keep `g_v`; in a step of one pass `g + alpha·(‖g‖/‖g_v‖)·g_v`, or `g` where `g_v = 0`."""
        if grads_plus is None:
            return (self._reused(grads, state["g_v"], reduce) if "g_v" in state else grads), state
        length, length_plus, inner = reduce.together([grads, grads_plus], [(grads, grads_plus)])
        share = torch.where(length > 0, inner / length.square(), 0.0)
        kept = [q - reduce.expand(share, g).to(g.dtype) * g for g, q in zip(grads, grads_plus, strict=True)]
        eps = max(torch.finfo(v.dtype).eps for v in kept)
        # Where a gradient is not finite, NaN is neither meaningful nor noise: it stays, and the step is skipped.
        noise = reduce.norm(kept) <= _ROUNDINGS * eps * length_plus
        kept = [v.masked_fill(reduce.expand(noise, v).bool(), 0.0) for v in kept]
        return grads_plus, {"g_v": kept}

    def _reused(self, grads: Sequence[Tensor], kept: Sequence[Tensor], reduce: Reductions) -> list[Tensor]:
        length, length_kept = reduce.together([grads, kept])
        stretch = torch.where(length_kept > 0, length / length_kept, 0.0)
        return [g + self.alpha * reduce.expand(stretch, g).to(g.dtype) * v for g, v in zip(grads, kept, strict=True)]

    def refuses(self, use: Use) -> str | None:
        """Refuse another period besides `k`, and what `AbstractVariant.refuses` does."""
        if use == "every":
            return f"LookSAM has a period of its own, k={self.k}: leave every at 1"
        return super().refuses(use)

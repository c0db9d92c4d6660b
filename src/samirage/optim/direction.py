"""What the base optimizer follows where it is not the gradient of the last pass: GSAM's mixture, LookSAM's reuse.

The formulas are those of `samirage.sam`. They are applied to `.grad` in its own storage, as clipping a gradient is, so
that captured graphs and the buckets of DistributedDataParallel stay valid. No number is read from the device.
"""

from abc import ABC, abstractmethod
from collections.abc import MutableMapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from samirage.optim.excursion import real
from samirage.optim.ranks import Sums, local
from samirage.optim.rounding import NARROW
from samirage.sam import GSAM, LookSAM, Variant, VariantOptions

_KEPT: Final = "looksam_g_v"  # in the base optimizer's state of a parameter, where it is saved, loaded and copied

State = MutableMapping[Tensor, Any]


class AbstractDirection(ABC):
    """Follow another direction than `g⁺` in a step of two passes, or than `g` in one of a single pass."""

    @abstractmethod
    def after_pass_2(self, params: Sequence[Tensor], grads: Sequence[Tensor], grads_plus: Sequence[Tensor]) -> None:
        """Turn `.grad` from `g⁺` into the direction to follow.

        Args:
            params: The parameters that had a gradient in either pass.
            grads: `g`, this rank's part of each, real.
            grads_plus: `g⁺`, likewise.
        """

    @abstractmethod
    def before_plain_step(self, params: Sequence[Tensor], state: State) -> None:
        """Turn `.grad` from `g` into the direction to follow, in a step of one pass between two of SAM's.

        Args:
            params: The parameters that have a gradient.
            state: The base optimizer's state.
        """

    @abstractmethod
    def after_step(self, params: Sequence[Tensor], state: State, *, perturbed: bool) -> None:
        """Remember what later steps need, once the base optimizer has set up its state.

        Args:
            params: The parameters that have a gradient.
            state: The base optimizer's state.
            perturbed: Whether the step took two passes.
        """


class GSAMDirection(AbstractDirection):
    """Follow `g⁺ − alpha·g_⊥`.

    Args:
        variant: GSAM's options.
    """

    def __init__(self, variant: GSAM) -> None:
        self._variant = variant

    def after_pass_2(self, params: Sequence[Tensor], grads: Sequence[Tensor], grads_plus: Sequence[Tensor]) -> None:
        """Turn `.grad` from `g⁺` into `g⁺ − alpha·g_⊥`."""
        inner, square_plus = Sums(params)((grads, grads_plus), (grads_plus, grads_plus))
        for p, grad, grad_plus in zip(params, grads, grads_plus, strict=True):
            if p.grad is not None:
                wide = _wide(grad_plus)
                _write(p.grad, self._variant.direction(grad, wide, inner=inner, square_plus=square_plus))

    def before_plain_step(self, params: Sequence[Tensor], state: State) -> None:
        """Follow `g`."""

    def after_step(self, params: Sequence[Tensor], state: State, *, perturbed: bool) -> None:
        """Remember nothing."""


class LookSAMDirection(AbstractDirection):
    """Follow `g⁺` in SAM's own steps, and `g` with a share of the last `g_v` in those between them.

    Args:
        variant: LookSAM's options.
    """

    def __init__(self, variant: LookSAM) -> None:
        self._variant = variant
        self._fresh: list[tuple[Tensor, Tensor]] = []  # g_v of a step that is not complete

    def after_pass_2(self, params: Sequence[Tensor], grads: Sequence[Tensor], grads_plus: Sequence[Tensor]) -> None:
        """Compute `g_v`; `.grad` stays."""
        sums, look = Sums(params), self._variant
        inner, square, square_plus = sums((grads, grads_plus), (grads, grads), (grads_plus, grads_plus))
        kept = [
            look.kept(g, _wide(g_plus), inner=inner, square=square) for g, g_plus in zip(grads, grads_plus, strict=True)
        ]
        eps = max(torch.finfo(v.dtype).eps for v in kept)
        # NaN, where a gradient is not finite, is neither meaningful nor not: it stays, and is dropped in `after_step`.
        noise = look.is_noise(sums((kept, kept))[0], square_plus, eps=eps)
        self._fresh = [(p, v.masked_fill_(noise.to(v.device), 0.0)) for p, v in zip(params, kept, strict=True)]

    def before_plain_step(self, params: Sequence[Tensor], state: State) -> None:
        """Add `alpha·(‖g‖/‖g_v‖)·g_v` to `.grad`."""
        grads = [real(p.grad) for p in params if p.grad is not None]
        kept = [real(state[p][_KEPT]) if _KEPT in state.get(p, ()) else torch.zeros_like(real(p)) for p in params]
        square, square_kept = Sums(params)((grads, grads), (kept, kept))
        for p, grad, v in zip(params, grads, kept, strict=True):
            assert p.grad is not None
            direction = self._variant.direction(_wide(grad), _wide(v), square=square, square_kept=square_kept)
            _write(p.grad, direction)

    def after_step(self, params: Sequence[Tensor], state: State, *, perturbed: bool) -> None:
        """Keep `g_v`; it is 0 until the first step of two passes, so that a checkpoint always has a place for it."""
        for p in params:
            if _KEPT not in state[p]:
                state[p][_KEPT] = torch.zeros_like(p)
        if perturbed:
            for p, v in self._fresh:
                if p.grad is not None:
                    old = real(state[p][_KEPT])
                    old.copy_(torch.where(v.isfinite(), v, old))
        self._fresh = []


def direction_of(variant: Variant | VariantOptions) -> AbstractDirection | None:
    """Return what a variant follows; None for the gradient of the last pass, as most do."""
    if isinstance(variant, GSAM):
        return GSAMDirection(variant)
    return LookSAMDirection(variant) if isinstance(variant, LookSAM) else None


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in NARROW else tensor


def _write(grad: Tensor, value: Tensor) -> None:
    target = local(grad)
    target.copy_(torch.view_as_complex(value) if target.is_complex() else value)

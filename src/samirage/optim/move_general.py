"""The move to `x⁺` that knows everything: accelerators, half precision, shards, sparse and complex gradients, radii."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from samirage.optim.amp import unscaled_plus
from samirage.optim.distributed import local, real, reductions_of
from samirage.optim.half_precision import NARROW, generator_of_step, round_at_random
from samirage.optim.move import AbstractMove, Measurement, nothing, whole_grad
from samirage.optim.record import as_scalar
from samirage.optim.variant_state import VariantInUse
from samirage.sam import AbstractVariant, perturb, step_figures
from samirage.sam.reductions import can_read_without_sync, reciprocals


class _Displaced:
    """One tensor that moves: the parameter, the rows of it that move (None: all), and a copy of them."""

    def __init__(self, param: Tensor) -> None:
        grad = param.grad
        assert grad is not None
        self.owner = param
        self.param = param = local(param)
        self.narrow = param.dtype in NARROW
        self.rows: Tensor | None = None
        if grad.is_sparse:
            grad = grad.coalesce()
            if grad.sparse_dim() == 1:
                self.rows, grad = grad.indices()[0], grad.values()
            else:
                grad = grad.to_dense()
        self.backup: Tensor | None = None
        grad = local(grad)
        # The perturbation of a narrow weight is computed in float32: its own dtype could not hold the entries of e.
        self.grad: Tensor | None = real(grad.float() if self.narrow else grad)

    def current(self) -> Tensor:
        weights = self.param if self.rows is None else self.param.index_select(0, self.rows)
        return real(weights.float() if self.narrow else weights)

    def save(self) -> None:
        self.backup = self.param.clone() if self.rows is None else self.param.index_select(0, self.rows)

    def move(self, displacement: Tensor, generator: torch.Generator | None) -> None:
        assert self.backup is not None
        if generator is not None:
            moved = round_at_random(self.backup.float() + displacement, self.param.dtype, generator)
        elif self.rows is None:
            real(self.param).add_(displacement)
            return
        else:
            step = torch.view_as_complex(displacement) if self.param.is_complex() else displacement
            moved = self.backup + step
        self._write(moved)

    def restore(self) -> None:
        if self.backup is not None:
            self._write(self.backup)

    def realised(self) -> Tensor:
        """Return `x⁺ − x` of the rows that move, in float32."""
        assert self.backup is not None
        return self.current() - self.backup.float()

    def displacement(self) -> Tensor:
        """Return `x⁺ − x`; a dense parameter is overwritten with it, and must be restored afterwards."""
        assert self.backup is not None
        if self.rows is None:
            moved = self.param.sub_(self.backup)
        else:
            moved = torch.zeros_like(self.param)
            moved.index_copy_(0, self.rows, self.param.index_select(0, self.rows) - self.backup)
        return real(moved.float() if self.narrow else moved)

    def dense_grad(self) -> Tensor:
        """Return a copy of the gradient in the shape of the parameter."""
        assert self.grad is not None
        if self.rows is None:
            return self.grad.clone()
        return torch.zeros_like(real(self.param), dtype=self.grad.dtype).index_copy_(0, self.rows, self.grad)

    def _write(self, weights: Tensor) -> None:
        if self.rows is None:
            self.param.copy_(weights)
        else:
            self.param.index_copy_(0, self.rows, weights)


class GeneralMove(AbstractMove):
    """The move of any parameters; see `AbstractMove`.

    Args:
        params: The parameters; each must hold a gradient.
        rho: The radius of all of them, or a list with one for each.
        variant: The variant.
        factor: What to multiply all radii by, shape (); None for 1.
        inverse_scale: What to multiply the gradients by to undo a loss scale, shape (); None if there is none.
        keep_grads: Whether `g` shall still be known after pass 2; a copy of it is then kept.

    Raises:
        ValueError: If gradients are sparse, and are to be kept or do not fit the variant.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        rho: float | list[float],
        variant: VariantInUse,
        *,
        factor: Tensor | None,
        inverse_scale: Tensor | None,
        keep_grads: bool,
    ) -> None:
        rule = variant.for_params(params)
        _refuse_sparse(params, rule.refuses("sparse"), keep_grads)
        self._displaced = [_Displaced(p) for p in params]
        grads = [d.grad for d in self._displaced if d.grad is not None]
        self._reduce = reductions_of(params)
        inverse = inverse_scale
        if inverse is not None and not rule.scale_free:
            grads = self._reduce.scaled(grads, inverse)
        looking: float | Tensor | Sequence[float | Tensor]
        looking = rho if factor is None else [r * factor for r in rho] if isinstance(rho, list) else rho * factor
        values = grads if rule.is_multiple else [d.current() for d in self._displaced]
        pass_1 = perturb(values, grads, looking, variant=rule, state=variant.state_of(params), reduce=self._reduce)
        variant.note(params, pass_1.state)
        self._displacements = pass_1.displacement
        self._grad_norm, self._predicted_gain = pass_1.grad_norm, pass_1.predicted_gain
        self._keeps_grads = keep_grads
        # The displacement stands in for g afterwards, tensor by tensor, where it is a positive multiple of g.
        self._ascent_is_displacement = rule.is_multiple and not isinstance(rho, list) and not keep_grads
        self._factors: list[Tensor | None] = [None] * len(params)  # what e was made of g with, where that gives g back
        if rule.is_multiple and isinstance(rho, list) and isinstance(looking, Sequence) and not keep_grads:
            self._factors = [self._made(rule, r, inverse) if own else None for own, r in zip(rho, looking, strict=True)]
        self._ascents: list[Tensor | None] = []
        for d, made in zip(self._displaced, self._factors, strict=True):
            # A copy, for whoever owns the gradient may reuse its storage in pass 2 (zeroing in place, DDP's buckets).
            self._ascents.append(None if self._ascent_is_displacement or made is not None else d.dense_grad())
            d.grad = None
        if inverse is not None and rule.scale_free:
            self._grad_norm = self._grad_norm * inverse.to(self._grad_norm)
            self._predicted_gain = self._predicted_gain * inverse.to(self._predicted_gain)
        self.finite = self._grad_norm < math.inf
        self.is_readable = can_read_without_sync(self.finite)
        self._stretch: Tensor | None = None

    def _made(self, rule: AbstractVariant, radius: float | Tensor, inverse: Tensor | None) -> Tensor:
        """Return `e/g`, for the gradient `g` as it stands in `.grad`."""
        made = rule.multiple(self._grad_norm, radius)
        assert isinstance(made, Tensor)
        return made if inverse is None or rule.scale_free else made * inverse.to(made)

    @property
    def grad_norm(self) -> Tensor:
        """`‖g‖`, shape ()."""
        return self._grad_norm

    def go(self, seed: int) -> None:
        """Move the weights to `x⁺`; see `AbstractMove.go`."""
        for d in self._displaced:  # all copies before the first move: parameters may share storage
            d.save()
        if not self.is_readable:
            for e in self._displacements:  # NaN throughout if the gradient was not finite
                e.masked_fill_((~self.finite).to(e.device, non_blocking=True), 0.0)
        generators: dict[torch.device, torch.Generator] = {}
        for d, displacement in zip(self._displaced, self._displacements, strict=True):
            device = d.param.device
            if d.narrow and device not in generators:
                generators[device] = generator_of_step(seed, device)
            d.move(displacement, generators[device] if d.narrow else None)
        if generators:
            self._measure_rounding()
        self._displacements.clear()
        torch.clear_autocast_cache()  # which would serve the weights at x to a forward within the same autocast block

    def _measure_rounding(self) -> None:
        intended = self._displacements
        pairs = zip(self._displaced, intended, strict=True)
        realised = [d.realised() if d.narrow else displacement for d, displacement in pairs]
        wanted, seen, along = self._reduce.together([intended, realised], [(realised, intended)])
        self.alignment = along / (wanted * seen)
        self._stretch = seen / wanted

    def restore(self) -> None:
        """Move the weights back to `x`, bit for bit; harmless when they are there."""
        for d in self._displaced:
            d.restore()
        torch.clear_autocast_cache()

    def measure(
        self, params: Sequence[Tensor], *, loss: Any, loss_plus: Any, inverse_scale: Tensor | None
    ) -> Measurement:
        """Measure the step, and move the weights back to `x`; see `AbstractMove.measure`."""
        displacements: list[Tensor] = []
        ascents, grads_plus, seen = [], [], []
        index = {id(d.owner): i for i, d in enumerate(self._displaced)}
        for p in params:
            i = index.get(id(p))
            if i is None:
                if p.grad is None:
                    continue
                displacement = ascent = nothing(p)
            else:
                displacement = self._displaced[i].displacement()
                kept, made = self._ascents[i], self._factors[i]
                if kept is not None:
                    ascent = kept
                elif made is None:
                    ascent = displacement
                else:
                    ascent = displacement * self._reduce.expand(reciprocals(made), displacement)
            seen.append(p)
            displacements.append(displacement)
            ascents.append(ascent)
            grads_plus.append(whole_grad(p))
        figures = step_figures(
            loss=as_scalar(loss, self._grad_norm),
            loss_plus=as_scalar(loss_plus, self._grad_norm),
            grad_norm=self._grad_norm,
            predicted_gain=self._predicted_gain,
            displacement=displacements,
            grads_plus=grads_plus,
            ascent=None if self._ascent_is_displacement else ascents,
            reduce=reductions_of(seen),
        )
        self.restore()
        if self._keeps_grads:
            self.kept = seen, ascents, grads_plus
        if self._stretch is not None and self._ascent_is_displacement:
            # The random part of a rounded displacement is orthogonal to g⁺ on average, but lengthens the displacement.
            slope, cosine = figures.slope_plus * self._stretch, figures.cosine * self._stretch
            figures = replace(figures, slope_plus=slope, cosine=cosine)
        if inverse_scale is not None:
            figures = unscaled_plus(figures, inverse_scale)
        skipped = ~(figures.grad_plus_norm < math.inf)
        return Measurement(skipped if self.is_readable else skipped | ~self.finite, figures)


def _refuse_sparse(params: Sequence[Tensor], refusal: str | None, keep_grads: bool) -> None:
    if (keep_grads or refusal is not None) and any(p.grad is not None and p.grad.is_sparse for p in params):
        raise ValueError(
            refusal
            or "a guard and the probes of a warm start need the gradients of both passes dense, and one is sparse: "
            "build the embedding with sparse=False, or do without them"
        )

"""The weights' excursion from `x` to `x⁺` and back, and what it measures.

One copy of `x` is kept meanwhile, and `x` comes back from it by an in-place copy: bit for bit, in the same storage,
whatever the precision. Subtracting the perturbation again would drift by a rounding error per step. The gradient of
pass 1 is not needed at `x⁺`: after pass 2 the displacement, which is parallel to it, is recovered in the weights' own
storage.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from samirage.optim.ranks import Sums, local
from samirage.optim.rounding import NARROW, generator_of_step, round_at_random
from samirage.sam import StepFigures, Variant, norm, perturb, step_figures
from samirage.sam.host import is_at_hand


def real(tensor: Tensor) -> Tensor:
    """View a complex tensor as pairs of real numbers, as torch's own optimizers do; of a shard, this rank's part."""
    tensor = local(tensor)
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def gradient_norm(params: Iterable[Tensor]) -> Tensor:
    """Return `‖g‖` over all gradients that exist; 0 if there is none."""
    grads = [p.grad for p in params if p.grad is not None]
    values = [real(g.coalesce().values() if g.is_sparse else g) for g in grads]
    if not values:
        return torch.zeros(())
    sums = Sums(grads)
    return sums((values, values))[0].sqrt() if sums.spread else norm(values)


class _Displaced:
    """One tensor away from home: the parameter, the rows of it that move (None: all), and a copy of them."""

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


class Excursion:
    """The way of all parameters that have a gradient to `x⁺` and back.

    Constructing it computes the perturbation and moves nothing. It never changes a gradient. All of it is meant to run
    under `torch.no_grad()`.

    Args:
        params: The parameters; each must hold a gradient.
        radii: A radius for each.
        variant: The perturbation rule.
        factor: What to multiply all radii by, shape (); None for 1.
        inverse_scale: What to multiply the gradients by to undo a loss scale, shape (); None if there is none.
        operators: For `"asam"`, what turns `x` into the normalisation operator `T`; None for `T = x`.
        keep_grads: Whether `g` shall still be known after pass 2; a copy of it is then kept.

    Attributes:
        grad_norm: `‖g‖`.
        finite: Whether there is a direction to go, shape (); where it is False, the displacement is 0 on an
            accelerator, which nobody asks before the weights move.
        alignment: Cosine between the realised and the intended displacement; None where nothing was rounded at random.
        kept: After `come_back` and with `keep_grads`: the parameters that had a gradient in either pass, and of each
            `g` and `g⁺`, this rank's part, real.

    Raises:
        ValueError: If gradients are to be kept, and one is sparse.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        radii: Sequence[float],
        variant: Variant,
        inverse_scale: Tensor | None = None,
        *,
        factor: Tensor | None = None,
        operators: Callable[[Sequence[Tensor]], list[Tensor]] | None = None,
        keep_grads: bool = False,
    ) -> None:
        if keep_grads and any(p.grad is not None and p.grad.is_sparse for p in params):
            raise ValueError(
                "a guard, probes, GSAM and LookSAM need the gradients of both passes dense, and one is sparse: build "
                "the embedding with sparse=False, or do without them"
            )
        self._displaced = [_Displaced(p) for p in params]
        grads = [d.grad for d in self._displaced if d.grad is not None]
        values = [d.current() for d in self._displaced] if variant == "asam" else grads
        if operators is not None:
            values = operators(values)
        looking = [radius if factor is None else radius * factor for radius in radii]
        pass_1 = perturb(values, grads, looking, variant=variant)
        self._displacements = pass_1.displacement
        self._radii = list(radii)
        self._keeps_grads = keep_grads
        self.kept: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None
        self._variant = variant
        self.alignment: Tensor | None = None
        self._stretch: Tensor | None = None
        # The displacement stands in for g afterwards, tensor by tensor, where it is a positive multiple of g.
        self._ascent_is_displacement = variant != "asam" and len(set(radii)) <= 1 and not keep_grads
        self.grad_norm, self._predicted_gain = pass_1.grad_norm, pass_1.predicted_gain
        self._sums = Sums(params)
        if self._sums.spread:
            self._join_ranks(values, grads, looking)
        self._ascents: list[Tensor | None] = []
        for d, radius in zip(self._displaced, radii, strict=True):
            keep = keep_grads or variant == "asam" or radius == 0
            # A copy, for whoever owns the gradient may reuse its storage in pass 2 (zeroing in place, DDP's buckets).
            self._ascents.append(d.dense_grad() if keep and not self._ascent_is_displacement else None)
            d.grad = None
        # What e/rho must be multiplied by to be g, in the units of the gradients that are kept.
        self._ascent_unit = self.grad_norm if variant == "sam" else torch.ones_like(self.grad_norm)
        if inverse_scale is not None:
            inverse = inverse_scale.to(self.grad_norm)
            self.grad_norm = self.grad_norm * inverse
            self._predicted_gain = self._predicted_gain * inverse
            if variant == "unnormalized":  # the one rule whose displacement grows with the gradient
                self._displacements = [e * inverse.to(e) for e in self._displacements]
                self._predicted_gain = self._predicted_gain * inverse
                self._ascent_unit = inverse.reciprocal()
        self.finite = self.grad_norm < math.inf

    def _join_ranks(self, values: Sequence[Tensor], grads: Sequence[Tensor], radii: Sequence[float | Tensor]) -> None:
        """Correct a perturbation that was computed from this rank's shards alone: the norms are those of all ranks."""
        asam = self._variant == "asam"
        weighted = [v * g for v, g in zip(values, grads, strict=True)] if asam else grads
        # The linear gain is r·‖w‖²/S for each tensor, with S the norm that divides; for "unnormalized" S = 1.
        by_radius = [w * r for w, r in zip(weighted, radii, strict=True)]
        squares = self._sums((grads, grads), (weighted, weighted), (weighted, by_radius))
        self.grad_norm, gain = squares[0].sqrt(), squares[2]
        if self._variant != "unnormalized":
            whole = squares[1].sqrt()
            inverse = torch.where(whole > 0, whole.reciprocal(), whole)
            share = norm(weighted) * inverse
            self._displacements = [e * share.to(e) for e in self._displacements]
            gain = gain * inverse
        self._predicted_gain = gain

    def go(self, seed: int) -> None:
        """Move the weights to `x⁺`; on an accelerator only if there is a direction.

        Args:
            seed: Seed of the random rounding; the number of the step, so that all ranks and a resumed run agree.
        """
        for d in self._displaced:  # all copies before the first move: parameters may share storage
            d.save()
        if not is_at_hand(self.finite):
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
        along, wanted, seen = self._sums((realised, intended), (intended, intended), (realised, realised))
        self.alignment = along / (wanted * seen).sqrt()
        self._stretch = (seen / wanted).sqrt()

    def restore(self) -> None:
        """Move the weights back to `x`, bit for bit; harmless when they are there."""
        for d in self._displaced:
            d.restore()
        torch.clear_autocast_cache()

    def come_back(
        self,
        params: Sequence[Tensor],
        *,
        loss: Tensor,
        loss_plus: Tensor,
        inverse_scale: Tensor | None = None,
    ) -> StepFigures:
        """Measure the step from the gradients of pass 2, and move the weights back to `x`.

        Args:
            params: All parameters of the optimizer; where one lacks a gradient or a displacement, it counts as 0.
            loss: `f`.
            loss_plus: `f⁺`.
            inverse_scale: What to multiply the gradients by to undo a loss scale, or None.

        Returns:
            The step's figures.
        """
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
                kept = self._ascents[i]
                displacement = self._displaced[i].displacement()
                ascent = kept if kept is not None else displacement
                if not self._ascent_is_displacement and kept is None:
                    ascent = displacement / self._radii[i] * self._ascent_unit.to(displacement.device)
            seen.append(p)
            displacements.append(displacement)
            ascents.append(ascent)
            grads_plus.append(whole_grad(p))
        vectors = displacements, ascents, grads_plus
        if self._sums.spread:
            vectors = _stand_ins(Sums(seen), *vectors)
        figures = step_figures(
            loss=loss,
            loss_plus=loss_plus,
            grad_norm=self.grad_norm,
            predicted_gain=self._predicted_gain,
            displacement=vectors[0],
            grads_plus=vectors[2],
            ascent=None if self._ascent_is_displacement else vectors[1],
        )
        self.restore()
        if self._keeps_grads:
            self.kept = seen, ascents, grads_plus
        if self._stretch is not None and self._ascent_is_displacement:
            # The random part of a rounded displacement is orthogonal to g⁺ on average, but lengthens the displacement.
            slope, cosine = figures.slope_plus * self._stretch, figures.cosine * self._stretch
            figures = replace(figures, slope_plus=slope, cosine=cosine)
        return figures if inverse_scale is None else unscaled_plus(figures, inverse_scale)


def unscaled_plus(figures: StepFigures, inverse_scale: Tensor) -> StepFigures:
    """Return the figures with the loss scale taken out of those that grow with the shifted gradient alone."""
    inverse = inverse_scale.to(figures.grad_plus_norm)
    return replace(
        figures,
        grad_plus_norm=figures.grad_plus_norm * inverse,
        shift_ratio=figures.shift_ratio * inverse,
        slope_plus=figures.slope_plus * inverse,
    )


def _stand_ins(
    sums: Sums, displacements: Sequence[Tensor], ascents: Sequence[Tensor], grads_plus: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return vectors with two entries that have the lengths and the angle of those that are spread over ranks."""
    squares = sums((displacements, displacements), (ascents, ascents), (grads_plus, grads_plus), (ascents, grads_plus))
    length, ascent, grad_plus = squares[:3].sqrt()
    along = squares[3] / ascent
    zero = torch.zeros_like(length)
    across = (grad_plus.square() - along.square()).clamp(min=0).sqrt()
    return [torch.stack([length, zero])], [torch.stack([ascent, zero])], [torch.stack([along, across])]


def whole_grad(param: Tensor) -> Tensor:
    """Return the gradient in the shape of the parameter, this rank's part, real; zeros if there is none."""
    grad = param.grad
    return nothing(param) if grad is None else real(grad.to_dense() if grad.is_sparse else grad)


def nothing(param: Tensor) -> Tensor:
    """Zeros in the shape of the parameter that take no memory."""
    part = local(param)
    return real(part.new_zeros(()).expand_as(part))

"""The weights' excursion from `x` to `x⁺` and back, and what it measures.

One copy of `x` is kept meanwhile, and `x` comes back from it by an in-place copy: bit for bit, in the same storage,
whatever the precision. Subtracting the perturbation again would drift by a rounding error per step. The gradient of
pass 1 is not needed at `x⁺`: after pass 2 the displacement, which is parallel to it, is recovered in the weights' own
storage.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from samirage.sam import StepFigures, Variant, perturb, step_figures


def real(tensor: Tensor) -> Tensor:
    """View a complex tensor as pairs of real numbers, as torch's own optimizers do; others as they are."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def gradient_values(params: Iterable[Tensor]) -> list[Tensor]:
    """Return the entries of the gradients that exist, as real and dense tensors whose norm is the gradient's."""
    grads = [p.grad for p in params if p.grad is not None]
    return [real(g.coalesce().values() if g.is_sparse else g) for g in grads]


class _Displaced:
    """One tensor away from home: the parameter, the rows of it that move (None: all), and a copy of them."""

    def __init__(self, param: Tensor) -> None:
        grad = param.grad
        assert grad is not None
        self.param = param
        self.rows: Tensor | None = None
        if grad.is_sparse:
            grad = grad.coalesce()
            if grad.sparse_dim() == 1:
                self.rows, grad = grad.indices()[0], grad.values()
            else:
                grad = grad.to_dense()
        self.grad: Tensor | None = real(grad)
        self.backup: Tensor | None = None

    def current(self) -> Tensor:
        weights = self.param if self.rows is None else self.param.index_select(0, self.rows)
        return real(weights)

    def save(self) -> None:
        self.backup = self.param.clone() if self.rows is None else self.param.index_select(0, self.rows)

    def move(self, displacement: Tensor) -> None:
        if self.rows is None:
            real(self.param).add_(displacement)
        else:
            moved = displacement if not self.param.is_complex() else torch.view_as_complex(displacement)
            self.param.index_add_(0, self.rows, moved)

    def restore(self) -> None:
        if self.backup is None:
            return
        if self.rows is None:
            self.param.copy_(self.backup)
        else:
            self.param.index_copy_(0, self.rows, self.backup)

    def displacement(self) -> Tensor:
        """Return `x⁺ − x`; a dense parameter is overwritten with it, and must be restored afterwards."""
        assert self.backup is not None
        if self.rows is None:
            return real(self.param.sub_(self.backup))
        moved = torch.zeros_like(self.param)
        return real(moved.index_copy_(0, self.rows, self.param.index_select(0, self.rows) - self.backup))


class Excursion:
    """The way of all parameters that have a gradient to `x⁺` and back.

    Constructing it computes the perturbation and moves nothing. It never changes a gradient.
    """

    @torch.no_grad()
    def __init__(self, params: Sequence[Tensor], radii: Sequence[float], variant: Variant) -> None:
        """Compute the perturbation from the gradients that the parameters hold; each must hold one."""
        self._displaced = [_Displaced(p) for p in params]
        grads = [d.grad for d in self._displaced if d.grad is not None]
        values = [d.current() for d in self._displaced] if variant == "asam" else grads
        pass_1 = perturb(values, grads, radii, variant=variant)
        self._displacements = pass_1.displacement
        self.grad_norm = pass_1.grad_norm
        self.predicted_gain = pass_1.predicted_gain
        self._radii = list(radii)
        self._variant = variant
        # The displacement stands in for g afterwards, tensor by tensor, where it is a positive multiple of g.
        self._ascent_is_displacement = variant != "asam" and len(set(radii)) <= 1
        self._ascents: list[Tensor | None] = []
        for d, radius in zip(self._displaced, radii, strict=True):
            keep = variant == "asam" or radius == 0
            # A copy, for whoever owns the gradient may reuse its storage in pass 2 (zeroing in place, DDP's buckets).
            self._ascents.append(_dense(d).clone() if keep and not self._ascent_is_displacement else None)
            d.grad = None

    def is_finite(self) -> bool:
        """Tell whether there is a direction to go: one number is read from the device."""
        return bool(torch.isfinite(self.grad_norm))

    @torch.no_grad()
    def go(self) -> None:
        """Move the weights to `x⁺`."""
        for d in self._displaced:  # all copies before the first move: parameters may share storage
            d.save()
        for d, displacement in zip(self._displaced, self._displacements, strict=True):
            d.move(displacement)
        self._displacements.clear()

    @torch.no_grad()
    def restore(self) -> None:
        """Move the weights back to `x`, bit for bit; harmless when they are there."""
        for d in self._displaced:
            d.restore()

    @torch.no_grad()
    def come_back(self, params: Sequence[Tensor], *, loss: Tensor, loss_plus: Tensor) -> StepFigures:
        """Measure the step from the gradients of pass 2, and move the weights back to `x`.

        Args:
            params: All parameters of the optimizer; where one lacks a gradient or a displacement, it counts as 0.
            loss: `f`.
            loss_plus: `f⁺`.

        Returns:
            The step's figures.
        """
        try:
            return self._figures(params, loss, loss_plus)
        finally:
            self.restore()

    def _figures(self, params: Sequence[Tensor], loss: Tensor, loss_plus: Tensor) -> StepFigures:
        displacements, ascents, grads_plus = [], [], []
        index = {id(d.param): i for i, d in enumerate(self._displaced)}
        for p in params:
            i = index.get(id(p))
            if i is None:
                if p.grad is None:
                    continue
                displacement = ascent = _nothing(p)
            else:
                kept = self._ascents[i]
                displacement = self._displaced[i].displacement()
                ascent = kept if kept is not None else displacement
                if not self._ascent_is_displacement and kept is None:
                    # Back to g itself, in whose units the kept ones are.
                    length = self.grad_norm.to(p.device) if self._variant == "sam" else 1.0
                    ascent = displacement / self._radii[i] * length
            displacements.append(displacement)
            ascents.append(ascent)
            grad = p.grad
            grads_plus.append(_nothing(p) if grad is None else real(grad.to_dense() if grad.is_sparse else grad))
        return step_figures(
            loss=loss,
            loss_plus=loss_plus,
            grad_norm=self.grad_norm,
            predicted_gain=self.predicted_gain,
            displacement=displacements,
            grads_plus=grads_plus,
            ascent=None if self._ascent_is_displacement else ascents,
        )


def _nothing(param: Tensor) -> Tensor:
    """Zeros in the shape of the parameter that take no memory."""
    return real(param.new_zeros(()).expand_as(param))


def _dense(displaced: _Displaced) -> Tensor:
    assert displaced.grad is not None
    if displaced.rows is None:
        return displaced.grad
    return torch.zeros_like(real(displaced.param)).index_copy_(0, displaced.rows, displaced.grad)

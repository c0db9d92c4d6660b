"""The move to `x⁺` that most are: dense weights of full precision in the host's memory, with one radius; and fast.

It does what `GeneralMove` does, in as few calls and journeys to the memory as possible; see `samirage.sam.reductions`.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from samirage.optim.move import AbstractMove, Measurement, nothing, whole_grad
from samirage.optim.record import NO, YES
from samirage.optim.variant_state import VariantInUse
from samirage.sam import StepFigures, figures_of_products, perturb, step_figures
from samirage.sam.reductions import in_blocks, norm_on_host, norms_of_pieces

_DTYPES: Final = (torch.float32, torch.float64)
_TYPES: Final = (nn.Parameter, Tensor)  # not their subclasses, which may be spread over ranks


class Number(NamedTuple):
    """What a closure has returned, as a number of the host: its value, NaN if it was none, and its tensor's dtype."""

    value: float
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """Return it as a tensor of shape ()."""
        return torch.full((), self.value, dtype=self.dtype)


def number_of(loss: Any) -> Number:
    """Return what a closure has returned as a number; a tensor is read, for its storage may be reused."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return Number(loss.item(), loss.dtype)
    return Number(loss if isinstance(loss, int | float) else math.nan, torch.float64)


def is_on_host(params: Sequence[Tensor]) -> bool:
    """Tell whether `HostMove` can move these parameters.

    Args:
        params: The parameters; each must hold a gradient.

    Returns:
        Whether they and their gradients are dense, contiguous, of the same full precision, and in the host's memory.
    """
    for p in params:
        if type(p) not in _TYPES or p.dtype not in _DTYPES or not p.is_cpu or not p.is_contiguous():
            return False
    return _fit(params) and not torch.compiler.is_compiling()


def _fit(params: Sequence[Tensor]) -> bool:
    """Tell whether the gradients are as plain as the parameters."""
    for p in params:
        grad = p.grad
        if (
            grad is None
            or type(grad) is not Tensor
            or grad.dtype is not p.dtype
            or not grad.is_cpu
            or grad.layout is not torch.strided
            or not grad.is_contiguous()
        ):
            return False
    return True


class HostMove(AbstractMove):
    """The move of parameters for which `is_on_host` holds; see `AbstractMove`.

    Args:
        params: The parameters.
        rho: The radius of all of them.
        variant: The variant.
        keep_grads: Whether `g` shall still be known after pass 2; a copy of it is then kept.
    """

    def __init__(self, params: Sequence[Tensor], rho: float, variant: VariantInUse, *, keep_grads: bool) -> None:
        self._params = list(params)
        self._home: list[Tensor] = []
        self._grads = [p.grad for p in params if p.grad is not None]
        self._displacements: list[Tensor] = []
        self._multiple: float | None = None  # what makes e of g, if anything
        if not variant.is_multiple:
            self._perturb(rho, variant)
        else:
            self._grad_norm = norm_on_host(self._grads)
            multiple = variant.rule.multiple(self._grad_norm, rho)
            assert isinstance(multiple, float)
            self._multiple = multiple
            self._predicted_gain = self._multiple * self._grad_norm**2
        self._copies = [g.clone() for g in self._grads] if keep_grads or self._multiple is None else None
        self._keeps_grads = keep_grads
        self.finite = YES if math.isfinite(self._grad_norm) else NO

    def _perturb(self, rho: float, variant: VariantInUse) -> None:
        if variant.is_stateless:
            found = perturb(self._params, self._grads, rho, variant=variant.rule)
        else:
            rule, state = variant.for_params(self._params), variant.state_of(self._params)
            found = perturb(self._params, self._grads, rho, variant=rule, state=state)
            variant.note(self._params, found.state)
        self._grad_norm, self._predicted_gain = found.grad_norm.item(), found.predicted_gain.item()
        self._displacements = found.displacement

    @property
    def grad_norm(self) -> Tensor:
        """`‖g‖`, shape ()."""
        return _tensor(self._grad_norm)

    def go(self, seed: int) -> None:
        """Move the weights to `x⁺`; nothing is rounded, so that the seed is of no use."""
        vectors, scale = (self._displacements, 1.0) if self._multiple is None else (self._grads, self._multiple)
        self._grads = self._displacements = []  # which must not outlive this
        for p in self._params:  # all copies before the first move: parameters may share storage
            self._home.append(p.clone())
        for weights, steps in in_blocks(self._params, vectors):
            torch._foreach_add_(weights, steps, alpha=scale)
        torch.clear_autocast_cache()  # which would serve the weights at x to a forward within the same autocast block

    def restore(self) -> None:
        """Move the weights back to `x`, bit for bit; harmless when they are there."""
        if self._home:
            torch._foreach_copy_(self._params[: len(self._home)], self._home)
            self._home = []
            torch.clear_autocast_cache()

    def measure(
        self, params: Sequence[Tensor], *, loss: Any, loss_plus: Any, inverse_scale: Tensor | None
    ) -> Measurement:
        """Measure the step, and move the weights back to `x`; see `AbstractMove.measure`."""
        losses = number_of(loss), number_of(loss_plus)
        usual = len([p for p in params if p.grad is not None]) == len(self._params) and _fit(self._params)
        found = self._usual(*losses) if usual else self._odd(params, *losses)
        self.restore()
        if self._keeps_grads and self._copies is not None:
            copies = dict(zip(map(id, self._params), self._copies, strict=True))
            seen = [p for p in params if p.grad is not None or id(p) in copies]
            grads = [copies[id(p)] if id(p) in copies else nothing(p) for p in seen]
            self.kept = seen, grads, [p.grad if usual and p.grad is not None else whole_grad(p) for p in seen]
        return found

    def _usual(self, loss: Number, loss_plus: Number) -> Measurement:
        lengths: list[float] = []
        plus: list[float] = []
        along = 0.0
        grads = [p.grad for p in self._params if p.grad is not None]
        # Where the displacement is no multiple of g, the slope along g needs the copy of g.
        ascents = self._params if self._multiple is not None or self._copies is None else self._copies
        for weights, home, ascent, grads_plus in in_blocks(self._params, self._home, ascents, grads):
            torch._foreach_sub_(weights, home)
            norms = norms_of_pieces([*weights, *grads_plus])
            lengths += norms[: len(weights)]
            plus += norms[len(weights) :]
            if self._multiple is None:
                torch._foreach_copy_(weights, ascent)
            torch._foreach_mul_(weights, grads_plus)
            along += sum([products.sum().item() for products in weights])  # noqa: C419 (faster)
            torch._foreach_copy_(weights, home)
        self._home = []
        torch.clear_autocast_cache()
        radius, grad_plus_norm = math.hypot(*lengths), math.hypot(*plus)
        ascent_norm = self._grad_norm if self._multiple is None else radius
        products = (self._grad_norm, self._predicted_gain, grad_plus_norm, radius, ascent_norm, along)
        return Measurement(NO if math.isfinite(grad_plus_norm) else YES, partial(_figures, loss, loss_plus, products))

    def _odd(self, params: Sequence[Tensor], loss: Number, loss_plus: Number) -> Measurement:
        """Measure a step in which the gradients of pass 2 are not those of pass 1, in number or kind."""
        home = dict(zip(map(id, self._params), self._home, strict=True))
        seen = [p for p in params if p.grad is not None or id(p) in home]
        ascents = None
        if self._multiple is None and self._copies is not None:
            copies = dict(zip(map(id, self._params), self._copies, strict=True))
            ascents = [copies[id(p)] if id(p) in copies else nothing(p) for p in seen]
        figures = step_figures(
            loss=loss.tensor(),
            loss_plus=loss_plus.tensor(),
            grad_norm=self.grad_norm,
            predicted_gain=_tensor(self._predicted_gain),
            displacement=[p.sub_(home[id(p)]) if id(p) in home else nothing(p) for p in seen],
            grads_plus=[whole_grad(p) for p in seen],
            ascent=ascents,
        )
        return Measurement(~(figures.grad_plus_norm < math.inf), figures)


def _figures(loss: Number, loss_plus: Number, products: tuple[float, ...]) -> StepFigures:
    grad_norm, predicted_gain, grad_plus_norm, radius, ascent_norm, along = map(_tensor, products)
    return figures_of_products(
        loss=loss.tensor(),
        loss_plus=loss_plus.tensor(),
        grad_norm=grad_norm,
        predicted_gain=predicted_gain,
        grad_plus_norm=grad_plus_norm,
        radius=radius,
        ascent_norm=ascent_norm,
        along=along,
    )


def _tensor(value: float) -> Tensor:
    return torch.full((), value, dtype=torch.float64)

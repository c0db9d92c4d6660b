"""The excursion that most are: dense weights of full precision in the host's memory, with one radius; and fast.

It does what `Excursion` does, in as few calls and journeys to the memory as possible; see `samirage.sam.pieces`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from samirage.optim.excursion import Excursion, nothing, whole_grad
from samirage.optim.record import NO, YES, Number, number_of
from samirage.sam import StepFigures, Variant, figures_of_products, step_figures
from samirage.sam.pieces import in_blocks, norm_on_host, norms_of_pieces, reciprocal

_DTYPES: Final = (torch.float32, torch.float64)
_TYPES: Final = (nn.Parameter, Tensor)  # not their subclasses, which may be spread over ranks


def is_plain(params: Sequence[Tensor]) -> bool:
    """Tell whether `PlainExcursion` can move these parameters.

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


@dataclass(frozen=True)
class LateFigures:
    """The figures of a step, before anybody has asked for them.

    Attributes:
        finite: Whether `‖g⁺‖` is.
        compute: Returns them.
    """

    finite: bool
    compute: Callable[[], StepFigures]


class PlainExcursion:
    """The way of plain parameters to `x⁺ = x + rho·g/‖g‖` and back.

    Constructing it computes the perturbation and moves nothing. It never changes a gradient. All of it is meant to run
    under `torch.no_grad()`.

    Args:
        params: The parameters, for which `is_plain` holds.
        rho: The radius of all of them.
        keep_grads: Whether `g` shall still be known after pass 2; a copy of it is then kept.

    Attributes:
        finite: Whether there is a direction to go, shape ().
        kept: See `Excursion`.
    """

    def __init__(self, params: Sequence[Tensor], rho: float, *, keep_grads: bool) -> None:
        self._params, self._rho = list(params), rho
        self._home: list[Tensor] = []
        self._grads = [p.grad for p in params if p.grad is not None]
        self._grad_norm = norm_on_host(self._grads)
        self._copies = [grad.clone() for grad in self._grads] if keep_grads else None
        self.finite = YES if math.isfinite(self._grad_norm) else NO
        self.kept: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None

    @property
    def grad_norm(self) -> Tensor:
        """`‖g‖`, shape ()."""
        return _tensor(self._grad_norm)

    def go(self, seed: int) -> None:
        """Move the weights to `x⁺`.

        Args:
            seed: Of no use: nothing is rounded at random.
        """
        grads, self._grads = self._grads, []  # which must not outlive this
        scale = self._rho * reciprocal(self._grad_norm)
        for p in self._params:  # all copies before the first move: parameters may share storage
            self._home.append(p.clone())
        for weights, slopes in in_blocks(self._params, grads):
            torch._foreach_add_(weights, slopes, alpha=scale)
        torch.clear_autocast_cache()  # which would serve the weights at x to a forward within the same autocast block

    def restore(self) -> None:
        """Move the weights back to `x`, bit for bit; harmless when they are there."""
        if self._home:
            torch._foreach_copy_(self._params[: len(self._home)], self._home)
            self._home = []
            torch.clear_autocast_cache()

    def come_back(self, params: Sequence[Tensor], *, loss: Any, loss_plus: Any) -> LateFigures:
        """Measure the step from the gradients of pass 2, and move the weights back to `x`.

        Args:
            params: All parameters of the optimizer; where one lacks a gradient or a displacement, it counts as 0.
            loss: `f`, in any form that a closure may return.
            loss_plus: `f⁺`, likewise.

        Returns:
            The step's figures.
        """
        losses = number_of(loss), number_of(loss_plus)
        usual = len([p for p in params if p.grad is not None]) == len(self._params) and _fit(self._params)
        figures = self._usual(*losses) if usual else self._odd(params, *losses)
        self.restore()
        if self._copies is not None:
            copies = dict(zip(map(id, self._params), self._copies, strict=True))
            seen = [p for p in params if p.grad is not None or id(p) in copies]
            grads = [copies[id(p)] if id(p) in copies else nothing(p) for p in seen]
            self.kept = seen, grads, [whole_grad(p) for p in seen]
        return figures

    def _usual(self, loss: Number, loss_plus: Number) -> LateFigures:
        lengths: list[float] = []
        plus: list[float] = []
        along = 0.0
        grads = [p.grad for p in self._params if p.grad is not None]
        for weights, home, grads_plus in in_blocks(self._params, self._home, grads):
            torch._foreach_sub_(weights, home)
            norms = norms_of_pieces([*weights, *grads_plus])
            lengths += norms[: len(weights)]
            plus += norms[len(weights) :]
            torch._foreach_mul_(weights, grads_plus)
            along += sum(map(_sum, weights))
            torch._foreach_copy_(weights, home)
        self._home = []
        torch.clear_autocast_cache()
        radius, grad_plus_norm = math.hypot(*lengths), math.hypot(*plus)
        products = (self._grad_norm, self._rho * self._grad_norm, grad_plus_norm, radius, along)
        return LateFigures(math.isfinite(grad_plus_norm), partial(_figures, loss, loss_plus, products))

    def _odd(self, params: Sequence[Tensor], loss: Number, loss_plus: Number) -> LateFigures:
        """Measure a step in which the gradients of pass 2 are not those of pass 1, in number or kind."""
        home = dict(zip(map(id, self._params), self._home, strict=True))
        seen = [p for p in params if p.grad is not None or id(p) in home]
        figures = step_figures(
            loss=loss.tensor(),
            loss_plus=loss_plus.tensor(),
            grad_norm=self.grad_norm,
            predicted_gain=_tensor(self._rho * self._grad_norm),
            displacement=[p.sub_(home[id(p)]) if id(p) in home else nothing(p) for p in seen],
            grads_plus=[whole_grad(p) for p in seen],
        )
        return LateFigures(bool(figures.grad_plus_norm < math.inf), lambda: figures)


def excursion_of(
    params: Sequence[Tensor],
    radii: Sequence[float],
    variant: Variant,
    inverse_scale: Tensor | None,
    *,
    factor: Tensor | None,
    operators: Callable[[Sequence[Tensor]], list[Tensor]] | None,
    keep_grads: bool,
) -> Excursion | PlainExcursion:
    """Return the excursion for a step; the arguments are those of `Excursion`."""
    if variant == "sam" and inverse_scale is None and operators is None and len(set(radii)) == 1 and is_plain(params):
        rho = radii[0] if factor is None else radii[0] * factor.item()
        return PlainExcursion(params, rho, keep_grads=keep_grads)
    return Excursion(params, radii, variant, inverse_scale, factor=factor, operators=operators, keep_grads=keep_grads)


def _figures(loss: Number, loss_plus: Number, products: tuple[float, ...]) -> StepFigures:
    grad_norm, predicted_gain, grad_plus_norm, radius, along = map(_tensor, products)
    return figures_of_products(
        loss=loss.tensor(),
        loss_plus=loss_plus.tensor(),
        grad_norm=grad_norm,
        predicted_gain=predicted_gain,
        grad_plus_norm=grad_plus_norm,
        radius=radius,
        ascent_norm=radius,
        along=along,
    )


def _sum(products: Tensor) -> float:
    return products.sum().item()


def _tensor(value: float) -> Tensor:
    return torch.full((), value, dtype=torch.float64)

"""Where SAM looks: the ascent direction and the perturbation `e`, with the figures that come with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from samirage.sam.reductions import BATCHED, SINGLE, Reductions, reciprocals
from samirage.sam.variants import AbstractVariant, Rho, State, Variant, checked_result, variant_of


@dataclass(frozen=True)
class Perturbation:
    """What pass 1 of a SAM step determines.

    Attributes:
        displacement: `e`, one tensor per parameter, in the gradient's dtype.
        grad_norm: `‖g‖`, shape () or (S,), float64 where the device has it.
        predicted_gain: `<g, e>`, the rise in loss that the linear model predicts; shape as `grad_norm`.
        state: What the variant remembers after it.
    """

    displacement: list[Tensor]
    grad_norm: Tensor
    predicted_gain: Tensor
    state: State = field(default_factory=dict)


def ascent_direction(grads: Sequence[Tensor], *, batched: bool = False) -> list[Tensor]:
    """Return `u = g/‖g‖`; zero where `g = 0`, NaN where `g` is not finite.

    Args:
        grads: `g`, one tensor per parameter.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.

    Returns:
        One tensor per parameter, of unit norm over all together.

    Example:
        >>> import torch
        >>> ascent_direction([torch.tensor([3.0]), torch.tensor([4.0])])
        [tensor([0.6000]), tensor([0.8000])]
    """
    reduce = BATCHED if batched else SINGLE
    return reduce.scaled(grads, reciprocals(reduce.norm(grads)))


def perturb(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    rho: Rho,
    *,
    variant: Variant | AbstractVariant = "sam",
    batched: bool = False,
    state: State | None = None,
    reduce: Reductions | None = None,
) -> Perturbation:
    """Return the perturbation `e` with which SAM moves to `x⁺ = x + e`.

    Args:
        params: `x`, one tensor per parameter; plain SAM does not read it.
        grads: `g`, one tensor per parameter.
        rho: Perturbation radius, finite and at least 0, in the units of the parameters: a number; a tensor of
            shape (S,) when batched; or a number (or a tensor of shape ()) per tensor, which scales its own tensor
            while the norm stays that of all tensors together.
        variant: `"sam"`, `"asam"`, `"unnormalized"`, or an object; the equations stand in `samirage.sam.variants`.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.
        state: What the variant remembers from the steps before; None at the start.
        reduce: Sums over all tensors; by default over one list, or over members when `batched`.

    Returns:
        The displacement with the figures that come with it.

    Raises:
        TypeError: If the variant does not return tensors and a state.
        ValueError: If the variant is unknown, or returns tensors of another shape, dtype or device.

    Example:
        >>> import torch
        >>> perturb([torch.zeros(2)], [torch.tensor([0.0, 7.0])], rho=0.5).displacement
        [tensor([0.0000, 0.5000])]
    """
    rule = variant if isinstance(variant, AbstractVariant) else variant_of(variant)
    before = {} if state is None else state
    if reduce is None:
        reduce = BATCHED if batched else SINGLE
    if rule.is_multiple:
        grad_norm = reduce.norm(grads)
        if not isinstance(rho, Sequence):
            factor = _factor(rule, grad_norm, rho)
            return Perturbation(reduce.scaled(grads, factor), grad_norm, factor * grad_norm.square(), before)
        e = reduce.scaled(grads, [_factor(rule, grad_norm, radius) for radius in rho])
        return Perturbation(e, grad_norm, reduce.dot(grads, e), before)
    found = rule.perturbation(params, grads, rho, before, reduce)
    e, after = checked_result(rule, "perturbation", found, grads)
    grad_norm, gain = reduce.together([grads], [(grads, e)])
    return Perturbation(e, grad_norm, gain, after)


def _factor(rule: AbstractVariant, grad_norm: Tensor, rho: float | Tensor) -> Tensor:
    factor = rule.multiple(grad_norm, rho)
    assert isinstance(factor, Tensor)
    return factor

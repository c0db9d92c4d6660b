"""What one SAM step says about itself, for free: from the two losses and gradients that it computes anyway.

See Long and Bartlett (arXiv 2309.12488) for the geometry of SAM's bouncing, and Park, Jang, Ryu and Yang
(arXiv 2509.21818) for hallucinated points, at which `g⁺` vanishes although `g` does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samirage.criteria import HALLUCINATED_GRAD_FRACTION, HALLUCINATED_SHIFT_RATIO
from samirage.sam.reductions import BATCHED, SINGLE, Reductions


@dataclass(frozen=True)
class StepFigures:
    """The figures of one step; each a tensor of shape (), or (S,) for a batch of members.

    They stay on the device until read. NaN means "not defined" (0/0) or "not measured" (a plain step has no `x⁺`).

    Attributes:
        loss: `f`, the loss at `x`.
        loss_plus: `f⁺`, the loss at `x⁺`.
        grad_norm: `‖g‖`.
        grad_plus_norm: `‖g⁺‖`.
        shift_ratio: `r = ‖g⁺‖/‖g‖`. Near 0 while `‖g‖` is not: a hallucinated point.
        ascent_gain: `G = (f⁺ − f)/<g, e>`: 1 where the loss is linear, above 1 convex along the ascent direction,
            between 0 and 1 concave or saturating, below 0 where the "ascent" point is lower than `x`.
        slope_plus: `s = u·g⁺`, the slope at `x⁺` along the ascent direction. Below 0: SAM looked across a ridge.
        cosine: `c = s/‖g⁺‖`, the cosine between `g` and `g⁺`.
        radius: `‖x⁺ − x‖` as realised after rounding; `rho` for plain SAM.
    """

    loss: Tensor
    loss_plus: Tensor
    grad_norm: Tensor
    grad_plus_norm: Tensor
    shift_ratio: Tensor
    ascent_gain: Tensor
    slope_plus: Tensor
    cosine: Tensor
    radius: Tensor


def step_figures(
    *,
    loss: Tensor,
    loss_plus: Tensor,
    grad_norm: Tensor,
    predicted_gain: Tensor,
    displacement: Sequence[Tensor],
    grads_plus: Sequence[Tensor],
    ascent: Sequence[Tensor] | None = None,
    batched: bool = False,
    reduce: Reductions | None = None,
) -> StepFigures:
    """Compute the figures of a two-pass step.

    Args:
        loss: `f`, shape () or (S,).
        loss_plus: `f⁺`, same shape.
        grad_norm: `‖g‖`, same shape.
        predicted_gain: `<g, e>`, same shape.
        displacement: `x⁺ − x` as realised, one tensor per parameter.
        grads_plus: `g⁺`, one tensor per parameter.
        ascent: Tensors along `g` (any positive multiple). Needed where the displacement is not parallel to `g`
            (ASAM, radii that differ between tensors); by default the displacement serves, so that `g` need
            not be kept during pass 2.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.
        reduce: Sums over all tensors; by default over one list, or over members when `batched`.

    Returns:
        The figures.

    Example:
        >>> x, g = torch.tensor([2.0]), torch.tensor([2.0])  # f(x) = x²/2
        >>> e, g_plus = torch.tensor([0.5]), torch.tensor([2.5])
        >>> figures = step_figures(loss=x.square().sum() / 2, loss_plus=(x + e).square().sum() / 2,
        ...     grad_norm=g.norm(), predicted_gain=(g * e).sum(), displacement=[e], grads_plus=[g_plus])
        >>> figures.shift_ratio.item(), figures.ascent_gain.item()
        (1.25, 1.125)
    """
    if reduce is None:
        reduce = BATCHED if batched else SINGLE
    along_grad = displacement if ascent is None else ascent
    vectors = [grads_plus, displacement] if ascent is None else [grads_plus, displacement, ascent]
    grad_plus_norm, radius, *ascent_norms, along = reduce.together(vectors, [(along_grad, grads_plus)])
    return figures_of_products(
        loss=loss,
        loss_plus=loss_plus,
        grad_norm=grad_norm,
        predicted_gain=predicted_gain,
        grad_plus_norm=grad_plus_norm,
        radius=radius,
        ascent_norm=ascent_norms[0] if ascent_norms else radius,
        along=along,
    )


def figures_of_products(
    *,
    loss: Tensor,
    loss_plus: Tensor,
    grad_norm: Tensor,
    predicted_gain: Tensor,
    grad_plus_norm: Tensor,
    radius: Tensor,
    ascent_norm: Tensor,
    along: Tensor,
) -> StepFigures:
    """Compute the figures of a two-pass step from what was summed up over all parameters.

    Args:
        loss: `f`, shape () or (S,).
        loss_plus: `f⁺`, same shape, as all others.
        grad_norm: `‖g‖`.
        predicted_gain: `<g, e>`.
        grad_plus_norm: `‖g⁺‖`.
        radius: `‖x⁺ − x‖` as realised.
        ascent_norm: `‖v‖` of a vector `v` along `g`, any positive multiple.
        along: `<v, g⁺>`.

    Returns:
        The figures.

    Example:
        >>> half = torch.tensor(0.5)
        >>> figures = figures_of_products(loss=half, loss_plus=2 * half, grad_norm=half, predicted_gain=half,
        ...     grad_plus_norm=2 * half, radius=half, ascent_norm=half, along=half)
        >>> figures.shift_ratio.item(), figures.slope_plus.item(), figures.cosine.item()
        (2.0, 1.0, 1.0)
    """
    slope_plus = along / ascent_norm
    return StepFigures(
        loss=loss,
        loss_plus=loss_plus,
        grad_norm=grad_norm,
        grad_plus_norm=grad_plus_norm,
        shift_ratio=grad_plus_norm / grad_norm,
        ascent_gain=(loss_plus - loss) / predicted_gain,
        slope_plus=slope_plus,
        cosine=slope_plus / grad_plus_norm,
        radius=radius,
    )


def plain_figures(*, loss: Tensor, grad_norm: Tensor) -> StepFigures:
    """Return the figures of a step that ran one pass only: loss and `‖g‖`; all others are NaN.

    Args:
        loss: `f`, shape () or (S,).
        grad_norm: `‖g‖`, same shape.

    Returns:
        The figures.

    Example:
        >>> plain_figures(loss=torch.tensor(1.0), grad_norm=torch.tensor(2.0)).shift_ratio
        tensor(nan)
    """
    missing = torch.full_like(grad_norm, torch.nan)
    return StepFigures(loss, missing, grad_norm, *[missing] * 6)


def agreement(figures: StepFigures) -> Tensor:
    """Return `u·g⁺/max(‖g‖, ‖g⁺‖)`: how far the shifted gradient does what SAM's first-order model expects of it.

    1 where `g⁺ = g`; at most the shift ratio `r`, and at most the cosine `c`, so that a small value says that `g⁺`
    vanishes, or points elsewhere. Below 0: SAM looked across a ridge.

    Args:
        figures: The figures of a step.

    Returns:
        Tensor in the shape of the figures, from −1 to 1: 1 where `g = 0`, and NaN where a figure is not finite or not
        measured.

    Example:
        >>> g, g_plus = torch.tensor([2.0, 0.0]), torch.tensor([3.0, 4.0])
        >>> figures = step_figures(loss=g.sum(), loss_plus=g.sum(), grad_norm=g.norm(), predicted_gain=g.norm() / 10,
        ...     displacement=[g / 20], grads_plus=[g_plus])
        >>> round(agreement(figures).item(), 6)
        0.6
    """
    larger = torch.maximum(figures.grad_norm, figures.grad_plus_norm)
    agreed = figures.slope_plus / larger + 0 * larger  # which is NaN where a norm is not finite
    return torch.where(figures.grad_norm == 0, torch.ones_like(agreed), agreed)


def is_at_hallucinated_point(
    shift_ratio: Tensor,
    grad_norm: Tensor,
    early_grad_norm: Tensor,
    *,
    max_shift_ratio: float = HALLUCINATED_SHIFT_RATIO,
    min_grad_fraction: float = HALLUCINATED_GRAD_FRACTION,
) -> Tensor:
    """Tell where the shifted gradient vanishes although the gradient does not: `r` is small and `‖g‖` is not.

    This is the first-order signature, at a glance; it does not tell a hallucinated minimizer from a saddle.

    Args:
        shift_ratio: `r`, typically its median over the last steps; any shape.
        grad_norm: `‖g‖` over the same steps; same shape.
        early_grad_norm: `‖g‖` early in the run, which says what "not small" means; same shape.
        max_shift_ratio: Largest `r` that counts as vanishing. The default is a round number between stalled
            and healthy runs of the study `mnist`; see its figure of the shift ratio.
        min_grad_fraction: Smallest `‖g‖` relative to `early_grad_norm` that counts as not small.

    Returns:
        Boolean tensor of the same shape; False where a figure is NaN.

    Example:
        >>> is_at_hallucinated_point(torch.tensor([1e-4, 0.9]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0]))
        tensor([ True, False])
    """
    return (shift_ratio < max_shift_ratio) & (grad_norm > min_grad_fraction * early_grad_norm)

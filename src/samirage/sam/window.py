"""What a window of steps says about a run: the course of its step figures, and whether its steps add up or cancel.

A point at which SAM rests shows in single steps (`r` vanishes); one about which it bounces shows only over many, in the
means `ḡ` and `d̄` of the gradient and of the direction that the steps follow (`g⁺`; `g` where a guard says so; with the
weight decay that the base optimizer adds). See Park, Jang, Ryu and Yang (arXiv 2509.21818) for the first, Long and
Bartlett (arXiv 2309.12488) for the second.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samirage.sam.figures import StepFigures
from samirage.sam.medians import nanmedian

_PARTS = 8  # of a window, between which the loss is compared
_MIN_STEPS = 8  # below which a trend, or a mean of vectors, says nothing
_RESOLVED = 0.5  # share of ‖ḡ‖² that two disjoint halves of the window must agree on for ḡ to be more than noise
_ROUNDINGS = 100.0  # how many roundings a part of a vector must exceed to be measured
_SAME = 1e-6  # relative difference up to which two gradients count as one and the same


@dataclass(frozen=True)
class CourseFigures:
    """The course of a window of W steps, from the figures of single steps; each a tensor of shape (), or (S,).

    Medians and means are over the steps with two passes. NaN means that no step could tell.

    Attributes:
        perturbed_share: Share of the steps that took two passes.
        finite_share: Share of the steps whose gradients were finite, and whose loss was finite where it is known.
        loss: Median of `f` over all steps.
        loss_trend: Change of `f` over the window over the larger of `|f|` and `|f⁺ − f|`; 0 where it is less than three
            times its standard error. It is that of the straight line through tapered means of 8 parts of the window.
        loss_drop: How far `f` is below its value early in the run, over the larger of that value and `|f⁺ − f|`.
        grad_fraction: Median of `‖g‖` over its value early in the run.
        grad_plus_fraction: Median of `‖g⁺‖` over the early `‖g‖`.
        shift_ratio: Median of `r`.
        cosine: Median of `c`.
        ascent_gain: Median of `G`.
        slope_ratio: `mean(s‖g‖)/mean(‖g‖²)`: how much of the slope at `x` the steps see at `x⁺`, in the mean. Above 1
            where `f` is convex along `u`, 1 where it is linear, near 0 at a hallucinated point, below 0 across a ridge.
        opposed_share: Share of the steps with `c < 0`.
        lower_share: Share of the steps with `f⁺ < f`.
        ridge_share: Share of the steps with `f⁺ < f` or `s < 0`: the loss along `u` has a maximum between (Rolle).
        same_grad_share: Share of the steps with `g⁺ = g`.
        same_loss_share: Share of the steps with `f⁺ = f`.
        rejected_share: Share of the steps that a guard rejected; NaN where nobody has judged them.
        radius: Median of `‖x⁺ − x‖`.
    """

    perturbed_share: Tensor
    finite_share: Tensor
    loss: Tensor
    loss_trend: Tensor
    loss_drop: Tensor
    grad_fraction: Tensor
    grad_plus_fraction: Tensor
    shift_ratio: Tensor
    cosine: Tensor
    ascent_gain: Tensor
    slope_ratio: Tensor
    opposed_share: Tensor
    lower_share: Tensor
    ridge_share: Tensor
    same_grad_share: Tensor
    same_loss_share: Tensor
    rejected_share: Tensor
    radius: Tensor


@dataclass(frozen=True)
class MotionFigures:
    """Whether the steps of a window add up or cancel; each a tensor of shape (), or (S,). NaN: could not be measured.

    Attributes:
        successive_cosine: `tau`, the median cosine between the directions of successive steps; −1 in a 2-cycle.
        motion_coherence: `B = ‖d̄‖/mean‖d‖`: 1 for a straight path, near 0 where the steps cancel.
        grad_coherence: `C0 = ‖ḡ‖/mean‖g‖`: 1 where the loss has one slope all along.
        mean_grad_ratio: `D0 = ‖ḡ‖/mean‖d‖`: near 0 where the steps cancel because they go back and forth across a
            critical point.
        mean_shift_ratio: `‖d̄‖/‖ḡ‖`: as `r`, but for the mean vectors, in which noise and bouncing cancel.
        descent_efficiency: `e = <ḡ, d̄>/‖ḡ‖²`: about 1 in healthy runs, 0 where a run stands on a slope.
            Measured from two disjoint sets of steps, `(<ḡ_A, d̄_B> + <ḡ_B, d̄_A>)/(2<ḡ_A, ḡ_B>)`, so that the noise of
            minibatches is not taken for slope. NaN where `<ḡ_A, ḡ_B>` is less than half of `‖ḡ‖²`, and is mostly noise.
        transverse_cosine: Median cosine between the parts of `g` and `d` across the direction of the step before: +1
            where the loss is convex across the bouncing, −1 where SAM pulls towards a saddle. NaN where there is no
            such part beyond rounding.
    """

    successive_cosine: Tensor
    motion_coherence: Tensor
    grad_coherence: Tensor
    mean_grad_ratio: Tensor
    mean_shift_ratio: Tensor
    descent_efficiency: Tensor
    transverse_cosine: Tensor


@dataclass(frozen=True)
class MotionProducts:
    """The inner products from which the motion figures follow. They are sums over coordinates: ranks may add them.

    The steps fall in two sets: step t belongs to A for t mod 4 in {0, 1}, to B otherwise, so that a 2-cycle looks the
    same in both.

    Attributes:
        steps: For each step `‖g‖²`, `‖d‖²`, `<g, d>`, `<d, d'>`, `<g, d'>` and `‖d'‖²`, where `d'` is the direction of
            the step before (NaN at the first); shape (n, 6) or (n, 6, S).
        sums: All inner products between the sums of `g` over A and B, and of `d` over A and B, in this order; shape
            (4, 4) or (4, 4, S).
        counts: Number of steps in A and in B whose vectors were finite, and are in the sums; shape (2,) or (2, S). The
            products of the others are NaN.
        eps: Relative rounding error of the vectors.
    """

    steps: Tensor
    sums: Tensor
    counts: Tensor
    eps: float


def course_figures(
    steps: StepFigures, *, early_loss: Tensor, early_grad_norm: Tensor, followed: Tensor | None = None
) -> CourseFigures:
    """Compute the figures of a window from those of its steps.

    Args:
        steps: Tensors of shape (W,) or (W, S), W at least 1, in the order of the steps. A step whose radius is NaN took
            one pass.
        early_loss: Typical `f` early in the run, shape () or (S,).
        early_grad_norm: Typical `‖g‖` early in the run, same shape.
        followed: Whether each step followed `g⁺`, boolean, shape (W,) or (W, S); None where no guard judges.

    Returns:
        The figures.

    Example:
        >>> x = torch.linspace(2.0, 1.0, 64)  # f = x²/2 along its axis, looked at with rho = 0.5
        >>> one = torch.ones(64)
        >>> steps = StepFigures(loss=x**2 / 2, loss_plus=(x + 0.5) ** 2 / 2, grad_norm=x, grad_plus_norm=x + 0.5,
        ...     shift_ratio=(x + 0.5) / x, ascent_gain=1 + 0.25 / x, slope_plus=x + 0.5, cosine=one, radius=0.5 * one)
        >>> figures = course_figures(steps, early_loss=torch.tensor(2.0), early_grad_norm=torch.tensor(2.0))
        >>> bool(figures.loss_trend < -0.5), bool(figures.slope_ratio > 1), figures.ridge_share.item()
        (True, True, 0.0)
    """
    perturbed = ~steps.radius.isnan()
    gain = (steps.loss_plus - steps.loss).abs()
    known = gain.isfinite()
    loss = nanmedian(steps.loss)
    scale = torch.fmax(loss.abs(), nanmedian(gain))
    early_scale = torch.fmax(early_loss.abs(), nanmedian(gain))
    finite = steps.grad_norm.isfinite() & ~steps.grad_plus_norm.isinf() & ~steps.loss.isinf()
    finite &= ~(perturbed & steps.grad_plus_norm.isnan())
    lower = steps.loss_plus < steps.loss
    opposed = steps.slope_plus < 0
    same = ((steps.shift_ratio - 1).abs() < _SAME) & ((steps.cosine - 1).abs() < _SAME)
    slope = (steps.slope_plus * steps.grad_norm).nanmean(0)
    return CourseFigures(
        perturbed_share=_share(perturbed, torch.ones_like(perturbed)),
        finite_share=_share(finite, torch.ones_like(finite)),
        loss=loss,
        loss_trend=_significant_change(steps.loss) / scale,
        loss_drop=(early_loss - loss) / early_scale,
        grad_fraction=nanmedian(steps.grad_norm) / early_grad_norm,
        grad_plus_fraction=nanmedian(steps.grad_plus_norm) / early_grad_norm,
        shift_ratio=nanmedian(steps.shift_ratio),
        cosine=nanmedian(steps.cosine),
        ascent_gain=nanmedian(steps.ascent_gain),
        slope_ratio=slope / steps.grad_norm.square().where(~steps.slope_plus.isnan(), torch.nan).nanmean(0),
        opposed_share=_share(opposed, perturbed),
        lower_share=_share(lower, known),
        ridge_share=_share(lower | opposed, perturbed),
        same_grad_share=_share(same, perturbed),
        same_loss_share=_share(steps.loss_plus == steps.loss, known),
        rejected_share=loss * torch.nan if followed is None else _share(~followed, perturbed),
        radius=nanmedian(steps.radius),
    )


def _share(flags: Tensor, among: Tensor) -> Tensor:
    """Share of the flags that are set, among those that count; NaN where none counts."""
    return (flags & among).double().sum(0) / among.double().sum(0)


def _significant_change(loss: Tensor) -> Tensor:
    """Change along the fitted straight line; 0 within three standard errors; NaN where the loss is not known."""
    if len(loss) < 2 * _PARTS:
        return torch.full_like(loss[0], torch.nan)
    # Half-overlapping Hann windows: a mean over some periods of an orbit that is not a whole number of them is off by
    # far less than that over a box, and an orbit does not look like a trend.
    half = len(loss) / (_PARTS + 1)
    step = torch.arange(len(loss), dtype=loss.dtype, device=loss.device) + 0.5
    centre = half * torch.arange(1, _PARTS + 1, dtype=loss.dtype, device=loss.device)
    taper = (1 + ((step - centre[:, None]) / half).clamp(-1, 1).mul(torch.pi).cos()) / 2
    flat = loss.reshape(len(loss), -1)
    finite = flat.isfinite()
    means = taper @ flat.where(finite, 0.0) / (taper @ finite.to(taper))
    place = (centre - centre.mean())[:, None] / len(loss)
    spread = place.square().sum(0)
    slope = (place * means).sum(0) / spread
    residual = means - means.mean(0) - place * slope
    error = (residual.square().sum(0) / (_PARTS - 2) / spread).sqrt()
    return torch.where(slope.abs() < 3 * error, 0.0, slope).reshape(loss.shape[1:])


def motion_figures(products: MotionProducts) -> MotionFigures:
    """Compute whether the steps of a window add up or cancel.

    Args:
        products: The inner products, summed over all coordinates (or a weighted sample of them).

    Returns:
        The figures; all NaN for fewer than 8 steps.

    Example:
        >>> g = torch.tensor([1.0, -1.0] * 8)  # one coordinate, bouncing; d = 3 g
        >>> before = torch.cat([torch.tensor([torch.nan]), 3 * g[:-1]])
        >>> steps = torch.stack([g * g, 9 * g * g, 3 * g * g, 3 * g * before, g * before, before**2], 1)
        >>> counts = torch.tensor([8.0, 8.0])
        >>> figures = motion_figures(MotionProducts(steps, torch.zeros(4, 4), counts, eps=1e-7))
        >>> figures.successive_cosine.item(), figures.motion_coherence.item()
        (-1.0, 0.0)
    """
    n_a, n_b = products.counts.to(products.sums)
    n = n_a + n_b
    n = n.where(n >= _MIN_STEPS, torch.nan)
    square_g, square_d, inner, turn, cross, square_before = products.steps.unbind(1)
    m = products.sums
    mean_grad = (m[0, 0] + 2 * m[0, 1] + m[1, 1]).clamp(min=0).sqrt() / n
    mean_step = (m[2, 2] + 2 * m[2, 3] + m[3, 3]).clamp(min=0).sqrt() / n
    grad_norm, step_norm = square_g.sqrt().nanmean(0), square_d.sqrt().nanmean(0)
    agreed = m[0, 1] / (n_a * n_b)
    efficiency = (m[0, 3] + m[1, 2]) / (2 * m[0, 1])
    return MotionFigures(
        successive_cosine=nanmedian(turn / (square_d * square_before).sqrt()),
        motion_coherence=mean_step / step_norm,
        grad_coherence=mean_grad / grad_norm,
        mean_grad_ratio=mean_grad / step_norm,
        mean_shift_ratio=mean_step / mean_grad,
        descent_efficiency=efficiency.where(agreed >= _RESOLVED * mean_grad.square(), torch.nan),
        transverse_cosine=_transverse_cosine(square_g, square_d, inner, turn, cross, square_before, products.eps),
    )


def _transverse_cosine(
    square_g: Tensor, square_d: Tensor, inner: Tensor, turn: Tensor, cross: Tensor, square_before: Tensor, eps: float
) -> Tensor:
    g = square_g - cross.square() / square_before
    d = square_d - turn.square() / square_before
    along = inner - cross * turn / square_before
    floor = _ROUNDINGS * eps
    measured = (g > floor * square_g) & (d > floor * square_d)
    cosine = nanmedian((along / (g * d).sqrt()).where(measured, torch.nan))
    return cosine.where(2 * measured.sum(0) >= (~g.isnan()).sum(0), torch.nan)

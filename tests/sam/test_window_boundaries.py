"""The figures of a window where they turn: a trend against a textbook regression, and each limit from both sides."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from samirage.sam import MotionProducts, StepFigures, course_figures, motion_figures
from tests.sam.test_window import products_of, random_steps, steps_of

PARTS = 8


def tapered_means(loss):
    """Places (in steps) and means of 8 half-overlapping Hann windows, term by term, over the losses that are finite."""
    half = len(loss) / (PARTS + 1)
    places, means = [], []
    for part in range(1, PARTS + 1):
        centre = part * half
        weights = [max(0.0, math.cos(math.pi * (t + 0.5 - centre) / (2 * half)) ** 2) for t in range(len(loss))]
        inside = [abs(t + 0.5 - centre) < half and math.isfinite(loss[t]) for t in range(len(loss))]
        total = math.fsum(w for w, i in zip(weights, inside, strict=True) if i)
        means.append(math.fsum(w * float(v) for w, v, i in zip(weights, loss, inside, strict=True) if i) / total)
        places.append(centre)
    return np.array(places), np.array(means)


def course_of(loss, gain=0.1, **early):
    n = len(loss)
    loss = torch.as_tensor(loss, dtype=torch.float64)
    g = torch.ones(n, 1, dtype=torch.float64)
    steps = steps_of(loss, loss + gain, g, g, torch.ones(n, dtype=torch.float64))
    one = torch.tensor(1.0, dtype=torch.float64)
    return course_figures(steps, **{"early_loss": one, "early_grad_norm": one, **early})


# --- the trend ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [90, 128, 16])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_trend_counts_from_three_standard_errors_of_the_regression_on(n, sign):
    """The noise is given such a slope that it has 2.9, then 3.1 standard errors; both are scipy's."""
    noise = 10 + np.random.default_rng(n).normal(size=n)
    time = np.arange(n) + 0.5
    found = stats.linregress(*tapered_means(noise))
    for errors in (2.9, 3.1):
        loss = noise + (sign * errors * found.stderr - found.slope) * time
        places, means = tapered_means(loss)
        fit = stats.linregress(places, means)
        assert abs(fit.slope) / fit.stderr == pytest.approx(errors, abs=0.01)
        scale = abs(np.sort(loss)[(n - 1) // 2])
        expected = fit.slope * n / scale if errors > 3 else 0.0
        assert course_of(loss).loss_trend.item() == pytest.approx(expected, rel=1e-9)


def test_the_trend_is_over_the_gain_where_that_is_larger_than_the_loss():
    line = 1 + np.arange(90) / 90
    assert course_of(line, gain=0.1).loss_trend.item() == pytest.approx(1 / np.sort(line)[44], rel=1e-9)
    assert course_of(line, gain=-50.0).loss_trend.item() == pytest.approx(1 / 50, rel=1e-9)
    falling = course_of(line, gain=-50.0, early_loss=torch.tensor(4.0, dtype=torch.float64))
    assert falling.loss_drop.item() == pytest.approx((4 - np.sort(line)[44]) / 50, rel=1e-12)


def test_losses_that_are_not_finite_are_left_out_of_the_trend():
    loss = 10 + np.random.default_rng(3).normal(size=120) - 0.1 * np.arange(120)
    loss[[5, 6, 40, 77]] = [math.nan, math.inf, -math.inf, math.nan]
    fit = stats.linregress(*tapered_means(loss))
    known = np.sort(loss[~np.isnan(loss)])
    expected = fit.slope * 120 / abs(known[(len(known) - 1) // 2])
    assert course_of(loss).loss_trend.item() == pytest.approx(expected, rel=1e-9)


def test_a_trend_needs_two_steps_a_part():
    assert math.isnan(course_of(np.linspace(2, 1, 15)).loss_trend)
    assert course_of(np.linspace(2, 1, 16)).loss_trend < -0.5
    two = torch.stack([torch.linspace(2, 1, 16), torch.linspace(1, 2, 16)], 1).double()
    steps = {name: torch.stack([value, value], 1) for name, value in vars(random_steps(n=16)).items()}
    both = course_figures(
        StepFigures(**{**steps, "loss": two}), early_loss=two[0], early_grad_norm=torch.ones(2, dtype=torch.float64)
    )
    assert both.loss_trend.sign().tolist() == [-1, 1]


# --- shares ------------------------------------------------------------------------------------------


def course_of_steps(**changes):
    """Four steps with g⁺ = g and f⁺ > f, with other values for some figures."""
    ones = torch.ones(4, dtype=torch.float64)
    same = StepFigures(
        loss=ones, loss_plus=2 * ones, grad_norm=ones, grad_plus_norm=ones, shift_ratio=ones, ascent_gain=ones,
        slope_plus=ones, cosine=ones, radius=ones,
    )  # fmt: skip
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in changes.items() if name != "followed"}
    steps = StepFigures(**{**vars(same), **given})
    return course_figures(steps, early_loss=ones[0], early_grad_norm=ones[0], followed=changes.get("followed"))


def test_two_gradients_are_the_same_up_to_a_millionth():
    for name in ("shift_ratio", "cosine"):
        near = course_of_steps(**{name: [1 + 0.9e-6, 1 - 0.9e-6, 1 + 1.1e-6, 1 - 1.1e-6]})
        assert near.same_grad_share == 0.5, name
    # Both must be: g⁺ = 2g has the cosine 1, and a rotated g⁺ the ratio 1.
    assert course_of_steps(shift_ratio=[2.0, 2.0, 2.0, 1.0]).same_grad_share == 0.25


def test_equal_is_neither_lower_nor_opposed():
    found = course_of_steps(loss_plus=[1.0, 0.5, 1.5, 1.0], slope_plus=[0.0, 1.0, -1.0, 0.0])
    assert (found.same_loss_share, found.lower_share, found.opposed_share) == (0.5, 0.25, 0.25)
    assert found.ridge_share == 0.5  # the second is lower, the third opposed


def test_each_figure_that_is_not_finite_makes_a_step_that_is_not():
    inf, nan = math.inf, math.nan
    assert course_of_steps().finite_share == 1
    for changes in (
        {"grad_norm": [1.0, inf, nan, -inf]},
        {"grad_plus_norm": [1.0, inf, nan, inf]},
        {"loss": [1.0, inf, -inf, inf]},
    ):
        assert course_of_steps(**changes).finite_share == 0.25
    # A step with one pass has no g⁺, and a loss need not be known.
    assert course_of_steps(grad_plus_norm=[nan] * 4, radius=[nan] * 4).finite_share == 1
    assert course_of_steps(loss=[nan] * 4).finite_share == 1


def test_rejected_are_those_of_the_judged_steps_that_were_not_followed():
    followed = torch.tensor([True, False, False, True])
    assert course_of_steps(followed=followed).rejected_share == 0.5
    assert course_of_steps(followed=followed, radius=[1.0, math.nan, 1.0, 1.0]).rejected_share.item() == 1 / 3
    assert math.isnan(course_of_steps().rejected_share)


def test_the_slope_ratio_is_of_the_steps_whose_slope_is_known():
    found = course_of_steps(grad_norm=[1.0, 2.0, 3.0, 100.0], slope_plus=[0.5, 1.0, -1.0, math.nan])
    assert found.slope_ratio.item() == pytest.approx((0.5 + 2 - 3) / (1 + 4 + 9), rel=1e-14)


# --- motion ------------------------------------------------------------------------------------------


def two_sets(angle, n=64):
    """Gradients along one direction in the steps of set A, and along another in those of B; d = g."""
    in_a = torch.arange(n) % 4 < 2
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle)])
    return torch.where(in_a[:, None], a, b).double()


def test_efficiency_needs_two_sets_of_steps_that_agree_on_half_of_the_mean_gradient():
    # <ḡ_A, ḡ_B> = cos and ‖ḡ‖² = (1 + cos)/2, so that half of it is agreed on from cos = 1/3 on.
    for cosine, known in [(0.34, True), (0.33, False), (-0.5, False)]:
        g = two_sets(math.acos(cosine))
        efficiency = motion_figures(products_of(g, 0.7 * g)).descent_efficiency
        assert efficiency.isfinite().item() == known
        assert not known or efficiency.item() == pytest.approx(0.7, rel=1e-12)


def test_means_need_eight_steps():
    g = torch.ones(8, 2, dtype=torch.float64)
    assert motion_figures(products_of(g, g)).motion_coherence == 1
    assert motion_figures(products_of(g[:7], g[:7])).motion_coherence.isnan()


def test_steps_that_were_not_finite_count_in_no_mean():
    """Of 20 steps 12 are finite: the means are over these."""
    g = torch.tensor([3.0, 4.0], dtype=torch.float64).expand(20, 2)
    products = products_of(g, 2 * g)
    rows = products.steps.clone()
    rows[12:] = torch.nan
    counts, sums = torch.tensor([6, 6]), products.sums * (6 / 10) ** 2
    found = motion_figures(MotionProducts(rows, sums, counts, eps=products.eps))
    for name, value in [("grad_coherence", 1), ("motion_coherence", 1), ("mean_grad_ratio", 0.5)]:
        assert getattr(found, name).item() == pytest.approx(value, rel=1e-12)
    assert found.mean_shift_ratio.item() == pytest.approx(2, rel=1e-12)
    assert found.descent_efficiency.item() == pytest.approx(2, rel=1e-12)
    uneven = motion_figures(MotionProducts(rows, sums, torch.tensor([9, 3]), eps=products.eps))
    assert uneven.descent_efficiency.isfinite()  # (6·6/(9·3))·‖g‖² agreed on, of ‖g‖²


def zigzag(across_g, across_d, n=40):
    """Steps along the first axis, forth and back, with parts of g and d across them of given sizes."""
    sign = (-1.0) ** torch.arange(n, dtype=torch.float64)
    return (torch.stack([sign, torch.full((n,), across, dtype=torch.float64)], 1) for across in (across_g, across_d))


def products_about_one_axis(across_g, across_d, eps):
    """Products of g = (±1, across_g), d = (±1, across_d), where the step before lies along the first axis exactly."""
    g, d = zigzag(across_g, across_d)
    before = d * torch.tensor([-1.0, 0.0], dtype=torch.float64)
    rows = torch.stack(
        [(a * b).sum(1) for a, b in ((g, g), (d, d), (g, d), (d, before), (g, before), (before, before))], 1
    )
    return MotionProducts(rows, torch.zeros(4, 4, dtype=torch.float64), torch.tensor([20, 20]), eps=eps)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_what_is_across_must_exceed_a_hundred_roundings(sign):
    eps = 1e-6
    # ‖across‖² against 100·eps·‖g‖², where ‖g‖² is 1 but for a part in 10⁴.
    above, below = math.sqrt(1.05e-4), math.sqrt(0.95e-4)
    for across_g, across_d, known in [(above, above, True), (below, above, False), (above, below, False)]:
        found = motion_figures(products_about_one_axis(across_g, sign * across_d, eps)).transverse_cosine
        assert found.isfinite().item() == known
        assert not known or found.item() == pytest.approx(sign, rel=1e-9)


def test_the_transverse_cosine_needs_half_of_the_steps():
    products = products_about_one_axis(0.3, 0.3, eps=1e-6)
    rows = products.steps
    rows[0, 3:] = torch.nan  # the first step has none before it
    nothing_across = products_about_one_axis(1e-9, 1e-9, eps=1e-6).steps
    for measured, known in [(20, True), (19, False)]:  # of 39
        mixed = torch.cat([rows[: measured + 1], nothing_across[measured + 1 :]])
        found = motion_figures(MotionProducts(mixed, products.sums, products.counts, eps=1e-6)).transverse_cosine
        assert found.isfinite().item() == known

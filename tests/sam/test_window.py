"""The figures of a window, against plain NumPy in float64 and against motions whose figures are known."""

import math

import numpy as np
import pytest
import torch

from samirage.sam import (
    MotionProducts,
    StepFigures,
    course_figures,
    extreme_eigenvalues,
    motion_figures,
    step_figures,
    top_eigenvector,
)


def steps_of(loss, loss_plus, g, g_plus, radius):
    """Figures of single steps from vectors of shape (W, d)."""
    grad_norm, plus_norm = g.norm(dim=1), g_plus.norm(dim=1)
    slope = (g * g_plus).sum(1) / grad_norm
    return StepFigures(
        loss=loss,
        loss_plus=loss_plus,
        grad_norm=grad_norm,
        grad_plus_norm=plus_norm,
        shift_ratio=plus_norm / grad_norm,
        ascent_gain=(loss_plus - loss) / (radius * grad_norm),
        slope_plus=slope,
        cosine=slope / plus_norm,
        radius=radius,
    )


def random_steps(seed=0, n=50, d=3):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    loss = draw(n).abs() + 1
    return steps_of(loss, loss + draw(n), draw(n, d), draw(n, d), torch.full((n,), 0.3, dtype=torch.float64))


def products_of(g, d):
    """The inner products of a motion, shape (n, k) each, written out with NumPy."""
    g, d = g.numpy(), d.numpy()
    before = np.vstack([np.full(d.shape[1], np.nan), d[:-1]])
    rows = np.stack(
        [(a * b).sum(1) for a, b in ((g, g), (d, d), (g, d), (d, before), (g, before), (before, before))], 1
    )
    in_a = np.arange(len(g)) % 4 < 2
    sums = np.stack([g[in_a].sum(0), g[~in_a].sum(0), d[in_a].sum(0), d[~in_a].sum(0)])
    counts = torch.tensor([in_a.sum(), (~in_a).sum()])
    return MotionProducts(torch.tensor(rows), torch.tensor(sums @ sums.T), counts, eps=np.finfo(np.float64).eps)


def test_the_course_is_medians_and_shares_of_the_steps_with_two_passes():
    steps = random_steps()
    plain = torch.arange(50) % 5 == 0
    missing = {
        name: getattr(steps, name).where(~plain, torch.nan)
        for name in ("loss_plus", "grad_plus_norm", "shift_ratio", "ascent_gain", "slope_plus", "cosine", "radius")
    }
    steps = StepFigures(**{**vars(steps), **missing})
    figures = course_figures(
        steps, early_loss=torch.tensor(4.0), early_grad_norm=torch.tensor(2.0), followed=torch.arange(50) % 10 != 1
    )
    kept = {name: value.numpy()[~plain.numpy()] for name, value in vars(steps).items()}

    def low_median(values):  # torch's: of two middle values the lower
        return np.sort(values)[(len(values) - 1) // 2]

    assert figures.perturbed_share == 0.8
    assert figures.finite_share == 1
    for name in ("shift_ratio", "cosine", "ascent_gain", "radius"):
        assert getattr(figures, name).item() == low_median(kept[name])
    assert figures.loss.item() == low_median(steps.loss.numpy())
    assert figures.lower_share.item() == np.mean(kept["loss_plus"] < kept["loss"])
    assert figures.opposed_share.item() == np.mean(kept["slope_plus"] < 0)
    assert figures.ridge_share.item() == np.mean((kept["loss_plus"] < kept["loss"]) | (kept["slope_plus"] < 0))
    expected = np.mean(kept["slope_plus"] * kept["grad_norm"]) / np.mean(kept["grad_norm"] ** 2)
    assert figures.slope_ratio.item() == pytest.approx(expected, rel=1e-14)
    assert figures.grad_fraction.item() == low_median(steps.grad_norm.numpy()) / 2
    assert figures.grad_plus_fraction.item() == low_median(kept["grad_plus_norm"]) / 2
    gain = low_median(np.abs(kept["loss_plus"] - kept["loss"]))
    assert figures.loss_drop.item() == (4 - figures.loss.item()) / max(4, gain)
    assert figures.rejected_share.item() == 5 / 40  # steps 1, 11, … are judged, none of them is plain


def test_members_of_a_batch_have_the_figures_that_each_has_alone():
    several = [random_steps(seed) for seed in range(3)]
    stacked = StepFigures(**{name: torch.stack([getattr(s, name) for s in several], 1) for name in vars(several[0])})
    early = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    together = course_figures(stacked, early_loss=early, early_grad_norm=early)
    for i, steps in enumerate(several):
        alone = course_figures(steps, early_loss=early[i], early_grad_norm=early[i])
        for name, value in vars(alone).items():
            torch.testing.assert_close(getattr(together, name)[i], value, rtol=1e-14, atol=0, equal_nan=True)


def course_of_loss(loss):
    n = len(loss)
    g = torch.ones(n, 1, dtype=torch.float64)
    steps = steps_of(loss, loss + 0.1, g, g, torch.ones(n, dtype=torch.float64))
    return course_figures(steps, early_loss=loss[0], early_grad_norm=torch.tensor(1.0))


def test_the_trend_of_a_line_is_its_change_over_the_window():
    line = 5 - 2 * torch.arange(96, dtype=torch.float64) / 96
    figures = course_of_loss(line)
    assert figures.loss_trend.item() == pytest.approx(-2 / 4, abs=0.01)  # over the loss in the middle


def test_noise_and_orbits_are_no_trend_and_a_fall_in_noise_is_one():
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(200, dtype=torch.float64)
    trends = []
    for _ in range(200):
        noise = 0.3 * torch.randn(200, generator=generator, dtype=torch.float64)
        trends.append(
            [course_of_loss(1 + noise).loss_trend.item(), course_of_loss(1.5 - time / 200 + noise).loss_trend]
        )
    flat, falling = torch.tensor(trends).unbind(1)
    assert (flat == 0).double().mean() > 0.95
    assert (falling < -0.5).double().mean() > 0.95
    for period in (2, 3, 6, 7.5, 21):
        orbit = 1 + (2 * torch.pi * time / period).sin()
        assert abs(course_of_loss(orbit).loss_trend.item()) < 0.01


def test_a_loss_that_is_not_known_has_no_trend_and_no_share():
    unknown = torch.full((50,), torch.nan, dtype=torch.float64)
    g = torch.ones(50, 1, dtype=torch.float64)
    steps = steps_of(unknown, unknown, g, -g, torch.ones(50, dtype=torch.float64))
    figures = course_figures(steps, early_loss=unknown[0], early_grad_norm=torch.tensor(1.0))
    for name in ("loss", "loss_trend", "loss_drop", "lower_share", "same_loss_share", "rejected_share"):
        assert math.isnan(getattr(figures, name))
    assert figures.ridge_share == 1  # from the slope alone
    assert figures.finite_share == 1


def test_gradients_that_are_not_finite_are_counted():
    steps = random_steps()
    broken = {**vars(steps), "grad_norm": steps.grad_norm.clone(), "grad_plus_norm": steps.grad_plus_norm.clone()}
    broken["grad_norm"][:20] = torch.nan
    broken["grad_plus_norm"][20:25] = torch.inf
    figures = course_figures(StepFigures(**broken), early_loss=torch.tensor(1.0), early_grad_norm=torch.tensor(1.0))
    assert figures.finite_share.item() == pytest.approx(0.5)


def test_equal_gradients_are_recognised():
    x = torch.tensor([[1.0, 2.0]])
    same = step_figures(
        loss=torch.tensor(1.0), loss_plus=torch.tensor(1.0), grad_norm=x.norm(), predicted_gain=torch.tensor(0.1),
        displacement=[0.1 * x], grads_plus=[x],
    )  # fmt: skip
    stacked = StepFigures(**{name: value[None] for name, value in vars(same).items()})
    figures = course_figures(stacked, early_loss=torch.tensor(1.0), early_grad_norm=torch.tensor(1.0))
    assert figures.same_grad_share == 1
    assert figures.same_loss_share == 1


def test_the_motion_is_that_of_the_definitions():
    generator = torch.Generator().manual_seed(1)
    mean = torch.tensor([1.0, 0.5, -2.0, 0.0, 0.3], dtype=torch.float64)
    g = mean + 0.5 * torch.randn(64, 5, generator=generator, dtype=torch.float64)
    d = 0.3 * g + 0.1 * torch.randn(64, 5, generator=generator, dtype=torch.float64)
    figures = motion_figures(products_of(g, d))
    g_bar, d_bar = g.mean(0), d.mean(0)
    g_norm, d_norm = g.norm(dim=1).mean(), d.norm(dim=1).mean()
    in_a = torch.arange(64) % 4 < 2
    g_a, g_b, d_a, d_b = g[in_a].mean(0), g[~in_a].mean(0), d[in_a].mean(0), d[~in_a].mean(0)
    before, now = d[:-1], d[1:]
    turns = torch.cosine_similarity(now, before, dim=1)
    v = before / before.norm(dim=1, keepdim=True)
    g_across = g[1:] - (g[1:] * v).sum(1, keepdim=True) * v
    d_across = now - (now * v).sum(1, keepdim=True) * v
    expected = {
        "successive_cosine": turns.median(),
        "motion_coherence": d_bar.norm() / d_norm,
        "grad_coherence": g_bar.norm() / g_norm,
        "mean_grad_ratio": g_bar.norm() / d_norm,
        "mean_shift_ratio": d_bar.norm() / g_bar.norm(),
        "descent_efficiency": (g_a @ d_b + g_b @ d_a) / (2 * g_a @ g_b),
        "transverse_cosine": torch.cosine_similarity(g_across, d_across, dim=1).median(),
    }
    for name, value in expected.items():
        assert getattr(figures, name).item() == pytest.approx(value.item(), rel=1e-9), name


def test_a_straight_path_and_a_2_cycle():
    g = torch.tensor([[3.0, 4.0]], dtype=torch.float64).expand(40, 2)
    straight = motion_figures(products_of(g, 0.5 * g))
    for name in ("successive_cosine", "motion_coherence", "grad_coherence"):
        assert getattr(straight, name).item() == pytest.approx(1, rel=1e-12)
    assert straight.descent_efficiency.item() == pytest.approx(0.5, rel=1e-12)
    assert straight.mean_grad_ratio.item() == pytest.approx(2, rel=1e-12)
    assert math.isnan(straight.transverse_cosine)  # nothing is across
    sign = (-1.0) ** torch.arange(40, dtype=torch.float64)[:, None]
    cycle = motion_figures(products_of(sign * g, 2 * sign * g))
    assert cycle.successive_cosine == -1
    assert cycle.motion_coherence == 0
    assert cycle.mean_grad_ratio == 0


def test_efficiency_is_not_taken_from_noise():
    """Noise that both gradients of a batch share looks like an efficiency of 1.5 where there is no slope at all."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(400, 50, generator=generator, dtype=torch.float64)
    products = products_of(noise, 1.5 * noise)
    biased = (products.sums[0, 2] + products.sums[0, 3] + products.sums[1, 2] + products.sums[1, 3]) / (
        products.sums[0, 0] + 2 * products.sums[0, 1] + products.sums[1, 1]
    )
    assert biased.item() == pytest.approx(1.5)
    assert math.isnan(motion_figures(products).descent_efficiency)
    slope = torch.zeros(50, dtype=torch.float64)
    slope[0] = 1.5
    found = []
    for _ in range(100):
        noise = torch.randn(64, 50, generator=generator, dtype=torch.float64)
        g, d = slope + noise, 0.1 * slope + noise
        efficiency = motion_figures(products_of(g, d)).descent_efficiency.item()
        found.append([efficiency, (g.mean(0) @ d.mean(0) / g.mean(0).square().sum()).item()])
    ours, biased = torch.tensor(found).nanmedian(0).values
    assert ours.item() == pytest.approx(0.1, abs=0.05)
    assert biased > 0.3


@pytest.mark.parametrize(("curvature", "sign"), [(-0.8, -1.0), (0.8, 1.0)])
def test_the_transverse_cosine_tells_a_saddle_from_a_minimum_while_bouncing(curvature, sign):
    """g⁺ = (I + rho·H/‖g‖)·g: across the bouncing along λ = 3 it is (1 + rho·h/‖g‖) times g, of either sign."""
    h = torch.tensor([3.0, curvature], dtype=torch.float64)
    rho, lr = 0.2, 0.1
    x = torch.tensor([lr * rho * 3 / (2 - lr * 3), 1e-3], dtype=torch.float64)
    gs, ds = [], []
    for _ in range(40):
        g = h * x
        d = g + rho * h * g / g.norm()
        gs.append(g)
        ds.append(d)
        x = x - lr * d
    figures = motion_figures(products_of(torch.stack(gs), torch.stack(ds)))
    assert figures.transverse_cosine.item() == pytest.approx(sign)
    assert figures.successive_cosine.item() == pytest.approx(-1, abs=1e-3)


def test_few_steps_have_no_means():
    g = torch.ones(5, 2, dtype=torch.float64)
    figures = motion_figures(products_of(g, g))
    assert math.isnan(figures.motion_coherence)
    assert math.isnan(figures.descent_efficiency)


@pytest.mark.parametrize("dim", [1, 2, 7, 60])
def test_lanczos_finds_the_ends_of_a_spectrum(dim):
    generator = torch.Generator().manual_seed(dim)
    matrix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.t()
    values = torch.linalg.eigvalsh(matrix)
    low, high = extreme_eigenvalues(lambda v: matrix @ v, torch.zeros(dim, dtype=torch.float64), steps=60)
    assert low == pytest.approx(values[0].item(), rel=1e-9)
    assert high == pytest.approx(values[-1].item(), rel=1e-9)


def test_lanczos_of_few_products_lies_within_the_spectrum_and_of_zero_is_zero():
    diagonal = torch.linspace(-1, 5, 400, dtype=torch.float64)
    low, high = extreme_eigenvalues(lambda v: diagonal * v, diagonal, steps=20)
    assert -1 <= low < -0.9
    assert 4.9 < high <= 5
    assert extreme_eigenvalues(torch.zeros_like, diagonal) == (0, 0)


def test_the_top_eigenvector_is_that_of_a_dense_solver_also_where_it_is_negative():
    generator = torch.Generator().manual_seed(4)
    matrix = torch.randn(40, 40, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.mT - 6 * torch.eye(40, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix)
    assert abs(values[0]) > abs(values[-1])
    value, vector = top_eigenvector(lambda v: matrix @ v, matrix[0], tolerance=1e-10)
    assert value == pytest.approx(values[0].item(), rel=1e-12)
    assert abs(vector @ vectors[:, 0]).item() == pytest.approx(1, abs=1e-12)


def test_the_iteration_for_a_top_eigenvector_ends_at_its_tolerance():
    calls = []
    diagonal = torch.cat([torch.tensor([100.0]), torch.linspace(0, 1, 99)]).double()
    top_eigenvector(lambda v: calls.append(0) or diagonal * v, diagonal)
    assert len(calls) < 6

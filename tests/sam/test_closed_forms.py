"""Dynamics of SAM that can be worked out by hand, in float64; every start is one member of a batch."""

import math

import pytest
import torch
from torch import Tensor

from samirage.sam import StepFigures, perturb, step_figures

QUADRATIC = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)


def quadratic(x: Tensor) -> tuple[Tensor, Tensor]:
    return (QUADRATIC * x.square()).sum(1) / 2, QUADRATIC * x


def ring(x: Tensor) -> tuple[Tensor, Tensor]:
    excess = x.square().sum(1, keepdim=True) - 1  # R = 1
    return excess.square().squeeze(1) / 4, excess * x


def double_well(p: Tensor) -> tuple[Tensor, Tensor]:
    x, y = p.unbind(1)
    f = (x**2 - 1) ** 2 / 4 + 0.4 * y**2 + 0.15 * x * y
    return f, torch.stack([x * (x**2 - 1) + 0.15 * y, 0.8 * y + 0.15 * x], 1)


def sam_step(function, x: Tensor, *, rho, lr, variant="sam") -> tuple[Tensor, Tensor, StepFigures]:
    """One step from each row of x: the next rows, the shifted gradients, the figures."""
    loss, grad = function(x)
    pass_1 = perturb([x], [grad], rho, variant=variant, batched=True)
    (e,) = pass_1.displacement
    loss_plus, grad_plus = function(x + e)
    figures = step_figures(
        loss=loss,
        loss_plus=loss_plus,
        grad_norm=pass_1.grad_norm,
        predicted_gain=pass_1.predicted_gain,
        displacement=[e],
        grads_plus=[grad_plus],
        batched=True,
    )
    return x - lr * grad_plus, grad_plus, figures


def run(function, x: Tensor, *, steps, **settings) -> tuple[Tensor, StepFigures]:
    for _ in range(steps - 1):
        x, _, _ = sam_step(function, x, **settings)
    _, _, figures = sam_step(function, x, **settings)
    return x, figures


def starts(n: int, radius: float) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return radius * torch.randn(n, 2, dtype=torch.float64, generator=generator)


def test_the_sam_gradient_of_a_quadratic():
    x = torch.tensor([[0.3, -2.0, 1.0]], dtype=torch.float64)
    g = QUADRATIC * x
    _, grad_plus, _ = sam_step(quadratic, x, rho=0.7, lr=1.0)
    torch.testing.assert_close(grad_plus, g + 0.7 * QUADRATIC * g / g.norm(), rtol=1e-15, atol=0)


def test_a_quadratic_ends_in_a_2_cycle_along_the_top_eigenvector():
    top, lr, rho = 4.0, 0.1, 0.3
    x = torch.tensor([[0.3, -2.0, 1.0], [-1.0, 0.2, 0.1]], dtype=torch.float64)
    x, figures = run(quadratic, x, steps=3000, rho=rho, lr=lr)
    radius = lr * rho * top / (2 - lr * top)
    torch.testing.assert_close(x.abs(), torch.tensor([[radius, 0, 0]] * 2, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(figures.shift_ratio, torch.full((2,), 2 / (lr * top), dtype=torch.float64))
    torch.testing.assert_close(figures.cosine, torch.ones(2, dtype=torch.float64))
    after, grad_plus, _ = sam_step(quadratic, x, rho=rho, lr=lr)
    _, grad_plus_after, _ = sam_step(quadratic, after, rho=rho, lr=lr)
    tau = torch.cosine_similarity(grad_plus, grad_plus_after)
    torch.testing.assert_close(tau, -torch.ones(2, dtype=torch.float64))
    assert (figures.loss_plus > figures.loss).all()


def test_the_saddle_trap_holds_just_above_its_critical_curvature():
    top, lr, rho = 3.0, 0.1, 0.2
    critical = lr * top**2 / (2 - lr * top)
    radius = lr * rho * top / (2 - lr * top)
    curvatures = torch.tensor([0.95, 1.05], dtype=torch.float64) * -critical

    def saddle(p: Tensor) -> tuple[Tensor, Tensor]:
        g = torch.stack([top * p[:, 0], curvatures * p[:, 1]], 1)
        return (p * g).sum(1) / 2, g

    start = torch.tensor([[radius, 1e-9]] * 2, dtype=torch.float64)
    end, _ = run(saddle, start, steps=200, rho=rho, lr=lr)
    # By hand, one step multiplies the second entry by 1 + lr·h·(1 − h/critical).
    h = -curvatures
    expected = 1e-9 * (1 + lr * h * (1 - h / critical)) ** 199
    torch.testing.assert_close(end[:, 1], expected, rtol=1e-6, atol=0)
    assert end[0, 1] > 1e-9 > end[1, 1] > 0


def test_the_ring_with_a_radius_beyond_its_centre_hallucinates_from_every_start():
    x, figures = run(ring, starts(50, 0.8), steps=3000, rho=1.5, lr=0.05)
    torch.testing.assert_close(x.norm(dim=1), torch.full((50,), 0.5, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (figures.shift_ratio < 1e-14).all()
    torch.testing.assert_close(figures.grad_norm, torch.full((50,), 0.375, dtype=torch.float64))
    assert (figures.loss_plus < figures.loss).all()
    assert (figures.ascent_gain < 0).all()


def test_the_ring_with_a_radius_beyond_its_diameter_bounces_on_it():
    x, figures = run(ring, starts(50, 0.8), steps=1000, rho=2.5, lr=0.01)
    # The longest step is lr·s⁺(s⁺² − 1) with s⁺ at most 1 + rho + one step.
    longest = 0.01 * 3.9 * (3.9**2 - 1)
    assert ((x.norm(dim=1) - 1).abs() < longest).all()
    assert (figures.shift_ratio > 1).all()


def test_the_ring_with_a_small_radius_reaches_it_from_outside_the_radius_and_is_trapped_from_within():
    rho, lr = 0.5, 0.02
    x = torch.tensor([[0.3, 0.0], [0.0, -0.4], [0.6, 0.0], [-0.5, 0.6], [0.0, 1.6]], dtype=torch.float64)
    trapped = x.norm(dim=1) < rho
    end, _ = run(ring, x, steps=2000, rho=rho, lr=lr)
    size = end.norm(dim=1)
    assert trapped.tolist() == [True, True, False, False, False]
    assert (size[trapped] < 2 * lr * rho).all()
    assert ((size[~trapped] - 1).abs() < 2 * lr * 1.5 * (1.5**2 - 1)).all()


def hallucinated_end(rho: float, lr: float = 0.05, steps: int = 3000) -> tuple[Tensor, Tensor, StepFigures]:
    side = torch.linspace(-1.6, 1.6, 9, dtype=torch.float64) + 0.01
    x, figures = run(double_well, torch.cartesian_prod(side, side), steps=steps, rho=rho, lr=lr)
    return (figures.grad_plus_norm < 1e-10) & (figures.grad_norm > 0.01), x, figures


def test_the_double_wells_hallucinated_attractor():
    found, x, figures = hallucinated_end(1.5)
    assert found.any()
    right = found & (x[:, 0] > 0)
    assert right.any()
    expected = torch.tensor([0.47093, -0.02220], dtype=torch.float64)
    assert (x[right] - expected).abs().max() < 1e-5
    assert (x[found & (x[:, 0] < 0)] + expected).abs().max() < 1e-5
    assert (figures.grad_norm[found] - 0.374).abs().max() < 5e-4
    assert (figures.shift_ratio[found] < 1e-9).all()
    # x⁺ is the true minimizer on the other side of the ridge.
    (e,) = perturb([x], [double_well(x)[1]], 1.5, batched=True).displacement
    minimizer = torch.tensor([-1.0140, 0.1901], dtype=torch.float64)
    assert ((x + e)[right] - minimizer).abs().max() < 5e-5


@pytest.mark.parametrize(("rho", "hallucinates"), [(1.03, False), (1.1, True), (2.0, True), (2.07, False)])
def test_the_double_well_hallucinates_between_the_ridge_and_the_other_minimum(rho, hallucinates):
    found, _, _ = hallucinated_end(rho)
    assert bool(found.any()) == hallucinates


def test_the_eigenvalues_and_the_stable_learning_rate_at_the_hallucinated_attractor():
    x, _ = run(double_well, torch.tensor([[0.5, 0.0]], dtype=torch.float64), steps=2000, rho=1.5, lr=0.1)
    h = 1e-6
    columns = []
    for axis in range(2):
        step = h * torch.eye(2, dtype=torch.float64)[axis]
        _, up, _ = sam_step(double_well, x + step, rho=1.5, lr=1.0)
        _, down, _ = sam_step(double_well, x - step, rho=1.5, lr=1.0)
        columns.append((up - down)[0] / (2 * h))
    mu = torch.linalg.eigvals(torch.stack(columns, 1))
    assert sorted(mu.real.tolist()) == pytest.approx([1.80, 3.92], abs=5e-3)
    nearby = x + 1e-3
    for lr, stable in [(0.505, True), (0.515, False)]:
        end, _ = run(double_well, nearby, steps=2000, rho=1.5, lr=lr)
        assert (torch.linalg.vector_norm(end - x) < 1e-9) == stable


def test_unnormalized_sam_on_a_quadratic_and_where_it_cannot_hallucinate():
    x = torch.tensor([[0.3, -2.0, 1.0]], dtype=torch.float64)
    _, grad_plus, figures = sam_step(quadratic, x, rho=0.7, lr=1.0, variant="unnormalized")
    torch.testing.assert_close(grad_plus, QUADRATIC * x * (1 + 0.7 * QUADRATIC), rtol=1e-15, atol=0)
    torch.testing.assert_close(figures.radius, 0.7 * (QUADRATIC * x).norm(dim=1))
    # Along any segment of the double well −uᵀHu is at most 1.03, so with rho = 0.8 a vanishing g⁺ means a vanishing g.
    side = torch.linspace(-1.2, 1.2, 8, dtype=torch.float64)
    _, figures = run(
        double_well, torch.cartesian_prod(side, side), steps=4000, rho=0.8, lr=0.02, variant="unnormalized"
    )
    assert (figures.grad_plus_norm < 1e-10).all()
    assert (figures.grad_norm < 1e-9).all()


def test_ascent_gain_and_slope_on_a_parabola_by_hand():
    # f = 2x² at x = 3 with rho = 0.5: g = 12, x⁺ = 3.5, g⁺ = 14, f⁺ − f = 24.5 − 18 = 6.5, predicted 6.
    def parabola(x: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x.square().sum(1), 4 * x

    _, _, figures = sam_step(parabola, torch.tensor([[3.0]], dtype=torch.float64), rho=0.5, lr=0.1)
    assert figures.ascent_gain.item() == pytest.approx(6.5 / 6, rel=1e-14)
    assert figures.slope_plus.item() == pytest.approx(14, rel=1e-14)
    assert figures.cosine.item() == pytest.approx(1, rel=1e-14)
    assert figures.shift_ratio.item() == pytest.approx(14 / 12, rel=1e-14)
    assert figures.radius.item() == pytest.approx(0.5, rel=1e-14)
    assert math.isclose(figures.loss_plus.item(), 24.5)

"""Norms and inner products of all shapes and magnitudes against exact sums, across the sizes at which they are cut."""

import math

import numpy as np
import pytest
import torch

from samirage.sam import ascent_direction, dot, norm, perturb, step_figures

# Sizes about those at which a CPU sums in other ways: 2¹⁵ and 2¹⁶ entries.
SIZES = [1, 7, 2**15 - 1, 2**15, 2**15 + 1, 2**16 - 1, 2**16, 2**16 + 3, 3 * 2**15 + 17]


def draw(size, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, dtype=torch.float64, generator=generator).to(dtype)


def exact_norm(tensors):
    """Euclidean norm in exact arithmetic but for the last rounding; scaled, so that squares stay in range."""
    values = np.concatenate([t.detach().to(torch.float64).numpy().ravel() for t in tensors])
    scale = float(np.abs(values).max()) or 1.0
    return scale * math.sqrt(math.fsum((values / scale) ** 2))


def exact_dot(a, b):
    products = [(p.double() * q.double()).numpy().ravel() for p, q in zip(a, b, strict=True)]
    return math.fsum(np.concatenate(products))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("magnitude", [1e-30, 1e-11, 1.0, 1e14, 1e16, 1e25])
def test_a_norm_of_any_size_and_magnitude_is_that_of_exact_sums(dtype, magnitude):
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    tensors = [(magnitude * draw(size, torch.float64, i)).to(dtype) for i, size in enumerate(SIZES)]
    for one in tensors:
        assert norm([one]).item() == pytest.approx(exact_norm([one]), rel=tolerance)
    assert norm(tensors).item() == pytest.approx(exact_norm(tensors), rel=tolerance)
    small = [t[:5] for t in tensors]
    assert norm(small).item() == pytest.approx(exact_norm(small), rel=tolerance)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_members_of_very_different_magnitudes_have_norms_of_their_own(size, dtype):
    scale = torch.tensor([1e-25, 1.0, 1e20, 0.0], dtype=torch.float64)
    tensors = [(scale[:, None] * draw((4, n), torch.float64, n)).to(dtype) for n in (size, 3)]
    norms = norm(tensors, batched=True)
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    for member, value in enumerate(norms.tolist()):
        assert value == pytest.approx(exact_norm([t[member] for t in tensors]), rel=tolerance)
    (u, _) = ascent_direction(tensors, batched=True)
    assert (u[3] == 0).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_inner_product_is_that_of_exact_sums(size, dtype):
    a, b = ([draw(size, dtype, seed), draw((2, 3), dtype, seed + 1), draw((), dtype, seed + 2)] for seed in (0, 10))
    # Errors of a sum are small against the sum of the sizes, not against itself; a product in bfloat16 has 8 bits.
    size_of_all = exact_dot([p.abs() for p in a], [q.abs() for q in b])
    tolerance = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    assert dot(a, b).item() == pytest.approx(exact_dot(a, b), abs=tolerance * size_of_all)
    assert dot(a, a).item() == pytest.approx(exact_norm(a) ** 2, rel=max(tolerance, 1e-13))
    stacked = ([torch.stack([t, 2 * t]) for t in side] for side in (a, b))
    products = dot(*stacked, batched=True).tolist()
    assert products[0] == pytest.approx(exact_dot(a, b), abs=tolerance * size_of_all)
    assert products[1] == pytest.approx(4 * exact_dot(a, b), abs=4 * tolerance * size_of_all)


def test_sums_are_wider_than_half_precision():
    assert norm([torch.full((10_000,), 1.0, dtype=torch.float16)]).item() == pytest.approx(100, rel=1e-6)
    assert dot([torch.ones(70_000, dtype=torch.float16)], [torch.ones(70_000, dtype=torch.float16)]).item() == 70_000
    wide, narrow = torch.tensor([1e10, 3.0], dtype=torch.float64), torch.tensor([1.0, -2.0])
    assert dot([wide], [narrow]).item() == dot([narrow], [wide]).item() == 1e10 - 6
    assert norm([torch.ones(3)]).dtype == dot([torch.ones(3)], [torch.ones(3)]).dtype == torch.float64


@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized"])
@pytest.mark.parametrize("rho", [0.3, [0.3, 2.0]])
def test_the_predicted_gain_is_the_inner_product_with_the_displacement(variant, rho):
    x, g = (
        [draw(5, torch.float64, 1), draw((2, 2), torch.float64, 2)],
        [draw(5, torch.float64, 3), draw((2, 2), torch.float64, 4)],
    )
    found = perturb(x, g, rho, variant=variant)
    assert found.predicted_gain.item() == pytest.approx(exact_dot(g, found.displacement), rel=1e-13)
    assert found.grad_norm.item() == pytest.approx(exact_norm(g), rel=1e-14)
    factors = rho if isinstance(rho, list) else [rho, rho]
    lengths = [exact_norm([e]) / r for e, r in zip(found.displacement, factors, strict=True)]
    weights = {"sam": g, "asam": [p.square() * q for p, q in zip(x, g, strict=True)], "unnormalized": g}[variant]
    total = {
        "sam": exact_norm(g),
        "asam": exact_norm([p * q for p, q in zip(x, g, strict=True)]),
        "unnormalized": 1.0,
    }[variant]
    assert lengths == pytest.approx([exact_norm([w]) / total for w in weights], rel=1e-13)


def test_asam_does_not_move_where_no_weight_with_a_gradient_does():
    x, g = torch.tensor([0.0, 2.0]), torch.tensor([3.0, 0.0])
    found = perturb([x], [g], 0.5, variant="asam")
    assert found.displacement[0].tolist() == [0.0, 0.0]
    assert found.predicted_gain.item() == 0
    assert found.grad_norm.item() == 3


def test_the_figures_of_a_step_by_hand():
    # g = (3, 4), e = 0.1·g/‖g‖ = (0.06, 0.08), g⁺ = (−1, 7): s = u·g⁺ = (−3 + 28)/5 = 5, ‖g⁺‖ = √50.
    e, g_plus = torch.tensor([0.06, 0.08], dtype=torch.float64), torch.tensor([-1.0, 7.0], dtype=torch.float64)
    given = {
        "loss": torch.tensor(2.0, dtype=torch.float64), "loss_plus": torch.tensor(2.75, dtype=torch.float64),
        "grad_norm": torch.tensor(5.0, dtype=torch.float64), "predicted_gain": torch.tensor(0.5, dtype=torch.float64),
    }  # fmt: skip
    expected = {
        "shift_ratio": math.sqrt(50) / 5, "ascent_gain": 1.5, "slope_plus": 5.0, "cosine": 5 / math.sqrt(50),
        "radius": 0.1, "grad_plus_norm": math.sqrt(50), "loss": 2.0, "loss_plus": 2.75, "grad_norm": 5.0,
    }  # fmt: skip
    along_g = {"ascent": [3 * torch.tensor([3.0, 4.0], dtype=torch.float64)]}
    for options in ({}, along_g):
        figures = step_figures(**given, displacement=[e], grads_plus=[g_plus], **options)
        assert {name: value.item() for name, value in vars(figures).items()} == pytest.approx(expected, rel=1e-14)

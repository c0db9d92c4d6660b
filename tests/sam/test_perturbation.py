"""The perturbation rules and figures: against NumPy, member by member, and at the ends of the number range."""

import math

import numpy as np
import pytest
import torch

from samirage.sam import (
    VARIANTS,
    WarmStart,
    ascent_direction,
    dot,
    is_at_hallucinated_point,
    norm,
    perturb,
    plain_figures,
    sam_edge,
    step_figures,
)

SHAPES = [(3, 4), (5,), (), (2, 1, 3)]


def tensors(seed, members=None, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    lead = () if members is None else (members,)
    return [torch.randn(lead + shape, dtype=dtype, generator=generator) for shape in SHAPES]


def flat(arrays):
    return np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays])


def by_hand(variant, w, g, rho):
    if variant == "sam":
        return rho * g / math.sqrt(sum(v * v for v in g))
    if variant == "asam":
        s = math.sqrt(sum((a * b) ** 2 for a, b in zip(w, g, strict=True)))
        return np.array([r * a * a * b / s for r, a, b in zip(rho, w, g, strict=True)])
    return rho * g


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("per_tensor", [False, True])
def test_each_rule_agrees_with_its_elementwise_formula(variant, per_tensor):
    w, g = tensors(1), tensors(2)
    radii = [0.3, 0.0, 2.5, 1.1] if per_tensor else [0.7] * 4
    per_entry = np.concatenate([np.full(t.numel(), r) for t, r in zip(w, radii, strict=True)])
    result = perturb(w, g, radii if per_tensor else 0.7, variant=variant)
    expected = by_hand(variant, flat(w), flat(g), per_entry)
    np.testing.assert_allclose(flat(result.displacement), expected, rtol=1e-14)
    assert result.grad_norm.item() == pytest.approx(np.linalg.norm(flat(g)), rel=1e-14)
    assert result.predicted_gain.item() == pytest.approx(flat(g) @ expected, rel=1e-13)
    assert [e.shape for e in result.displacement] == [t.shape for t in w]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_the_same_as_its_members_one_by_one(variant):
    members = 3
    w, g, g_plus = tensors(1, members), tensors(2, members), tensors(4, members)
    rho = torch.tensor([0.2, 0.0, 3.0], dtype=torch.float64)
    loss, loss_plus = torch.rand(2, members, dtype=torch.float64)
    batch = perturb(w, g, rho, variant=variant, batched=True)
    measures = {"loss": loss, "loss_plus": loss_plus, "grad_norm": batch.grad_norm}
    figures = step_figures(
        **measures,
        predicted_gain=batch.predicted_gain,
        displacement=batch.displacement,
        grads_plus=g_plus,
        ascent=g,
        batched=True,
    )
    directions = ascent_direction(g, batched=True)
    for m in range(members):
        one = perturb([t[m] for t in w], [t[m] for t in g], rho[m].item(), variant=variant)
        own = step_figures(
            **{name: value[m] for name, value in measures.items()},
            predicted_gain=one.predicted_gain,
            displacement=one.displacement,
            grads_plus=[t[m] for t in g_plus],
            ascent=[t[m] for t in g],
        )
        for a, b in zip(batch.displacement, one.displacement, strict=True):
            torch.testing.assert_close(a[m], b, rtol=1e-14, atol=0)
        for a, b in zip(directions, ascent_direction([t[m] for t in g]), strict=True):
            torch.testing.assert_close(a[m], b, rtol=1e-14, atol=0)
        for name, value in vars(own).items():
            torch.testing.assert_close(getattr(figures, name)[m], value, rtol=1e-12, atol=0, equal_nan=True)
        assert norm(g, batched=True)[m].item() == pytest.approx(norm([t[m] for t in g]).item(), rel=1e-14)
        assert dot(w, g, batched=True)[m].item() == pytest.approx(flat([t[m] for t in w]) @ flat([t[m] for t in g]))


def test_figures_along_another_direction_than_the_displacement():
    e, g, g_plus = tensors(1), tensors(2), tensors(3)
    one = torch.tensor(1.0, dtype=torch.float64)
    figures = step_figures(
        loss=one,
        loss_plus=3 * one,
        grad_norm=norm(g),
        predicted_gain=dot(g, e),
        displacement=e,
        grads_plus=g_plus,
        ascent=g,
    )
    u = flat(g) / np.linalg.norm(flat(g))
    assert figures.slope_plus.item() == pytest.approx(u @ flat(g_plus), rel=1e-13)
    assert figures.cosine.item() == pytest.approx(u @ flat(g_plus) / np.linalg.norm(flat(g_plus)), rel=1e-13)
    assert figures.radius.item() == pytest.approx(np.linalg.norm(flat(e)), rel=1e-14)
    assert figures.ascent_gain.item() == pytest.approx(2 / (flat(g) @ flat(e)), rel=1e-13)
    assert figures.shift_ratio.item() == pytest.approx(np.linalg.norm(flat(g_plus)) / np.linalg.norm(flat(g)))


@pytest.mark.parametrize("magnitude", [1e-25, 1e-8, 1.0, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("numel", [4, 2**22 + 5])  # as many as a sum in float32 cannot hold exactly
def test_the_perturbation_has_norm_rho_at_any_magnitude(magnitude, dtype, numel):
    g = torch.linspace(0.5, 2, numel, dtype=torch.float64)
    result = perturb([torch.zeros(numel, dtype=dtype)], [(magnitude * g).to(dtype)], 0.7)
    # Rounding of each entry: at most half a unit in the last place.
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-13}[dtype]
    assert result.displacement[0].double().norm().item() == pytest.approx(0.7, rel=tolerance)
    assert result.displacement[0].dtype == dtype
    assert result.grad_norm.item() == pytest.approx(magnitude * g.norm().item(), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("magnitude", [3e-7, 1.0, 3e4])
def test_the_perturbation_has_norm_rho_in_half_precision(dtype, magnitude):
    # 3e-7 is subnormal in float16, and 1/‖g‖ of it exceeds the largest float16.
    g = (magnitude * torch.tensor([1.0, 2.0, -1.5, 1.0])).to(dtype)
    (e,) = perturb([g], [g], 0.7).displacement
    assert e.dtype == dtype
    assert e.double().norm().item() == pytest.approx(0.7, rel=2**-8)
    assert torch.cosine_similarity(e.double(), g.double(), dim=0).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_zero_gradient_perturbs_by_zero(variant):
    w = tensors(1)
    result = perturb(w, [torch.zeros_like(t) for t in w], 0.7, variant=variant)
    assert all((e == 0).all() for e in result.displacement)
    assert result.grad_norm.item() == 0
    assert result.predicted_gain.item() == 0
    assert all((u == 0).all() for u in ascent_direction([torch.zeros(3), torch.zeros(())]))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_gradient_that_is_not_finite_poisons_its_own_member_and_no_other(variant, bad):
    w, g = tensors(1, members=2), tensors(2, members=2)
    good = perturb([t[1:] for t in w], [t[1:] for t in g], 0.7, variant=variant, batched=True)
    g[1][0, 2] = bad
    result = perturb(w, g, 0.7, variant=variant, batched=True)
    assert all(e[0].isnan().all() for e in result.displacement)
    for e, expected in zip(result.displacement, good.displacement, strict=True):
        torch.testing.assert_close(e[1:], expected, rtol=0, atol=0)
    assert torch.isfinite(result.grad_norm).tolist() == [False, True]
    alone = perturb([t[0] for t in w], [t[0] for t in g], 0.7, variant=variant)
    assert all(e.isnan().all() for e in alone.displacement)


def test_an_unknown_variant():
    with pytest.raises(
        ValueError, match=r"variant must be one of 'sam', 'asam', 'unnormalized', or an instance of .*; got 'esam'"
    ):
        perturb([torch.ones(1)], [torch.ones(1)], 0.1, variant="esam")


def test_plain_figures_hold_the_loss_and_the_norm_and_nothing_else():
    figures = plain_figures(loss=torch.tensor([1.0, 2.0]), grad_norm=torch.tensor([3.0, 4.0]))
    assert figures.loss.tolist() == [1.0, 2.0]
    assert figures.grad_norm.tolist() == [3.0, 4.0]
    for name in ["loss_plus", "grad_plus_norm", "shift_ratio", "ascent_gain", "slope_plus", "cosine", "radius"]:
        assert getattr(figures, name).isnan().tolist() == [True, True]


def test_the_edge_is_where_a_step_on_a_quadratic_neither_grows_nor_shrinks():
    # Along an eigenvector the step maps x to x − lr·λ(x + rho), which has the size of x when lr·λ·(|x| + rho) = 2|x|;
    # with ‖g‖ = λ|x| that is lr·λ² rho + (lr ‖g‖ λ) − 2‖g‖ = 0.
    rho, lr, grad_norm = 0.3, 0.1, torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)
    edge = sam_edge(grad_norm, rho=rho, lr=lr)
    residual = lr * rho * edge**2 + lr * grad_norm * edge - 2 * grad_norm
    assert (residual.abs() < 1e-13 * grad_norm.clamp(min=1)).all()
    assert sam_edge(torch.tensor(2.0), rho=0.0, lr=0.1).item() == pytest.approx(20)
    assert sam_edge(torch.tensor(0.0), rho=0.1, lr=0.1).item() == 0
    with pytest.raises(ValueError, match="rho must be at least 0; got -1"):
        sam_edge(grad_norm, rho=-1, lr=0.1)
    with pytest.raises(ValueError, match="lr must be above 0; got 0"):
        sam_edge(grad_norm, rho=0.1, lr=0)


def test_a_hallucinated_point_has_a_small_ratio_and_a_gradient_that_is_not_small():
    r = torch.tensor([0.01, 0.01, 0.5, math.nan])
    g = torch.tensor([1.0, 1e-4, 1.0, 1.0])
    assert is_at_hallucinated_point(r, g, torch.ones(4)).tolist() == [True, False, False, False]
    assert is_at_hallucinated_point(r, g, torch.ones(4), max_shift_ratio=0.6).tolist() == [True, False, True, False]
    assert is_at_hallucinated_point(r, g, torch.ones(4), min_grad_fraction=1e-5).tolist() == [True, True, False, False]


def test_warm_start_lengths():
    assert WarmStart(steps=3).length == 3
    assert [WarmStart(steps=3).covers(t) for t in (0, 2, 3)] == [True, True, False]
    assert WarmStart(fraction=0.25, total_steps=200).length == 50
    assert not WarmStart(steps=0).covers(0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "WarmStart needs steps=…, fraction=… together with total_steps=…, or until"),
        ({"fraction": 0.1}, "together with total_steps"),
        ({"steps": 5, "fraction": 0.1}, "got both"),
        ({"steps": -1}, "steps must be a whole number of at least 0; got -1"),
        ({"steps": 2.5}, "steps must be a whole number of at least 0; got 2.5"),
        ({"fraction": 1.5, "total_steps": 10}, "fraction must be at least 0 and at most 1; got 1.5"),
        ({"fraction": math.nan, "total_steps": 10}, "fraction must be at least 0 and at most 1; got nan"),
        ({"fraction": 0.1, "total_steps": 0}, "total_steps must be a whole number of at least 1; got 0"),
    ],
)
def test_a_warm_start_that_makes_no_sense(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        WarmStart(**arguments)

"""ASAM's options, GSAM and LookSAM: the formulas against NumPy over the whole vector, and their limits."""

import math

import numpy as np
import pytest
import torch

from samirage.sam import ASAM, BATCHED, GSAM, LookSAM, perturb, perturbation_of

SHAPES = [(3, 4), (5,), (), (2, 1, 3)]
NAMES = ["0.weight", "0.bias", "scale", "bias.kernel"]
ARE_BIASES = [False, True, False, False]


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


def flat(arrays):
    return np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays])


@pytest.mark.parametrize("eta", [0.0, 0.01, 2.5])
@pytest.mark.parametrize("biases", [False, True])
def test_asam_perturbs_by_its_operator(eta, biases):
    w, g = tensors(1), tensors(2)
    w[3][0, 0, 1] = 0.0  # which moves only if eta does
    e = flat(perturb(w, g, 0.7, variant=ASAM(eta=eta, biases=biases).for_names(NAMES)).displacement)
    is_bias = flat([np.full(shape, b) for shape, b in zip(SHAPES, ARE_BIASES, strict=True)]).astype(bool)
    t = np.where(is_bias & (not biases), 1.0, np.abs(flat(w)) + eta)
    np.testing.assert_allclose(e, 0.7 * t**2 * flat(g) / np.linalg.norm(t * flat(g)), rtol=1e-13)
    assert (e[-5] != 0) == (eta > 0)


def test_asam_without_options_is_the_variant_of_that_name_bit_for_bit():
    w, g = tensors(1), tensors(2)
    named = perturb(w, g, 0.7, variant="asam").displacement
    options = perturb(w, g, 0.7, variant=ASAM(eta=0.0, biases=True)).displacement
    assert all(torch.equal(a, b) for a, b in zip(named, options, strict=True))


def test_asam_with_a_large_eta_is_sam_with_the_radius_rho_times_eta():
    w, g = tensors(1), tensors(2)
    eta = 1e8  # T/eta differs from 1 by |w|/eta, at most 3e-8
    e = perturb(w, g, 0.7 / eta, variant=ASAM(eta=eta, biases=True)).displacement
    np.testing.assert_allclose(flat(e), flat(perturb(w, g, 0.7).displacement), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 3.0])
def test_gsam_takes_off_the_part_of_g_that_is_orthogonal_to_g_plus(alpha):
    g, g_plus = tensors(2), tensors(3)
    a, b = flat(g), flat(g_plus)
    d, _ = GSAM(alpha=alpha).direction(g, g_plus, {})
    orthogonal = a - (a @ b) / (b @ b) * b
    assert abs(orthogonal @ b) < 1e-12
    np.testing.assert_allclose(flat(d), b - alpha * orthogonal, rtol=1e-12)
    assert flat(d) @ b == pytest.approx(b @ b, rel=1e-13)  # so that f⁺ falls as fast as under SAM
    assert alpha > 0 or (flat(d) == b).all()


def test_gsam_where_g_plus_is_zero():
    (d,), _ = GSAM(alpha=0.5).direction([torch.tensor([3.0, -1.0])], [torch.zeros(2)], {})
    assert d.tolist() == [-1.5, 0.5]


def test_looksam_keeps_what_is_orthogonal_to_g_and_brings_it_to_the_length_of_the_new_g():
    look = LookSAM(k=5, alpha=0.7)
    g, g_plus, new = tensors(2), tensors(3), tensors(4)
    a, b, c = flat(g), flat(g_plus), flat(new)
    followed, state = look.direction(g, g_plus, {})
    kept = state["g_v"]
    assert followed is g_plus
    orthogonal = b - np.linalg.norm(b) * (a @ b / np.linalg.norm(a) / np.linalg.norm(b)) * a / np.linalg.norm(a)
    np.testing.assert_allclose(flat(kept), orthogonal, rtol=1e-12, atol=1e-14)
    assert abs(flat(kept) @ a) < 1e-12
    d = flat(look.direction(new, None, state)[0])
    np.testing.assert_allclose(d, c + 0.7 * np.linalg.norm(c) / np.linalg.norm(orthogonal) * orthogonal, rtol=1e-12)
    assert np.linalg.norm(d - c) == pytest.approx(0.7 * np.linalg.norm(c), rel=1e-13)


def test_looksam_reuses_nothing_where_nothing_is_kept():
    new, zero = [torch.tensor([3.0, -1.0])], [torch.zeros(2)]
    for state in ({}, {"g_v": zero}):
        assert LookSAM().direction(new, None, state)[0][0].tolist() == new[0].tolist()
    assert LookSAM().direction(zero, new, {})[1]["g_v"][0].tolist() == new[0].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_errors_of_parallel_gradients_are_noise_and_a_small_angle_is_not(dtype):
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(10_000, dtype=dtype, generator=generator)
    eps = torch.finfo(dtype).eps
    for scale, angle in [(1 / 3, 0.0), (7.1, 0.0), (1.0, 1e3 * eps), (1.0, 0.1)]:
        g_plus = scale * g + angle * torch.randn(10_000, dtype=dtype, generator=generator)
        kept = LookSAM().direction([g], [g_plus], {})[1]["g_v"][0]
        assert (not kept.any()) == (angle == 0)
    assert LookSAM().direction([g], [g * math.nan], {})[1]["g_v"][0].isnan().all()


@pytest.mark.parametrize("variant", [GSAM(), LookSAM()])
def test_a_direction_of_several_members_is_that_of_each(variant):
    pairs = [(tensors(seed), tensors(seed + 10)) for seed in (1, 2, 3)]
    stacked = [[torch.stack(parts) for parts in zip(*lists, strict=True)] for lists in zip(*pairs, strict=True)]
    d, state = variant.direction(*stacked, {}, BATCHED)
    again, _ = variant.direction(stacked[0], None, state, BATCHED)
    for i, (g, g_plus) in enumerate(pairs):
        alone, own = variant.direction(g, g_plus, {})
        np.testing.assert_allclose(flat([p[i] for p in d]), flat(alone), rtol=1e-12)
        np.testing.assert_allclose(flat([p[i] for p in again]), flat(variant.direction(g, None, own)[0]), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ASAM(eta=-0.1), "ASAM eta must be a finite number of at least 0; got -0.1"),
        (lambda: ASAM(eta=math.nan), "ASAM eta must be a finite number of at least 0; got nan"),
        (lambda: GSAM(alpha=-1.0), "GSAM alpha must be a finite number of at least 0; got -1.0"),
        (lambda: GSAM(alpha=math.inf), "GSAM alpha must be a finite number of at least 0; got inf"),
        (lambda: LookSAM(k=0), "LookSAM k must be a whole number of at least 1; got 0"),
        (lambda: LookSAM(k=2.0), "LookSAM k must be a whole number of at least 1; got 2.0"),
        (lambda: LookSAM(alpha=math.nan), "LookSAM alpha must be a finite number of at least 0; got nan"),
        (
            lambda: perturbation_of("gsam"),
            "one of 'sam', 'asam', 'unnormalized', or an instance of an AbstractVariant",
        ),
        (lambda: perturbation_of(GSAM), "such as ASAM, GSAM or LookSAM; got the class GSAM"),
        (lambda: perturbation_of(["sam"]), r"such as ASAM, GSAM or LookSAM; got \['sam'\]"),
    ],
)
def test_a_variant_that_makes_no_sense(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()

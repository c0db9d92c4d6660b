"""Proofs: what is true is proved, what is planted is not; every part against something else."""

import math
import sys

import numpy as np
import pytest
import sympy
import torch
from torch import nn

from samirage.errors import UserError
from samirage.landscape import (
    BumpOnBowl,
    DoubleWell,
    Moat,
    MultiWell,
    Objective,
    Ring,
    SymPyFunction,
    TanhNetwork,
    TorchFunction,
)
from samirage.points import check_record, find_hallucinated, prove
from samirage.points.proofs.balls import box, is_positive_definite, magnitude, matrix, middle, precision
from samirage.points.proofs.check_network import network_check_derivatives
from samirage.points.proofs.contraction import lyapunov
from samirage.points.proofs.enclosure import enclose, over_box
from samirage.points.proofs.families import is_rotation_invariant
from samirage.points.proofs.jets import derivatives
from samirage.points.proofs.krawczyk import newton_shift, reach
from samirage.sam.map import sam_map

WELL = DoubleWell()
POINT = torch.tensor([0.47093247359222673, -0.022200955951532014], dtype=torch.float64)


def first_point(f, rho):
    return find_hallucinated(f, f.minimizers[0], rho=rho, methods=["superlevel", "sphere"])[0].x


CASES = {
    "double-well": (WELL, 1.5, 0.1),
    "ring": (Ring(), 1.5, 0.1),
    "multi-well": (MultiWell(2), 1.5, 0.05),
    "bump-on-bowl": (BumpOnBowl(), 1.9, None),
    "moat": (Moat(), 1.5, None),
}


# --- what is true ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_one_point_of_every_function_is_proved_and_confirmed_by_the_checker(name):
    f, rho, lr = CASES[name]
    x = first_point(f, rho)
    proof = prove(f, x, rho, lr=lr)
    assert proof.proved, proof.reason
    assert str(proof) == proof.statement
    assert proof.box.shape == (f.dim, 2)
    assert ((proof.box[:, 0] <= x.numpy()) & (x.numpy() <= proof.box[:, 1])).all()
    assert proof.grad_norm[0] <= float(f.grad(x).norm()) <= proof.grad_norm[1]
    if lr is not None:
        assert proof.attraction.factor < 1
    check = check_record(proof.record(name))
    assert check.confirmed, str(check)


def test_the_proof_of_the_double_well_agrees_with_its_floats():
    proof = prove(WELL, POINT, 1.5, lr=0.1)
    plus = WELL.minimizers[0].numpy()
    assert ((proof.x_plus_box[:, 0] <= plus) & (plus <= proof.x_plus_box[:, 1])).all()
    curvatures = np.linalg.eigvalsh([[3 * plus[0] ** 2 - 1, 0.15], [0.15, 0.8]])
    assert 0 < proof.min_curvature < curvatures[0]
    # Starts at the rim of the proved basin do converge.
    angles = torch.linspace(0, 2 * math.pi, 9, dtype=torch.float64)[:-1]
    x = POINT + proof.attraction.basin_radius * torch.stack([angles.cos(), angles.sin()], 1)
    for _ in range(300):
        x = sam_map(WELL.grad, x, rho=1.5, lr=0.1)
    assert torch.allclose(x, POINT.expand_as(x), atol=1e-13)


def test_the_families_are_reduced_and_the_proof_says_so():
    ring = prove(Ring(dim=3), first_point(Ring(dim=3), 1.7), 1.7)
    assert ring.proved
    assert ring.reduction == "rotation"
    assert "distance from the origin alone" in ring.statement
    moat = prove(Moat(), first_point(Moat(), 1.5), 1.5)
    assert moat.proved
    assert moat.reduction == "least squares"
    assert len(moat.free) == 1
    assert "not an isolated one" in moat.statement
    held = next(i for i in range(2) if i not in moat.free)
    assert moat.box[held, 0] == moat.box[held, 1]


def test_a_sympy_expression_and_a_narrower_box_are_proved():
    x, y = sympy.symbols("x y")
    f = SymPyFunction((x**2 - 1) ** 2 / 4 + sympy.Float(0.4) * y**2 + sympy.Float(0.15) * x * y, [x, y])
    proof = prove(f, POINT, 1.5, radius=1e-12)
    assert proof.proved
    assert np.allclose(proof.box[:, 1] - proof.box[:, 0], 2e-12, rtol=1e-3)


@pytest.fixture(scope="module")
def network():
    """A network on whole-number data, with one of its hallucinated points: found by SAM, as the studies find theirs."""
    generator = np.random.default_rng(0)
    inputs = generator.integers(-8, 9, (40, 3)) / 4
    f = TanhNetwork(inputs, np.where(inputs[:, :1] + inputs[:, 1:2] / 4 > 0, 0.875, -0.875), hidden=1, weight_decay=0.1)
    x = torch.full((f.dim,), 0.3, dtype=torch.float64)
    for _ in range(3000):
        x = x - 0.1 * f.grad(x)
    rho = 1.4 * float(x.norm())
    points = find_hallucinated(f, rho=rho, methods=["sam"], starts=(-0.3 * x)[None], lr=0.05, steps=2000)
    return f, points[0], rho


def test_a_point_of_a_network_is_proved_with_attraction_and_confirmed(network):
    f, point, rho = network
    proof = prove(f, point.x, rho, lr=0.5 * point.max_stable_lr)
    assert proof.proved, proof.reason
    check = check_record(proof.record("here", {}), make=lambda name, arguments: f)
    assert check.confirmed, str(check)
    assert not check_record(proof.record("here"), make=lambda name, arguments: WELL).confirmed


# --- what is planted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_radius_or_a_point_off_by_more_than_the_box_is_not_proved(name):
    f, rho, _ = CASES[name]
    x = first_point(f, rho)
    width = float((prove(f, x, rho).box[:, 1] - prove(f, x, rho).box[:, 0]).max())
    for wrong in (prove(f, x, rho * (1 + 1e-6)), prove(f, x + 2 * width, rho), prove(f, x * (1 - 1e-3), rho)):
        assert not wrong.proved
        assert wrong.reason
        assert str(wrong).startswith("NOT PROVED: ")
        with pytest.raises(ValueError, match="only what is proved can be recorded"):
            wrong.record(name)


def test_an_indefinite_curvature_at_x_plus_is_not_proved_though_the_zero_is():
    wells = MultiWell(2)
    saddle = torch.tensor([1.0, 0.0], dtype=torch.float64)
    point = find_hallucinated(wells, saddle, rho=1.5, methods=["sphere"])[0]
    proof = prove(wells, point.x, 1.5)
    assert not proof.proved
    assert "H⁺ could not be shown to be positive definite (its smallest eigenvalue is about -1)" in proof.reason
    assert "exactly one zero" in proof.statement
    assert proof.min_curvature is None


def test_attraction_is_not_proved_of_a_repeller_nor_at_a_learning_rate_beyond_the_stable_one():
    wells = MultiWell(2)
    repeller = find_hallucinated(wells, wells.minimizers[0], rho=1.5, methods=["superlevel"])[0]
    assert prove(wells, repeller.x, 1.5).proved
    proof = prove(wells, repeller.x, 1.5, lr=0.01)
    assert not proof.proved
    assert "could not be shown to contract" in proof.reason
    assert prove(WELL, POINT, 1.5, lr=0.5).proved
    assert not prove(WELL, POINT, 1.5, lr=0.52).proved  # 0.510 is the largest stable one


def test_a_box_that_is_too_wide_proves_nothing():
    assert not prove(WELL, POINT, 1.5, radius=0.5).proved


# --- the parts ---------------------------------------------------------------------------------------


def test_jets_agree_with_torch_on_every_operation():
    def formula(x):
        a, b, c = x
        return (
            (a * b - 2 / c + 3 * b).exp() * 0.1
            + (a**2 + 1.5).log() * (b - c).sin()
            - (c**3 / (1 + a**2)).tanh()
            + (2 - b).sqrt() * (a * c).cos()
            - (-(b**0) + 1 + c).atan() / 3
        )

    x = torch.tensor([0.3, -0.7, 1.2], dtype=torch.float64)
    grad, hessian = derivatives(formula, [v.clone() for v in x])
    assert torch.allclose(torch.stack(grad), torch.func.grad(lambda p: formula(p.unbind()))(x), atol=1e-13)
    expected = torch.autograd.functional.hessian(lambda p: formula(p.unbind()), x)
    assert torch.allclose(torch.stack([torch.stack(row) for row in hessian]), expected, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_enclosures_hold_the_float_derivatives_all_over_the_box(name):
    f = CASES[name][0]
    generator = torch.Generator().manual_seed(0)
    centre = torch.tensor([0.4, -0.3], dtype=torch.float64)
    with precision():
        sam = over_box(enclose(f), box(centre.numpy(), 1e-3), 1.5)
        for _ in range(20):
            x = centre + 1e-3 * (2 * torch.rand(2, generator=generator, dtype=torch.float64) - 1)
            g = f.grad(x)
            plus = x + 1.5 * g / g.norm()
            assert magnitude(sam.x_plus - matrix(plus.numpy())).max() <= 2.1 * magnitude(sam.x_plus - sam.x_plus).max()
            assert all(b.overlaps(v) for b, v in zip(sam.x_plus.entries(), matrix(plus.numpy()).entries(), strict=True))
            # The derivative of x ↦ g⁺(x), by differences.
            step = 1e-6

            def shifted(z):
                g = f.grad(z)
                return f.grad(z + 1.5 * g / g.norm())

            columns = [(shifted(x + step * e) - shifted(x - step * e)) / (2 * step) for e in torch.eye(2).double()]
            difference = magnitude(sam.update - matrix(torch.stack(columns, 1).numpy()))
            width = magnitude(sam.update - sam.update)
            assert (difference <= width + 1e-6).all()


@pytest.mark.parametrize("shape", [(5, 2, 3, 2), (20, 4, 2, 1), (12, 3, 2, 4)])
def test_both_enclosures_of_a_network_agree_with_autograd_and_the_network_with_torchs(shape):
    examples, width, hidden, outputs = shape
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(examples, width)), generator.uniform(-1, 1, (examples, outputs))
    f = TanhNetwork(inputs, targets, hidden=hidden, weight_decay=0.3)
    x = torch.randn(f.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, outputs), nn.Tanh()).double()
    data = [(torch.tensor(inputs), torch.tensor(targets))]
    objective = Objective(model, lambda out, t: (out - t).square().sum(1).mean(), data)
    assert torch.allclose(f(x), objective(x) + 0.15 * x.square().sum(), atol=1e-13)
    hessian = objective.hessian(x) + 0.3 * torch.eye(f.dim, dtype=torch.float64)
    grad = objective.grad(x) + 0.3 * x
    with precision():
        for derive, point in (
            (enclose(f), matrix(x.numpy())),
            (network_check_derivatives(f), matrix(x.numpy()).entries()),
        ):
            g, h = derive(point)
            assert np.allclose(middle(g)[:, 0], grad, atol=1e-13)
            assert np.allclose(middle(h), hessian, atol=1e-12)


def test_positive_definiteness_is_proved_only_of_what_is():
    generator = np.random.default_rng(0)
    factor = generator.normal(size=(6, 6))
    good = factor @ factor.T + 0.01 * np.eye(6)
    lowest = np.linalg.eigvalsh(good)[0]
    with precision():
        assert is_positive_definite(matrix(good))
        assert not is_positive_definite(matrix(good - 1.001 * lowest * np.eye(6)))
        # With every entry uncertain by r, some member is indefinite once 6·r exceeds the smallest eigenvalue.
        wide = np.full((6, 6), 1.01 * lowest / 6)
        balls = [[matrix(good)[i, j] + box(np.zeros(1), wide[i, j])[0, 0] for j in range(6)] for i in range(6)]
        assert not is_positive_definite(type(matrix(good))(balls))


def test_krawczyk_separates_one_zero_from_none_and_from_two():
    with precision():

        def of(centre, radius):  # x² − 2
            return reach(matrix(np.array([centre])) * matrix(np.array([centre])) - matrix(np.array([2.0])),
                         box(np.array([centre]), radius) * 2, radius)  # fmt: skip

        assert of(1.41421356, 1e-6) < 1
        assert of(1.42, 1e-6) > 1
        assert of(0.0, 2.0) == math.inf  # both roots within: the derivative vanishes in the middle
        assert newton_shift(np.array([math.nan]), np.array([[1.0]])) == math.inf  # LAPACK may not return
        assert of(1.41421356, 3.0) > 1  # both roots within, one of them in the middle


def test_the_norm_solves_its_lyapunov_equation_and_rotations_are_recognised():
    step = np.array([[0.9, 0.4], [-0.1, 0.8]])
    q = lyapunov(step)
    assert np.allclose(q - step.T @ q @ step, np.eye(2), atol=1e-12)
    assert lyapunov(np.array([[1.1]])) is None
    assert is_rotation_invariant(Ring(2.0, dim=3))
    assert not is_rotation_invariant(MultiWell(2))
    assert not is_rotation_invariant(BumpOnBowl())


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (POINT, {"rho": 0.0}, "rho must be a finite number above 0"),
        (POINT, {"rho": 1.5, "lr": 0}, "lr must be None or a finite number above 0"),
        (POINT, {"rho": 1.5, "radius": -1.0}, "radius must be None or a finite number above 0"),
        (POINT, {"rho": 1.5, "bits": 24}, "bits must be a whole number of at least 53"),
        (torch.zeros(2), {"rho": 1.5}, "the gradient is 0 at x"),
        (torch.tensor([math.nan, 1.0]), {"rho": 1.5}, "x must hold finite numbers only"),
        (torch.zeros(3), {"rho": 1.5}, r"x must be one point of shape \(2,\)"),
    ],
)
def test_bad_input_gets_one_sentence(x, arguments, message):
    with pytest.raises(ValueError, match=message):
        prove(WELL, x, **arguments)


def test_functions_that_balls_cannot_evaluate_are_refused():
    f = TorchFunction(lambda x: x.square().sum(), dim=2)
    with pytest.raises(
        TypeError, match="a proof needs a formula that ball arithmetic can evaluate; TorchFunction has none"
    ):
        prove(f, POINT, 1.5)


def test_a_missing_extra_gets_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(UserError, match=r"samirage\[proof\]"):
        prove(WELL, POINT, 1.5)

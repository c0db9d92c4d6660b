"""Finding hallucinated points: closed forms, NumPy references, what is not there, and what is refused."""

import math
import sys

import numpy as np
import pytest
import torch

from samirage.landscape import BumpOnBowl, DoubleWell, Moat, MultiWell, Quadratic, Ring, TanhNetwork, TorchFunction
from samirage.points import find_hallucinated, polish
from samirage.points.find.sphere import SphereSearch, sphere_candidates
from samirage.points.find.superlevel import SuperlevelSearch, superlevel_candidate
from samirage.sam import Status

WELL = DoubleWell()


def well_grad(x):
    """Gradient of the double well, by hand."""
    return np.array([x[0] * (x[0] ** 2 - 1) + 0.15 * x[1], 0.8 * x[1] + 0.15 * x[0]])


def seen_from(x, rho, grad):
    g = grad(x)
    return x + rho * g / np.linalg.norm(g)


def test_the_double_wells_point_is_that_of_the_theory_and_solves_the_equation_in_numpy():
    (point,) = find_hallucinated(WELL, WELL.minimizers[0], rho=1.5)
    x = point.x.numpy()
    assert np.allclose(x, [0.47093, -0.02220], atol=5e-6)
    assert np.linalg.norm(well_grad(seen_from(x, 1.5, well_grad))) < 1e-14
    assert math.isclose(np.linalg.norm(well_grad(x)), 0.374, abs_tol=5e-4)
    assert point.kind is Status.HALLUCINATED_MINIMIZER
    assert point.attracts
    assert np.allclose(sorted(point.mu.real), [1.80, 3.92], atol=5e-3)
    assert math.isclose(point.max_stable_lr, 0.510, abs_tol=5e-4)
    assert point.on_sphere == "minimum"
    assert set(point.found_by) == {"sphere", "sam"}


@pytest.mark.parametrize("rho", [1.0, 1.03, 2.07, 2.5])
def test_outside_the_window_the_double_well_has_none_and_the_list_says_what_was_searched(rho):
    found = find_hallucinated(WELL, WELL.minimizers[0], rho=rho, steps=100)
    assert found == []
    assert found.searched.startswith(f"no hallucinated point found at rho = {rho:g}: 1 sphere, and SAM from 64 starts")
    assert found.searched in repr(found)


@pytest.mark.parametrize(("dim", "rho"), [(1, 1.3), (2, 1.2), (2, 1.9), (3, 1.5)])
def test_the_rings_points_lie_at_rho_less_its_radius(dim, rho):
    ring = Ring(dim=dim)
    points = find_hallucinated(ring, ring.minimizers[0], rho=rho)
    assert len(points) == 1
    assert torch.allclose(points[0].x, (1 - rho) * ring.minimizers[0], atol=1e-12)
    assert torch.allclose(points[0].x_plus, ring.minimizers[0], atol=1e-12)
    assert points[0].grad_plus_norm < 1e-12


def test_without_a_target_sams_own_ends_are_found_all_around_the_ring():
    points = find_hallucinated(Ring(), rho=1.5, methods=["sam"], starts=16)
    assert len(points) > 3
    assert all(abs(float(p.x.norm()) - 0.5) < 1e-12 for p in points)


def test_theorem_2_2s_point_of_the_bump_is_on_the_axis_a_maximum_on_its_sphere_and_repels():
    bump = BumpOnBowl()
    centre, top, behind = bump.minimizers[0], bump.maximizers[0], bump.saddles[0]
    rho = 0.5 * float((top - centre).norm() + (behind - centre).norm())
    (point,) = find_hallucinated(bump, centre, rho=rho)
    assert torch.allclose(point.x, centre + rho * torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-12)
    assert point.kind is Status.HALLUCINATED_MINIMIZER
    assert point.attracts is False
    assert point.max_stable_lr == 0
    assert point.on_sphere == "maximum"
    assert (point.a < 0).all()
    assert "superlevel" in point.found_by
    assert "sam" not in point.found_by
    assert "repels" in str(point)


def test_below_the_distance_of_the_maximizer_its_construction_gives_nothing():
    bump = BumpOnBowl()
    near = float((bump.maximizers[0] - bump.minimizers[0]).norm())
    arguments = bump.minimizers[0], bump.maximizers[0]
    assert superlevel_candidate(bump, *arguments, near - 0.01, SuperlevelSearch()) is None
    assert superlevel_candidate(bump, *arguments, near + 0.01, SuperlevelSearch()) is not None


def test_a_maximizer_set_is_explored_though_it_is_not_star_shaped():
    # A ring of maximizers of radius 1 about the minimizer at the origin of a tilted hat (Theorem 2.4).
    hat = TorchFunction(
        lambda x: -((x.square().sum() - 1) ** 2) + 0.05 * x[0], dim=2, minimizers=[[0.0, 0.0]], maximizers=[[0.0, 1.0]]
    )
    tilted = polish_stationary(hat, torch.zeros(2, dtype=torch.float64))
    hat = TorchFunction(hat._fn, dim=2, minimizers=[tilted], maximizers=[[0.0, 1.0]])
    farthest = superlevel_candidate(hat, tilted, torch.tensor([0.0, 1.0], dtype=torch.float64), 1.1, SuperlevelSearch())
    assert farthest is not None
    assert farthest[0] > 1.0  # on the other side of the ring from where the search began


def polish_stationary(f, x):
    for _ in range(20):
        x = x - torch.linalg.solve(f.hessian(x), f.grad(x))
    return x


def test_a_saddle_is_a_target_and_its_points_are_hallucinated_saddles():
    wells = MultiWell(2)
    saddle = torch.tensor([1.0, 0.0], dtype=torch.float64)
    points = find_hallucinated(wells, saddle, rho=1.5)
    assert points
    assert {p.kind for p in points} == {Status.HALLUCINATED_SADDLE}
    assert all(torch.allclose(p.x_plus, saddle, atol=1e-9) for p in points)


def test_every_point_is_distinct_polished_and_looks_at_the_target():
    wells = MultiWell(2)
    target = wells.minimizers[0]
    points = find_hallucinated(wells, target, rho=1.8)
    assert len(points) == 3
    for i, point in enumerate(points):
        assert point.grad_plus_norm < 1e-10
        assert point.shift_ratio < 1e-6
        assert torch.allclose(point.x_plus, target, atol=1e-9)
        assert all(float((point.x - other.x).norm()) > 1e-3 for other in points[:i])
    # Closed forms: one coordinate stays, the other looks across; and Theorem 2.2's point on the diagonal.
    expected = [[-1.0, 0.8], [0.8, -1.0], [1.8 / math.sqrt(2) - 1] * 2]
    for x in expected:
        assert any(np.allclose(p.x, x, atol=1e-10) for p in points)
    assert [p.attracts for p in points] == [True, True, False]


def test_a_range_of_radii_gives_points_at_several():
    points = find_hallucinated(WELL, WELL.minimizers[0], rho_range=(0.8, 2.4), methods=["sphere"])
    radii = [p.rho for p in points]
    assert min(radii) > 1.0316
    assert max(radii) < 2.0633
    assert len(set(radii)) > 5
    assert radii == sorted(radii)


def test_a_circle_is_searched_completely():
    moat = Moat()
    candidates = sphere_candidates(moat, moat.minimizers[0], 1.2, SphereSearch())
    # Brute force: sign changes of the slope along the circle, on a finer grid, in NumPy.
    angles = np.linspace(0, 2 * np.pi, 20_001) + 1e-5
    ways = np.stack([np.cos(angles), np.sin(angles)], 1)
    grads = moat.grad(moat.minimizers[0] + 1.2 * torch.tensor(ways)).numpy()
    slopes = (grads * np.stack([-np.sin(angles), np.cos(angles)], 1)).sum(1)
    turning = np.flatnonzero(slopes[:-1] * slopes[1:] < 0)
    inward = (grads * ways).sum(1)[turning] < 0
    assert len(candidates) == inward.sum()


def test_sams_method_finds_the_point_of_a_network_and_its_own_starts_are_taken():
    generator = np.random.default_rng(0)
    inputs = generator.integers(-8, 9, (40, 3)) / 4
    targets = np.where(inputs[:, :1] + 0.25 * inputs[:, 1:2] > 0, 0.875, -0.875)
    f = TanhNetwork(inputs, targets, hidden=1, weight_decay=0.1)
    x = torch.zeros(f.dim, dtype=torch.float64) + 0.3
    for _ in range(5000):
        x = x - 0.05 * f.grad(x)
    starts = -0.3 * x + 0.05 * torch.randn(4, f.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = find_hallucinated(f, rho=1.4 * float(x.norm()), methods=["sam"], starts=starts, lr=0.05, steps=3000)
    assert points
    assert points[0].found_by == ("sam",)
    assert points[0].grad_norm > 0.1
    assert points[0].grad_plus_norm < 1e-12


def test_products_alone_polish_as_exactly_as_matrices(monkeypatch):
    start = torch.tensor([0.6, 0.1], dtype=torch.float64)
    dense = polish(WELL, start, 1.5)
    monkeypatch.setattr(sys.modules["samirage.points.polish"], "DENSE_DIM", 0)
    free = polish(WELL, start, 1.5)
    assert dense.converged
    assert free.converged
    assert torch.allclose(dense.x, free.x, atol=1e-12)
    assert max(dense.residual, free.residual) < 1e-14


def test_polishing_on_a_manifold_goes_the_shortest_way():
    start = torch.tensor([0.3, 0.3], dtype=torch.float64)
    found = polish(Ring(), start, 1.5)
    assert found.converged
    assert torch.allclose(found.x, start / start.norm() * 0.5, atol=1e-12)  # straight along the ray


NAN = TorchFunction(lambda x: (x - 5).log().sum(), dim=2)
KINK = TorchFunction(lambda x: x.abs().sum() + x.square().sum(), dim=2)
RIDGE = TorchFunction(lambda x: (x[0].abs() - 1) ** 2 + x[1] ** 2, dim=2)  # two bowls that meet in a crease
RANDOM = TorchFunction(lambda x: x.square().sum() + 1e-3 * torch.randn(()) * x[0], dim=2)


@pytest.mark.parametrize(
    ("f", "target", "arguments", "message"),
    [
        (WELL, WELL.minimizers[0], {}, "give either rho=… or rho_range"),
        (WELL, WELL.minimizers[0], {"rho": 1.5, "rho_range": (1, 2)}, "give either rho"),
        (WELL, WELL.minimizers[0], {"rho": 0.0}, "rho must be a finite number above 0.*got 0.0"),
        (WELL, WELL.minimizers[0], {"rho": -1}, "rho must be a finite number above 0"),
        (WELL, WELL.minimizers[0], {"rho": math.nan}, "rho must be a finite number above 0.*nan"),
        (WELL, WELL.minimizers[0], {"rho_range": (2.0, 1.0)}, "rho_range must hold two radii, the smaller first"),
        (WELL, WELL.minimizers[0] + 0.1, {"rho": 1.5}, "target must be a stationary point of f: ‖g‖ is .* there"),
        (WELL, torch.zeros(3), {"rho": 1.5}, r"target must be one point of shape \(2,\); got shape \(3,\)"),
        (WELL, torch.tensor([math.inf, 0.0]), {"rho": 1.5}, "target must hold finite numbers only"),
        (
            WELL,
            WELL.minimizers[0],
            {"rho": 1.5, "methods": ["magic"]},
            "methods must be some of superlevel, sphere, sam",
        ),
        (WELL, WELL.minimizers[0], {"rho": 1.5, "methods": []}, "methods must be some of"),
        (WELL, WELL.minimizers[0], {"rho": 1.5, "starts": 0}, "starts must be at least 1"),
        (WELL, WELL.minimizers[0], {"rho": 1.5, "starts": torch.zeros(4, 3)}, r"starts must be .* shape \(n, 2\); got"),
        (WELL, WELL.minimizers[0], {"rho": 1.5, "lr": 0.0}, "lr must be a finite number above 0"),
        (WELL, WELL.minimizers[0], {"rho": 1.5, "steps": 0}, "steps must be a whole number of at least 1"),
        (NAN, torch.zeros(2), {"rho": 1.5}, "f or its gradient is not finite at target"),
        (RANDOM, torch.zeros(2), {"rho": 1.5}, "f is not deterministic: two gradients at target differ"),
        (
            KINK,
            torch.zeros(2),
            {"rho": 1.5},
            "f is not twice differentiable near target, as far as differences of its gradient show",
        ),
        (
            RIDGE,
            torch.tensor([-1.0, 0.0]),
            {"rho": 1.0},
            "f is not twice differentiable near a point that was found",
        ),
        (NAN, None, {"rho": 1.5}, "f names no stationary points: give a target, or starts"),
    ],
)
def test_bad_input_gets_one_sentence(f, target, arguments, message):
    with pytest.raises(ValueError, match=message):
        find_hallucinated(f, target, **arguments)


def test_a_quadratic_has_none():
    quadratic = Quadratic([4.0, 1.0])
    assert find_hallucinated(quadratic, quadratic.minimizers[0], rho=0.5) == []

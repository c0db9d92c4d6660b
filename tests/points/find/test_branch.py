"""Branches and intervals of radii: closed forms, an independent scan, folds, and what is refused."""

import math
import sys

import numpy as np
import pytest
import torch

from samirage.landscape import BumpOnBowl, DoubleWell, MultiWell, Ring, TorchFunction
from samirage.points import Event, branch, find_hallucinated, radius_interval
from samirage.points.find.branch import _Curve

WELL = DoubleWell()
POINT = torch.tensor([0.47093, -0.02220], dtype=torch.float64)


def test_the_double_wells_interval_ends_at_the_saddle_and_at_the_other_minimum():
    interval = radius_interval(WELL, POINT, rho=1.5)
    distance = math.hypot(*WELL.minimizers[0].tolist())  # from minimum to saddle; twice that to the other minimum
    assert math.isclose(interval.low, distance, rel_tol=1e-10)
    assert math.isclose(interval.high, 2 * distance, rel_tol=1e-10)
    assert interval.low_event is Event.STATIONARY
    assert interval.high_event is Event.STATIONARY
    assert interval.attracting is not None
    ((low, high),) = interval.attracting
    assert (low, high) == (interval.low, interval.high)
    assert "attracts SAM for rho from 1.03163 to 2.06327" in str(interval)


def test_every_point_of_a_branch_is_hallucinated_at_its_own_radius_in_numpy():
    curve = branch(WELL, POINT, rho=1.5)
    for x, rho in zip(curve.x[1:-1].numpy(), curve.rho[1:-1].tolist(), strict=True):
        g = np.array([x[0] * (x[0] ** 2 - 1) + 0.15 * x[1], 0.8 * x[1] + 0.15 * x[0]])
        a, b = x + rho * g / np.linalg.norm(g)
        # The curve is exact to 1e-11 of ‖g‖ at the start, 0.37, which turns u by that over ‖g‖ here; rho·‖H⁺‖ < 5.
        assert np.hypot(a * (a**2 - 1) + 0.15 * b, 0.8 * b + 0.15 * a) < 5 * 0.4e-11 / np.linalg.norm(g)


def test_theorem_2_2s_interval_starts_at_the_distance_of_the_maximizer_and_its_points_repel():
    bump = BumpOnBowl()
    centre = bump.minimizers[0]
    to_top, to_pass = (float((p[0] - centre).norm()) for p in (bump.maximizers, bump.saddles))
    rho = (to_top + to_pass) / 2
    point = find_hallucinated(bump, centre, rho=rho, methods=["superlevel"])[0]
    interval = radius_interval(bump, point.x, rho)
    assert math.isclose(interval.low, to_top, rel_tol=1e-9)
    assert math.isclose(interval.high, to_pass, rel_tol=1e-9)
    assert interval.attracting is not None
    # By hand, on the axis: a = 1 + rho·H_yy/‖g‖ changes sign between, and with it (d = 2) attraction.
    assert all(low > to_top + 1e-3 for low, _ in interval.attracting)


def test_a_change_of_stability_is_located_as_the_closed_form_has_it():
    # On the diagonal of the wells a = 1 + rho·(3t² − 1)/‖g‖ vanishes at t = 1/2, where rho = 1.5·√2.
    wells = MultiWell(2)
    t = 1.5 / math.sqrt(2) - 1
    interval = radius_interval(wells, torch.tensor([t, t]), rho=1.5)
    assert math.isclose(interval.low, math.sqrt(2), rel_tol=1e-9)
    assert math.isclose(interval.high, 2 * math.sqrt(2), rel_tol=1e-9)
    (change,) = [e for e in interval.branch.events if e.event is Event.STABILITY]
    assert math.isclose(change.rho, 1.5 * math.sqrt(2), rel_tol=1e-6)
    assert interval.attracting is not None
    assert math.isclose(interval.attracting[0][0], 1.5 * math.sqrt(2), rel_tol=1e-6)


def test_a_fold_is_passed_and_located():
    # On a circle about the minimizer of this tilted, rippled bowl points appear in pairs as the radius grows.
    f = TorchFunction(
        lambda x: (x[0] ** 2 - 1) ** 2 / 4 + 0.4 * x[1] ** 2 + 0.6 * x[1] * x[0] ** 2 - 0.3 * x[1] ** 3, dim=2
    )
    centre = torch.tensor([1.0, -0.5], dtype=torch.float64)
    for _ in range(50):
        centre = centre - torch.linalg.solve(f.hessian(centre), f.grad(centre))
    events = []
    for rho in (0.8, 1.2, 1.6, 2.0, 2.4):
        for point in find_hallucinated(f, centre, rho=rho, methods=["sphere"]):
            curve = branch(f, point.x, rho, rho_range=(0.1, 4.0))
            events += [(e, curve) for e in curve.events if e.event is Event.FOLD]
    assert events
    fold, curve = events[0]
    # At a fold rho is at an extreme of the branch, to second order.
    near = curve.rho[max(fold.index - 1, 0) : fold.index + 3]
    assert fold.rho >= float(near.max()) - 1e-9 or fold.rho <= float(near.min()) + 1e-9
    # A scan of the circle has two points fewer on one side of it than on the other.
    counts = [len(find_hallucinated(f, centre, rho=fold.rho * (1 + s), methods=["sphere"])) for s in (-2e-3, 2e-3)]
    assert abs(counts[0] - counts[1]) == 2


def test_given_bounds_stop_the_branch_exactly_there():
    interval = radius_interval(WELL, POINT, rho=1.5, rho_range=(1.2, 1.7))
    assert math.isclose(interval.low, 1.2, rel_tol=1e-9)
    assert math.isclose(interval.high, 1.7, rel_tol=1e-9)
    assert interval.low_event is Event.LIMIT


def test_a_member_of_a_manifold_is_followed_along_its_ray():
    curve = branch(Ring(dim=3), torch.tensor([0.3, 0.4, 0.0]), rho=1.5)
    assert torch.allclose(curve.x.norm(dim=1), curve.rho - 1, atol=1e-9)
    directions = curve.x[1:-1] / curve.x[1:-1].norm(dim=1, keepdim=True)
    assert torch.allclose(
        directions, torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64).expand_as(directions), atol=1e-6
    )


def test_products_alone_follow_the_same_branch(monkeypatch):
    dense = branch(WELL, POINT, rho=1.5, rho_range=(1.4, 1.6))
    monkeypatch.setattr(sys.modules["samirage.points.find.branch"], "DENSE_DIM", 0)
    free = branch(WELL, POINT, rho=1.5, rho_range=(1.4, 1.6))
    for a, b in ((dense, 0), (dense, -1)):
        assert torch.allclose(a.x[b], free.x[b], atol=1e-7)


def test_the_tangent_is_that_of_the_curve():
    curve = _Curve(WELL, WELL.minimizers[0], 0.374)
    state = torch.cat([POINT, torch.tensor([0.37358 / 1.5], dtype=torch.float64)])
    state, good, _ = curve.correct(state)
    assert good
    tangent = curve.tangent(state, torch.ones(3, dtype=torch.float64))
    ahead, _, _ = curve.correct(state + 1e-5 * tangent)
    assert float(((ahead - state) / 1e-5 - tangent).norm()) < 1e-4


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (POINT, {"rho": 0}, "rho must be a finite number above 0"),
        (POINT, {"rho": 1.5, "rho_range": (1.6, 2.0)}, "rho_range must hold rho = 1.5 strictly between its ends"),
        (POINT, {"rho": 1.5, "max_points": 1}, "max_points must be a whole number of at least 2"),
        (POINT, {"rho": 3.0}, "x is not near a hallucinated point at rho = 3: polishing stopped at"),
        (torch.zeros(3), {"rho": 1.5}, r"x must be one point of shape \(2,\)"),
        (torch.tensor([math.nan, 0.0]), {"rho": 1.5}, "x must hold finite numbers only"),
    ],
)
def test_bad_input_gets_one_sentence(x, arguments, message):
    with pytest.raises(ValueError, match=message):
        branch(WELL, x, **arguments)

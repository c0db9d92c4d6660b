"""Periodic orbits against closed forms and simulation; basins against runs one by one; functions by name."""

import math

import numpy as np
import pytest
import torch

from samirage.landscape import DoubleWell, MultiWell, Objective, Quadratic, Ring
from samirage.points import basins, find_orbits, make_function, polish_orbit
from samirage.sam import Status

WELL = DoubleWell()
POINT = torch.tensor([0.470932, -0.022201], dtype=torch.float64)


def step(x, *, grad, rho, lr):
    """One SAM step in NumPy."""
    g = grad(x)
    size = np.linalg.norm(g)
    return x - lr * grad(x + (rho * g / size if size > 0 else 0.0))


def well_grad(x):
    return np.array([x[0] * (x[0] ** 2 - 1) + 0.15 * x[1], 0.8 * x[1] + 0.15 * x[0]])


# --- orbits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rho", "lr", "top"), [(0.5, 0.1, 4.0), (2.0, 0.3, 3.0), (0.05, 0.02, 10.0)])
def test_the_quadratics_two_cycle_has_the_closed_form(rho, lr, top):
    orbits = find_orbits(
        Quadratic([top, 1.0], centre=[0.3, -2.0]), torch.tensor([0.3, -2.0]), rho=rho, lr=lr, steps=500
    )
    first = orbits[0]
    assert first.stable
    assert first.period == 2
    away = (first.x - torch.tensor([0.3, -2.0], dtype=torch.float64)).abs()
    assert torch.allclose(
        away[:, 0], torch.full((2,), lr * rho * top / (2 - lr * top), dtype=torch.float64), atol=1e-12
    )
    assert float(away[:, 1].max()) < 1e-12
    # Multipliers by hand: along the axis u does not turn; across, 1 − lr·(1 + rho/R)·1 per step, with ‖g‖ = top·R.
    radius = lr * rho * top / (2 - lr * top)
    across = 1 - lr * (1 + rho / (top * radius))
    expected = sorted([(1 - lr * top) ** 2, across**2])
    assert np.allclose(sorted(first.multipliers.real), expected, atol=1e-9)
    second = next(o for o in orbits if not o.stable)
    assert torch.allclose(second.x[:, 0], torch.full((2,), 0.3, dtype=torch.float64), atol=1e-12)


def test_sam_contracts_a_saddles_descent_if_and_only_if_it_is_steeper_than_the_threshold():
    lr, top = 0.1, 4.0
    threshold = lr * top**2 / (2 - lr * top)
    for factor, stable in ((0.98, False), (1.02, True)):
        saddle = Quadratic([top, -factor * threshold])
        orbits = [
            o for o in find_orbits(saddle, torch.zeros(2), rho=0.5, lr=lr, steps=1) if float(o.x[0, 0].abs()) > 0.01
        ]
        assert [o.stable for o in orbits] == [stable]


def test_beyond_the_largest_stable_learning_rate_a_hallucinated_point_gives_way_to_a_two_cycle():
    # max_stable_lr is 0.510: beyond it, the fixed point has a multiplier below −1, and an orbit of period 2 attracts.
    orbits = find_orbits(WELL, POINT, rho=1.5, lr=0.55, steps=1000)
    stable = [o for o in orbits if o.stable]
    assert stable
    assert stable[0].period == 2
    a, b = stable[0].x.numpy()
    assert np.allclose(step(a, grad=well_grad, rho=1.5, lr=0.55), b, atol=1e-12)
    assert np.allclose(step(b, grad=well_grad, rho=1.5, lr=0.55), a, atol=1e-12)
    # A run in NumPy from nearby settles there.
    x = a + 1e-3
    for _ in range(200):
        x = step(x, grad=well_grad, rho=1.5, lr=0.55)
    assert min(np.abs(x - a).max(), np.abs(x - b).max()) < 1e-10


def test_multipliers_are_those_of_finite_differences():
    orbit = find_orbits(WELL, POINT, rho=1.5, lr=0.55, steps=1000)[0]
    x = orbit.x[0].numpy()

    def around(z):
        for _ in range(orbit.period):
            z = step(z, grad=well_grad, rho=1.5, lr=0.55)
        return z

    h = 1e-6
    matrix = np.stack([(around(x + h * e) - around(x - h * e)) / (2 * h) for e in np.eye(2)], 1)
    assert np.allclose(
        np.sort_complex(np.linalg.eigvals(matrix).astype(complex)),
        np.sort_complex(orbit.multipliers.numpy()),
        atol=1e-6,
    )


def test_an_orbit_run_through_twice_is_reported_once():
    radius = 0.1 * 0.5 * 4 / (2 - 0.4)
    guess = torch.tensor([[1.01 * radius, 0.0], [-radius, 0.0]], dtype=torch.float64).repeat(2, 1)
    orbit = polish_orbit(Quadratic([4.0, 1.0]), guess, rho=0.5, lr=0.1)
    assert orbit is not None
    assert orbit.period == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rho": 0, "lr": 0.1}, "rho must be a finite number above 0"),
        ({"rho": 1.5, "lr": 0}, "lr must be above 0"),
        ({"rho": 1.5, "lr": 0.1, "max_period": 1}, "max_period must be at least 2"),
    ],
)
def test_bad_input_for_orbits_gets_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_orbits(WELL, POINT, **arguments)


def test_orbits_of_large_networks_are_refused():
    model = torch.nn.Linear(400, 1, bias=False)
    f = Objective(model, torch.nn.MSELoss(), [(torch.ones(2, 400), torch.zeros(2, 1))])
    with pytest.raises(ValueError, match="orbits are computed in at most 300 coordinates; got 400"):
        find_orbits(f, torch.ones(400), rho=0.1, lr=0.1)


# --- basins ------------------------------------------------------------------------------------------


def test_all_starts_around_the_true_minimizer_end_at_hallucinated_ones():
    found = basins(WELL, rho=1.5, lr=0.1, window=(-1.6, 1.6, -0.8, 0.8), resolution=12)
    hallucinated = [e for e in found.ends if e.kind is Status.HALLUCINATED_MINIMIZER]
    assert len(hallucinated) == 2
    assert {round(float(e.x[0]), 4) for e in hallucinated} == {0.4709, -0.4709}
    assert math.isclose(sum(e.share for e in found.ends), 1.0)
    # The same, one run at a time, in NumPy.
    rows, columns = found.labels.shape
    for i, j in ((0, 0), (3, 7), (11, 2), (rows - 1, columns - 1)):
        x = np.array([found.first[j], found.second[i]])
        for _ in range(1000):
            x = step(x, grad=well_grad, rho=1.5, lr=0.1)
        end = found.ends[found.labels[i, j]]
        if end.kind is Status.HALLUCINATED_MINIMIZER:
            assert np.allclose(x, end.x, atol=1e-6)


def test_each_kind_of_end_is_told_apart():
    small = basins(WELL, rho=0.05, lr=0.1, window=(-1.6, 1.6, -0.8, 0.8), resolution=9)
    assert {e.kind for e in small.ends[:2]} == {Status.BOUNCING_MINIMIZER}
    ring = basins(Ring(), rho=1.5, lr=0.1, window=(-1.0, 1.0, -1.0, 1.0), resolution=41)
    assert ring.ends[0].kind is Status.HALLUCINATED_MINIMIZER
    assert ring.ends[0].share > 0.98  # one connected set, all around; but for starts at stationary points themselves
    assert {e.kind for e in ring.ends[1:]} == {Status.STATIONARY}
    far = basins(Ring(), rho=1.5, lr=0.1, window=(5.0, 6.0, 5.0, 6.0), resolution=3)
    assert [e.kind for e in far.ends] == [Status.DIVERGED]
    assert bool(far.ends[0].x.isnan().all())
    wells = basins(MultiWell(2), rho=1.5, lr=0.05, window=(0.9, 1.1, 0.2, 0.4), resolution=4)
    assert Status.HALLUCINATED_SADDLE in {e.kind for e in wells.ends} or wells.ends[0].kind.is_hallucinated


def test_a_plane_in_more_dimensions_gives_what_the_function_does_there():
    axes = torch.zeros(2, 3, dtype=torch.float64)
    axes[0, 1] = axes[1, 2] = 1.0
    flat = basins(MultiWell(3), rho=1.5, lr=0.05, window=(0.3, 0.9, 0.3, 0.9), resolution=5, axes=axes)
    lifted = basins(
        MultiWell(3), rho=1.5, lr=0.05, window=(0.3, 0.9, 0.3, 0.9), resolution=5, axes=axes, origin=torch.zeros(3)
    )
    assert (flat.labels == lifted.labels).all()
    assert all(abs(float(e.x[0])) < 1e-9 for e in flat.ends)  # SAM never leaves the plane of symmetry


@pytest.mark.parametrize(
    ("f", "arguments", "message"),
    [
        (WELL, {"rho": -1}, "rho must be a finite number above 0"),
        (WELL, {"lr": math.nan}, "lr must be a finite number above 0"),
        (WELL, {"window": (1, -1, 0, 1)}, "window must be low and high along the first axis, then"),
        (WELL, {"resolution": 1}, "resolution must be at least 2 and steps at least 100"),
        (MultiWell(3), {}, r"axes must be given, shape \(2, 3\)"),
        (WELL, {"axes": torch.zeros(2, 3)}, r"axes must be two directions, shape \(2, 2\)"),
    ],
)
def test_bad_input_for_basins_gets_one_sentence(f, arguments, message):
    given = {"rho": 1.5, "lr": 0.1, "window": (-1, 1, -1, 1), **arguments}
    with pytest.raises(ValueError, match=message):
        basins(f, **given)


# --- functions by name -------------------------------------------------------------------------------


def test_functions_are_made_from_their_names_and_from_a_users_own_factory():
    assert float(make_function("ring", {"radius": 2.0}).minimizers[0][0]) == 2.0
    assert make_function("samirage.landscape:MultiWell", {"dim": 3}).dim == 3


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("unknown", {}, "unknown function 'unknown': use one of bump-on-bowl, .*, or module:factory"),
        ("no.such.module:f", {}, "the module of 'no.such.module:f' cannot be imported"),
        ("samirage.landscape:Nothing", {}, "has no 'Nothing'"),
        ("math:pi", {}, "must be a callable that returns a function; got float"),
        ("ring", {"color": 3}, "ring cannot be called with"),
        ("ring", {"radius": -1}, "radius must be a finite number above 0"),
        ("math:floor", {"x": 3}, "cannot be called with"),
        ("fractions:Fraction", {}, "must return a function of landscapes, with a `dim`; got Fraction"),
    ],
)
def test_names_that_make_no_function_get_one_sentence(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_function(name, arguments)

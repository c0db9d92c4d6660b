"""The study `points`: closed forms, proofs and networks knocked off, and claims that are computed from the cells."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from samirage.errors import UserError
from samirage.lab.results.claims import Verdict
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.points.closed_forms import CLOSED_FORMS, ClosedForm, settled
from samirage.lab.studies.points.perturb_and_return import PERTURBATIONS
from samirage.lab.studies.points.portraits import portrait
from samirage.lab.studies.points.proofs import ANALYTIC, Subject, analytic_subject, network_subject, prove_and_plant
from samirage.lab.studies.points.small_networks import digit_network
from samirage.lab.studies.points.study import SCALES, PointsStudy
from samirage.landscape import DoubleWell, Quadratic
from samirage.sam import Status

TINY = replace(SCALES["smoke"], images=60, steps=120, return_steps=40)


@pytest.fixture(scope="module")
def study():
    return PointsStudy(TINY)


@pytest.fixture(scope="module")
def back(study):
    (cell,) = [cell for cell in study.cells() if cell.name == "return-seed0"]
    passes = []
    return study.run(cell, passes.append), sum(passes), cell


@pytest.fixture(scope="module")
def well():
    return prove_and_plant(analytic_subject("double-well"))


@pytest.fixture(scope="module")
def picture():
    return portrait("double-well", resolution=6)


# --- closed forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quadratic", "moat"])
def test_what_is_worked_out_by_hand_is_found(name):
    rows = CLOSED_FORMS[name]()
    assert [row.quantity for row in rows if not row.holds] == []
    residuals = [row.residual for row in rows if not math.isnan(row.residual)]
    assert residuals
    assert max(residuals) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ring", "double-well", "multi-well", "bump-on-bowl"])
def test_so_are_the_numbers_that_take_longer(name):
    assert [row.quantity for row in CLOSED_FORMS[name]() if not row.holds] == []


def test_a_number_that_is_off_by_more_than_its_tolerance_does_not_hold():
    assert ClosedForm("one", 1.0, 1.0009, tolerance=1e-3).holds
    assert not ClosedForm("one", 1.0, 1.0011, tolerance=1e-3).holds
    assert not ClosedForm("one", 1.0, math.nan).holds


def test_a_run_that_does_not_settle_is_no_orbit():
    with pytest.raises(RuntimeError, match="SAM did not settle to a 2-cycle within 50 steps"):
        settled(DoubleWell(), torch.tensor([0.45, 0.0], dtype=torch.float64), rho=1.5, lr=0.1, steps=50)
    orbit = settled(Quadratic([4.0, 1.0]), torch.tensor([0.3, 0.2], dtype=torch.float64), rho=0.5, lr=0.1)
    assert float(orbit.x[0].abs().max()) == pytest.approx(0.125, abs=1e-12)


# --- pictures ----------------------------------------------------------------------------------------


def test_a_portrait_agrees_with_the_function_that_it_is_of(picture):
    f = DoubleWell()
    for i, j in ((0, 0), (40, 40), (80, 3)):
        x = torch.tensor([float(picture.x[j]), float(picture.y[i])], dtype=torch.float64)
        assert float(picture.f[i, j]) == pytest.approx(float(f(x)), rel=1e-6)
    point, plus = torch.as_tensor(picture.point.values[0]), torch.as_tensor(picture.point_plus.values[0])
    grad = f.grad(point)
    assert torch.allclose(plus - point, 1.5 * grad / grad.norm(), atol=1e-12)
    assert torch.allclose(torch.as_tensor(picture.point_grad.values[0]), grad)
    assert bool(picture.point_attracts[0])
    # The window of radii: from the distance of the minimum to the saddle, to that of the two minima.
    reach = float(f.minimizers[0].norm())
    assert picture.attracting.values[0] == pytest.approx([reach, 2 * reach], abs=1e-3)
    steps = np.linspace(reach, 2 * reach, picture.sizes["branch"] + 2)[1:-1]
    assert picture.branch_rho.values == pytest.approx(steps, abs=1e-6)
    x = torch.as_tensor(picture.branch_x.values)
    grads = f.grad(x)
    plus = x + torch.as_tensor(picture.branch_rho.values)[:, None] * grads / grads.norm(dim=1, keepdim=True)
    assert float((plus - f.minimizers[0]).norm(dim=1).max()) < 1e-7  # all of the branch sees the same minimizer
    assert picture.end_share.values.sum() == pytest.approx(1)


# --- proofs ------------------------------------------------------------------------------------------


def test_what_is_true_is_proved_and_confirmed_and_no_planted_claim_is(well):
    assert bool(well.proved)
    assert bool(well.confirmed)
    assert bool(well.attraction_proved)
    assert list(well.planted.values) == ["wrong radius", "shifted point", "attraction beyond the stable lr"]
    assert not well.planted_proved.any()
    assert "holds exactly one zero" in well.attrs["statement"]
    saddle = prove_and_plant(analytic_subject("multi-well"))
    assert "indefinite H⁺" in saddle.planted.values
    assert not saddle.planted_proved.any()


def test_sam_comes_back_to_a_point_that_is_proved_to_attract(well):
    assert float(well.distance[0]) == pytest.approx(0.015)
    assert float(well.distance[-1]) < 1e-12
    assert float(well.shift_ratio[-1]) < 1e-12


def test_a_subject_without_a_point_is_no_proof():
    subject = Subject(DoubleWell(), None, 1.5, None, None, None, 0.0)
    cell = prove_and_plant(subject)
    assert not bool(cell.found)
    assert not bool(cell.proved)
    assert cell.sizes["planted"] == 0


def test_a_point_of_a_small_network_on_digits_is_proved():
    cell = prove_and_plant(network_subject(side=3, hidden=1, images=40))
    assert int(cell.parameters) == 12
    assert bool(cell.confirmed)
    assert bool(cell.attraction_proved)
    assert not cell.planted_proved.any()


def test_coarse_digits_are_whole_multiples_and_tell_zeros_from_ones():
    f = digit_network(side=4, hidden=2, images=30)
    assert f.dim == 2 * (16 + 1) + 2 + 1
    assert np.array_equal(f.inputs * 16, np.round(f.inputs * 16))
    assert set(np.unique(f.targets)) == {-0.875, 0.875}
    assert np.ptp(f.inputs) > 1


# --- networks that are knocked off -------------------------------------------------------------------


def test_the_network_is_polished_certified_and_knocked_off(back):
    cell, passes, planned = back
    assert passes == planned.passes
    assert cell.attrs["parameters"] == 25450
    assert float(cell.polished_shift_ratio[0]) <= 1e-5
    assert float(cell.polished_shift_ratio[0]) < float(cell.trained_shift_ratio[0])
    assert str(cell.attrs["statuses"][int(cell.kind[0])]).startswith("hallucinated")
    assert cell.attrs["statuses"] == [status.value for status in Status]
    assert tuple(cell.perturbation.values) == PERTURBATIONS
    size = float(cell["size"][0])
    begun = cell.distance.sel(step=0).values[0] / size
    assert begun[:2] == pytest.approx([0.01, 0.1], rel=1e-6)
    assert 0 < begun[2] <= 0.1  # the steepest way bends
    # A random direction among 25,450 is nearly blind; the steepest is not.
    ratios = cell.shift_ratio.sel(step=0).values[0]
    assert ratios[0] < 1e-4
    assert ratios[2] > 100 * ratios[0]


def test_plain_steps_from_the_same_point_go_away_and_learn(back):
    cell, _, _ = back
    assert float(cell.control_distance[0, 0]) == 0
    assert float(cell.control_distance[0, -1]) > 10 * float(cell.distance.sel(perturbation="random")[0, -1])
    assert float(cell.control_loss[0, -1]) < float(cell.certified_loss[0])


def test_a_cell_comes_back_from_its_file(back, well, picture, tmp_path):
    folder = RunFolder(tmp_path / "run")
    cells = {"return-seed0": back[0], "proof-double-well": well, "portrait-double-well": picture}
    folder.write_manifest("points", {"cells": list(cells)})
    for name, cell in cells.items():
        folder.write_cell("points", name, cell)
        read = folder.read_cell("points", name)
        assert set(read.data_vars) == set(cell.data_vars)
        assert (tmp_path / f"run/cells/points/{name}.nc").stat().st_size < 150_000


# --- claims ------------------------------------------------------------------------------------------


def forms(holds, residuals=(math.nan, 1e-15)):
    return xr.Dataset(
        {
            "expected": ("quantity", [1.0, 2.0]),
            "found": ("quantity", [1.0, 2.5]),
            "tolerance": ("quantity", [1e-3, 1e-3]),
            "residual": ("quantity", list(residuals)),
            "holds": ("quantity", list(holds)),
        },
        {"quantity": np.array(["attracts from rho = a", "attracts to rho = b"], dtype=object)},
        {"function": "double-well"},
    )


def claim(study, beginning, **cells):
    made = study.claims({name.replace("_", "-"): cell for name, cell in cells.items()}, "samirage reproduce points")
    (found,) = [one for one in made if one.statement.startswith(beginning)]
    return found


def test_claims_about_closed_forms_count_what_they_say(study):
    cells = {"closed_forms_double_well": forms([True, False]), "closed_forms_moat": forms([True, True])}
    share = claim(study, "Every closed form", **cells)
    assert (share.measured, share.n, share.verdict) == (0.75, 4, Verdict.FAILS)
    exact = claim(study, "The residual", **cells)
    assert (exact.measured, exact.n, exact.verdict) == (1e-15, 2, Verdict.HOLDS)
    rough = claim(study, "The residual", closed_forms_moat=forms([True, True], [1e-11, 1e-15]))
    assert rough.verdict is Verdict.FAILS
    begins = claim(study, "The double well's window of attracting radii begins", **cells)
    ends = claim(study, "The double well's window of attracting radii ends", **cells)
    assert (begins.verdict, ends.verdict) == (Verdict.HOLDS, Verdict.FAILS)


def test_one_wrong_claim_that_is_proved_fails_the_study(study, well):
    assert claim(study, "No wrong claim", proof_double_well=well).verdict is Verdict.HOLDS
    planted = well.assign(planted_proved=("planted", np.array([False, True, False])))
    assert claim(study, "No wrong claim", proof_double_well=planted).verdict is Verdict.FAILS
    unconfirmed = well.assign(confirmed=False)
    assert claim(study, "Every point that was found", proof_double_well=unconfirmed).verdict is Verdict.FAILS


def test_claims_about_networks_follow_their_curves(study, back):
    cell = back[0]
    assert claim(study, "Networks that SAM trained", return_seed0=cell).verdict is Verdict.HOLDS
    gone = cell.assign(back=(cell.back.dims, np.zeros_like(cell.back.values)))
    assert claim(study, "Knocked off", return_seed0=gone).measured == 0
    far = cell.assign(distance=cell.distance * (1 + 0.1 * (cell.step > 0)))
    assert claim(study, "After a random perturbation", return_seed0=far).measured == 0


def test_settings_of_other_studies_are_refused_and_every_scale_has_known_names():
    with pytest.raises(UserError, match="study points has losses and radii of its own: leave out --loss and --rho, or"):
        PointsStudy.create("smoke", {"loss": "cross-entropy", "rhos": (1.0,)}, None)
    for config in SCALES.values():
        assert set(config.functions) <= set(CLOSED_FORMS)
        assert set(config.proved) <= set(ANALYTIC)


def test_the_same_study_gives_the_same_numbers(study):
    (cell,) = [cell for cell in study.cells() if cell.name == "proof-moat"]
    one, two = (study.run(cell, lambda passes: None) for _ in range(2))
    timed = [name for name in one.data_vars if "seconds" in name]
    xr.testing.assert_identical(one.drop_vars(timed), two.drop_vars(timed))

"""The study `guard`: plan, what its methods do, and claims that are computed from the cells."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from samirage.errors import UserError
from samirage.lab.results.claims import Verdict
from samirage.lab.studies.guard import METHODS, SCALES, GuardStudy

TINY = replace(SCALES["smoke"], images=60, steps=20, seeds=3, rhos=(10.0,), batch_sizes=(0,))


@pytest.fixture(scope="module")
def results():
    study = GuardStudy(TINY)
    return {cell.name: study.run(cell, lambda passes: None) for cell in study.cells()}


def test_the_plan_has_every_method_at_every_radius_for_every_loss_and_batch_size():
    study = GuardStudy(replace(TINY, rhos=(0.5, 3.0), losses=("cross-entropy", "tanh-squared"), batch_sizes=(0, 8)))
    names = [cell.name for cell in study.cells()]
    runs = ["sgd", *(f"{m}-rho{rho:g}" for rho in (0.5, 3.0) for m in METHODS if m != "sgd")]
    settings = [f"{loss}-{batch}" for loss in ("cross-entropy", "tanh-squared") for batch in ("full", "8")]
    assert names == [f"{setting}-{run}" for setting in settings for run in runs]


def test_progress_counts_the_passes_of_the_plan():
    study, done = GuardStudy(TINY), []
    for cell in study.cells():
        study.run(cell, done.append)
        assert sum(done) == cell.passes, cell.name
        done.clear()


def test_each_method_does_what_it_is_called(results):
    cells = {cell.attrs["method"]: cell for cell in results.values()}
    assert list(cells) == list(METHODS)
    for method, cell in cells.items():
        parts = method.split("+")
        assert cell.radius[:, :2].isnull().all() == ("switch" in parts or method == "sgd"), method
        last = cell.radius[:, -1]
        assert ("rejections" in cell) == ("guard" in parts)
        if method in ("sam", "switch"):
            assert np.allclose(last, 10.0, rtol=1e-4)
        if method == "decay":
            assert np.allclose(last, 10.0 / 20, rtol=1e-3)
        if "guard" in parts:
            assert (cell.rejections > 0).all()
            assert (last < 10.0).all()


def made(runs):
    """Cells of 4 seeds whose accuracies are given: {(method, rho): (mean, hallucinated seeds)}."""
    cells = {}
    for (method, rho), (accuracy, hit) in runs.items():
        data = {
            "final_test_accuracy": ("seed", accuracy + np.array([-0.01, 0.0, 0.0, 0.01])),
            "hallucinated": ("seed", np.arange(4) < hit),
        }
        if "guard" in method:
            data["rejections"] = ("seed", np.full(4, 7))
        attrs = {
            "method": method,
            "rho": rho,
            "loss_name": "cross-entropy",
            "batch_size": 0,
            "passes": 190,
            "steps": 100,
        }
        cells[f"{method}-{rho}"] = xr.Dataset(data, {"seed": range(4)}, attrs)
    return cells


GOOD = {
    ("sam", 0.1): (0.85, 0), ("switch", 0.1): (0.85, 0), ("decay", 0.1): (0.85, 0), ("guard+decay", 0.1): (0.85, 0),
    ("sam", 10.0): (0.1, 4), ("switch", 10.0): (0.7, 2), ("decay", 10.0): (0.8, 0), ("guard+decay", 10.0): (0.83, 0),
}  # fmt: skip


def verdicts(runs):
    return [claim.verdict for claim in GuardStudy(TINY).claims(made(runs), "command")]


def test_claims_hold_where_the_runs_show_it_and_say_by_how_much():
    claims = GuardStudy(TINY).claims(made(GOOD), "command")
    assert [claim.verdict for claim in claims] == [Verdict.HOLDS] * 7
    measured = [0.0, 7 / 90, 0.83 - 0.85, 0.83 - 0.1, 0.83 - 0.7, 0.83 - 0.8, 0.0]
    assert [claim.measured for claim in claims] == pytest.approx(measured)
    assert [claim.n for claim in claims] == [8, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("key", "value", "broken"),
    [
        (("guard+decay", 10.0), (0.83, 1), [0]),
        (("guard+decay", 10.0), (0.81, 0), [2]),
        (("sam", 10.0), (0.84, 0), [3]),
        (("switch", 10.0), (0.84, 0), [4]),
        (("decay", 10.0), (0.84, 0), [5]),
        (("guard+decay", 0.1), (0.82, 0), [2, 6]),
    ],
)
def test_each_claim_fails_where_the_runs_contradict_it(key, value, broken):
    found = verdicts(GOOD | {key: value})
    assert [i for i, verdict in enumerate(found) if verdict is Verdict.FAILS] == broken


def test_an_unknown_loss_is_a_sentence():
    with pytest.raises(UserError, match="unknown loss 'hinge': use one of softmax-squared, cross-entropy"):
        GuardStudy.create("smoke", {"loss": "hinge"}, None)

"""The study `alternatives`: its methods do what they are called, and its claims compare the worst settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from samirage.lab.engine.recipe import GainGuard, SlopeGuard
from samirage.lab.results.claims import Verdict
from samirage.lab.studies.alternatives import METHODS, SCALES, AlternativesStudy
from samirage.sam import step_figures

TINY = replace(SCALES["smoke"], images=60, steps=24, seeds=2)


@pytest.fixture(scope="module")
def cells():
    study = AlternativesStudy(TINY)
    found = [study.run(cell, lambda passes: None) for cell in study.cells()]
    return {cell.attrs["method"]: cell for cell in found}


def figures(slope, *, grad_plus=1.0, loss_plus=1.0):
    direction = [slope, np.sqrt(grad_plus**2 - slope**2)]
    return step_figures(
        loss=torch.tensor(0.0),
        loss_plus=torch.tensor(loss_plus),
        grad_norm=torch.tensor(1.0),
        predicted_gain=torch.tensor(1.0),
        displacement=[torch.tensor([1.0, 0.0])],
        grads_plus=[torch.tensor(direction, dtype=torch.float64)],
    )


def test_the_slope_alone_forgives_a_turn_and_the_gain_forgives_a_vanishing_slope():
    assert SlopeGuard().accepts(figures(0.4, grad_plus=9.0)).item()
    assert not SlopeGuard().accepts(figures(0.2)).item()
    assert GainGuard().accepts(figures(0.0, loss_plus=0.6)).item()
    assert not GainGuard().accepts(figures(1.0, loss_plus=0.4)).item()
    assert not GainGuard().accepts(figures(1.0, loss_plus=2.1)).item()


def test_every_method_has_its_cell_and_pays_for_its_passes(cells):
    assert set(cells) == set(METHODS)
    spent = {method: cell.gradients.values / 24 for method, cell in cells.items()}
    assert (spent["sgd"] == 1).all()
    for method in ("sam", "guard", "kappa0.9", "gain", "momentum"):
        assert (spent[method] == 2).all(), method
    assert (spent["guard+switch"] < 2).all()
    assert (spent["criterion"] < 2).all()
    rejected = {m: cells[m].rejections.values.mean() for m in ("kappa0.3", "kappa0.5", "kappa0.9")}
    assert rejected["kappa0.3"] < rejected["kappa0.9"]
    assert "rejections" not in cells["criterion-guard"]  # its probes are not followed either


def test_momentum_takes_its_share_off_the_learning_rate():
    study = AlternativesStudy(TINY)
    plain, heavy = (study.recipe("softmax-squared", 0, m, 10.0) for m in ("sam", "momentum"))
    assert heavy.lr / (1 - heavy.momentum) == pytest.approx(plain.lr)
    assert plain.momentum == 0 < heavy.momentum


def made(accuracies):
    """Cells of two seeds with the given accuracies at two radii."""
    cells = {}
    for method, at in accuracies.items():
        for rho, accuracy in zip((3.0, 10.0), at, strict=True):
            data = {"final_test_accuracy": ("seed", accuracy + np.array([-0.01, 0.01]))}
            attrs = {"method": method, "rho": rho, "loss_name": "cross-entropy", "batch_size": 0}
            cells[f"{method}-{rho}"] = xr.Dataset(data, {"seed": [0, 1]}, attrs)
    return cells


def test_claims_compare_the_worst_setting_of_each():
    cells = made({"guard+switch": (0.9, 0.8), "sam": (0.99, 0.1), "momentum": (0.85, 0.86)})
    claims = {c.statement.split("“")[1].split("”")[0]: c for c in AlternativesStudy(TINY).claims(cells, "command")}
    assert set(claims) == {"sam", "momentum"}
    assert claims["sam"].measured == pytest.approx(0.7)
    assert claims["sam"].verdict is Verdict.HOLDS
    assert claims["momentum"].measured == pytest.approx(-0.05)
    assert claims["momentum"].verdict is Verdict.FAILS


def test_the_study_can_be_made_by_name():
    assert (
        AlternativesStudy.create("paper", {"loss": "cross-entropy", "images": 50, "data": "mnist-mini"}, None).config[
            "images"
        ]
        == 50
    )

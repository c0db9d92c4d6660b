"""The sections of the studies `wells` and `alternatives`, built from data sets whose content is known."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from samirage.lab.results.store import RunFolder
from samirage.report.page import build_page
from samirage.report.plots.wells import HALLUCINATED, TRUE, wells_plot
from samirage.report.sections import alternatives, wells


def well(hit):
    ends = np.array([[0.5, 0.0], [-1.0, 0.2], [1.0, -0.2]])
    return xr.Dataset(
        {
            "path": (("shown", "point", "coordinate"), np.stack([[[0.0, 0.0], end] for end in ends])),
            "end": (("seed", "coordinate"), ends),
            "hallucinated": ("seed", np.array(hit)),
            "f": (("x", "y"), np.add.outer(np.linspace(0, 1, 5), np.linspace(0, 1, 4))),
            "minimizers": (("well", "coordinate"), ends[1:]),
        },
        {"seed": [0, 1, 2], "shown": [0, 1, 2], "x": np.linspace(-2, 2, 5), "y": np.linspace(-1, 1, 4)},
        {"method": "sam", "rho": 1.5},
    )


def test_the_ends_are_drawn_in_the_colour_of_what_they_are():
    figure = wells_plot({"sam": well([True, False, False]), "guard": well([False] * 3)}, columns=3)
    first, second, empty = figure.axes
    drawn = {line.get_label(): line for line in first.lines}
    assert drawn["hallucinated"].get_xydata().tolist() == [[0.5, 0.0]]
    assert to_hex(drawn["hallucinated"].get_color()) == HALLUCINATED
    assert drawn["true"].get_xydata().tolist() == [[-1.0, 0.2], [1.0, -0.2]]
    paths = [to_hex(line.get_color()) for line in first.lines if line.get_label() == "path"]
    assert paths == [HALLUCINATED, TRUE, TRUE]
    assert not len({line.get_label(): line for line in second.lines}["hallucinated"].get_xydata())
    assert first.get_title() == "SAM only: 1 of 3"
    assert not empty.get_visible()


def test_the_ends_are_told_in_words():
    text = wells.describe({"sam": well([True, True, False]), "guard": well([False] * 3)})
    assert text == "Runs that end at a hallucinated point: SAM only: 2 of 3; SAM with guard: 0 of 3."


def run(accuracy, hit, gradients):
    return xr.Dataset(
        {
            "final_test_accuracy": ("seed", accuracy + np.array([-0.02, 0.02])),
            "hallucinated": ("seed", np.arange(2) < hit),
            "gradients": ("seed", np.array([gradients, gradients])),
        },
        {"seed": [0, 1]},
        {"steps": 100},
    )


def test_methods_are_ranked_by_their_worst_setting():
    runs = {
        ("cross-entropy", 0.0): {("sam", 3.0): run(0.95, 0, 200), ("search", 3.0): run(0.6, 0, 450)},
        ("tanh-squared", 0.0): {("sam", 10.0): run(0.1, 2, 200), ("search", 10.0): run(0.7, 1, 350)},
    }
    first, second = alternatives.ranking(runs)
    assert (first.label, second.label) == ("Guard that searches, 5 retries", "SAM only")
    assert first.worst.mean == pytest.approx(0.6)
    assert first.where == "cross-entropy, full batch, ρ = 3"
    assert first.mean == pytest.approx(0.65)
    assert (first.hit, first.n, first.gradients) == (1, 4, 4.0)
    assert second.worst.mean == pytest.approx(0.1)


def test_both_have_their_place_on_the_page(tmp_path):
    folder = RunFolder(tmp_path / "run")
    cells = {"wells": {"sam": well([True, False, False])}}
    attrs = {"loss_name": "cross-entropy", "batch_size": 0, "method": "search+switch", "rho": 3.0, "passes": 200}
    end = {name: ("seed", [0.5, 0.5]) for name in ("final_loss", "final_shift_ratio", "final_grad_norm")}
    one = run(0.6, 0, 450).assign(end | {"diverged": ("seed", [False, False])}).assign_attrs(attrs)
    cells["alternatives"] = {"cell": one}
    for study, named in cells.items():
        folder.write_manifest(study, {"config": {}, "seeds": [0], "cells": list(named)})
        for name, data in named.items():
            folder.write_cell(study, name, data)
    page = build_page(folder).read_text(encoding="utf-8")
    assert "Runs that end at a hallucinated point: SAM only: 1 of 3." in page
    assert "Guard that searches, 5 retries, after the switch" in page
    assert "<td>4.50</td>" in page

"""The section of study `points`: what is drawn, told and printed, from synthetic cells."""

import re
from html import unescape

import numpy as np
import pytest
import xarray as xr

from samirage.lab.results.store import RunFolder
from samirage.report.page import build_page
from samirage.report.plots.back import back_plot
from samirage.report.plots.portrait import portrait_plot
from samirage.report.sections.points import gather, headline, proof_row

STATUSES = ["stationary", "hallucinated plateau"]
KINDS = np.array(["random", "downhill", "steepest"], dtype=object)


def portrait(*, attracts=True):
    x, y = np.linspace(-2, 2, 11), np.linspace(-1, 1, 9)
    n = 5
    data = {
        "f": (("y", "x"), (x[None] ** 2 - 1) ** 2 + y[:, None] ** 2),
        "point": (("point_index", "axis"), [[0.5, -0.1]]),
        "point_plus": (("point_index", "axis"), [[-1.0, 0.0]]),
        "point_grad": (("point_index", "axis"), [[-0.3, 0.02]]),
        "branch_x": (("branch", "axis"), np.linspace([0, 0], [1, -0.2], n)),
        "branch_rho": ("branch", np.linspace(1, 2, n)),
        "branch_grad_norm": ("branch", [0.0, 0.3, 0.4, 0.3, 0.0]),
        "branch_max_stable_lr": ("branch", [0.0, 0.4, 0.5, 0.4, 0.0] if attracts else np.zeros(n)),
        "exists": ("edge", [1.0, 2.0]),
        "attracting": (("stretch", "edge"), np.array([[1.25, 1.75]]) if attracts else np.empty((0, 2))),
        "basin": (("row", "column"), np.array([[0, 0, 1], [0, 0, 1], [0, 0, 2]], dtype=np.int16)),
        "end_x": (("end", "axis"), [[0.5, -0.1], [1.0, 0.0], [np.nan, np.nan]]),
        "end_kind": ("end", np.array(["hallucinated minimizer", "bouncing about a minimizer", "diverged"], object)),
        "end_share": ("end", [6 / 9, 2 / 9, 1 / 9]),
        "stationary": (("stationary_index", "axis"), [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]),
        "stationary_kind": ("stationary_index", np.array(["minimizer", "minimizer", "saddle"], object)),
    }
    coords = {"x": x, "y": y, "row": [-1.0, 0.0, 1.0], "column": [-2.0, 0.0, 2.0]}
    return xr.Dataset(data, coords, {"function": "double-well", "rho": 1.5, "basin_lr": 0.1})


def proof(name, parameters, *, proved=True, confirmed=True, planted=(False, False), attraction=True):
    nan = np.nan
    data = {
        "parameters": parameters,
        "found": True,
        "proved": proved,
        "attraction_proved": proved and attraction,
        "confirmed": confirmed,
        "prove_seconds": 0.25,
        "check_seconds": 0.5 if proved else nan,
        "half_width": 1e-8,
        "curvature_above": 0.4,
        "planted_proved": ("planted", list(planted)),
        "distance": ("step", [0.02, 0.001, 0.0]),
        "shift_ratio": ("step", [0.3, 0.01, 1e-9]),
    }
    coords = {"planted": np.array(["wrong radius", "shifted point"], dtype=object), "step": [0, 10, 20]}
    return xr.Dataset(data, coords, {"subject": name, "rho": 1.5, "size": 2.0, "statement": f"The box of <{name}>."})


def perturbationed(*, back=((True, True, False),)):
    seeds, steps = len(back), 4
    ratio = np.ones((seeds, 3, steps)) * [1e-6, 1e-6, 1e-6, 1e-6]
    ratio[:, 1:] = [3.0, 0.1, 1e-4, 1e-5]
    data = {
        "shift_ratio": (("seed", "perturbation", "step"), ratio),
        "distance": (("seed", "perturbation", "step"), np.full((seeds, 3, steps), 0.4)),
        "control_distance": (("seed", "step"), np.tile([0.0, 1.0, 2.0, 8.0], (seeds, 1))),
        "back": (("seed", "perturbation"), list(back)),
        "polished_shift_ratio": ("seed", np.full(seeds, 9e-7)),
        "size": ("seed", np.full(seeds, 4.0)),
        "kind": ("seed", np.full(seeds, 1)),
        "attractor": ("seed", np.zeros(seeds)),
    }
    coords = {"seed": np.arange(seeds), "perturbation": KINDS, "step": [0, 30, 60, 99]}
    return xr.Dataset(data, coords, {"statuses": STATUSES, "rho": 10.0})


def forms():
    data = {
        "expected": ("quantity", [0.5, 1.0]),
        "found": ("quantity", [0.5, 1.2]),
        "tolerance": ("quantity", [1e-9, 1e-3]),
        "residual": ("quantity", [1e-16, np.nan]),
        "holds": ("quantity", [True, False]),
    }
    names = np.array(["distance <rho − R>", "share"], dtype=object)
    return xr.Dataset(data, {"quantity": names}, {"function": "ring"})


CELLS = {
    "closed-forms-ring": forms(),
    "portrait-double-well": portrait(),
    "proof-ring": proof("ring", 2),
    "proof-network-3x1": proof("network-3x1", 12),
    "proof-network-5x1": proof("network-5x1", 28, proved=False, confirmed=False),
    "return-seed0": perturbationed(),
}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_manifest("points", {"config": {"scale": "laptop"}, "seeds": [0], "cells": [*CELLS, "not-yet"]})
    for name, data in CELLS.items():
        folder.write_cell("points", name, data)
    return folder


def labels(axes):
    return [line.get_label() for line in axes.lines]


def test_the_portrait_draws_the_point_what_it_sees_and_its_branch():
    landscape, basin, branch = portrait_plot(portrait(), columns=3).axes
    drawn = {line.get_label(): line.get_xydata() for line in landscape.lines}
    np.testing.assert_array_equal(drawn["hallucinated"], [[0.5, -0.1]])
    np.testing.assert_array_equal(drawn["look"], [[0.5, -0.1], [-1.0, 0.0]])
    np.testing.assert_array_equal(drawn["minimizer"], [[-1.0, 0.0], [1.0, 0.0]])
    (arrow,) = landscape.texts
    step = np.asarray(arrow.xy) - [0.5, -0.1]
    assert step @ [-0.3, 0.02] == pytest.approx(np.hypot(*step) * np.hypot(-0.3, 0.02))  # along the gradient
    assert labels(basin) == ["end 0", "end 1"]  # what diverged has no place
    assert labels(branch) == ["gradient", "largest stable lr", "shown"]
    areas = {patch.get_label(): patch.get_path() for patch in basin.patches}
    assert len(areas["basin 0"].vertices) == 5 * 3  # one rectangle for each row of the grid
    np.testing.assert_allclose(areas["basin 2"].get_extents().bounds, [1.0, 0.5, 2.0, 1.0])
    (span,) = branch.patches
    edges = span.get_extents().transformed(branch.transData.inverted()).intervalx
    np.testing.assert_allclose(edges, [1.25, 1.75])


def test_the_portrait_of_a_repeller_has_no_window_and_no_learning_rate():
    figure = portrait_plot(portrait(attracts=False), columns=1)
    branch = figure.axes[2]
    assert not branch.patches
    assert labels(branch) == ["gradient", "shown"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "radii that attract" not in legend
    assert "67 % end: hallucinated minimizer" in legend


def test_every_kind_of_perturbation_has_its_panels():
    perturbations = gather(CELLS)
    assert [perturbation.title for perturbation in perturbations][-1] == "Small networks, proved to attract"
    assert perturbations[-1].shift_ratio.shape == (1, 3)  # the network of which nothing is proved is left out
    np.testing.assert_allclose(perturbations[-1].distance[0], [0.01, 0.0005, 0.0])  # relative to ‖x‖ = 2
    np.testing.assert_allclose(perturbations[0].control[0], [0.0, 0.25, 0.5, 2.0])
    figure = back_plot(perturbations, columns=4, threshold=1e-5)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 8
    assert all(axes.get_yscale() == "log" for axes in shown)
    np.testing.assert_allclose(shown[1].lines[0].get_ydata(), [3.0, 0.1, 1e-4, 1e-5])
    assert len(back_plot(perturbations[:3], columns=2, threshold=1e-5).axes) == 8  # two of them hidden


def test_the_headline_counts_what_the_cells_hold():
    first, second = headline(CELLS)
    assert first == (
        "1 of 2 numbers that can be worked out by hand agree with what was found. In the double well the point "
        "attracts SAM for ρ from 1.2500 to 1.7500. 2 of 3 points are proved by ball arithmetic and confirmed by a "
        "separate checker, one of them with 12 parameters; of 6 wrong claims none was proved."
    )
    assert "1 × hallucinated plateau; attracting in the strict sense: 0" in second
    assert "1 of 1 are at a hallucinated point again after 100 steps of SAM, and 0 of 1 after the steepest" in second
    assert "10 % of ‖x‖" in second
    bad = {"proof-ring": proof("ring", 2, planted=(True, False))}
    assert "of 2 wrong claims 1 were proved" in headline(bad)[0]
    assert headline({}) == ()


def test_a_row_says_what_is_proved():
    assert proof_row(CELLS["proof-ring"]).verdict == "exists, strict minimizer at x⁺, attracts"
    assert proof_row(proof("a", 2, attraction=False)).verdict == "exists, strict minimizer at x⁺"
    assert (
        proof_row(proof("a", 2, attraction=False).assign(curvature_above=np.nan)).verdict == "exists, minimizer at x⁺"
    )
    assert proof_row(CELLS["proof-network-5x1"]).verdict == "not proved"
    assert proof_row(proof("a", 2).assign(found=False, proved=False)).verdict == "no point found"


def test_the_page_holds_it_all(folder):
    html = build_page(folder).read_text(encoding="utf-8")
    assert "1 of 7 cells has not finished: not-yet" in html
    assert html.count('role="img"') == 4
    assert "distance &lt;rho − R&gt;" in html
    assert "“The box of &lt;network-3x1&gt;.”" in html
    table = re.search(r'<table class="forms">.*?</table>', html, re.DOTALL).group()
    rows = [unescape(re.sub(r"<[^>]+>", " ", row)).split() for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
    assert rows[-2][-1] == "yes"
    assert rows[-1][-1] == "NO"
    assert "attracts at 1.25 to 1.75" in html

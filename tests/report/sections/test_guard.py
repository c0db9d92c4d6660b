"""The section of study `guard`: what is drawn, told and printed, from synthetic cells."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from samirage.lab.methods import METHODS
from samirage.lab.results.store import RunFolder
from samirage.report.page import build_page
from samirage.report.plots.remedies import remedies_plot
from samirage.report.plots.style import PALETTE
from samirage.report.sections import build_section
from samirage.report.sections.guard import headline, load, table

RHOS = (0.1, 3.0, 30.0)
MEANS = {
    "sam": (0.8, 0.5, 0.1),
    "switch": (0.8, 0.6, 0.5),
    "decay": (0.81, 0.7, 0.6),
    "guard+decay": (0.8, 0.79, 0.78),
}


def cell(method, rho, accuracy, *, loss="cross-entropy", batch=0, hit=0):
    seeds = np.arange(4)
    values = {name: ("seed", np.full(4, 0.5)) for name in ("final_loss", "final_shift_ratio", "final_grad_norm")}
    values |= {
        "final_test_accuracy": ("seed", accuracy + np.array([-0.02, 0.0, 0.0, 0.02])),
        "hallucinated": ("seed", seeds < hit),
        "diverged": ("seed", np.zeros(4, bool)),
    }
    if "guard" in method:
        values["rejections"] = ("seed", np.array([5, 7, 7, 9]))
    attrs = {"method": method, "rho": rho, "loss_name": loss, "batch_size": batch, "passes": 200, "steps": 100}
    return xr.Dataset(values, {"seed": seeds}, attrs)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    cells = {}
    for batch in (0, 128):
        cells[f"{batch}-sgd"] = cell("sgd", 0.0, 0.83, batch=batch)
        for method, means in MEANS.items():
            for rho, mean in zip(RHOS, means, strict=True):
                hit = 3 if method == "sam" and rho == 30.0 else 0
                cells[f"{batch}-{method}-{rho:g}"] = cell(method, rho, mean, batch=batch, hit=hit)
    folder.write_manifest("guard", {"config": {"scale": "laptop"}, "seeds": [0, 1, 2, 3], "cells": list(cells)})
    for name, data in cells.items():
        folder.write_cell("guard", name, data)
    return folder


def lines(axes, label) -> list[Line2D]:
    return [line for line in axes.lines if line.get_label() == label]


def test_the_figure_has_a_panel_per_setting_and_a_curve_per_method(folder):
    figure = remedies_plot(load(folder, "guard"), chance=0.1, columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["cross-entropy, full batch", "cross-entropy, batch 128"]
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_ylim()) == ("log", (0.0, 100.0))
        for method, means in MEANS.items():
            (curve,) = lines(axes, f"{method} mean")
            assert curve.get_xdata() == pytest.approx(RHOS)
            assert curve.get_ydata() == pytest.approx(100 * np.array(means))
            assert to_hex(curve.get_color()) == METHODS[method].colour
        (error,) = [c for c in axes.collections if c.get_label() == "sam error"]
        low, high = error.get_segments()[0][:, 1]
        # Two standard errors of (−2, 0, 0, 2): the standard deviation is sqrt(8/3).
        assert (high - low) / 2 == pytest.approx(2 * np.sqrt(8 / 3) / 2)
        (hollow,) = lines(axes, "sam hallucinated")
        assert (hollow.get_xdata().tolist(), hollow.get_markerfacecolor()) == ([30.0], "none")
        assert lines(axes, "guard+decay hallucinated")[0].get_xdata().size == 0


def test_one_column_of_an_odd_number_of_panels_leaves_none_empty(folder):
    runs = load(folder, "guard")
    assert all(axes.get_visible() for axes in remedies_plot(runs, chance=0.1, columns=1).axes)
    three = {**runs, ("tanh-squared", 0.0): runs["cross-entropy", 0.0]}
    shown = [axes.get_visible() for axes in remedies_plot(three, chance=0.1, columns=2).axes]
    assert shown == [True, True, True, False]


def test_every_method_has_a_colour_of_the_palette_and_no_two_look_alike():
    looks = [(look.colour, look.marker, look.dashes) for look in METHODS.values() if look.colour]
    assert len(set(looks)) == len(looks)
    assert {colour for colour, _, _ in looks} <= PALETTE.keys()


def test_the_headline_counts_what_is_stored(folder):
    (text,) = headline(load(folder, "guard"))
    assert text.startswith(
        "6 of 24 networks trained with SAM alone end at a hallucinated point, and 0 of 24 with a guard."
    )
    assert "is 78% for the guard with a decaying radius (cross-entropy, full batch, ρ = 30); SAM only: 10%" in text


def test_the_table_has_every_cell_and_the_share_of_rejected_steps(folder):
    full = table(("cross-entropy", 0.0), load(folder, "guard")["cross-entropy", 0.0])
    assert full.rhos == RHOS
    assert [row.accuracy.mean for row in full.rows["switch"]] == pytest.approx(MEANS["switch"])
    assert full.rejected["guard+decay"] == pytest.approx([0.07] * 3)
    assert full.rejected["sam"] == [None] * 3
    assert len(full.rows["sgd"]) == 1


def test_the_page_shows_it(folder):
    html = build_page(folder).read_text(encoding="utf-8")
    assert "Remedies: which of them holds at any radius" in html
    assert "[3 of 4 at hallucinated points]" in html
    assert "[7% rejected]" in html
    section = build_section(folder, "guard")
    assert section.notices == ()

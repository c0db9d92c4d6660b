"""The section of study `doctor`: what is drawn, told and printed, from synthetic cells."""

import re
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from matplotlib.patches import Polygon, Rectangle

from samirage.lab.results.store import RunFolder
from samirage.report.diagnoses import Life, confusion, life, run_row
from samirage.report.page import build_page
from samirage.report.plots.confusion import confusion_plot
from samirage.report.plots.life import LOOKS, life_plot
from samirage.report.sections.doctor import SHOWN, headline

STATUSES = tuple(LOOKS)


def cell(name, truth, said, *, family="analytic", at_rest=0, confirmed=None, life_of=("undecided", "progressing")):
    codes = np.array([STATUSES.index(one) for one in said], dtype=np.int8)
    extra = codes if confirmed is None else np.array([STATUSES.index(o) if o else -1 for o in confirmed], dtype=np.int8)
    over_time = np.array([[STATUSES.index(one) for one in life_of]] * len(said), dtype=np.int8)
    data = {
        "status": ("seed", codes),
        "status_alone": ("seed", codes),
        "status_confirmed": ("seed", extra),
        "status_over_time": (("seed", "window"), over_time),
        "margin": ("seed", np.linspace(0.25, 2, len(said))),
        "loss": (("seed", "step"), np.exp(-np.arange(20.0))[None].repeat(len(said), 0)),
    }
    coords = {"seed": np.arange(len(said)), "step": 5 * np.arange(20), "window": 50 * np.arange(1, len(life_of) + 1)}
    attrs = {
        "run": name, "truth": truth, "family": family, "reason": f"Known <because> of {name}.", "at_rest": at_rest,
        "statuses": list(STATUSES), "alarms": ["drifting into hallucination"],
    }  # fmt: skip
    return xr.Dataset(data, coords, attrs)


CELLS = {
    SHOWN[0]: cell(SHOWN[0], "hallucinated plateau", ["hallucinated plateau"] * 3 + ["undecided"], family="network"),
    "ring-maximizer": cell("ring-maximizer", "maximizer trap", ["maximizer trap"] * 4),
    "saddle-at-rest": cell(
        "saddle-at-rest", "saddle trap", ["bouncing about a minimizer"] * 4, at_rest=1,
        confirmed=["saddle trap", "saddle trap", None, "undecided"],
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    names = [*CELLS, "not-yet"]
    folder.write_manifest("doctor", {"config": {"scale": "laptop"}, "seeds": [0, 1, 2, 3], "cells": names})
    for name, data in CELLS.items():
        folder.write_cell("doctor", name, data)
    return folder


def test_the_confusion_counts_seeds_by_class_and_diagnosis():
    table = confusion(list(CELLS.values()))
    assert (table.right, table.total) == (7, 12)
    assert table.truths == ("hallucinated plateau", "saddle trap", "maximizer trap")
    found = {
        (truth, said): int(table.counts[i, j])
        for i, truth in enumerate(table.truths)
        for j, said in enumerate(table.said)
        if table.counts[i, j]
    }
    assert found == {
        ("hallucinated plateau", "hallucinated plateau"): 3,
        ("hallucinated plateau", "undecided"): 1,
        ("maximizer trap", "maximizer trap"): 4,
        ("saddle trap", "bouncing about a minimizer"): 4,
    }
    assert confusion(list(CELLS.values()), "status_confirmed").total == 11  # one was not tried


def test_the_matrix_draws_every_count_in_its_place_and_wrong_ones_apart():
    table = confusion(list(CELLS.values()))
    (axes,) = confusion_plot({"Free figures": table}).axes
    texts = {tuple(np.round(text.get_position()).astype(int)): text for text in axes.texts}
    drawn = {(x, y): int(text.get_text()) for (x, y), text in texts.items()}
    assert drawn == {(j, i): int(n) for (i, j), n in np.ndenumerate(table.counts) if n}
    colours = {tuple(np.add(patch.get_xy(), 0.5)): patch.get_facecolor()[:3] for patch in axes.patches}
    right = {colours[table.said.index(truth), i] for i, truth in enumerate(table.truths)}
    assert len(right) == 1
    wrong = {colours[place] for place in drawn if table.said[place[0]] != table.truths[place[1]]}
    assert wrong.isdisjoint(right)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(table.said)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(table.truths)


def test_panels_do_not_overlap_and_say_how_many_are_right():
    table = confusion(list(CELLS.values()))
    figure = confusion_plot({"Free figures": table, "With extra passes": table})
    above, under = (axes.get_position() for axes in figure.axes)
    assert above.y0 > under.y1
    assert [text.get_text() for text in figure.texts] == [
        "Free figures: 7 of 12 seeds right",
        "With extra passes: 7 of 12 seeds right",
    ]


def test_the_band_of_a_life_joins_windows_of_one_status():
    steps = np.arange(0, 100, 10)
    said = ("undecided", "progressing", "progressing", "saddle trap")
    figure = life_plot([Life("one", steps, 1 / (1.0 + steps), np.array([24, 49, 74, 99]), said)])
    loss, band = figure.axes
    spans = [patch for patch in band.patches if isinstance(patch, Polygon | Rectangle)]
    edges = [patch.get_extents().transformed(band.transData.inverted()).intervalx for patch in spans]
    np.testing.assert_allclose(edges, [[0, 24], [24, 74], [74, 99]], atol=1e-6)
    assert [patch.get_label() for patch in spans] == ["undecided", "progressing", "saddle trap"]
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), 1 / (1.0 + steps))
    assert loss.get_yscale() == "log"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["progressing", "saddle trap", "undecided"]


def test_losses_of_any_sign_are_drawn_and_panels_keep_their_own_scale():
    steps = np.arange(3)
    lives = [
        Life("negative", steps, np.array([1.0, -1.0, np.nan]), np.array([2]), ("diverged",)),
        Life("large", steps, np.array([1e5, 1.0, 1e-3]), np.array([2]), ("progressing",)),
        Life("third", steps, np.array([1.0, 2.0, 3.0]), np.array([2]), ("progressing",)),
    ]
    figure = life_plot(lives, columns=2)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 6
    by_title = {axes.get_title(): axes for axes in shown if axes.get_title()}
    assert by_title["negative"].get_yscale() == "linear"
    assert by_title["large"].get_yscale() == "log"


def test_a_life_can_be_made_of_a_monitors_diagnoses():
    diagnoses = [
        SimpleNamespace(last_step=step, status=SimpleNamespace(value=said), figures={"loss": SimpleNamespace(value=v)})
        for step, said, v in ((9, "progressing", 2.0), (19, "saddle trap", 1.0))
    ]
    made = Life.of(diagnoses, "mine")
    assert made.ends.tolist() == [9, 19]
    assert made.loss.tolist() == [2.0, 1.0]
    assert made.statuses == ("progressing", "saddle trap")
    life_plot([made])


def test_a_life_is_that_of_one_seed():
    one = life(CELLS["ring-maximizer"], 2)
    assert one.title == "ring-maximizer"
    assert one.statuses == ("undecided", "progressing")
    assert one.ends.tolist() == [50, 100]


def test_the_row_of_a_run():
    row = run_row(CELLS["saddle-at-rest"])
    assert (row.n, row.free, row.confirmed, row.tried, row.at_rest) == (4, 0, 2, 3, True)
    assert row.others == (("bouncing about a minimizer", 4),)
    assert row.margin == 0.25


def test_the_headline_counts_runs_that_the_free_figures_can_tell():
    (text,) = headline([run_row(data) for data in CELLS.values()])
    assert text.startswith(
        "The free figures are right for 4 of 4 runs on analytic functions and 3 of 4 runs of networks."
    )
    assert "extra passes over the loss then tell 2 of 3 right" in text
    assert headline([]) == ("No labelled run has finished yet.",)


def test_the_page_shows_figures_table_and_what_is_missing(folder):
    html = build_page(folder).read_text(encoding="utf-8")
    assert "Is the diagnosis right?" in html
    assert "1 of 4 cells has not finished: not-yet." in html
    assert "Known &lt;because&gt; of ring-maximizer." in html
    table = re.search(r'<table class="doctor">.*?</table>', html, re.DOTALL).group()
    rows = [unescape(re.sub(r"<[^>]+>", " ", row)).split() for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
    (saddle,) = [row for row in rows if row and row[0] == "saddle-at-rest"]
    assert " ".join(saddle).startswith(
        "saddle-at-rest Known <because> of saddle-at-rest. saddle trap 0 of 4 bouncing about a minimizer: 4 at rest: "
        "takes extra passes 2 of 3 0 of 4 0.25"
    )
    assert html.count('role="img"') == 4
    assert "Free figures: 7 of 12 seeds right; 1 of class hallucinated plateau were called undecided" in html


def test_every_status_has_a_look_of_its_own():
    from samirage.sam import Status

    assert set(LOOKS) == {status.value for status in Status}
    assert len(set(LOOKS.values())) == len(LOOKS)

"""The section of comparisons: tables, figures and diagnoses are those of the cells, and the stored reading leads."""

import json

import numpy as np
import pytest
import xarray as xr

from samirage.errors import UserError
from samirage.lab.results.plot_spec import ACCURACY, HALLUCINATED, Measure, PlotSpec
from samirage.lab.results.store import RunFolder
from samirage.report.page import build_page
from samirage.report.plots.comparison import axis_places, comparison_plot
from samirage.report.plots.statuses import _LOOKS, statuses_plot
from samirage.report.sections import build_section
from samirage.report.sections.comparison import load, status_counts, tables
from samirage.sam import Status

STATUSES = [status.value for status in Status]
READING = PlotSpec(
    title="Steps and noise", question="Does it matter?", axis="Share of noise (%)", scale="linear",
    measures=(ACCURACY, HALLUCINATED), labels={"odd": "An odd method"}, findings=("It matters by 1 %.",),
)  # fmt: skip


def cell(panel, method, x, accuracy, hit, statuses, seeds=(0, 1)):
    data = {
        "final_test_accuracy": ("seed", np.array(accuracy)),
        "hallucinated": ("seed", np.array(hit)),
        "status": ("seed", np.array([STATUSES.index(status) for status in statuses], dtype=np.int8)),
    }
    attrs = {"panel": panel, "method": method, "x": x, "statuses": STATUSES}
    return xr.Dataset(data, {"seed": list(seeds)}, attrs)


CELLS = {
    "a": cell("one", "sam", 20.0, [0.5, 0.7], [True, False], ["hallucinated minimizer", "saddle trap"]),
    "b": cell("one", "sam", 3.0, [0.25], [False], ["progressing"], seeds=[0]),
    "b2": cell("one", "sam", 3.0, [0.75], [False], ["progressing"], seeds=[1]),
    "c": cell("one", "odd", 20.0, [0.9, 0.9], [False, False], ["bouncing about a minimizer"] * 2),
    "d": cell("two", "odd", 3.0, [0.1, 0.3], [True, True], ["hallucinated plateau"] * 2),
}


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.write_manifest("fresh", {"config": {}, "seeds": [0, 1], "cells": [*CELLS, "never"]})
    for name, dataset in CELLS.items():
        made.write_cell("fresh", name, dataset)
    made.write_reading("fresh", READING)
    return made


def test_tables_hold_means_errors_and_hallucinated_seeds(folder):
    one, two = tables(load(folder, "fresh"), READING)
    assert (one.title, one.methods) == ("one", ("SAM only", "An odd method"))
    assert [x for x, _ in one.rows] == ["3", "20"]  # numbers ascend, whatever the order of the cells
    assert one.rows[0][1][1] is None
    three, twenty = one.rows[0][1][0], one.rows[1][1][0]
    assert (three.value.mean, three.value.standard_error, three.hit, three.n) == (50.0, 25.0, 0, 2)
    assert twenty.value.mean == pytest.approx(60.0)
    assert (twenty.hit, twenty.statuses) == (1, (("hallucinated minimizer", 1), ("saddle trap", 1)))
    assert two.rows[0][1][0].hit == 2


def test_names_stay_in_the_order_of_the_cells(folder):
    panels = {"p": {"sam": dict.fromkeys(("b", "a", "c"), CELLS["a"])}}
    assert axis_places(panels, PlotSpec("t", "q?", "axis", "names", (ACCURACY,))) == ["b", "a", "c"]


def test_lines_errors_and_hollow_markers_are_those_of_the_cells(folder):
    figure = comparison_plot(load(folder, "fresh"), READING, narrow=False)
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["sam mean"].get_xdata().tolist() == [3.0, 20.0]
    assert lines["sam mean"].get_ydata() == pytest.approx([50.0, 60.0])
    assert lines["sam hallucinated"].get_xdata().tolist() == [20.0]
    assert lines["sam clean"].get_xdata().tolist() == [3.0]
    strokes = next(c for c in axes.collections if c.get_label() == "sam error")
    assert strokes.get_segments()[0][:, 1] == pytest.approx([0.0, 100.0])
    assert figure.axes[2].get_ylabel() == HALLUCINATED.label
    narrow = comparison_plot(load(folder, "fresh"), READING, narrow=True)
    assert len(narrow.axes) == len(figure.axes) == 4
    assert narrow.get_figwidth() < figure.get_figwidth()


def test_labels_of_a_log_axis_do_not_run_into_each_other():
    reading = PlotSpec("t", "q?", "axis", "log", (ACCURACY,))
    line = dict.fromkeys((0.001, 0.05, 0.1, 10.0), CELLS["a"])
    axes = comparison_plot({"p": {"sam": line}}, reading, narrow=False).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.001", "0.05", "", "10"]


def test_bars_are_the_shares_of_the_diagnoses(folder):
    counts = status_counts(load(folder, "fresh"), READING)
    assert counts["one"]["sam, 20"] == {"hallucinated minimizer": 1, "saddle trap": 1}
    assert counts["two"] == {"odd, 3": {"hallucinated plateau": 2}}
    figure = statuses_plot(counts, columns=2)
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in figure.axes[0].containers}
    assert widths["hallucinated minimizer"] == [50.0]  # where there are none, nothing is drawn
    assert sum(sum(w) for w in widths.values()) == pytest.approx(300.0)


def test_every_status_has_a_look():
    assert set(_LOOKS) == set(STATUSES)


def test_the_page_shows_the_reading_and_what_is_missing(folder):
    html = build_page(folder).read_text(encoding="utf-8")
    for text in ("Steps and noise", "Does it matter?", "It matters by 1 %.", "An odd method", "1 of 6 cells has not"):
        assert text in html
    assert "hallucinated plateau" in html


def test_without_a_reading_the_cells_are_listed(folder):
    (folder.path / "readings.json").unlink()
    section = build_section(folder, "fresh")
    assert section.title == "Study fresh"
    assert section.opening == ()


def test_a_reading_comes_back_as_it_was_written(folder):
    assert folder.reading("fresh") == READING
    assert folder.reading("other") is None


@pytest.mark.parametrize("broken", [{"title": "half"}, {**READING.to_dict(), "scale": "cubic"}, []])
def test_a_broken_reading_is_one_sentence(folder, broken):
    (folder.path / "readings.json").write_text(json.dumps({"fresh": broken}))
    with pytest.raises(UserError, match=r"readings\.json cannot be used for study 'fresh' .*; delete the file and run"):
        build_page(folder)


def test_a_reading_without_measures_is_refused():
    with pytest.raises(ValueError, match="a reading needs measures and scales of linear, log, names"):
        PlotSpec("t", "q?", "axis", "linear", ())
    with pytest.raises(ValueError, match="cubic"):
        PlotSpec("t", "q?", "axis", "linear", (Measure("m", "M", scale="cubic"),))

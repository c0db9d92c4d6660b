"""Sections are found by the name of the study; numbers that decide what is shown come with the results."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from samirage.lab.results.constants import JUDGED_BY
from samirage.lab.results.store import RunFolder
from samirage.report.plots.shift import shift_plot
from samirage.report.runs import StudyRuns, judged_by
from samirage.report.sections import build_section


@pytest.mark.parametrize("name", ["section", "drawing", "os", "__init__", "mnist.os"])
def test_a_foreign_name_of_a_module_is_that_of_a_study_without_a_section(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_manifest(name, {"config": {}, "seeds": [0], "cells": ["one"]})
    folder.write_cell(name, "one", xr.Dataset({"loss": ("seed", np.zeros(1))}, {"seed": [0]}))
    assert build_section(folder, name).title == f"Study {name}"


def test_what_a_run_was_judged_by_goes_before_what_runs_are_judged_by_today(study: StudyRuns) -> None:
    assert judged_by(study.runs.values(), "hallucinated_shift_ratio") == JUDGED_BY["hallucinated_shift_ratio"]
    runs = {key: run.copy() for key, run in study.runs.items()}
    for run in runs.values():
        run["hallucinated"] = run["hallucinated"].assign_attrs(hallucinated_shift_ratio=0.25)
    plot = shift_plot(StudyRuns(runs, study.rhos, study.seconds))
    (line,) = (line for line in plot.axes[0].lines if line.get_label() == "threshold")
    assert np.unique(np.asarray(line.get_ydata())).tolist() == [0.25]
    assert any(text.get_text() == "r = 0.25" for text in plot.axes[0].texts)

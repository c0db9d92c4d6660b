"""A run folder that the tests of the page share, its runs and its page."""

from pathlib import Path

import pytest
from synthetic_run import make_folder

from samirage.lab.store import RunFolder
from samirage.report.page import build_page
from samirage.report.runs import StudyRuns, load_runs


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A whole run; tests only read it."""
    return make_folder(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="session")
def study(run_folder: RunFolder) -> StudyRuns:
    """The runs of that folder, read once."""
    return load_runs(run_folder, "mnist")


@pytest.fixture(scope="session")
def page(run_folder: RunFolder) -> Path:
    """Its page, built once."""
    return build_page(run_folder)

"""A run folder that the tests of the page share, its runs and its page."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from samirage.lab.results.store import RunFolder
from samirage.report.page import build_page
from samirage.report.runs import StudyRuns, load_runs
from tests.report.browsing import browsing
from tests.report.synthetic_run import make_folder


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


@pytest.fixture(scope="session")
def stored_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a few studies of the stored run: maps and surfaces, a packed comparison, and one not finished."""
    stored = Path(__file__).parents[2] / "results" / "laptop"
    if not stored.is_dir():
        pytest.skip("the stored results are not here, as in a source distribution")
    folder = tmp_path_factory.mktemp("stored") / "laptop"
    for study in ("toy", "wells"):
        shutil.copytree(stored / "cells" / study, folder / "cells" / study)
    shutil.copy(stored / "cells" / "batch.nc", folder / "cells")
    (folder / "cells" / "wells" / "guard.nc").unlink()
    for name, key in (("manifest", "studies"), ("claims", None), ("readings", None)):
        document = json.loads((stored / f"{name}.json").read_text(encoding="utf-8"))
        held = document[key] if key else document
        few = {study: held[study] for study in ("toy", "wells", "batch") if study in held}
        (folder / f"{name}.json").write_text(json.dumps({**document, key: few} if key else few), encoding="utf-8")
    return build_page(RunFolder(folder))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A headless browser; every test loads its page anew."""
    with browsing(tmp_path_factory.mktemp("profile")) as driver:
        yield driver

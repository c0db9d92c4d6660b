"""A test that kills its process or hangs ends the run of `make test` with its name, and nothing is waited for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 2
FILE = """
import itertools, os, time
def test_before(): pass
def test_planted(): {planted}
def test_after(): pass
"""


def as_make_does(folder):
    """Run the tests of a folder with the options of `make test` and the configuration of the project."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (options,) = re.findall(r"^PYTEST := .*/pytest (.*)$", makefile, re.MULTILINE)
    command = [sys.executable, "-m", "pytest", *options.split(), "-c", str(ROOT / "pyproject.toml")]
    command += ["-o", f"timeout={LIMIT_S}", "-o", f"faulthandler_timeout={2 * LIMIT_S}"]
    command += ["--rootdir", str(folder), "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("os.abort()", "worker 'gw.' crashed while running 'test_1.py::test_planted'"),
        ("time.sleep(1000)", rf"Timeout \(>{LIMIT_S}.0s\) from pytest-timeout"),
        # In C, with the interpreter's lock: no signal is handled.
        ("-1 in itertools.count()", "worker 'gw.' crashed while running 'test_1.py::test_planted'"),
    ],
)
def test_what_ends_its_process_or_never_ends_is_named(planted, said, tmp_path):
    (tmp_path / "test_1.py").write_text(FILE.format(planted=planted), encoding="utf-8")
    (tmp_path / "test_2.py").write_text(FILE.format(planted="pass"), encoding="utf-8")
    done = as_make_does(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(said, done.stdout), done.stdout
    assert re.search("^FAILED test_1.py::test_planted", done.stdout, re.MULTILINE), done.stdout
    assert "1 failed" in done.stdout


def test_every_test_of_the_project_has_a_limit(request):
    limit, until_killed = (float(request.config.getini(name)) for name in ("timeout", "faulthandler_timeout"))
    assert 0 < limit < until_killed < float("inf")
    assert request.config.getini("faulthandler_exit_on_timeout")

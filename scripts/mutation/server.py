"""Runs tests on mutants in forks of one process, which has imported what is slow to import.

It is started in the root of a copy of the project, and reads one request a line from its standard input: a JSON object
with `file` and `text` (the changed file; null for the project as it is), `tests`, `first` (ids of the tests to begin
with), `limit_s`, and `coverage`, where a run of the project as it is shall store which test ran which line (or null).
It answers each with a line: `outcome`, `by` (the first test that failed) and `seconds`. It ends when its input does.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

_MEMORY: Final = 8 << 30  # bytes of data, more than any test needs
_PLUGINS: Final = ("pytest_cov.plugin", "pytest_timeout")  # that runs of tests may need, where they are installed
_OUTCOMES: Final = {0: "survived", 1: "killed", 2: "killed", 3: "killed", 4: "killed", 5: "not covered"}

_RUNNING: Final[list[int]] = []  # the fork that is being waited for


class _Order:
    """Runs some tests before all others, and remembers the first that failed."""

    def __init__(self, first: list[str]) -> None:
        self._place = {name: i for i, name in enumerate(first)}
        self.failed = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: item.nodeid not in self._place)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


@contextlib.contextmanager
def _changed(path: Path, text: str | None, stamp: int) -> Iterator[None]:
    """Write another text into a file, and put the old one back."""
    if text is None:
        yield
        return
    before, times = path.read_bytes(), path.stat()
    path.write_text(text, encoding="utf-8", newline="")
    # Cached byte code counts as current when size and second of the file agree: every mutant gets its own second.
    os.utime(path, (stamp, stamp))
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _test(request: dict[str, Any], answer: int) -> None:
    """Run the tests, in a fork; write the outcome into a pipe."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A mutant that asks for more is seen by its MemoryError, before the machine is out of memory.
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not browser and not gpu"]
    # All plugins that happen to be installed would take most of the time of a test that fails at once.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for plugin in _PLUGINS:
        options += ["-p", plugin] if plugin in sys.modules else []
    # pytest would warn that it cannot rewrite plugins that the server has imported.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    if request["coverage"]:
        os.environ["COVERAGE_FILE"] = request["coverage"]
        options += ["--cov=src", "--cov-context=test", "--cov-report=", f"--cov-config={os.devnull}"]
    order = _Order(request["first"])
    code = int(pytest.main([*options, *request["tests"]], plugins=[order]))
    os.write(answer, json.dumps({"outcome": _OUTCOMES[code], "by": order.failed}).encode() + b"\n")


def _answer(request: dict[str, Any], stamp: int) -> dict[str, Any]:
    began = time.monotonic()
    with _changed(Path(request["file"] or "."), request["text"], stamp):
        read, write = os.pipe()
        _RUNNING[:] = [child := os.fork()]
        if child == 0:
            try:
                os.close(read)
                _test(request, write)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(write)
        try:
            outcome = _wait(read, began + request["limit_s"])
        finally:
            _kill(child)
            os.waitpid(child, 0)
            _RUNNING.clear()
            os.close(read)
    return {**outcome, "seconds": round(time.monotonic() - began, 3)}


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # with what the tests have started
    os.kill(child, signal.SIGKILL)


def _end(*_: object) -> None:
    for child in _RUNNING:
        _kill(child)
    os._exit(143)


def _wait(read: int, until: float) -> dict[str, Any]:
    """Return what the fork wrote: a line; the pipe may stay open, where the tests have started processes."""
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([read], [], [], max(until - time.monotonic(), 0))
        if not ready:
            return {"outcome": "timeout", "by": ""}
        part = os.read(read, 65536)
        if not part:
            # A process that died without a word has crashed: the mutant was seen.
            return {"outcome": "killed", "by": "(crash)"}
        text += part
    result: dict[str, Any] = json.loads(text)
    return result


def main(preload: list[str]) -> None:
    """Answer requests until the input ends.

    Args:
        preload: Modules to import once; those that are not installed are left out.
    """
    signal.signal(signal.SIGTERM, _end)
    # Tests print: their output must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silent = os.open(os.devnull, os.O_RDWR)
    os.dup2(silent, 1)
    for name in (*_PLUGINS, *preload):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(silent, 0)
    for stamp, line in enumerate(requests, start=1_000_000_000):
        answers.write(json.dumps(_answer(json.loads(line), stamp)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

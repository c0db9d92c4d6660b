"""A copy of the project to change and test: the working tree is only read, and the copy is gone afterwards."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import coverage

from mutation.mutant import Mutant

_SERVER: Final = Path(__file__).with_name("server.py")
_LEFT_OUT: Final = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "runs", "site", "build", "dist")
_BASELINE_LIMIT_S: Final = 900.0


class BaselineError(Exception):
    """The tests fail without any mutant."""


@dataclass(frozen=True)
class Baseline:
    """What the tests do on the project as it is.

    Attributes:
        seconds: How long they take.
        covering: For each file, the tests that ran each line; an empty id stands for the import of the file.
    """

    seconds: float
    covering: Mapping[str, Mapping[int, frozenset[str]]]

    def tests_of(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        """Return the tests to begin with, which run the changed statement, and all to run; none if it is never run.

        A test file that runs nothing of the module is left out, unless the statement is run when the module is
        imported. What the single tests run does not decide, for they may share what a fixture has computed.

        Args:
            mutant: The mutant.
        """
        by_line = self.covering.get(mutant.file, {})
        first, last = mutant.lines
        names = {name for line in range(first, last + 1) for name in by_line.get(line, ())}
        if not names:
            return [], []
        if "" in names:
            return sorted(names - {""}), list(mutant.tests)
        files = {name.partition("::")[0] for covering in by_line.values() for name in covering}
        return sorted(names), [test for test in mutant.tests if test.partition("::")[0] in files]


class Workbench:
    """A copy of the project, and a server that runs tests in it; a context manager.

    Args:
        root: Root of the project.
        preload: Modules that the server imports once.
    """

    def __init__(self, root: Path, preload: Sequence[str]) -> None:
        self._root = root
        self._preload = preload
        self._baselines: dict[tuple[str, ...], Baseline] = {}

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        try:
            self.copy = self._folder / "project"
            shutil.copytree(self._root, self.copy, ignore=_LEFT_OUT)
            paths = [str(self.copy / "src"), os.environ.get("PYTHONPATH", "")]
            # In the copy, byte code is kept: without it, every fork would compile the whole package.
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
            self._log = (self._folder / "log.txt").open("wb")
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SERVER), *self._preload],
                cwd=self.copy,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The server kills the tests that it is running.
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def baseline(self, tests: tuple[str, ...]) -> Baseline:
        """Run tests on the project as it is, or return what that gave before.

        Args:
            tests: Test files, or single tests.

        Raises:
            BaselineError: If one of them fails.
        """
        if tests not in self._baselines:
            data = self._folder / f"coverage-{len(self._baselines)}"
            answer = self._ask(file=None, text=None, tests=tests, limit_s=_BASELINE_LIMIT_S, coverage=str(data))
            if answer["outcome"] != "survived":
                what = answer["by"] or answer["outcome"]
                raise BaselineError(
                    f"the tests fail without a mutant: {what}, of {' '.join(tests)}{self._last_words()}"
                )
            self._baselines[tests] = Baseline(answer["seconds"], self._covering(data))
        return self._baselines[tests]

    def run(self, mutant: Mutant, *, limit_s: float | None = None) -> dict[str, Any]:
        """Run the tests of a mutant: first those that run the changed line, then the others, until one fails.

        Args:
            mutant: The mutant.
            limit_s: Seconds after which it is stopped; by default ten, and four times what the tests take without it.

        Returns:
            `outcome` ("killed", "survived", "timeout" or "not covered"), `by` (the test) and `seconds`.

        Raises:
            BaselineError: If the tests fail without it.
        """
        baseline = self.baseline(mutant.tests)
        first, tests = baseline.tests_of(mutant)
        if not tests:
            return {"outcome": "not covered", "by": "", "seconds": 0.0}
        limit_s = 10.0 + 4.0 * baseline.seconds if limit_s is None else limit_s
        return self._ask(file=mutant.file, text=mutant.text, tests=tests, first=first, limit_s=limit_s)

    def _ask(
        self,
        *,
        file: str | None,
        text: str | None,
        tests: Sequence[str],
        limit_s: float,
        first: Sequence[str] = (),
        coverage: str | None = None,
    ) -> dict[str, Any]:
        request = {"file": file, "text": text, "tests": list(tests), "first": list(first), "limit_s": limit_s}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**request, "coverage": coverage}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the test server ended{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        lines = (self._folder / "log.txt").read_text(errors="replace").strip().splitlines()
        return f" ({lines[-1]})" if lines else ""

    def _covering(self, data: Path) -> dict[str, dict[int, frozenset[str]]]:
        stored = coverage.CoverageData(str(data))
        stored.read()
        found: dict[str, dict[int, frozenset[str]]] = {}
        for name in stored.measured_files():
            lines = stored.contexts_by_lineno(name)
            found[Path(name).relative_to(self.copy).as_posix()] = {
                line: frozenset(context.partition("|")[0] for context in contexts) for line, contexts in lines.items()
            }
        return found

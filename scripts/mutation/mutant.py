"""A mutant: a file of the project with one change in it, and the tests that ought to see it."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation.operators import edits

_WIDTH = 100  # characters of a change that a report shows


class StaleError(Exception):
    """A planted bug fits the source no more."""


@dataclass(frozen=True)
class Mutant:
    """A file with one change in it.

    Attributes:
        name: Name of a planted bug; empty for a systematic mutant.
        file: Path of the file from the root of the project, with slashes.
        line: Line of the change, from 1.
        lines: First and last line of the statement that holds it.
        change: The change in words.
        text: The whole text of the changed file.
        tests: Test files, or single tests, that ought to see it.
    """

    name: str
    file: str
    line: int
    lines: tuple[int, int]
    change: str
    text: str
    tests: tuple[str, ...]

    def key(self, root: Path) -> str:
        """Return what identifies the mutant and its tests: another one as soon as the module or a test file changes.

        Args:
            root: Root of the project.
        """
        digest = hashlib.sha256(self.text.encode())
        for test in (self.file, *self.tests):
            path = root / test.partition("::")[0]
            digest.update(test.encode() + b"\0" + (path.read_bytes() if path.is_file() else b""))
        return digest.hexdigest()[:24]


def systematic(root: Path, file: str, tests: Sequence[str]) -> list[Mutant]:
    """Return all systematic mutants of a module.

    Args:
        root: Root of the project.
        file: Path of the module from there.
        tests: Its tests.
    """
    source = (root / file).read_bytes()
    return [
        Mutant(
            name="",
            file=file,
            line=edit.line,
            lines=edit.lines,
            change=f"{edit.label}: {_shown(edit.before)} -> {_shown(edit.after)}",
            text=edit.applied(source).decode(),
            tests=files_of(root, tests),
        )
        for edit in edits(source)
    ]


def planted(root: Path, entries: Mapping[str, Mapping[str, Any]]) -> list[Mutant]:
    """Return the planted bugs of a list.

    Args:
        root: Root of the project.
        entries: For each name `file`, `old` (a stretch of text that stands in it once), `new`, `why` and `tests`.

    Raises:
        StaleError: If one does not fit the source: the sentence names all of them.
    """
    found, stale = [], []
    for name, entry in entries.items():
        path = root / entry["file"]
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        missing = [test for test in entry["tests"] if not (root / test.partition("::")[0]).exists()]
        if missing:
            stale.append(f"{name} (there is no {', '.join(missing)})")
        elif text.count(entry["old"]) != 1:
            stale.append(f"{name} (its old text stands {text.count(entry['old'])} times in {entry['file']})")
        else:
            line = text[: text.index(entry["old"])].count("\n") + 1
            found.append(
                Mutant(
                    name=name,
                    file=entry["file"],
                    line=line,
                    lines=(line, line + entry["old"].count("\n")),
                    change=f"{name}: {entry['why']}",
                    text=text.replace(entry["old"], entry["new"]),
                    tests=files_of(root, entry["tests"]),
                )
            )
    if stale:
        raise StaleError(f"planted bugs that no longer fit the source, to be rewritten: {'; '.join(stale)}")
    return found


def files_of(root: Path, tests: Sequence[str]) -> tuple[str, ...]:
    """Return tests with every folder among them replaced by the files in it: of tests, or else with examples.

    Args:
        root: Root of the project.
        tests: Paths of folders or files from there, or ids of single tests.
    """
    found: list[str] = []
    for test in tests:
        folder = root / test
        files = sorted(folder.rglob("test_*.py")) or sorted(folder.rglob("*.py"))
        found += [path.relative_to(root).as_posix() for path in files] if folder.is_dir() else [test]
    return tuple(dict.fromkeys(found))


def read_planted(path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a list of planted bugs, by name.

    Args:
        path: A TOML file with one table for each.
    """
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _WIDTH else flat[: _WIDTH - 1] + "…"

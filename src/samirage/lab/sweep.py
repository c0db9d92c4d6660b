"""Run a study: compute the cells that are missing, one after another, and store each when it is finished."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Event
from time import perf_counter, process_time
from typing import Any

from samirage.errors import UserError
from samirage.lab.runtime import commit, compute, hardware, versions
from samirage.lab.store import RunFolder
from samirage.lab.study import AbstractStudy, Cell


@dataclass(frozen=True)
class Failure:
    """A cell that could not be computed.

    Attributes:
        cell: Its name.
        error: What went wrong.
    """

    cell: str
    error: str


def begin(study: AbstractStudy, folder: RunFolder, command: str) -> list[Cell]:
    """Begin a study in a run folder, or take up one that was begun; write the manifest if there is none.

    Args:
        study: The study.
        folder: New, or with results of the same configuration.
        command: The command that makes these results, for the record.

    Returns:
        The cells that the folder lacks, in plan order.

    Raises:
        UserError: If the folder cannot be written, or holds this study in another configuration.
    """
    if study.name not in folder.studies():
        folder.write_manifest(study.name, _manifest(study, command))
    stored = folder.manifest(study.name)["config"]
    differing = [key for key in study.config if stored.get(key) != study.config[key]]
    if differing:
        said = ", ".join(f"{key} {stored.get(key)!r} (now {study.config[key]!r})" for key in differing)
        raise UserError(
            f"{folder.path} holds study {study.name} with other settings: {said}; "
            "repeat them to resume, or name another --out"
        )
    finished = set(folder.finished(study.name))
    return [cell for cell in study.cells() if cell.name not in finished]


def reproduce(
    study: AbstractStudy,
    folder: RunFolder,
    *,
    command: str,
    advance: Callable[[int], None] = lambda passes: None,
) -> list[Failure]:
    """Compute what a run folder lacks of a study, then its claims.

    An interruption loses the cell in flight and nothing else. A cell that fails does not stop the others.

    Args:
        study: The study.
        folder: Where the results go; new, or begun with the same configuration.
        command: The command that makes these results, for the record.
        advance: Called with the number of passes done since the last call.

    Returns:
        The cells that failed.

    Raises:
        UserError: If the folder cannot be used.
    """
    todo = begin(study, folder, command)
    folder.remove_leftovers(study.name)
    failures = []
    stop = Event()

    def advance_or_stop(passes: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        advance(passes)

    for cell in todo:
        begun, busy = perf_counter(), process_time()
        try:
            results = compute(partial(study.run, cell, advance_or_stop), threads=study.threads, stop=stop)
        except (RuntimeError, ArithmeticError, MemoryError) as error:
            failures.append(Failure(cell.name, f"{type(error).__name__}: {error}"))
            continue
        folder.write_cell(
            study.name,
            cell.name,
            results.assign(wall_seconds=perf_counter() - begun, cpu_seconds=process_time() - busy),
        )
    finished = {name: folder.read_cell(study.name, name) for name in folder.finished(study.name)}
    folder.write_claims(study.name, study.claims(finished, command))
    folder.write_reading(study.name, study.reading(finished))
    return failures


def _manifest(study: AbstractStudy, command: str) -> dict[str, Any]:
    return {
        "config": study.config,
        "seeds": study.seeds,
        "versions": versions(),
        "hardware": hardware(study.device),
        "commit": commit(),
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "cells": [cell.name for cell in study.cells()],
    }

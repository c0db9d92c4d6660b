"""Run studies: compute the cells that are missing from a run folder, then the claims about all of them."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from samirage.errors import UserError
from samirage.files import is_on_disk
from samirage.lab.engine.compute import commit, hardware, versions
from samirage.lab.results.digest import digest
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.base import AbstractStudy, Cell
from samirage.lab.sweep.launchers.in_process import InProcess
from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.run_task import Task, TaskResult


def begin(study: AbstractStudy, folder: RunFolder, command: str) -> list[Cell]:
    """Start a study in a run folder, or resume it; write the manifest if there is none.

    Args:
        study: The study.
        folder: A new run folder, or one with results of the same configuration.
        command: The command that makes these results, for the record.

    Returns:
        The cells that the folder lacks, in plan order.

    Raises:
        UserError: If the folder cannot be written, or holds this study in another configuration.
    """
    study.prepare()
    if study.name not in folder.studies():
        folder.write_manifest(study.name, _manifest(study, command))
    stored = folder.manifest(study.name).get("config")
    if stored is None:
        raise UserError(
            f"{folder.path} holds study {study.name} without its configuration: restore its manifest.json, or name "
            "another --out"
        )
    differing = [key for key in study.config if stored.get(key) != study.config[key]]
    if differing:
        changes = ", ".join(f"{key} {stored.get(key)!r} (now {study.config[key]!r})" for key in differing)
        raise UserError(
            f"{folder.path} holds study {study.name} with other settings: {changes}; "
            "repeat them to resume, or name another --out"
        )
    finished = set(folder.finished(study.name))
    return [cell for cell in study.cells() if cell.name not in finished]


def reproduce(
    studies: Sequence[AbstractStudy],
    folder: RunFolder,
    *,
    command: str,
    launcher: AbstractLauncher | None = None,
    advance: Callable[[int], None] = lambda passes: None,
    ended: Callable[[AbstractStudy], None] = lambda study: None,
) -> list[TaskResult]:
    """Compute the cells of studies that a run folder lacks, then the claims.

    An interruption loses the cells in progress and nothing else. A cell that fails does not stop the others.

    Args:
        studies: The studies.
        folder: Where the results go; new, or begun with the same configurations.
        command: The command that makes these results, for the record.
        launcher: Runs the cells; None is this process.
        advance: Called with the number of passes done since the last call.
        ended: Called with each study once all of its cells have ended and its claims are stored.

    Returns:
        The results of the cells that failed.

    Raises:
        UserError: If the folder cannot be used.
    """
    path = os.path.abspath(folder.path) if is_on_disk(folder.path) else str(folder.path)
    tasks = [Task(study, cell, path) for study in studies for cell in begin(study, folder, command)]
    left = {study.name: sum(task.study is study for task in tasks) for study in studies}

    def end(study: AbstractStudy) -> None:
        _conclude(study, folder)
        ended(study)

    for study in studies:
        folder.remove_leftovers(study.name)
        if not left[study.name]:
            end(study)
    failures = []
    by_name = {study.name: study for study in studies}
    with closing((launcher or InProcess()).run(tasks, advance)) as results:
        for result in results:
            if result.error is not None:
                failures.append(result)
            name = result.task.study.name
            left[name] -= 1
            if not left[name]:
                end(by_name[name])
    return failures


def _conclude(study: AbstractStudy, folder: RunFolder) -> None:
    command = folder.manifest(study.name).get("command") or "unknown"  # of a resumed run, the command that started it
    finished = {name: folder.read_cell(study.name, name) for name in folder.finished(study.name)}
    folder.write_claims(study.name, study.claims(finished, command))
    folder.write_reading(study.name, study.reading(finished))
    folder.write_digests(study.name, {name: digest(cell) for name, cell in finished.items()})


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

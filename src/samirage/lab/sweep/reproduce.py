"""Run studies: have the cells that are missing computed, and hold what is finished against the claims."""

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
from samirage.lab.sweep.launchers import AbstractLauncher, Here
from samirage.lab.sweep.run_task import Outcome, Work


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
    study.prepare()
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
    studies: Sequence[AbstractStudy],
    folder: RunFolder,
    *,
    command: str,
    launcher: AbstractLauncher | None = None,
    advance: Callable[[int], None] = lambda passes: None,
    ended: Callable[[AbstractStudy], None] = lambda study: None,
) -> list[Outcome]:
    """Compute what a run folder lacks of studies, then their claims.

    An interruption loses the cells in flight and nothing else. A cell that fails does not stop the others.

    Args:
        studies: The studies.
        folder: Where the results go; new, or begun with the same configurations.
        command: The command that makes these results, for the record.
        launcher: Has the cells computed; None is this process.
        advance: Called with the number of passes done since the last call.
        ended: Called with each study of which no cell is left to do, and whose claims are stored.

    Returns:
        The cells that failed.

    Raises:
        UserError: If the folder cannot be used.
    """
    place = os.path.abspath(folder.path) if is_on_disk(folder.path) else str(folder.path)
    works = [Work(study, cell, place) for study in studies for cell in begin(study, folder, command)]
    left = {study.name: sum(work.study is study for work in works) for study in studies}

    def end(study: AbstractStudy) -> None:
        _conclude(study, folder)
        ended(study)

    for study in studies:
        folder.remove_leftovers(study.name)
        if not left[study.name]:
            end(study)
    failures = []
    by_name = {study.name: study for study in studies}
    with closing((launcher or Here()).outcomes(works, advance)) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                failures.append(outcome)
            name = outcome.work.study.name
            left[name] -= 1
            if not left[name]:
                end(by_name[name])
    return failures


def _conclude(study: AbstractStudy, folder: RunFolder) -> None:
    command = folder.manifest(study.name)["command"]  # of a run that is taken up, that which began it
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

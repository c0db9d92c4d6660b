"""What a launcher costs: cells per minute with one and two processes and on Ray, and the overhead per cell.

Usage: sweep.py [--cells N] [--seconds S] [--rounds N] [--out FILE]

The cells do a fixed amount of work each, with one thread, and are stored as real ones are. The overhead per cell is the
median time between the end of a cell and the beginning of the next by the same worker, over the time that a cell takes.
The start of processes is told by itself.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from samirage.lab.engine.compute import hardware, versions
from samirage.lab.results.claims import Claim
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.base import AbstractStudy, Cell
from samirage.lab.sweep.launchers.in_process import InProcess
from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.launchers.local_processes import Processes
from samirage.lab.sweep.launchers.ray import Ray
from samirage.lab.sweep.reproduce import reproduce


class Busy(AbstractStudy):
    """Cells of a fixed amount of work, which say when they began and ended, and by whom.

    Args:
        count: Number of cells.
        products: Matrix products in each.
    """

    name = "busy"

    def __init__(self, count: int, products: int) -> None:
        self._count, self._products = count, products

    @property
    def config(self) -> dict[str, Any]:
        """All that decides the numbers."""
        return {"count": self._count, "products": self._products}

    @property
    def seeds(self) -> list[int]:
        """A seed, as every study has one."""
        return [0]

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def threads(self) -> int:
        """One."""
        return 1

    def cells(self) -> list[Cell]:
        """Return the plan."""
        return [Cell(f"cell{k}", self._products, {}) for k in range(self._count)]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Multiply matrices; see `AbstractStudy`."""
        began = time.monotonic()
        matrix = torch.full((256, 256), 1 / 256)
        for _ in range(self._products):
            matrix = matrix @ matrix
            advance(1)
        curves = ("seed", "step"), np.zeros((8, 300), dtype=np.float32)  # as large as a cell of study mnist
        return xr.Dataset(
            {"loss": curves, "began_s": began, "ended_s": time.monotonic(), "worker": os.getpid()},
            {"seed": range(8), "step": range(300)},
        )

    def claims(self, results: Any, command: str) -> list[Claim]:
        """Return none."""
        return []


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and store it.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=24, help="cells of a sweep")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long a cell computes")
    parser.add_argument("--rounds", type=int, default=3, help="sweeps by every launcher, in turn")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    study = Busy(options.cells, _products(options.seconds))
    makers: dict[str, Callable[[], AbstractLauncher]] = {
        "this process": InProcess,
        "2 processes": lambda: Processes(2, 1),
        "Ray, 1 CPU": lambda: Ray("local", cpus=1),
        "Ray, 2 CPUs": lambda: Ray("local", cpus=2),
    }
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in makers}
    for _ in range(options.rounds):
        for name, make in makers.items():
            measured[name].append(_measure(study, make))
    rows = {
        name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for name, rounds in measured.items()
    }
    table = Table("launcher", "cells per minute", "overhead per cell", "start and end, s", title="Medians over rounds")
    for name, row in rows.items():
        table.add_row(name, f"{row['per_minute']:.1f}", f"{100 * row['overhead']:.2f} %", f"{row['start_s']:.1f}")
    Console().print(table)
    if options.out:
        report = {
            "what": "cells per minute of a sweep between its first and last cell, overhead per cell, and the rest",
            "cells": options.cells, "seconds_per_cell": options.seconds, "rounds": options.rounds,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(), "hardware": hardware(torch.device("cpu")),
            "medians": rows, "measured": measured,
        }  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _products(seconds: float) -> int:
    torch.set_num_threads(1)
    matrix = torch.full((256, 256), 1 / 256)
    begun = time.perf_counter()
    for _ in range(2000):
        matrix = matrix @ matrix
    return max(1, round(seconds * 2000 / (time.perf_counter() - begun)))


def _measure(study: Busy, make: Callable[[], AbstractLauncher]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary) / "run")
        begun = time.monotonic()
        with closing(make()) as launcher:
            reproduce([study], folder, command="benchmark", launcher=launcher)
        took = time.monotonic() - begun
        cells = [folder.read_cell(study.name, name) for name in folder.finished(study.name)]
    spans = sorted((int(c.worker), float(c.began_s), float(c.ended_s)) for c in cells)
    # Between the end of a cell and the begin of the worker's next: all that is not computation.
    gaps = [after[1] - before[2] for before, after in pairwise(spans) if after[0] == before[0]]
    computing = statistics.median(end - begin for _, begin, end in spans)
    whole = max(end for *_, end in spans) - min(begin for _, begin, _ in spans)
    return {
        "per_minute": 60 * len(cells) / whole,
        "overhead": statistics.median(gaps) / computing,
        "start_s": took - whole,
    }


if __name__ == "__main__":
    main()

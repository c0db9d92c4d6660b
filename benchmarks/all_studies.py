"""What `samirage reproduce --scale laptop` takes: the processor time of all studies, from some cells of each.

Usage: all_studies.py [--scale NAME] [--cells N] [--workers N] [--data-dir DIR] [--out FILE]

Of every study so many cells are drawn and computed, side by side as a sweep computes them, with one thread each. The
time of the study is the mean of theirs multiplied by the number of its cells; where all were drawn it is their sum. The
start of processes and the page are left out.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from samirage.lab.engine.compute import hardware, versions
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import create
from samirage.lab.sweep.launchers.local_processes import Processes
from samirage.lab.sweep.reproduce import begin
from samirage.lab.sweep.run_task import Task


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and store it.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="laptop", help="scale of the studies")
    parser.add_argument("--cells", type=int, default=8, help="most cells of a study that are computed")
    parser.add_argument("--workers", type=int, default=2, help="processes at once")
    parser.add_argument("--data-dir", help="folder of the data sets, where they are not the ones in the package")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    studies = create([], options.scale, {"threads": 1}, data_dir=options.data_dir)
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary) / "run")
        tasks = []
        for study in studies:
            cells = begin(study, folder, "benchmark")
            drawn = draw.sample(cells, min(options.cells, len(cells)))
            tasks += [Task(study, cell, str(folder.path)) for cell in drawn]
        begun = time.monotonic()
        with closing(Processes(options.workers, 1)) as launcher:
            failures = [one for one in launcher.run(tasks, lambda passes: None) if one.error]
        took = time.monotonic() - begun
        rows = []
        for study in studies:
            names = folder.finished(study.name)
            times = [float(folder.read_cell(study.name, name).cpu_seconds) for name in names]
            walls = [float(folder.read_cell(study.name, name).wall_seconds) for name in names]
            count = len(study.cells())
            error = statistics.stdev(times) / len(times) ** 0.5 * count if 1 < len(times) < count else 0.0
            rows.append(
                {
                    "study": study.name, "cells": count, "computed": len(times),
                    "cpu_minutes": statistics.mean(times) * count / 60, "error_minutes": error / 60,
                    "wall_minutes": statistics.mean(walls) * count / 60,
                }
            )  # fmt: skip
    total = sum(float(row["cpu_minutes"]) for row in rows)
    error = sum(float(row["error_minutes"]) ** 2 for row in rows) ** 0.5
    table = Table("study", "cells", "computed", "processor time, min", title=f"--scale {options.scale}")
    for row in rows:
        shown = f"{row['cpu_minutes']:.1f} ± {row['error_minutes']:.1f}"
        table.add_row(str(row["study"]), str(row["cells"]), str(row["computed"]), shown)
    console = Console()
    console.print(table)
    console.print(
        f"In all {total:.0f} ± {error:.0f} min of processor time: {total / options.workers:.0f} min with "
        f"{options.workers} workers. What was computed here took {took / 60:.1f} min, failures: {len(failures)}."
    )
    if options.out:
        report = {
            "what": "processor time of all studies, from some cells of each",
            "command": f"samirage reproduce --scale {options.scale}",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(), "hardware": hardware(torch.device("cpu")), "workers": options.workers,
            "cpu_minutes": total, "error_minutes": error, "minutes_with_workers": total / options.workers,
            "measured_minutes": took / 60, "studies": rows,
        }  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Compute one cell of a study and store it in a run folder, which `samirage reproduce` would go on with.

Usage: one_cell.py STUDY CELL --scale SCALE --device DEVICE --out DIR
"""

import argparse
import sys
from pathlib import Path

from samirage.errors import UserError
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import create
from samirage.lab.sweep.reproduce import begin
from samirage.lab.sweep.run_task import Task, run_task


def main(arguments: list[str] | None = None) -> int:
    """Compute the cell, unless it is there.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        0 when it is stored, 1 when it failed, 2 when something given cannot be used.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="name of the study")
    parser.add_argument("cell", help="name of the cell")
    parser.add_argument("--scale", default="paper", help="scale of the study [%(default)s]")
    parser.add_argument("--device", default="cuda", help="cpu, cuda or cuda:N [%(default)s]")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder")
    options = parser.parse_args(arguments)
    try:
        (study,) = create([options.study], options.scale, {"device": options.device, "threads": 1})
        folder = RunFolder(options.out)
        begin(study, folder, f"samirage reproduce {study.name} --scale {options.scale} --device {options.device}")
        cells = {cell.name: cell for cell in study.cells()}
        if options.cell not in cells:
            raise UserError(f"study {study.name} has no cell {options.cell!r} at scale {options.scale}")
        result = run_task(Task(study, cells[options.cell], str(options.out.resolve())))
    except UserError as error:
        print(f"one_cell.py: {error}", file=sys.stderr)
        return 2
    if result.error is not None:
        print(f"one_cell.py: cell {options.cell} failed: {result.error}", file=sys.stderr)
    return int(result.error is not None)


if __name__ == "__main__":
    sys.exit(main())

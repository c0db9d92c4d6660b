"""Copy a run in a form that is small enough to be committed: how every seed ended, without the curves.

Usage: pack_run.py RUN OUT
"""

import argparse
from pathlib import Path

from samirage.lab.store import RunFolder


def main(arguments: list[str] | None = None) -> None:
    """Pack all studies of a run.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("out", type=Path, help="folder to write to: a new one, or a run that is to be replaced")
    options = parser.parse_args(arguments)
    run, out = RunFolder(options.run), RunFolder(options.out)
    for study in run.studies():
        out.write_manifest(study, run.manifest(study))
        out.write_packed(study, {cell: run.read_cell(study, cell) for cell in run.finished(study)})
        out.write_claims(study, run.claims(study))
        out.write_reading(study, run.reading(study))


if __name__ == "__main__":
    main()

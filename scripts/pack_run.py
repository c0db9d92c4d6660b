"""Copy a run in a form that is small enough to be committed: how every seed ended, without the curves.

Usage: pack_run.py [--whole] RUN OUT

A run of which a study was computed from changed files (its commit ends in `-dirty`), or from no commit, is refused:
nobody could compute it again. Exit code: 0, or 2 if the run is refused or cannot be read; then nothing is written.
"""

import argparse
import sys
from pathlib import Path

from samirage.errors import UserError
from samirage.lab.results.digest import digest
from samirage.lab.results.store import RunFolder


def main(arguments: list[str] | None = None) -> int:
    """Pack all studies of a run.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("out", type=Path, help="folder to write to: a new one, or a run that is to be replaced")
    parser.add_argument(
        "--whole", action="store_true", help="copy the cells as they are, for claims that need all of them"
    )
    options = parser.parse_args(arguments)
    try:
        pack_run(RunFolder(options.run), RunFolder(options.out), whole=options.whole)
    except UserError as error:
        print(f"pack_run.py: {error}", file=sys.stderr)
        return 2
    return 0


def pack_run(run: RunFolder, out: RunFolder, *, whole: bool = False) -> None:
    """Pack all studies of a run.

    Args:
        run: The run.
        out: Where to: new, or a run of which these studies are replaced.
        whole: Whether to copy each cell as it is.

    Raises:
        UserError: If it cannot be read or written, or was not computed from a commit.
    """
    for study in run.studies():
        commit = run.manifest(study).get("commit")
        if not commit or commit.endswith("-dirty"):
            raise UserError(
                f"study {study} of {run.path} was computed from {commit or 'no commit'}, which nobody can check out: "
                f"commit the changes, and run `samirage reproduce {study}` again into a new folder"
            )
    for study in run.studies():
        out.write_manifest(study, run.manifest(study))
        cells = {cell: run.read_cell(study, cell) for cell in run.finished(study)}
        if whole:
            for name, cell in cells.items():
                out.write_cell(study, name, cell)
        else:
            out.write_packed(study, cells)
        out.write_claims(study, run.claims(study))
        out.write_reading(study, run.reading(study))
        out.write_digests(study, {cell: digest(out.read_cell(study, cell)) for cell in out.finished(study)})


if __name__ == "__main__":
    sys.exit(main())

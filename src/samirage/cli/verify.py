"""The command line: `samirage verify`."""

import argparse
from typing import Any

from samirage.cli.arguments import existing_run_folder
from samirage.errors import UserError, require
from samirage.lab.studies import STUDIES

_MOST_SHOWN = 100  # differences; where more is wrong, these say what


def add_commands(commands: Any) -> None:
    """Add `verify`.

    Args:
        commands: What `add_subparsers` returned.
    """
    verify = commands.add_parser(
        "verify",
        help="recompute the claims of a run from its cells, without training",
        description="Recompute every claim of a run folder from its stored cells with the installed version, and "
        "compare values, errors, numbers of seeds, expectations and verdicts with the stored ones: floats to a "
        "relative 1e-9, all else exactly. Exit code: 0 if all agree, 1 if something differs, 2 if the folder cannot be "
        "used.",
        epilog="example: samirage verify results/laptop",
    )
    verify.add_argument("folder", metavar="DIR", help="run folder, or its address in an object store")
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace, command: str) -> int:
    require("lab", "xarray")
    place = existing_run_folder(options.folder)
    from samirage.lab.results.store import RunFolder

    folder = RunFolder(place)
    names = folder.studies()
    if not names:
        raise UserError(f"{place} holds no study: name a run folder, such as `samirage reproduce` makes")
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        raise UserError(f"{place} holds study {unknown[0]!r}, which is none of this version: {', '.join(STUDIES)}")
    from samirage.lab.sweep.verify import unlisted, verify  # which loads torch

    differences = unlisted(folder)
    cells = claims = 0
    undigested = []
    for name in names:
        found = verify(folder, name)
        cells, claims = cells + found.cells, claims + found.claims
        differences += found.differences
        undigested += [] if found.digests else [name]
    for difference in differences[:_MOST_SHOWN]:
        print(difference)
    if len(differences) > _MOST_SHOWN:
        print(f"and {len(differences) - _MOST_SHOWN} more")
    checked = f"{claims} claims of {len(names)} studies, from {cells} cells"
    if undigested:
        checked += f" (without digests, which are not stored of: {', '.join(undigested)})"
    if differences:
        print(f"{len(differences)} differences in {checked}.")
        return 1
    print(f"All agree: {checked}.")
    return 0

"""The command line: `samirage reproduce`, `samirage report`, `samirage data fetch`.

Thin: one function per subcommand. What a user gave wrongly becomes one sentence on stderr and exit code 2.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from samirage._version import __version__
from samirage.cli_landscape import add_commands as add_landscape_command
from samirage.cli_points import add_commands as add_point_commands
from samirage.errors import UserError, require
from samirage.lab.names import STUDIES

_INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what was wrong and where to look; argparse itself would print the whole usage first."""
        self.exit(2, f"samirage: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `samirage`; by default, the process's own arguments.

    Returns:
        The exit code: 0 when all is well, 1 when a part of the work failed, 2 when something given cannot be used,
        130 when interrupted.

    Example:
        >>> main(["report", "no-such-folder"])
        2
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    command = shlex.join(["samirage", *given])
    try:
        run: Callable[[argparse.Namespace, str], int] = options.run
        return run(options, command)
    except UserError as error:
        print(f"samirage: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="samirage",
        description="See where Sharpness-Aware Minimization converges to a minimum that is not there, and what helps.",
        epilog="example: samirage reproduce mnist --scale smoke --out runs/first",
    )
    parser.add_argument("--version", action="version", version=f"samirage {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    reproduce = commands.add_parser(
        "reproduce",
        help="run studies, or what is missing of them, and write the page",
        description="Run studies of the paper and write the page. A folder that was begun is resumed.",
        epilog="example: samirage reproduce mnist --scale laptop --loss cross-entropy --out runs/ce",
    )
    reproduce.add_argument(
        "studies", nargs="*", metavar="STUDY", help=f"which studies (default: all): {', '.join(STUDIES)}"
    )
    reproduce.add_argument(
        "--scale",
        choices=("smoke", "laptop", "paper"),
        default="laptop",
        help="smoke: seconds; laptop: minutes on two cores (default); paper: meant for a GPU",
    )
    reproduce.add_argument(
        "--out", type=Path, default=Path("runs/latest"), metavar="DIR", help="run folder (default: %(default)s)"
    )
    reproduce.add_argument(
        "--seed", type=_whole, default=0, metavar="N", help="first seed; the others follow (default: 0)"
    )
    reproduce.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or cuda:N")
    reproduce.add_argument(
        "--threads", type=_positive, metavar="N", help="CPU threads (default: as many as PyTorch takes)"
    )
    reproduce.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the MNIST idx or CIFAR-100 binary files (default: $SAMIRAGE_DATA, or a download)",
    )
    reproduce.add_argument("--loss", metavar="NAME", help="softmax-squared (default), cross-entropy or tanh-squared")
    reproduce.add_argument(
        "--rho", type=_radius, nargs="+", metavar="RHO", help="perturbation radii, above 0 (default: by scale)"
    )
    reproduce.set_defaults(run=_reproduce)

    report = commands.add_parser(
        "report",
        help="rebuild the page of a run, without training",
        description="Rebuild report/index.html from the stored results of a run.",
        epilog="example: samirage report runs/latest",
    )
    report.add_argument("folder", type=Path, metavar="DIR", help="run folder")
    report.set_defaults(run=_report)

    add_point_commands(commands, _radius)
    add_landscape_command(commands, _radius)

    data = commands.add_parser(
        "data", help="fetch data sets", description="Data sets.", epilog="example: samirage data fetch mnist"
    )
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    fetch = actions.add_parser(
        "fetch",
        help="download a data set, check it, and say where it lies",
        description="Download a data set, check it, and say where it lies.",
        epilog="example: samirage data fetch mnist",
    )
    fetch.add_argument("name", metavar="NAME", help="mnist, cifar100 or mnist-mini")
    fetch.add_argument(
        "--data-dir", metavar="DIR", help="where it lies or is to lie (default: $SAMIRAGE_DATA, or a cache)"
    )
    fetch.set_defaults(run=_fetch)
    return parser


def _number(text: str, kind: Callable[[str], Any], legal: Callable[[Any], bool], wanted: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not legal(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def _whole(text: str) -> int:
    return int(_number(text, int, lambda n: n >= 0, "a whole number of at least 0"))


def _positive(text: str) -> int:
    return int(_number(text, int, lambda n: n >= 1, "a whole number of at least 1"))


def _radius(text: str) -> float:
    return float(_number(text, float, lambda r: 0 < r < float("inf"), "a finite radius above 0"))


def _reproduce(options: argparse.Namespace, command: str) -> int:
    require("lab", "xarray")
    console = require("lab", "rich.console").Console(stderr=True, soft_wrap=True)
    from samirage.lab.store import RunFolder
    from samirage.lab.studies import create
    from samirage.lab.sweep import begin, reproduce
    from samirage.report.page import build_page

    overrides = {
        "first_seed": options.seed,
        "device": options.device,
        "threads": options.threads,
        "loss": options.loss,
        "rhos": tuple(options.rho) if options.rho else None,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    studies = create(options.studies, options.scale, given, data_dir=options.data_dir)
    folder = RunFolder(options.out)
    failures = []
    for study in studies:
        todo = begin(study, folder, command)
        console.print(f"{study.name}: {len(todo)} of {len(study.cells())} cells to compute")
        with _progress(console, sum(cell.passes for cell in todo), study.name) as advance:
            try:
                failures += reproduce(study, folder, command=command, advance=advance)
            except KeyboardInterrupt:
                finished = len(folder.finished(study.name))
                console.print(
                    f"Stopped. {finished} of {len(study.cells())} cells are stored in {folder.path}; "
                    "the same command computes the rest."
                )
                return _INTERRUPTED
    for failure in failures:
        console.print(f"samirage: cell {failure.cell} failed: {failure.error}")
    print(f"The page: {build_page(folder).resolve()}")
    return 1 if failures else 0


@contextmanager
def _progress(console: Any, total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the time left; yield the function that advances it by so many passes."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    counted = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("passes"))
    with Progress(*counted, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(label, total=total)
        yield lambda passes: bar.advance(task, passes)


def _report(options: argparse.Namespace, command: str) -> int:
    require("lab", "xarray")
    from samirage.lab.store import RunFolder
    from samirage.report.page import build_page

    if not options.folder.is_dir():
        raise UserError(f"{options.folder} is not a folder: name a run folder, such as `samirage reproduce` makes")
    print(f"The page: {build_page(RunFolder(options.folder)).resolve()}")
    return 0


def _fetch(options: argparse.Namespace, command: str) -> int:
    from samirage.lab.data import fetch

    print(f"{options.name}: {fetch(options.name, data_dir=options.data_dir)}")
    return 0

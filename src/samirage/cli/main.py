"""The command line: `samirage reproduce`, `samirage report`, `samirage data fetch`.

Thin: one function per subcommand. What a user gave wrongly becomes one sentence on stderr and exit code 2.
"""

import argparse
import os
import select
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from samirage._version import __version__
from samirage.cli.arguments import existing_run_folder, radius
from samirage.cli.landscape import add_commands as add_landscape_command
from samirage.cli.points import add_commands as add_point_commands
from samirage.cli.reproduce import add_commands as add_reproduce_command
from samirage.cli.verify import add_commands as add_verify_command
from samirage.errors import UserError, require
from samirage.files import is_on_disk
from samirage.lab.results.json_files import printable

_NO_READER = 141  # what a shell reports for a program that wrote into a closed pipe: 128 + SIGPIPE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what was wrong and where to look; argparse itself would print the whole usage first."""
        self.exit(2, f"samirage: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `samirage`; by default, the process's own arguments.

    Returns:
        The exit code: 0 for success, 1 when a cell failed or a check did not agree, 2 for bad input, 130 when
        interrupted, 141 when the pipe of the output is closed.

    Raises:
        BrokenPipeError: If another pipe than that of the output is broken.
        SystemExit: If argparse ends the process, after `--help` or an argument that it does not know.

    Example:
        >>> main(["report", "no-such-folder"])
        2
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
    except SystemExit:  # argparse's
        if _is_cut_off():
            return _NO_READER
        raise
    except BrokenPipeError:
        if _is_cut_off() or _has_no_reader(sys.stdout) or _has_no_reader(sys.stderr):
            return _NO_READER
        raise  # some other pipe is broken, such as one to a worker
    return code or (_NO_READER if _is_cut_off() else 0)


def _is_cut_off() -> bool:
    """Whether output is left that nobody reads, as after `| head`; then it goes nowhere."""
    cut = False
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # as it is where the shell has closed it
                stream.flush()
        except BrokenPipeError:
            cut = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for Python flushes once more at its end
    return cut


def _has_no_reader(stream: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except (AttributeError, OSError):  # Windows has no poll, and a stream that was closed or replaced has no number
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _run(given: list[str]) -> int:
    options = _parser().parse_args(given)
    command = shlex.join(["samirage", *given])
    try:
        run: Callable[[argparse.Namespace, str], int] = options.run
        return run(options, command)
    except UserError as error:
        print(f"samirage: {printable(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:  # of a name that is too long, or in a folder that may not be entered
        if error.filename is None:
            raise
        print(
            f"samirage: {printable(f'{error.filename} cannot be used ({error.strerror})')}; name another",
            file=sys.stderr,
        )
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="samirage",
        description="See where Sharpness-Aware Minimization converges to a minimum that is not there, and what helps.",
        epilog="example: samirage reproduce mnist --scale smoke --out runs/first",
    )
    parser.add_argument("--version", action="version", version=f"samirage {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    add_reproduce_command(commands)

    report = commands.add_parser(
        "report",
        help="rebuild the page of a run, without training",
        description="Rebuild report/index.html from the stored results of a run.",
        epilog="example: samirage report runs/latest",
    )
    report.add_argument("folder", metavar="DIR", help="run folder, or its address in an object store")
    report.set_defaults(run=_report)

    add_verify_command(commands)
    add_point_commands(commands, radius)
    add_landscape_command(commands, radius)

    data = commands.add_parser(
        "data", help="fetch data sets", description="Data sets.", epilog="example: samirage data fetch mnist"
    )
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=_DataParser)
    fetch = actions.add_parser(
        "fetch",
        help="download a data set, check it, and say where it lies",
        description="Download a data set, check it, and say where it lies.",
        epilog="example: samirage data fetch mnist",
    )
    fetch.add_argument("name", metavar="NAME", help="a data set")
    fetch.add_argument(
        "--data-dir", metavar="DIR", help="where it lies or is to lie (default: $SAMIRAGE_DATA, or a cache)"
    )
    fetch.set_defaults(run=_fetch)
    return parser


class _DataParser(argparse.ArgumentParser):
    """Names the data sets only where its help is printed: their names come with NumPy."""

    def format_help(self) -> str:
        from samirage.lab.data.datasets import names

        self.description = f"{self.description} The data sets are {', '.join(names())}."
        return super().format_help()


def _report(options: argparse.Namespace, command: str) -> int:
    require("lab", "xarray")
    place = existing_run_folder(options.folder)
    from samirage.lab.results.store import RunFolder
    from samirage.report.page import build_page

    page = build_page(RunFolder(place))
    print(f"The page: {page.resolve() if is_on_disk(page) else page}")
    return 0


def _fetch(options: argparse.Namespace, command: str) -> int:
    from samirage.lab.data.datasets import fetch

    print(f"{options.name}: {fetch(options.name, data_dir=options.data_dir)}")
    return 0

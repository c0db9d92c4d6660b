"""The command line: `samirage reproduce`."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from samirage.cli.arguments import positive, radius, seed
from samirage.errors import UserError, require
from samirage.files import is_on_disk, named_place
from samirage.lab.studies import STUDIES

if TYPE_CHECKING:
    from samirage.lab.sweep.launchers.launcher import AbstractLauncher

_INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


def add_commands(commands: Any) -> None:
    """Add `reproduce`.

    Args:
        commands: What `add_subparsers` returned.
    """
    reproduce = commands.add_parser(
        "reproduce",
        help="run studies, or what is missing of them, and write the page",
        description="Run studies of the paper and beyond, and write the page. A folder that was begun is resumed.",
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
        "--out", default="runs/latest", metavar="DIR",
        help="run folder (default: %(default)s), or an address in an object store, such as s3://bucket/run",
    )  # fmt: skip
    reproduce.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="first seed; the others follow (default: 0)"
    )
    reproduce.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or cuda:N")
    reproduce.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads of a worker (default: 1, or its share of the cores)"
    )
    reproduce.add_argument(
        "--launcher", choices=("local", "ray"), default="local",
        help="local: processes on this machine (default); ray: tasks on a Ray cluster",
    )  # fmt: skip
    reproduce.add_argument(
        "--workers", type=positive, metavar="N", help="processes at once (default: as many as cores and memory allow)"
    )
    reproduce.add_argument(
        "--ray-address", metavar="ADDRESS",
        help="of an existing cluster, such as 10.0.0.1:6379 (default: $RAY_ADDRESS, or one of this machine's own)",
    )  # fmt: skip
    reproduce.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the MNIST idx or CIFAR-100 binary files (default: $SAMIRAGE_DATA, or a download)",
    )
    reproduce.add_argument("--loss", metavar="NAME", help="softmax-squared (default), cross-entropy or tanh-squared")
    reproduce.add_argument(
        "--rho", type=radius, nargs="+", metavar="RHO", help="perturbation radii, above 0 (default: by scale)"
    )
    reproduce.set_defaults(run=_reproduce)


def _reproduce(options: argparse.Namespace, command: str) -> int:
    require("lab", "xarray")
    if options.ray_address and options.launcher != "ray":
        raise UserError("--ray-address was given without --launcher ray: add that, or leave the address out")
    console = require("lab", "rich.console").Console(stderr=True, soft_wrap=True)
    from samirage.lab.studies import create
    from samirage.lab.sweep.capacity import workers_and_threads

    # A GPU is one device, whatever the number of cores beside it.
    asked = options.workers or (1 if options.device != "cpu" and options.launcher == "local" else None)
    workers, threads = workers_and_threads(asked, options.threads)
    overrides = {
        "first_seed": options.seed,
        "device": options.device,
        "threads": threads,
        "loss": options.loss,
        "rhos": tuple(options.rho) if options.rho else None,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    studies = create(options.studies, options.scale, given, data_dir=options.data_dir)

    # These load torch, which a mistyped name of a study need not wait for.
    from samirage.lab.results.store import RunFolder
    from samirage.lab.sweep.reproduce import begin, reproduce
    from samirage.report.page import build_page

    folder = RunFolder(named_place(options.out))
    try:
        with closing(_launcher(options, workers, threads)) as launcher:
            passes = 0
            for study in studies:
                todo = begin(study, folder, command)
                console.print(f"{study.name}: {len(todo)} of {len(study.cells())} cells to compute")
                passes += sum(cell.passes for cell in todo)
            label = studies[0].name if len(studies) == 1 else f"{len(studies)} studies"
            with _progress(console, passes, label) as advance:
                failures = reproduce(studies, folder, command=command, launcher=launcher, advance=advance)
    except KeyboardInterrupt:
        planned = sum(len(study.cells()) for study in studies)
        finished = sum(len(folder.finished(study.name)) for study in studies)
        console.print(
            f"Stopped. {finished} of {planned} cells are stored in {folder.path}; the same command computes the rest."
        )
        return _INTERRUPTED
    for failure in failures:
        console.print(f"samirage: cell {failure.task.name} failed: {failure.error}")
    page = build_page(folder)
    print(f"The page: {page.resolve() if is_on_disk(page) else page}")
    return 1 if failures else 0


def _launcher(options: argparse.Namespace, workers: int, threads: int) -> "AbstractLauncher":
    if options.launcher == "ray":
        from samirage.lab.sweep.launchers.ray import Ray

        return Ray(options.ray_address, cpus=workers * threads)
    from samirage.lab.sweep.launchers.local_processes import Processes

    return Processes(workers, threads)


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

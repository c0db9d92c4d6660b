"""Grid points per second of a slice, beside landscaper, loss-landscapes, and the passes that it needs.

Usage: landscape.py [--tiny] [--threads N] [--rounds N] [--rivals DIR …]

landscaper asks for a numpy that no current torch works with, so that it cannot be installed beside samirage. Put both,
without what they ask for, into a folder of their own, and name that:

    pip install --no-deps --target rivals landscaper==1.3.1 loss-landscapes==3.0.6 gudhi topopy nglpy treelib \
        coloraide drawsvg pandas scikit-learn networkx joblib threadpoolctl

What is compared takes the same model, data, precision and number of grid points, in turn, in one process.
"""

import argparse
import contextlib
import copy
import importlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import medians_in_turn
from samirage.lab.data.datasets import load
from samirage.lab.engine.compute import compute, default_threads, hardware
from samirage.lab.engine.models import MLP
from samirage.lab.tasks.resnet import ResNet18
from samirage.landscape import Objective, random_plane, scan

RHO: Final = 0.05
SPAN: Final = 0.5


@dataclass(frozen=True)
class Workload:
    """A model with its data, and the grid.

    Attributes:
        title: What it is.
        model: The network, in eval mode.
        x: Inputs.
        y: Labels.
        steps: Grid points along each axis.
    """

    title: str
    model: nn.Module
    x: Tensor
    y: Tensor
    steps: int


def workloads(*, tiny: bool) -> list[Workload]:
    """Return the MNIST network and a small residual network on images of 32×32, freshly initialised.

    Args:
        tiny: Whether to take sizes that mean nothing.
    """
    torch.manual_seed(0)
    data = load("mnist-mini")
    found = []
    for images in (100,) if tiny else (100, 1000, 5000):
        x = torch.tensor(data.train_images[:images].reshape(images, -1), dtype=torch.float32) / 255
        y = torch.tensor(data.train_labels[:images]).long()
        steps = 5 if tiny else (31, 21, 11)[(100, 1000, 5000).index(images)]
        found.append(Workload(f"784-32-10 tanh, {images} images", MLP([784, 32, 10]).eval(), x, y, steps))
    images = 8 if tiny else 32
    noise, labels = torch.randn(images, 3, 32, 32), torch.arange(images) % 10
    net = ResNet18(10, width=4 if tiny else 16).eval()
    found.append(
        Workload(f"ResNet-18, width {4 if tiny else 16}, {images} images", net, noise, labels, 3 if tiny else 7)
    )
    return found


def tasks(work: Workload, rivals: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return what is to be timed, by name; each evaluates all points of the grid.

    Args:
        work: The workload.
        rivals: The rivals' modules that could be imported.
    """
    model, x, y, count = work.model, work.x, work.y, work.steps**2
    loss_fn = nn.CrossEntropyLoss()
    params = [p for p in model.parameters() if p.requires_grad]
    f = Objective(model, loss_fn, [(x, y)])
    at = random_plane(f, f.flat_parameters(), spans=(-SPAN, SPAN))

    def forward() -> None:
        with torch.no_grad():
            for _ in range(count):
                float(loss_fn(model(x), y))

    def gradient_and_forward() -> None:
        for _ in range(count):
            torch.autograd.grad(loss_fn(model(x), y), params)
            with torch.no_grad():
                float(loss_fn(model(x), y))

    found: dict[str, Callable[[], object]] = {
        "bare forward": forward,
        "bare gradient + forward": gradient_and_forward,
        "samirage f": partial(scan, f, at, steps=work.steps),
        "samirage f, f^SAM": partial(scan, f, at, steps=work.steps, rho=RHO, fields="surrogate"),
        "samirage f, f^SAM, g, g⁺": partial(scan, f, at, steps=work.steps, rho=RHO),
    }
    if (landscaper := rivals.get("landscaper")) is not None:
        directions = [[v.clone() for v in f.unflatten(d).values()] for d in at.directions]
        other = copy.deepcopy(model)

        def evaluate(net: nn.Module, data: tuple[Tensor, Tensor]) -> float:
            return float(loss_fn(net(data[0]), data[1]))

        found["landscaper f"] = partial(
            landscaper.LossLandscape.compute, other, (x, y), directions, evaluate, steps=work.steps, distance=SPAN,
            dim=2, device="cpu",
        )  # fmt: skip
    if (loss_landscapes := rivals.get("loss_landscapes")) is not None:
        other_model = copy.deepcopy(model)
        metric = importlib.import_module("loss_landscapes.metrics").Loss(loss_fn, x, y)
        # Its normalisation by filters, the default, divides by zero where a bias is zero.
        found["loss-landscapes f"] = partial(
            loss_landscapes.random_plane, other_model, metric, distance=SPAN, steps=work.steps, normalization="model",
            deepcopy_model=True,
        )  # fmt: skip
    return found


def quiet(task: Callable[[], object]) -> Callable[[], object]:
    """Return the task without what it prints."""

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            task()

    return run


def measure(work: Workload, rivals: dict[str, Any], *, rounds: int) -> dict[str, float]:
    """Return the seconds that each task takes.

    Args:
        work: The workload.
        rivals: The rivals' modules.
        rounds: Counted rounds.
    """
    return medians_in_turn({name: quiet(task) for name, task in tasks(work, rivals).items()}, rounds=rounds)


def imported(folders: list[Path]) -> dict[str, Any]:
    """Import the rivals that are there.

    Args:
        folders: Where they lie, beside what is installed.
    """
    sys.path += [str(folder) for folder in folders]
    found = {}
    for name in ("landscaper", "loss_landscapes"):
        with contextlib.suppress(ImportError):
            found[name] = importlib.import_module(name)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a few seconds in all, to see whether everything runs")
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds [%(default)s]")
    parser.add_argument("--rivals", type=Path, nargs="*", default=[], metavar="DIR", help="folders of the rivals")
    options = parser.parse_args(arguments)
    rivals = imported(options.rivals)
    console = Console(width=120)
    console.print(f"{hardware(torch.device('cpu'))['processor']}, {options.threads} threads, torch {torch.__version__}")
    for name in ("landscaper", "loss_landscapes"):
        if name not in rivals:
            console.print(f"{name} is not there: see the head of this file")
    for work in workloads(tiny=options.tiny):
        seconds = compute(
            partial(measure, work, rivals, rounds=1 if options.tiny else options.rounds), threads=options.threads
        )
        table = Table(title=f"{work.title}, {work.steps} × {work.steps} grid points")
        for heading in ("", "points/s", "of the bare passes"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, taken in seconds.items():
            bare = {"samirage f": "bare forward", "samirage f, f^SAM": "bare gradient + forward"}.get(name)
            share = f"{seconds[bare] / taken:.2f}" if bare else "–"
            if name.startswith(("landscaper", "loss-")):
                share = f"{seconds['bare forward'] / taken:.2f}"
            table.add_row(name, f"{work.steps**2 / taken:,.0f}", share)
        console.print(table)


if __name__ == "__main__":
    main()

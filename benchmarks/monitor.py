"""What a monitor costs: the time that it takes in a SAM step, over the time of the step without it; with a guard, too.

The monitor runs on the host between the passes, so that its time can be taken on its own, whatever else the machine
does. On a CPU that is all; on a CUDA device the step is timed with and without it, in turn.

Usage: monitor.py [--threads N] [--steps N]
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import Spread, spread, times_in_turn
from samirage import SAM, Guard, Monitor, StepRecord
from samirage.lab.ensemble import Recipe, train
from samirage.lab.models import MLP, softmax_squared
from samirage.lab.resnet import ResNet18
from samirage.lab.runtime import compute, default_threads
from samirage.lab.stacked import stack
from samirage.monitor import Watch

SAMPLE = 2048  # coordinates of each network that are watched, as in the studies


class _Clock:
    """Adds up the time of some calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, timed."""

        def run(*arguments: Any, **keywords: Any) -> Any:
            begun = time.perf_counter()
            try:
                return call(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - begun

        return run


class _TimedMonitor(Monitor):
    clock: _Clock

    def saw_gradient(self, inverse_scale: Tensor | None) -> None:
        self.clock.timed(super().saw_gradient)(inverse_scale)

    def saw_step(self, record: StepRecord, inverse_scale: Tensor | None) -> None:
        self.clock.timed(super().saw_step)(record, inverse_scale)


def optimizer_share(model: nn.Module, x: Tensor, y: Tensor, steps: int, *, window: int = 200) -> Spread:
    """Return the share of the monitor in the rest of a SAM step, over some steps.

    Args:
        model: The network.
        x: A batch of images.
        y: Their classes.
        steps: Number of steps.
        window: The monitor's window.
    """
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), rho=0.05, model=model)
    monitor = _TimedMonitor(optimizer, window=window)
    monitor.clock = _Clock()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        return loss.detach()

    shares = []
    for _ in range(steps + 1):
        monitor.clock.seconds, begun = 0.0, time.perf_counter()
        optimizer.step(closure)
        whole = time.perf_counter() - begun
        shares.append(monitor.clock.seconds / (whole - monitor.clock.seconds))
    return spread(shares[1:])  # the first step chooses the sample


def ensemble_overhead(members: int, images: int, batch: int | None, *, steps: int, rounds: int) -> Spread:
    """Return what guard and watch add to the time of an ensemble's training, as a share of it.

    Args:
        members: Number of networks.
        images: Number of training images.
        batch: Images of a step, or None for all.
        steps: Number of steps of a training.
        rounds: Number of trainings with and without them, in turn.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(images, 784, generator=generator)
    labels = torch.randint(0, 10, (images,), generator=generator)
    torch.manual_seed(0)
    networks = stack([MLP([784, 32, 10]) for _ in range(members)], softmax_squared, x, labels)
    plain = Recipe(steps=steps, lr=0.1, rho=0.5, batch_size=batch)
    guarded = replace(plain, guard=Guard())
    taken = times_in_turn(
        {
            "plain": lambda: train(networks, plain),
            "both": lambda: train(networks, guarded, watch=Watch(batched=True, sample=SAMPLE)),
        },
        rounds=rounds,
    )
    return spread([both / without - 1 for both, without in zip(taken["both"], taken["plain"], strict=True)])


def main(arguments: list[str] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads [%(default)s]")
    parser.add_argument("--steps", type=int, default=8, help="steps of the residual network [%(default)s]")
    parser.add_argument("--rounds", type=int, default=15, help="trainings of each ensemble [%(default)s]")
    options = parser.parse_args(arguments)

    def measure() -> None:
        torch.manual_seed(0)
        model, x, y = ResNet18(100), torch.randn(64, 3, 32, 32), torch.randint(0, 100, (64,))
        found = optimizer_share(model, x, y, options.steps)
        print(f"ResNet-18, batch 64, 32×32: monitor over step {100 * found.median:.2f} % (n = {found.n})")
        # A window of 16 steps sums up every 8 steps, 12 times as often as the default.
        found = optimizer_share(model, x, y, max(options.steps, 9), window=16)
        print(
            f"the same with a window of 16 steps: median {100 * found.median:.2f} %, highest {100 * found.high:.2f} %"
        )
        for members, batch, steps in ((16, None, 20), (80, None, 8), (16, 128, 100)):
            found = ensemble_overhead(members, 1000, batch, steps=steps, rounds=options.rounds)
            size = f"batch {batch}" if batch else "full batch"
            print(
                f"ensemble of {members}, 1000 images, {size}: guard and watch add {100 * found.median:.2f} % to a step "
                f"(quartiles {100 * found.low:.2f} to {100 * found.high:.2f}, n = {found.n})"
            )

    compute(measure, threads=options.threads)


if __name__ == "__main__":
    main()

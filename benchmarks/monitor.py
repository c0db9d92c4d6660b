"""What a monitor costs: the time that it takes in a SAM step, over the time of the step without it; with a guard, too.

The monitor runs on the host between the passes, so that its time can be taken on its own, whatever else the machine
does. An ensemble is trained with guard and watch, and without, in turn.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Spread, spread, times_in_turn
from samirage import SAM, Guard, Monitor, StepRecord
from samirage.lab.engine.compute import compute
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.models import MLP, softmax_squared
from samirage.lab.engine.stacked import stack
from samirage.lab.tasks.resnet import ResNet18
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


def lines(threads: int, *, tiny: bool) -> list[str]:
    """Measure, and return what came out, one sentence each.

    Args:
        threads: CPU threads.
        tiny: Whether to take too few steps to mean anything.
    """

    def measure() -> list[str]:
        torch.manual_seed(0)
        batch, steps, rounds = (4, 2, 2) if tiny else (64, 9, 15)
        model, x, y = ResNet18(100), torch.randn(batch, 3, 32, 32), torch.randint(0, 100, (batch,))
        found = optimizer_share(model, x, y, steps)
        said = [f"ResNet-18, batch {batch}, 32×32: a monitor adds {_percent(found)} to a SAM step"]
        # A window of 16 steps sums up every 8 steps, 12 times as often as the default.
        found = optimizer_share(model, x, y, steps, window=16)
        said.append(f"the same with a window of 16 steps: {_percent(found)}")
        for members, of, steps in ((16, None, 20), (80, None, 8), (16, 128, 100)):
            found = ensemble_overhead(members, 1000, of, steps=1 if tiny else steps, rounds=rounds)
            size = f"batch {of}" if of else "full batch"
            said.append(f"ensemble of {members}, 1000 images, {size}: guard and watch add {_percent(found)}")
        return said

    return compute(measure, threads=threads)


def _percent(share: Spread) -> str:
    return f"{100 * share.median:.2f} % (quartiles {100 * share.low:.2f} to {100 * share.high:.2f}, n = {share.n})"

"""Timing as ratios: what is to be compared is measured in turn, in one process, and medians are taken."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


def medians_in_turn(tasks: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Run every task once per round, in turn, after one round that does not count.

    Args:
        tasks: What to time, by name.
        rounds: Counted rounds, at least 1.

    Returns:
        Median wall time of each task, in seconds.
    """
    return {name: statistics.median(times) for name, times in times_in_turn(tasks, rounds=rounds).items()}


def times_in_turn(tasks: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Run every task once per round, in an order drawn anew for each, after one round that does not count.

    Whatever slows the machine down for a while then slows all tasks of a few rounds, and none in particular.

    Args:
        tasks: What to time, by name.
        rounds: Counted rounds, at least 1.

    Returns:
        Wall time of each task in each round, in seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    order, names = random.Random(0), list(tasks)
    for counted in [False] + [True] * rounds:
        order.shuffle(names)
        for name in names:
            begun = time.perf_counter()
            tasks[name]()
            if counted:
                taken[name].append(time.perf_counter() - begun)
    return taken


@dataclass(frozen=True)
class Spread:
    """A median with the spread of what it was taken over.

    Attributes:
        median: Median.
        low: Lower quartile.
        high: Upper quartile.
        n: Number of values.
    """

    median: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles of at least two values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))

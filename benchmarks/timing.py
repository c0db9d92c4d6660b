"""Timing as ratios: what is to be compared is measured in turn, in one process, and medians are taken."""

import statistics
import time
from collections.abc import Callable, Mapping


def medians_in_turn(tasks: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Run every task once per round, in turn, after one round that does not count.

    Args:
        tasks: What to time, by name.
        rounds: Counted rounds, at least 1.

    Returns:
        Median wall time of each task, in seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for counted in [False] + [True] * rounds:
        for name, task in tasks.items():
            begun = time.perf_counter()
            task()
            if counted:
                taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}

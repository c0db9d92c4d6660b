"""How many points to evaluate as one batch: found out by measuring, because nothing else tells.

Batching points with vmap wins tenfold where a network and its data are small, and loses where one point alone fills the
processor's cache. Where the turn lies depends on the machine.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from torch import Tensor

from samirage.landscape.smooth import Smooth

_VECTORS: Final = 6  # of length d that live at once for each point: x, g, e, x⁺, g⁺ and the parameters as leaves
_GROWTH: Final = 4  # from one number of points that is tried to the next
_GAIN: Final = 1.05  # by which more points at once must be faster
_ENOUGH_S: Final = 0.05  # of one measurement, whose repetitions tell nothing more


def check_memory(x: Tensor, memory_gb: float) -> None:
    """See that one point fits the memory budget.

    Args:
        x: The point, shape (d,).
        memory_gb: The budget, in 10⁹ bytes.

    Raises:
        ValueError: If it does not.
    """
    needed = _VECTORS * x.numel() * x.element_size()
    if needed > memory_gb * 1e9:
        raise ValueError(f"one grid point needs {needed / 1e9:.2g}·10⁹ bytes, beyond memory_gb={memory_gb:g}: raise it")


def points_that_fit(f: Smooth, x: Tensor, memory_gb: float) -> int:
    """Return how many points can be evaluated at once within a memory budget, at least 1.

    Args:
        f: The function.
        x: A point, shape (d,).
        memory_gb: The budget, in 10⁹ bytes.
    """
    activations: Callable[[Tensor], int] | None = getattr(f, "activation_bytes", None)
    each = _VECTORS * x.numel() * x.element_size() + (activations(x) if activations is not None else 0)
    return max(1, int(memory_gb * 1e9 // max(each, 1)))


def fastest(f: Smooth, points: Tensor, most: int, compute: Callable[[Smooth, Tensor], Any]) -> int:
    """Measure how many points at once go fastest.

    Args:
        f: A function that has `points_at_once`, as an `Objective`.
        points: Points to try, shape (n, d).
        most: Most points at once that fit the memory.
        compute: What is to be computed of them.

    Returns:
        The number, from 1 to `most`.
    """
    settings: Callable[[int], Smooth] = getattr(f, "points_at_once")  # noqa: B009
    best, number = 1, 1
    best_s = _seconds(lambda: compute(settings(1), points[:1]))
    while (number := number * _GROWTH) <= min(most, len(points)):
        here, some = settings(number), points[:number]
        seconds = _seconds(lambda: compute(here, some)) / number  # noqa: B023
        if seconds * _GAIN < best_s:
            best, best_s = number, seconds
        elif seconds > 1.5 * best_s:
            break
    return best


def _seconds(task: Callable[[], Any]) -> float:
    """The shortest of some runs, the first of which is left out unless it is long by itself."""
    times: list[float] = []
    while len(times) < 4 and sum(times) < _ENOUGH_S:
        begun = perf_counter()
        task()
        times.append(perf_counter() - begun)
    return min(times)

"""How many points to evaluate as one batch: found out by measuring, because nothing else tells.

Batching points with vmap wins tenfold where a network and its data are small, and loses where one point alone fills the
processor's cache. Where the turn lies depends on the machine.
"""

import math
from collections.abc import Callable
from typing import Final

from torch import Tensor

from samirage.landscape.smooth import Smooth

_VECTORS: Final = 6  # of length d that live at once for each point: x, g, e, x⁺, g⁺ and the parameters as leaves
_GROWTH: Final = 4  # from one number of points that is tried to the next
_GAIN: Final = 1.05  # by which more points at once must be faster
_LOST: Final = 1.5  # by which a size may be slower before it and larger ones are given up
_ROUNDS: Final = 2  # in which every size is tried; the first call of each may be slow
_TRIAL: Final = 4  # points of a trial, at least
_SHARE: Final = 4  # at most one part in so many of the points goes into trials
_FEWEST: Final = _SHARE * _ROUNDS * 2 * _TRIAL  # points from which on there are trials
_MOST: Final = 2**16  # points in work at once
_SHARE_A_PASS: Final = 16  # points that share a pass over the data
_NUMBERS: Final = 2**22  # in their vectors, at most: to make longer ones costs more than a pass saves


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


def points_that_fit(f: Smooth, x: Tensor, memory_gb: float, count: int) -> int:
    """Return how many points can be evaluated at once within a memory budget, at least 1.

    Args:
        f: The function.
        x: A point, shape (d,).
        memory_gb: The budget, in 10⁹ bytes.
        count: Number of points in all.
    """
    activations: Callable[[Tensor], int] | None = getattr(f, "activation_bytes", None)
    each = _VECTORS * x.numel() * x.element_size()
    if (
        activations is not None and count >= _FEWEST
    ):  # to know the activations takes a pass, which few points do not repay
        each += activations(x)
    return max(1, min(_MOST, int(memory_gb * 1e9 // max(each, 1))))


class Pace:
    """Chooses how many points go at once, by timing the work itself: what is tried is done, and nothing is wasted.

    Args:
        f: The function; only one that has `points_at_once`, as an `Objective`, leaves a choice.
        fit: Most points that fit the memory.
        count: Number of points in all.
        at_once: The number, if it is given.
    """

    def __init__(self, f: Smooth, fit: int, count: int, at_once: int | None) -> None:
        self._f, self._fit = f, fit
        self._settings: Callable[[int], Smooth] | None = getattr(f, "points_at_once", None)
        sizes: list[int] = []
        while self._settings and at_once is None:
            sizes.append(sizes[-1] * _GROWTH if sizes else 1)
            if sizes[-1] > fit or _ROUNDS * sum(max(size, _TRIAL) for size in sizes) > count // _SHARE:
                sizes.pop()
                break
        self._best = dict.fromkeys(sizes, math.inf) if len(sizes) > 1 else {}
        self._trials = [size for _ in range(_ROUNDS) for size in self._best]
        self._given = at_once
        self._shared = max(1, min(_SHARE_A_PASS, _NUMBERS // f.dim))
        self._current: int | None = None

    def turn(self) -> tuple[Smooth, int]:
        """Return the function as it is to be called next, and with how many points."""
        while self._trials and self._hopeless(self._trials[0]):
            self._trials.pop(0)
        if self._trials:
            self._current = self._trials.pop(0)
            return self._set(self._current), max(self._current, min(self._fit, _TRIAL))
        self._current = self._choice()
        if self._settings is None:
            return self._f, self._current or self._fit
        # Even where points go one after another, some share each pass over the data, which may have to be loaded.
        return self._set(self._current), max(self._current or 1, min(self._fit, self._shared))

    def _set(self, at_once: int | None) -> Smooth:
        """The function with that setting; with its own, which is a guess, where there are too few points to try any."""
        return self._f if self._settings is None or at_once is None else self._settings(at_once)

    def took(self, points: int, seconds: float) -> None:
        """Take in how long the last turn took.

        Args:
            points: How many points it had.
            seconds: How long it took.
        """
        if self._current in self._best:
            self._best[self._current] = min(self._best[self._current], seconds / points)

    def _hopeless(self, size: int) -> bool:
        """Whether this size, or one below it, was so much slower than a smaller one that it need not be tried again."""
        smaller = [each for n, each in self._best.items() if n < size and each < math.inf]
        last = self._best[size] if self._best[size] < math.inf else (smaller[-1] if smaller else 0.0)
        return bool(smaller) and last > _LOST * min(smaller)

    def _choice(self) -> int | None:
        if not self._best:
            return self._given
        fastest = min(self._best.values())
        return min(n for n, each in self._best.items() if each <= _GAIN * fastest)

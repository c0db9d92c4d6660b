"""Schedules of the radius: a factor for every step, by which all radii of that step are multiplied.

A schedule is any callable that maps the number of the step, counted from 0 at the start of the training, to a finite
factor of at least 0. A step whose factor is 0 takes one pass and is the base optimizer's own, bit for bit.

The schedules of this module are frozen dataclasses without state, so that the step count alone says where a run stands.
`a * b` is their product; since `Ramp` is 1 after its end and `Decay` 1 before its start, it also puts them in sequence.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from samirage.sam.checks import checked_count, checked_number, is_number
from samirage.sam.policies.warm_start import WarmStart

Schedule = Callable[[int], float]
Shape = Literal["linear", "cosine"]


class AbstractSchedule(ABC):
    """A schedule that can be multiplied with any other."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the factor of a step.

        Args:
            step: Number of the step, at least 0.

        Returns:
            The factor, finite and at least 0.
        """

    def __mul__(self, other: Schedule) -> "Product":
        return Product(self, other) if callable(other) else NotImplemented

    def __rmul__(self, other: Schedule) -> "Product":
        return Product(other, self) if callable(other) else NotImplemented


@dataclass(frozen=True)
class Constant(AbstractSchedule):
    """The same factor in every step.

    Attributes:
        factor: Finite, at least 0.

    Raises:
        ValueError: If the factor is out of its range.

    Example:
        >>> schedule = Constant(0.5) * Ramp(steps=10)
        >>> [schedule(step) for step in (0, 5, 10, 99)]
        [0.0, 0.25, 0.5, 0.5]
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        checked_number("Constant factor", self.factor, least=0)

    def __call__(self, step: int) -> float:
        """Return the factor."""
        return self.factor


@dataclass(frozen=True)
class Ramp(AbstractSchedule):
    """A linear rise to the full radius: `start + (1 − start)·t/steps` in step `t`, and 1 from `t = steps` on.

    Attributes:
        steps: Length of the rise, at least 1.
        start: Factor of step 0, finite and at least 0; 0 makes step 0 one of the base optimizer.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> [Ramp(steps=4)(step) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        checked_count("Ramp steps", self.steps)
        checked_number("Ramp start", self.start, least=0)

    def __call__(self, step: int) -> float:
        """Return the factor."""
        done = min(step / self.steps, 1.0)
        return self.start + (1.0 - self.start) * done


@dataclass(frozen=True)
class Decay(AbstractSchedule):
    """A change from the full radius to another: 1 up to step `start`, and `to` from step `total_steps` on.

    Between them, with `p = (t − start)/(total_steps − start)`, the factor of step `t` is `1 − (1 − to)·p` (linear), or
    `to + (1 − to)·(1 + cos(pi·p))/2` (cosine). A radius that falls over the training is the remedy of arXiv 2401.08060.

    Attributes:
        total_steps: Length of the whole training in steps, at least 1; the last step is `total_steps − 1`.
        start: Step until which the radius is full, at least 0 and below `total_steps`.
        to: Factor at the end, finite and at least 0.
        shape: `"linear"` or `"cosine"`.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> [Decay(total_steps=4)(step) for step in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
        >>> round(Decay(total_steps=10, start=6, to=0.2, shape="cosine")(8), 12)
        0.6
    """

    total_steps: int
    start: int = 0
    to: float = 0.0
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        checked_count("Decay total_steps", self.total_steps)
        checked_count("Decay start", self.start, least=0)
        checked_number("Decay to", self.to, least=0)
        if self.shape not in get_args(Shape):
            raise ValueError(f"Decay shape must be one of {', '.join(map(repr, get_args(Shape)))}; got {self.shape!r}")
        _check_start("Decay", self.start, self.total_steps)

    def __call__(self, step: int) -> float:
        """Return the factor."""
        done = min(max(step - self.start, 0) / (self.total_steps - self.start), 1.0)
        left = 1.0 - done if self.shape == "linear" else (1.0 + math.cos(math.pi * done)) / 2
        return self.to + (1.0 - self.to) * left


@dataclass(frozen=True)
class Tail(AbstractSchedule):
    """SAM only in the last part of the training: 0 before it, 1 in it (late SAM, arXiv 2410.10373).

    In steps rather than a share, this is `WarmStart(steps=…)`; in distinction to that, `every` counts from step 0.

    Attributes:
        fraction: Share of the training that is perturbed, above 0 and at most 1.
        total_steps: Length of the whole training in steps, at least 1.

    Raises:
        ValueError: If a value is out of its range, or the last part is shorter than a step.

    Example:
        >>> [Tail(fraction=0.25, total_steps=8)(step) for step in range(8)]
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    """

    fraction: float
    total_steps: int

    def __post_init__(self) -> None:
        checked_number("Tail fraction", self.fraction, above=0, most=1)
        checked_count("Tail total_steps", self.total_steps)
        _check_start("Tail", self.start, self.total_steps)

    @property
    def start(self) -> int:
        """Number of the first step that is perturbed."""
        return self.total_steps - round(self.fraction * self.total_steps)

    def __call__(self, step: int) -> float:
        """Return the factor."""
        return 0.0 if step < self.start else 1.0


@dataclass(frozen=True, repr=False)
class Product(AbstractSchedule):
    """The product of two schedules, which is what `first * second` makes.

    Attributes:
        first: A schedule.
        second: Another.

    Raises:
        ValueError: If the two announce trainings of different lengths.

    Example:
        >>> schedule = Ramp(steps=2) * Decay(total_steps=8, start=4)
        >>> [schedule(step) for step in range(9)]
        [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    first: Schedule
    second: Schedule

    def __post_init__(self) -> None:
        check_lengths(self.first, self.second)

    @property
    def total_steps(self) -> int | None:
        """Length of the training that the two announce, if one of them does."""
        return announced_steps(self.first) or announced_steps(self.second)

    def __call__(self, step: int) -> float:
        """Return the factor."""
        return factor_at(self.first, step) * factor_at(self.second, step)

    def __repr__(self) -> str:
        return f"{self.first!r} * {self.second!r}"


def factor_at(schedule: Schedule | None, step: int) -> float:
    """Return the factor that a schedule gives for a step, if it is one.

    Args:
        schedule: Any callable from the number of a step to a factor; None is 1 throughout.
        step: Number of the step, at least 0.

    Returns:
        The factor, finite and at least 0.

    Raises:
        TypeError: If the schedule returned no number.
        ValueError: If the number is negative or not finite.

    Example:
        >>> factor_at(lambda step: 1 / (1 + step), 3)
        0.25
    """
    if schedule is None:
        return 1.0
    factor = schedule(step)
    if not is_number(factor):
        raise TypeError(
            f"the schedule must return a number of at least 0 for every step; for step {step} it returned {factor!r}, "
            f"a {type(factor).__name__}"
        )
    if not (math.isfinite(factor) and factor >= 0):
        raise ValueError(
            f"the schedule must return a finite number of at least 0 for every step; for step {step} it returned "
            f"{factor!r}"
        )
    return float(factor)


def radius_factor(step: int, *, warm_start: WarmStart | None, schedule: Schedule | None) -> float:
    """Return what the radii of a step are multiplied by: 0 in the warm start, and the schedule's factor after it.

    Args:
        step: Number of steps already taken; the schedule counts from there, not from the end of the warm start.
        warm_start: The warm start, or None.
        schedule: The schedule, or None.

    Returns:
        The factor, finite and at least 0.

    Raises:
        TypeError: If the schedule returned no number.
        ValueError: If the number is negative or not finite.

    Example:
        >>> [radius_factor(t, warm_start=WarmStart(steps=2), schedule=Decay(total_steps=4)) for t in range(4)]
        [0.0, 0.0, 0.5, 0.25]
    """
    if warm_start is not None and warm_start.covers(step):
        return 0.0
    return factor_at(schedule, step)


def announced_steps(policy: object) -> int | None:
    """Return the length of the training that a schedule or warm start was told, or None."""
    total = getattr(policy, "total_steps", None)
    return total if isinstance(total, int) else None


def check_lengths(*policies: object, steps: int | None = None) -> None:
    """Check that policies of one training agree about its length.

    Args:
        policies: Schedules and warm starts; those that know no length agree with all.
        steps: How many steps will be taken, if that is known; not more than the whole training.

    Raises:
        ValueError: If two disagree, or a warm start is longer than the whole training.

    Example:
        >>> check_lengths(WarmStart(steps=500), Decay(total_steps=400))
        Traceback (most recent call last):
        ValueError: the warm start of 500 steps is longer than the training of 400 steps: shorten it
    """
    known = [(repr(policy), total) for policy in policies if (total := announced_steps(policy)) is not None]
    if len({total for _, total in known}) > 1:
        told = " and ".join(f"{total} by {name}" for name, total in known)
        raise ValueError(f"the length of the training was given as {told}: make them agree")
    end = min([total for _, total in known] + ([] if steps is None else [steps]), default=None)
    for policy in policies:
        if isinstance(policy, WarmStart) and end is not None and (policy.length or 0) > end:
            raise ValueError(
                f"the warm start of {policy.length} steps is longer than the training of {end} steps: shorten it"
            )


def _check_start(name: str, start: int, total: int) -> None:
    if start >= total:
        raise ValueError(f"{name} starts at step {start}, beyond the last of {total} steps: it would never act")

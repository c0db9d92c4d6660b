"""Policies: pure rules that turn a step count or the step's figures into what the step does."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmStart:
    """Train without perturbation first: the "switching" strategy of Park, Jang, Ryu and Yang (arXiv 2509.21818).

    During the warm start a step takes one pass and follows the plain gradient `g`.

    Attributes:
        steps: Length of the warm start in steps, at least 0 and at most `total_steps`, if that is given. Or:
        fraction: Share of the training that is warm start, from 0 to 1; the paper uses about 0.1. It needs
        total_steps: Length of the whole training in steps, at least 1.

    Raises:
        ValueError: If neither or both forms are given, a value is out of its range, or the warm start is longer than
            the whole training.

    Example:
        >>> WarmStart(fraction=0.1, total_steps=600).length
        60
    """

    steps: int | None = None
    fraction: float | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        total = self.total_steps
        if total is not None and (not isinstance(total, int) or total < 1):
            raise ValueError(f"WarmStart total_steps must be a whole number of at least 1; got {total!r}")
        if self.steps is not None:
            if self.fraction is not None:
                raise ValueError("WarmStart takes steps=…, or fraction=… with total_steps=…; got both")
            if not isinstance(self.steps, int) or self.steps < 0:
                raise ValueError(f"WarmStart steps must be a whole number of at least 0; got {self.steps!r}")
            if total is not None and self.steps > total:
                raise ValueError(f"WarmStart steps must be at most total_steps, here {total}; got {self.steps}")
            return
        if self.fraction is None or total is None:
            raise ValueError("WarmStart needs steps=…, or fraction=… together with total_steps=…")
        if not (math.isfinite(self.fraction) and 0 <= self.fraction <= 1):
            raise ValueError(f"WarmStart fraction must lie between 0 and 1; got {self.fraction!r}")

    @property
    def length(self) -> int:
        """Length of the warm start in steps."""
        if self.steps is not None:
            return self.steps
        assert self.fraction is not None
        assert self.total_steps is not None
        return round(self.fraction * self.total_steps)

    def covers(self, step: int) -> bool:
        """Tell whether the step of this number (the first is 0) belongs to the warm start.

        Args:
            step: Number of steps already taken.

        Returns:
            True while the plain gradient is to be followed.

        Example:
            >>> WarmStart(steps=2).covers(1), WarmStart(steps=2).covers(2)
            (True, False)
        """
        return step < self.length

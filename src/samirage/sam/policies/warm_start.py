"""The warm start: train without perturbation first, for a number of steps or until SAM's model of the loss holds."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from samirage.sam.checks import checked_count, checked_number
from samirage.sam.figures import StepFigures, agreement


@dataclass(frozen=True)
class WarmStart:
    """Train without perturbation first: the "switching" strategy of Park, Jang, Ryu and Yang (arXiv 2509.21818).

    During the warm start a step follows the plain gradient `g`. Its length is given as `steps`, as `fraction` with
    `total_steps`, or by the criterion `until="slope"`: then every `probe_every`-th step is a probe, which takes SAM's
    gradient too, at the whole radius, without following it. The warm start is over after `probes` probes in a row at
    which the two gradients agreed, `u·g⁺ ≥ kappa·max(‖g‖, ‖g⁺‖)`: the first-order model of the loss, on which SAM
    rests, then holds as far as SAM looks. With a length besides, it is over after that many steps at the latest.

    Attributes:
        steps: Length of the warm start in steps, at least 0 and at most `total_steps`, if that is given. Or:
        fraction: Share of the training that is warm start, from 0 to 1; the paper uses about 0.1. It needs
        total_steps: Length of the whole training in steps, at least 1.
        until: `"slope"`, or None for a length only.
        probe_every: Steps from probe to probe, at least 1.
        probes: Number of probes in a row that must agree, at least 1.
        kappa: Smallest agreement, above 0 and below 1; as for `Guard`.

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
    until: Literal["slope"] | None = None
    probe_every: int = 10
    probes: int = 3
    kappa: float = 0.7

    def __post_init__(self) -> None:
        if self.until not in {None, "slope"}:
            raise ValueError(f"WarmStart until must be 'slope' or None; got {self.until!r}")
        checked_count("WarmStart probe_every", self.probe_every)
        checked_count("WarmStart probes", self.probes)
        checked_number("WarmStart kappa", self.kappa, above=0, below=1)
        if self.total_steps is not None:
            checked_count("WarmStart total_steps", self.total_steps)
        if self.steps is not None:
            if self.fraction is not None:
                raise ValueError("WarmStart takes steps=…, or fraction=… with total_steps=…; got both")
            checked_count("WarmStart steps", self.steps, least=0)
            if self.total_steps is not None and self.steps > self.total_steps:
                raise ValueError(
                    f"WarmStart steps must be at most total_steps, here {self.total_steps}; got {self.steps}"
                )
            return
        if self.fraction is None and self.until is not None:
            return
        if self.fraction is None or self.total_steps is None:
            raise ValueError("WarmStart needs steps=…, fraction=… together with total_steps=…, or until='slope'")
        checked_number("WarmStart fraction", self.fraction, least=0, most=1)

    @property
    def length(self) -> int | None:
        """Length of the warm start in steps, at the latest; None where only the criterion ends it."""
        if self.steps is not None:
            return self.steps
        if self.fraction is None:
            return None
        assert self.total_steps is not None
        return round(self.fraction * self.total_steps)

    def covers(self, step: int) -> bool:
        """Tell whether the step of this number (the first is 0) belongs to the warm start, if no criterion ends it.

        Args:
            step: Number of steps already taken.

        Returns:
            True while the plain gradient is to be followed.

        Example:
            >>> WarmStart(steps=2).covers(1), WarmStart(steps=2).covers(2)
            (True, False)
        """
        return self.length is None or step < self.length

    def probes_at(self, step: int) -> bool:
        """Tell whether the step of this number is a probe, if the warm start is not over by then.

        Args:
            step: Number of steps already taken.

        Returns:
            True where SAM's gradient is to be taken, and not followed.

        Example:
            >>> [WarmStart(until="slope", probe_every=3).probes_at(step) for step in range(6)]
            [False, False, True, False, False, True]
        """
        return self.until is not None and self.covers(step) and (step + 1) % self.probe_every == 0

    def begin(self, like: Tensor) -> Tensor:
        """Return the number of probes in a row that agreed, before the first.

        Args:
            like: A tensor whose shape, () or (S,), and device it shall have.

        Returns:
            Zero.
        """
        return torch.zeros_like(like, dtype=torch.int64)

    def after_probe(self, agreed: Tensor, figures: StepFigures) -> Tensor:
        """Return the number of probes in a row that agreed, after another.

        Args:
            agreed: The number before it.
            figures: The figures of the probe.

        Returns:
            The number; once it has come to `probes`, it stays there.
        """
        counted = torch.where(agreement(figures) >= self.kappa, agreed + 1, 0)
        return torch.where(self.is_over(agreed), agreed, counted)

    def is_over(self, agreed: Tensor) -> Tensor:
        """Tell whether the criterion has ended the warm start.

        Args:
            agreed: Number of probes in a row that agreed.

        Returns:
            Boolean tensor of that shape.

        Example:
            >>> WarmStart(until="slope", probes=3).is_over(torch.tensor([0, 2, 3]))
            tensor([False, False,  True])
        """
        return agreed >= self.probes

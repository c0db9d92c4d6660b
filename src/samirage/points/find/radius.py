"""The interval of radii at which a hallucinated point exists: the "nontrivial interval" of Theorem 2.2, computed.

Source: Park, Jang, Ryu and Yang, arXiv 2509.21818.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.find.branch import Branch, Event, branch


@dataclass(frozen=True, eq=False)
class RadiusInterval:
    """The radii at which a hallucinated point exists, as the branch through it tells.

    Attributes:
        low: Smallest radius on the branch.
        high: Largest radius on the branch.
        low_event: What the branch does there.
        high_event: What the branch does there.
        attracting: Intervals of radii at which a point of the branch attracts SAM, for learning rates that are small
            enough; None for many coordinates.
        branch: The branch itself.
    """

    low: float
    high: float
    low_event: Event
    high_event: Event
    attracting: list[tuple[float, float]] | None
    branch: Branch

    def __str__(self) -> str:
        text = f"exists for rho from {self.low:.6g} ({self.low_event}) to {self.high:.6g} ({self.high_event})"
        if self.attracting is None:
            return text
        if not self.attracting:
            return f"{text}; attracts SAM nowhere"
        return f"{text}; attracts SAM for rho from " + ", ".join(f"{a:.6g} to {b:.6g}" for a, b in self.attracting)


def radius_interval(
    f: Smooth, x: Tensor, rho: float, *, rho_range: tuple[float, float] | None = None, max_points: int = 400
) -> RadiusInterval:
    """Return the interval of radii on which a hallucinated point exists, by following it both ways.

    Args:
        f: The function.
        x: A hallucinated point at `rho`, shape (d,).
        rho: Its radius, above 0.
        rho_range: Radii at which to stop; by default a thousandth of `rho` and ten times `rho`.
        max_points: Most points of the branch in each direction.

    Returns:
        The interval, with the branch from which it was read.

    Raises:
        ValueError: If an argument is out of its range, or `x` is not near a hallucinated point.

    Example:
        >>> import torch
        >>> from samirage.landscape import DoubleWell
        >>> print(radius_interval(DoubleWell(), torch.tensor([0.471, -0.022]), rho=1.5))
        exists for rho from 1.03163 (stationary) to 2.06327 (stationary); attracts SAM for rho from 1.03163 to 2.06327
    """
    curve = branch(f, x, rho, rho_range=rho_range, max_points=max_points)
    ends = [(e.rho, e.event) for e in curve.events if e.event is not Event.STABILITY]
    ends += [(float(curve.rho[0]), Event.CLOSED), (float(curve.rho[-1]), Event.CLOSED)] if not ends else []
    low, high = min(ends), max(ends)
    return RadiusInterval(low[0], high[0], low[1], high[1], _attracting(curve), curve)


def _attracting(curve: Branch) -> list[tuple[float, float]] | None:
    """Intervals of rho over the attracting stretches, which events bound."""
    if curve.attracts is None:
        return None
    stretches: list[tuple[float, float]] = []
    flags = curve.attracts.tolist()
    # At a stationary end nothing is defined; what holds a millionth of a step before it is taken to hold up to it.
    for end, neighbour in ((0, 1), (len(flags) - 1, len(flags) - 2)):
        if any(e.event is Event.STATIONARY and e.index == end for e in curve.events):
            flags[end] = flags[neighbour]
    i = 0
    while i < len(flags):
        if not flags[i]:
            i += 1
            continue
        j = i
        while j + 1 < len(flags) and flags[j + 1]:
            j += 1
        radii = curve.rho[i : j + 1].tolist()
        radii += [e.rho for e in curve.events if i - 1 <= e.index <= j and e.event is not Event.FOLD]
        radii += [e.rho for e in curve.events if i <= e.index < j and e.event is Event.FOLD]
        stretches.append((min(radii), max(radii)))
        i = j + 1
    return _merged(stretches)


def _merged(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for low, high in sorted(stretches):
        if merged and low <= merged[-1][1] + 1e-12 * max(1.0, math.fabs(high)):
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged

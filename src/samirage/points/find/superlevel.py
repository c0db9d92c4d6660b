"""The construction of Theorem 2.2: the farthest point of a superlevel component around a local maximizer.

Let `C` be the component of `{f ≥ c}` that holds the local maximizer (set), with `c` just below its height. The point
of `C` that is farthest from a minimizer has, by Lagrange's multipliers, a gradient that points exactly at the
minimizer: with `rho` = that distance it is a hallucinated point. As `c` falls, `rho` grows from the distance of the
maximizer; so a level exists for every radius in an interval. Maximizer sets are covered too (Theorem 2.4), because `C`
is explored from within and need not be convex, or even star-shaped.

Source: Park, Jang, Ryu and Yang, arXiv 2509.21818.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth

_SAMPLES: Final = 48  # points at which a ray is looked at
_HALVINGS: Final = 16  # of the step in which a ray leaves the component
_LEVELS: Final = 16  # halvings of the interval of levels


@dataclass(frozen=True)
class SuperlevelSearch:
    """How hard to look for the farthest point of a component.

    Attributes:
        rays: Rays per round.
        rounds: Rounds of exploration; each starts from the points that the one before has reached.
        seed: Seed of the rays.
    """

    rays: int = 64
    rounds: int = 12
    seed: int = 0


def superlevel_candidate(
    f: Smooth, centre: Tensor, maximizer: Tensor, rho: float, search: SuperlevelSearch
) -> Tensor | None:
    """Return about the point of Theorem 2.2 whose distance from the centre is `rho`.

    Args:
        f: The function.
        centre: The minimizer, shape (d,), float64.
        maximizer: A local maximizer, shape (d,), float64.
        rho: The distance.
        search: How hard to look.

    Returns:
        A point on the sphere of radius `rho` about the centre, to be sharpened; None when no component reaches so far,
        or the maximizer itself lies farther.

    Example:
        >>> from samirage.landscape import Ring
        >>> f = Ring()
        >>> superlevel_candidate(f, f.minimizers[0], f.maximizers[0], 1.5, SuperlevelSearch()).abs().round(decimals=1)
        tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    if float((maximizer - centre).norm()) >= rho:
        return None
    top, bottom = float(f(maximizer)), float(f(centre))
    if not top > bottom:
        return None
    # The component grows as the level falls: find the level at which its reach passes rho.
    high, low = top, bottom
    best: Tensor | None = None
    for _ in range(_LEVELS):
        level = (high + low) / 2
        farthest = _farthest(f, centre, maximizer, level, 3 * rho, search)
        if float((farthest - centre).norm()) < rho:
            high = level
        else:
            low, best = level, farthest
    if best is None:
        return None
    away = best - centre
    # At a level that joins the component to another one, the reach jumps: there is no point at rho then.
    return centre + rho * away / away.norm() if float(away.norm()) < 1.05 * rho else None


def _farthest(
    f: Smooth, centre: Tensor, inside: Tensor, level: float, reach: float, search: SuperlevelSearch
) -> Tensor:
    """Explore the component of `{f ≥ level}` that holds a point by rays that stay in it; return the farthest point."""
    generator = torch.Generator().manual_seed(search.seed)
    base = inside[None]
    for number in range(search.rounds):
        count = -(-search.rays // len(base))
        origins = base.repeat_interleave(count, 0)
        directions = torch.randn(len(origins), f.dim, generator=generator, dtype=torch.float64).to(inside.device)
        directions = directions / directions.norm(dim=1, keepdim=True)
        # Half of the rays go anywhere, along a thin component too; the others away from the centre, more and more so.
        outward = origins - centre
        outward = outward / outward.norm(dim=1, keepdim=True).clamp(min=1e-300)
        directions[1::2] = directions[1::2] * 0.7**number + outward[1::2]
        ends = _leave(f, origins, directions / directions.norm(dim=1, keepdim=True), level, reach)
        pool = torch.cat([base, ends])
        order = (pool - centre).norm(dim=1).argsort(descending=True)
        base = pool[order[: max(search.rays // 8, 1)]]
    return base[0]


def _leave(f: Smooth, origins: Tensor, directions: Tensor, level: float, reach: float) -> Tensor:
    """Follow each ray to just before it first leaves the superlevel set."""
    times = torch.linspace(0, 1, _SAMPLES + 1, dtype=origins.dtype, device=origins.device).square() * reach
    values = f(origins[:, None] + times[:, None] * directions[:, None])
    outside = values < level
    first = torch.where(outside.any(1), outside.to(torch.int8).argmax(1), _SAMPLES)
    low, high = times[(first - 1).clamp(min=0)], times[first]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = f(origins + middle[:, None] * directions) >= level
        low, high = torch.where(within, middle, low), torch.where(within, high, middle)
    # A step back to the inside, so that the next rays have room.
    return origins + 0.999 * low[:, None] * directions

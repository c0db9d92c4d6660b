"""Basins: which start ends where when SAM runs, over a grid of starts in a plane."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.certificates.verdict import HALLUCINATED, CriticalKind, critical_point
from samirage.points.equation import check_point, check_rho
from samirage.sam import Status
from samirage.sam.map import displacement, sam_map

_RESTS: Final = 1e-4  # shift ratio, or distance moved per step relative to the window, of a run that has come to rest
_WINDOW: Final = 64  # last steps, over which a run that does not rest is averaged
_FAR: Final = 1e3  # distance, in windows, beyond which a run counts as diverged
_NEAR: Final = 0.01  # distance of ends that count as one place, relative to the window
_ZERO_MODE: Final = 1e-4  # relative size below which a curvature counts as 0, at ends that are not polished
_NEWTON_STEPS: Final = 20  # from the mean of a run that bounces to the stationary point that it may bounce about

# What a run does that bounces about a critical point, by what that is.
_BOUNCES: Final[dict[CriticalKind, Status]] = {
    "minimizer": Status.BOUNCING_MINIMIZER,
    "maximizer": Status.MAXIMIZER_TRAP,
    "saddle": Status.SADDLE_TRAP,
    "plateau": Status.UNDECIDED,
    "degenerate": Status.UNDECIDED,
}


@dataclass(frozen=True, eq=False)
class End:
    """A place, or a connected set of places, at which runs end.

    Attributes:
        kind: Hallucinated points by their names, where the run rests although the gradient does not vanish. Where it
            does not rest: `BOUNCING_MINIMIZER`, `SADDLE_TRAP` or `MAXIMIZER_TRAP` if a stationary point of that kind
            lies within the span of its last steps, else `HALLUCINATED_BOUNCE`. `STATIONARY` for a run that rests at a
            stationary point; `DIVERGED`. `UNDECIDED` where such a point, or `x⁺`, is degenerate.
        x: One of the ends, or the mean of a run that bounces, shape (d,); NaN for runs that diverged.
        share: Share of the starts that end there.
    """

    kind: Status
    x: Tensor
    share: float


@dataclass(frozen=True, eq=False)
class Basins:
    """Where SAM ends from every start of a grid.

    Attributes:
        labels: For every start, the index of its end; shape (rows, columns), rows along the second axis.
        ends: The ends, the most frequent first.
        first: Coordinates of the columns along the first axis, shape (columns,).
        second: Coordinates of the rows along the second axis, shape (rows,).
    """

    labels: NDArray[np.int64]
    ends: list[End]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


def basins(
    f: Smooth,
    *,
    rho: float,
    lr: float,
    window: tuple[float, float, float, float],
    resolution: int = 120,
    steps: int = 1000,
    origin: Tensor | None = None,
    axes: Tensor | None = None,
) -> Basins:
    """Run SAM from every point of a grid and tell where each run ends.

    Args:
        f: The function.
        rho: Perturbation radius, above 0.
        lr: Learning rate, above 0.
        window: Lowest and highest coordinate along the first axis, then along the second.
        resolution: Grid points along each axis, at least 2.
        steps: Steps of every run, at least 100.
        origin: Where the axes cross, shape (d,); by default 0.
        axes: Two directions, shape (2, d): the plane of the starts. By default, for two coordinates, the coordinates.

    Returns:
        The basins.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> found = basins(DoubleWell(), rho=1.5, lr=0.1, window=(0.2, 1.2, -0.5, 0.5), resolution=10)
        >>> [(end.kind.value, end.share) for end in found.ends]  # though all starts surround the true minimizer
        [('hallucinated minimizer', 0.85), ('hallucinated minimizer', 0.09), ('saddle trap', 0.06)]
    """
    rho = check_rho(rho)
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a finite number above 0; got {lr!r}")
    low_1, high_1, low_2, high_2 = window
    if not (low_1 < high_1 and low_2 < high_2 and all(map(math.isfinite, window))):
        raise ValueError(f"window must be low and high along the first axis, then along the second; got {window!r}")
    if resolution < 2 or steps < 100:
        raise ValueError(f"resolution must be at least 2 and steps at least 100; got {resolution!r} and {steps!r}")
    if axes is None:
        if f.dim != 2:
            raise ValueError(f"axes must be given, shape (2, {f.dim}), where f has not 2 coordinates")
        axes = torch.eye(2, dtype=torch.float64)
    if axes.shape != (2, f.dim):
        raise ValueError(f"axes must be two directions, shape (2, {f.dim}); got shape {tuple(axes.shape)}")
    centre = torch.zeros(f.dim, dtype=torch.float64) if origin is None else check_point(f, origin, "origin")
    first = torch.linspace(low_1, high_1, resolution, dtype=torch.float64)
    second = torch.linspace(low_2, high_2, resolution, dtype=torch.float64)
    rows, columns = torch.meshgrid(second, first, indexing="ij")
    starts = centre + torch.stack([columns.flatten(), rows.flatten()], 1) @ axes.double()
    size = math.hypot((high_1 - low_1) * float(axes[0].norm()), (high_2 - low_2) * float(axes[1].norm()))

    places, kinds = _ends(f, starts, rho, lr, steps, size)
    clusters = _clusters(places, kinds, _NEAR * size)
    counts = np.bincount(clusters)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    found = []
    for cluster in order:
        member = int(np.flatnonzero(clusters == cluster)[0])
        found.append(End(kinds[member], places[member], float(counts[cluster] / len(clusters))))
    return Basins(rank[clusters].reshape(resolution, resolution), found, first.numpy(), second.numpy())


def _ends(f: Smooth, x: Tensor, rho: float, lr: float, steps: int, size: float) -> tuple[Tensor, list[Status]]:
    """Run SAM, and describe the end of every run: a point, and what is there."""
    origin = x.mean(0)
    alive = torch.ones(len(x), dtype=torch.bool)
    for _ in range(steps - _WINDOW):
        # Runs that have left are held where they are, so that they do not overflow.
        x = torch.where(alive[:, None], sam_map(f.grad, x, rho=rho, lr=lr), x)
        alive &= (x - origin).norm(dim=1) < _FAR * size
    total, slopes, spans, before, begin = torch.zeros_like(x), x.new_zeros(len(x)), x.new_zeros(len(x)), x, x
    for _ in range(_WINDOW):
        before = x
        grad = f.grad(x)
        x = torch.where(alive[:, None], x - lr * f.grad(x + displacement(x, grad, rho)), x)
        total, slopes = total + before / _WINDOW, slopes + grad.norm(dim=1) / _WINDOW
        spans = torch.maximum(spans, (x - begin).norm(dim=1))
        alive &= (x - origin).norm(dim=1) < _FAR * size
    rests = (x - before).norm(dim=1) <= _RESTS * lr * slopes
    kinds: list[Status] = []
    places = torch.where(rests[:, None], x, total)
    known: list[tuple[Tensor, bool, Status]] = []
    for i, place in enumerate(places):
        if not bool(alive[i]):
            kinds.append(Status.DIVERGED)
            continue
        resting = bool(rests[i])
        near = next((s for p, r, s in known if r == resting and float((p - place).norm()) < _NEAR * size / 4), None)
        if near is None:
            near = _kind_at_rest(f, place, rho) if resting else _kind_of_bounce(f, place, rho, float(spans[i]))
            known.append((place, resting, near))
        kinds.append(near)
    places[~alive] = torch.nan
    return places, kinds


def _kind_at_rest(f: Smooth, place: Tensor, rho: float) -> Status:
    grad = f.grad(place)
    if float(grad.norm()) == 0:
        return Status.STATIONARY
    x_plus = place + displacement(place, grad, rho)
    found = critical_point(f, x_plus, unit=float(grad.norm()) / rho, length=rho, tolerance=_ZERO_MODE)
    return HALLUCINATED[found.kind]


def _kind_of_bounce(f: Smooth, mean: Tensor, rho: float, span: float) -> Status:
    """Look, from the mean of the last steps, for a stationary point within their span."""
    x = mean
    for _ in range(_NEWTON_STEPS):
        step = torch.linalg.lstsq(f.hessian(x), f.grad(x)[:, None], rcond=1e-6, driver="gelsd").solution[:, 0]
        x = x - step
        if not float((x - mean).norm()) <= span:
            return Status.HALLUCINATED_BOUNCE
    return _BOUNCES[critical_point(f, x, unit=0.0, length=rho, tolerance=_ZERO_MODE).kind]


def _clusters(places: Tensor, kinds: list[Status], near: float) -> NDArray[np.int64]:
    """Number the connected sets of ends of one kind: ends within `near` of each other are connected."""
    labels = np.full(len(places), -1)
    count = 0
    for kind in dict.fromkeys(kinds):
        members = np.array([i for i, k in enumerate(kinds) if k is kind])
        points = places[members]
        if kind is Status.DIVERGED:
            labels[members] = count
            count += 1
            continue
        # Leaders first, each for all ends close to it; then leaders that are neighbours are joined.
        leaders: list[Tensor] = []
        owner = np.full(len(members), -1)
        while (owner < 0).any():
            leader = points[int(np.flatnonzero(owner < 0)[0])]
            close = ((points - leader).norm(dim=1) <= near).numpy() & (owner < 0)
            owner[close] = len(leaders)
            leaders.append(leader)
        stacked = torch.stack(leaders)
        joined = (torch.cdist(stacked, stacked) <= 3 * near).numpy()
        groups = np.full(len(leaders), -1)
        for i in range(len(leaders)):
            if groups[i] >= 0:
                continue
            pending = [i]
            while pending:
                j = pending.pop()
                if groups[j] < 0:
                    groups[j] = count
                    pending += np.flatnonzero(joined[j] & (groups < 0)).tolist()
            count += 1
        labels[members] = groups[owner]
    return labels

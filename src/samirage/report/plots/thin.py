"""From hundreds of runs with thousands of steps to curves that a page can carry, without hiding a spike."""

from typing import Literal

import numpy as np
import xarray as xr

Centre = Literal["mean", "median"]
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def kept_points(values: Array, max_points: int) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """Choose at most `max_points` points of each curve: its ends, and the lowest and highest point of every stretch.

    Curves that fit are kept whole. In a stretch without a finite value a NaN is kept, so gaps stay gaps.

    Args:
        values: Ordinates of one curve per row, shape (curves, n); NaN where a curve is not defined.
        max_points: Largest number of points to keep, at least 4.

    Returns:
        Indices of the kept points of every curve in ascending order, shape (curves, kept); a point that is both the
        lowest and the highest of its stretch appears twice.

    Example:
        >>> spike = np.zeros((1, 1000))
        >>> spike[0, 537] = 9.0
        >>> kept = kept_points(spike, 50)
        >>> kept.shape[1] <= 50, 537 in kept
        (True, True)
    """
    curves, n = values.shape
    if n <= max_points:
        return np.broadcast_to(np.arange(n), values.shape)
    stretches = (max_points - 2) // 2
    length = -(-(n - 2) // stretches)
    stretches = -(-(n - 2) // length)
    padded = np.full((curves, stretches * length), np.nan)
    padded[:, : n - 2] = values[:, 1:-1]
    pieces = padded.reshape(curves, stretches, length)
    first = 1 + length * np.arange(stretches)
    lowest = first + np.where(np.isfinite(pieces), pieces, np.inf).argmin(axis=2)
    highest = first + np.where(np.isfinite(pieces), pieces, -np.inf).argmax(axis=2)
    inner = np.sort(np.concatenate([lowest, highest], axis=1), axis=1)
    ends = np.broadcast_to([0, n - 1], (curves, 2))
    return np.concatenate([ends[:, :1], inner, ends[:, 1:]], axis=1)


def points_per_curve(curves: int, *, budget: int = 36_000, most: int = 200, fewest: int = 40) -> int:
    """Return how many points each of the thin curves of a figure may have.

    Args:
        curves: Number of curves in the figure.
        budget: Number of points that the figure may have in all.
        most: Largest answer: more cannot be told apart at the width of a column.
        fewest: Smallest answer, whatever the budget.

    Returns:
        The number.

    Example:
        >>> points_per_curve(100), points_per_curve(500), points_per_curve(10_000)
        (200, 72, 40)
    """
    return int(min(most, max(fewest, budget // max(curves, 1))))


def seed_curves(
    runs: xr.Dataset, name: str, along: str, max_points: int, *, scale: float = 1.0, floor: float | None = None
) -> list[Array]:
    """Return the curve of every seed.

    Args:
        runs: Runs of one method at one radius.
        name: Variable with the dimensions `seed` and `along`.
        along: Dimension of the abscissae.
        max_points: Largest number of points of a curve.
        scale: Factor for the values.
        floor: Smallest value to draw, for log axes: smaller ones (0 among them) are drawn there.

    Returns:
        One array of shape (points, 2) for each seed with at least one finite value.
    """
    x, values = _values(runs, name, along, scale=scale, floor=floor)
    kept = kept_points(values, max_points)
    curves = np.stack([x[kept], np.take_along_axis(values, kept, axis=1)], axis=2)
    finite = np.isfinite(curves[:, :, 1])
    return [curve[rows] for curve, rows in zip(curves, finite, strict=True) if rows.any()]


def centre_curve(
    runs: xr.Dataset,
    name: str,
    along: str,
    centre: Centre,
    max_points: int,
    *,
    scale: float = 1.0,
    floor: float | None = None,
) -> Array:
    """Return the mean or median over the seeds; at each step over those seeds that have a finite value there.

    Args:
        runs: Runs of one method at one radius.
        name: Variable with the dimensions `seed` and `along`.
        along: Dimension of the abscissae.
        centre: Which one.
        max_points: Largest number of points of the curve.
        scale: Factor for the values.
        floor: Smallest value to draw.

    Returns:
        Array of shape (points, 2), without the steps at which no seed has a value.
    """
    x, values = _values(runs, name, along, scale=scale, floor=floor)
    some = np.isfinite(values).any(axis=0)
    reduce = np.nanmean if centre == "mean" else np.nanmedian
    curve = reduce(values[:, some], axis=0)
    kept = kept_points(curve[None], max_points)[0] if curve.size else slice(0)
    return np.column_stack([x[some][kept], curve[kept]])


def _values(runs: xr.Dataset, name: str, along: str, *, scale: float, floor: float | None) -> tuple[Array, Array]:
    x = runs[along].to_numpy().astype(np.float64)
    values = runs[name].transpose("seed", along).to_numpy().astype(np.float64) * scale
    values[~np.isfinite(values)] = np.nan
    return x, values if floor is None else np.maximum(values, floor)

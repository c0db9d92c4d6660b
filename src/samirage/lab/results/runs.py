"""Cells joined into runs: all seeds of one method at one radius as one data set."""

from collections.abc import Iterable, Sequence
from typing import Any

import xarray as xr


def join_blocks(
    cells: Iterable[xr.Dataset], by: Sequence[str] = ("method", "rho")
) -> dict[tuple[Any, ...], xr.Dataset]:
    """Join the cells of each run along their seeds.

    Args:
        cells: Data sets with dimension `seed` and the attributes in `by`. Scalars, such as durations, are those of the
            first cell of a run.
        by: Names of the attributes that distinguish the runs; numbers among their values become floats.

    Returns:
        The data set of each run, by the values of these attributes, sorted by seed.

    Raises:
        ValueError: If the cells of a run do not share their other coordinates.

    Example:
        >>> cell = xr.Dataset({"loss": ("seed", [0.5])}, {"seed": [3]}, {"method": "sam", "rho": 0.1})
        >>> join_blocks([cell, cell.assign_coords(seed=[2])])["sam", 0.1].seed.values.tolist()
        [2, 3]
    """
    blocks: dict[tuple[Any, ...], list[xr.Dataset]] = {}
    for cell in cells:
        values = (cell.attrs[name] for name in by)
        key = tuple(value if isinstance(value, str) else float(value) for value in values)
        blocks.setdefault(key, []).append(cell)
    return {key: _joined(parts).sortby("seed") for key, parts in blocks.items()}


def _joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    if len(parts) == 1:  # which concat would copy: milliseconds for each of hundreds of runs
        return parts[0]
    return xr.concat(
        parts,
        dim="seed",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )


def rejected_share(run: xr.Dataset) -> xr.DataArray:
    """Return the share of its judged steps that the guard of each seed rejected.

    Args:
        run: A run with variable `rejections`, and attributes `passes` and `steps`: what is above one pass for a step is
            a judged one.

    Returns:
        The shares, dimension `seed`.

    Example:
        >>> run = xr.Dataset({"rejections": ("seed", [9, 18])}, attrs={"passes": 190, "steps": 100})
        >>> rejected_share(run).values.tolist()
        [0.1, 0.2]
    """
    share: xr.DataArray = run["rejections"] / (run.attrs["passes"] - run.attrs["steps"])
    return share

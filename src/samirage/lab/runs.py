"""Cells joined into runs: all seeds of one method at one radius as one data set."""

from collections.abc import Iterable

import xarray as xr


def join_blocks(cells: Iterable[xr.Dataset]) -> dict[tuple[str, float], xr.Dataset]:
    """Join the cells of each (method, rho) along their seeds.

    Args:
        cells: Data sets with dimension `seed` and attributes `method` and `rho`. Scalars, such as durations, are
            those of the first cell of a run.

    Returns:
        The data set of each (method, rho), sorted by seed.

    Raises:
        ValueError: If the cells of a run do not share their other coordinates.

    Example:
        >>> cell = xr.Dataset({"loss": ("seed", [0.5])}, {"seed": [3]}, {"method": "sam", "rho": 0.1})
        >>> join_blocks([cell, cell.assign_coords(seed=[2])])["sam", 0.1].seed.values.tolist()
        [2, 3]
    """
    blocks: dict[tuple[str, float], list[xr.Dataset]] = {}
    for cell in cells:
        blocks.setdefault((str(cell.attrs["method"]), float(cell.attrs["rho"])), []).append(cell)
    return {
        key: xr.concat(
            parts,
            dim="seed",
            data_vars="minimal",
            coords="minimal",
            compat="override",
            join="exact",
            combine_attrs="override",
        ).sortby("seed")
        for key, parts in blocks.items()
    }

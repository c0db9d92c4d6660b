"""The cells of a study as one small file: how every seed ended and what that took, without the curves.

A NetCDF file of its own costs some ten kilobytes, whatever is in it; hundreds of cells with a few numbers for each seed
are mostly that.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from samirage.lab.results.json_files import parse_json

_ABOUT: Final = "about"  # coordinate that holds, as JSON, what the columns of numbers cannot say


def pack(cells: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Join cells into one data set, of what they hold for each seed, and single numbers; all else is left out.

    Args:
        cells: The cells by name, at least one, each with a dimension `seed`.

    Returns:
        A data set with dimensions `cell` and `seed`, from which `unpack` restores a cell.

    Example:
        >>> cell = xr.Dataset({"hit": ("seed", [True, False])}, {"seed": [4, 5]}, {"rho": 0.1})
        >>> unpack(pack({"a": cell, "b": cell.isel(seed=[1])}), "b")["hit"].values.tolist()
        [False]
    """
    parts, about = [], []
    for cell in cells.values():
        kept = cell[[name for name, values in cell.data_vars.items() if values.dims == ("seed",)]]
        single = {str(name): v.item() for name, v in cell.data_vars.items() if not v.dims}
        dtypes = {str(name): str(v.dtype) for name, v in kept.items()}
        about.append(json.dumps({"attrs": _plain(cell.attrs), "dtypes": dtypes, "single": single}))
        numbers = {
            name: v.astype(np.float32 if v.dtype in (bool, np.float32) else np.float64) for name, v in kept.items()
        }
        parts.append(xr.Dataset(numbers, {"seed": cell["seed"], "has": ("seed", np.ones(cell.sizes["seed"]))}))
    joined = xr.concat(
        [part.reset_coords("has") for part in parts], dim="cell", data_vars="all", join="outer", fill_value=np.nan
    )
    return joined.assign_coords({"cell": list(cells), _ABOUT: ("cell", about)})


def unpack(packed: xr.Dataset, cell: str) -> xr.Dataset:
    """Restore a cell.

    Args:
        packed: What `pack` returned.
        cell: Name of the cell.

    Returns:
        The cell, without what has been left out.

    Raises:
        KeyError: If there is no such cell.
        ValueError: If what is said of it is not JSON.
    """
    one = packed.sel(cell=cell)
    about = parse_json(str(one[_ABOUT].item()))
    one = one.isel(seed=one["has"].to_numpy() == 1)
    values = {name: ("seed", one[name].to_numpy().astype(dtype)) for name, dtype in about["dtypes"].items()}
    single = about.get("single", {})  # which older files lack
    return xr.Dataset({**values, **single}, {"seed": one["seed"].to_numpy()}, about["attrs"])


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): v.item() if isinstance(v, np.generic) else v for k, v in attributes.items()}

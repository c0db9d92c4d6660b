"""A digest of what a cell holds, by which a changed value is noticed, whatever claims depend on it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr


def digest(cell: xr.Dataset) -> str:
    """Return a digest of the names, dimensions, types, values and attributes of a data set: BLAKE2, 32 digits.

    It is that of the content and not of a file, which depends on the libraries that wrote it.

    Args:
        cell: The data set, as it was read.

    Example:
        >>> cell = xr.Dataset({"loss": ("seed", [0.5, 0.25])})
        >>> digest(cell) == digest(cell.copy(deep=True)), digest(cell) == digest(2 * cell)
        (True, False)
    """
    found = hashlib.blake2b(_json(cell.attrs), digest_size=16)
    for name in sorted(map(str, cell.variables)):
        variable = cell.variables[name]
        values = variable.to_numpy()
        kind, content = _content(values)
        found.update(_json([name, variable.dims, values.shape, kind, len(content), variable.attrs]))
        found.update(content)
    return found.hexdigest()


def _content(values: np.ndarray[Any, np.dtype[Any]]) -> tuple[str, bytes]:
    if values.dtype.kind not in "biufc":  # texts, of which the libraries have several types
        return "text", _json(values.tolist())
    ordered = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    if ordered.dtype.kind == "f":
        ordered = np.where(np.isnan(ordered), np.array(np.nan, ordered.dtype), ordered)  # there are many NaNs
    return ordered.dtype.str.replace("=", "<"), ordered.tobytes()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else str(value)

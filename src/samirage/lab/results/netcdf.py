"""NetCDF files, written whole, and read as what somebody else may have written: values only, and all from the file."""

import io
from pathlib import Path
from typing import Any, Final

import h5py
import xarray as xr

from samirage.errors import UserError
from samirage.files import write_whole

_MOST_BYTES: Final = 4 << 30  # of all values of a file; a few kilobytes can declare any number of them


def write_dataset(path: Path, dataset: xr.Dataset) -> None:
    """Write a NetCDF file, compressed; it appears whole or not at all.

    Args:
        path: The file, on a disk or in an object store.
        dataset: What it is to hold.

    Raises:
        UserError: If it cannot be written.
    """
    encoding = {name: {"zlib": True, "complevel": 4, "shuffle": True} for name, v in dataset.items() if v.ndim}
    content = io.BytesIO()  # and not the file: HDF5 reports a full disk in many ways, and knows no object store
    dataset.to_netcdf(content, engine="h5netcdf", encoding=encoding)
    write_whole(path, content.getvalue())


def read_dataset(path: Path, way_out: str) -> xr.Dataset:
    """Read a NetCDF file into memory.

    Args:
        path: The file, on a disk or in an object store.
        way_out: What to do if it cannot be read, for the message.

    Returns:
        Its values.

    Raises:
        UserError: If it is not a regular file, cannot be read, refers to other files, or declares more than 4 GiB.
    """
    if not path.is_file():  # to open a pipe would wait for ever
        raise UserError(f"{path} is not a file; {way_out}")
    try:
        content = path.read_bytes()
        with h5py.File(io.BytesIO(content), "r") as file:
            _check(file)
        with xr.open_dataset(io.BytesIO(content), engine="h5netcdf") as dataset:
            return dataset.load()
    except Exception as error:  # whatever h5py, h5netcdf and xarray make of bytes that are not what they expect
        said = " ".join(f"{error}".split())[:300]
        raise UserError(f"{path} cannot be read ({said or type(error).__name__}); {way_out}") from error


def _check(group: h5py.Group) -> None:
    """Refuse what HDF5 would read from elsewhere, and what would not fit into memory.

    Raises:
        ValueError: If there is such a thing.
    """
    declared = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} is a link to another place")
        held: Any = group[name]
        if not isinstance(held, h5py.Dataset):
            raise ValueError(f"{name!r} is not an array")
        # Of these, HDF5 reads the values from any file that is named there.
        if held.external or held.is_virtual:
            raise ValueError(f"the values of {name!r} lie in another file")
        declared += held.nbytes
        if declared > _MOST_BYTES:
            raise ValueError(f"it declares more than {_MOST_BYTES >> 30} GiB")

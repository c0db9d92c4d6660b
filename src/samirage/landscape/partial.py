"""Results that grow point by point, kept in a file meanwhile, so that a killed run loses seconds and not hours."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError, require
from samirage.files import whole_file

if TYPE_CHECKING:
    import xarray as xr

_EVERY_S: Final = 10.0  # between two times that the unfinished results are written


class Partial:
    """Results of which some points are there and some are missing; a context that writes them down when it is left.

    Args:
        path: The file; None keeps nothing.
        identity: What tells these results from others.
        rows: For every variable an array to be filled, whose first dimension counts points; NaN where missing.
        progress: Whether to show a bar, if rich is installed.

    Attributes:
        rows: The arrays, with what the file held.

    Raises:
        UserError: If the file holds something else.
    """

    def __init__(
        self, path: Path | None, identity: str, rows: Mapping[str, NDArray[np.float64]], *, progress: bool = False
    ) -> None:
        self.rows = {name: values.copy() for name, values in rows.items()}
        self._path, self._identity = path, identity
        self._done = np.zeros(len(next(iter(rows.values()))), dtype=bool)
        self._written_at = monotonic()
        self._complete = False
        if path is not None and path.exists():
            self._read(path)
        self._bar: Any = None
        if progress and importlib.util.find_spec("rich"):
            self._bar = require("lab", "rich.progress").Progress(transient=True)
            self._task = self._bar.add_task("grid points", total=len(self._done), completed=int(self._done.sum()))

    def __enter__(self) -> "Partial":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if error[0] is not None and self._done.any() and not self._complete:
            self._write()  # an interruption too: what was computed is kept

    def missing(self) -> NDArray[np.intp]:
        """Return the indices of the points that are missing."""
        return np.flatnonzero(~self._done)

    def store(self, indices: NDArray[np.intp], found: Mapping[str, NDArray[np.float64]]) -> None:
        """Take in the results of some points.

        Args:
            indices: Which points.
            found: Their values, for every variable.
        """
        for name, values in found.items():
            self.rows[name][indices] = values
        self._done[indices] = True
        if self._bar is not None:
            self._bar.advance(self._task, len(indices))
        if self._path is not None and monotonic() - self._written_at > _EVERY_S:
            self._write()

    def finish(self, dataset: "xr.Dataset") -> None:
        """Write the finished data set in place of the unfinished results.

        Args:
            dataset: All there is to say.
        """
        if self._path is not None:
            told = dataset.assign(**self._raw()).assign_attrs(identity=self._identity)
            with whole_file(self._path) as temporary:
                told.to_netcdf(temporary, engine="h5netcdf")

    def _raw(self) -> dict[str, Any]:
        """The results as they are kept for going on: flat, beside those with labels, and which are done."""
        flat = {f"raw_{name}": (("point", "part")[: values.ndim], values) for name, values in self.rows.items()}
        return {**flat, "raw_done": ("point", self._done.astype(np.int8))}

    def _write(self) -> None:
        if self._path is None:
            return
        xarray = require("lab", "xarray")
        with whole_file(self._path) as temporary:
            xarray.Dataset(self._raw(), attrs={"identity": self._identity}).to_netcdf(temporary, engine="h5netcdf")
        self._written_at = monotonic()

    def _read(self, path: Path) -> None:
        xarray = require("lab", "xarray")
        try:
            with xarray.open_dataset(path, engine="h5netcdf") as stored:
                stored.load()
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); delete it, or name another file") from None
        if stored.attrs.get("identity") != self._identity:
            raise UserError(f"{path} holds another slice, or none; name another file, or delete it")
        self._done = stored["raw_done"].values.astype(bool)
        self._complete = bool(self._done.all())
        for name in self.rows:
            self.rows[name] = stored[f"raw_{name}"].values

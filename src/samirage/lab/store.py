"""The run folder: everything that a run leaves behind, and enough to rebuild every figure without training.

```
RUN/manifest.json            per study: resolved config, seeds, versions, hardware, commit, command, cells planned
RUN/cells/STUDY/CELL.nc      one NetCDF file per finished cell, dimensions labelled
RUN/cells/STUDY.nc           in a packed run instead: all finished cells, without their curves
RUN/claims.json              per study: what was claimed and what was measured
RUN/readings.json            per study that has no section of its own on the page: how to show it, and what was found
RUN/report/index.html        the page
```

Every file appears whole or not at all, so that a killed run leaves whole files or none, and what several processes add
to a shared file is added in turn. The folder may be in an object store; there nobody can wait for a turn, so that one
driver at a time should write to it.
"""

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr
from filelock import FileLock, Timeout

from samirage.errors import UserError
from samirage.files import is_on_disk, write_whole
from samirage.lab.claims import Claim
from samirage.lab.pack import pack, unpack
from samirage.lab.reading import Reading

FORMAT = 1

_DEAD_AFTER_S = 600.0  # writing a cell takes seconds; a temporary file this old belongs to a process that was killed
_TURN_AFTER_S = 60.0  # others write small files only


class RunFolder:
    """A run folder on disk, new or existing.

    Args:
        path: The folder; it need not exist yet.

    Raises:
        UserError: If the path is a file, or holds something that is not a run folder, or a run folder of another
            format.

    Example:
        >>> import tempfile
        >>> folder = RunFolder(Path(tempfile.mkdtemp()))
        >>> folder.write_manifest("mnist", {"config": {"steps": 3}, "cells": ["sgd"]})
        >>> folder.studies(), folder.finished("mnist")
        (['mnist'], [])
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; name a folder for the run")
        if (
            path.is_dir()
            and not self._manifest_path.exists()
            and any(not p.name.startswith(".") for p in path.iterdir())
        ):
            raise UserError(
                f"{path} is not empty and holds no manifest.json, so it is not a run folder; name a new or empty folder"
            )
        self._studies()

    @property
    def _manifest_path(self) -> Path:
        return self.path / "manifest.json"

    def _studies(self) -> dict[str, dict[str, Any]]:
        if not self._manifest_path.exists():
            return {}
        document = _read_json(self._manifest_path)
        if not isinstance(document, dict) or not isinstance(document.get("studies"), dict):
            raise UserError(f"{self._manifest_path} is not a manifest of a run; name another folder")
        if document.get("format") != FORMAT:
            raise UserError(
                f"{self.path} was written in format {document.get('format')!r}, and this version reads format "
                f"{FORMAT}; rebuild it with the version that made it, or name a new folder"
            )
        studies: dict[str, dict[str, Any]] = document["studies"]
        return studies

    def studies(self) -> list[str]:
        """Return the names of the studies of this run, in the order in which they were started."""
        return list(self._studies())

    def manifest(self, study: str) -> dict[str, Any]:
        """Return what the manifest says of one study.

        Args:
            study: Name of the study.

        Returns:
            Its config, seeds, versions, hardware, commit, command and planned cells.

        Raises:
            UserError: If the run holds no such study.
        """
        studies = self._studies()
        if study not in studies:
            held = ", ".join(studies) or "none"
            raise UserError(f"{self.path} holds no study {study!r}; it holds: {held}")
        return studies[study]

    def write_manifest(self, study: str, manifest: dict[str, Any]) -> None:
        """Add one study to the manifest, or replace it.

        Args:
            study: Name of the study.
            manifest: Plain data for JSON; its `"cells"` are the names of the planned cells, in order.
        """
        with self._turn():
            _write_json(self._manifest_path, {"format": FORMAT, "studies": {**self._studies(), study: manifest}})

    @contextmanager
    def _turn(self) -> Iterator[None]:  # in which no other process changes the files that all studies share
        if not is_on_disk(self.path):
            yield
            return
        lock = FileLock(self.path / ".lock", timeout=_TURN_AFTER_S)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise UserError(f"{self.path} has been locked for a minute; end the process that holds it") from None
        except OSError as error:
            raise UserError(
                f"cannot write {self.path} ({error.strerror or error}); name a folder that is writable and has room"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _add(self, name: str, study: str, document: Any) -> None:
        """Set what a file of the folder says of one study."""
        path = self.path / name
        with self._turn():
            _write_json(path, {**(_read_json(path) if path.exists() else {}), study: document})

    def _packed_path(self, study: str) -> Path:
        return self.path / "cells" / f"{study}.nc"

    def _cell_path(self, study: str, cell: str) -> Path:
        return self.path / "cells" / study / f"{cell}.nc"

    def finished(self, study: str) -> list[str]:
        """Return the names of the finished cells of a study, in plan order.

        Args:
            study: Name of the study.

        Returns:
            Names of those planned cells whose file exists.
        """
        packed = self._packed(study)
        held = set() if packed is None else set(packed["cell"].to_numpy())
        return [cell for cell in self.manifest(study)["cells"] if cell in held or self.holds(study, cell)]

    def holds(self, study: str, cell: str) -> bool:
        """Tell whether a cell has been finished and stored by itself, and not in a packed run.

        Args:
            study: Name of the study.
            cell: Name of the cell.
        """
        return self._cell_path(study, cell).exists()

    def _packed(self, study: str) -> xr.Dataset | None:
        path = self._packed_path(study)
        return _read_packed(path, path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None

    def read_cell(self, study: str, cell: str) -> xr.Dataset:
        """Read a finished cell into memory.

        Args:
            study: Name of the study.
            cell: Name of the cell.

        Returns:
            The data set as it was written.

        Raises:
            UserError: If the file is missing or cannot be read.
        """
        path, packed = self._cell_path(study, cell), self._packed(study)
        if packed is not None and cell in packed["cell"].to_numpy():
            return unpack(packed, cell)
        if not path.exists():
            raise UserError(f"{path} is missing; run `samirage reproduce {study}` again on this folder")
        return _read_dataset(path, f"delete it and run `samirage reproduce {study}` again on this folder")

    def write_cell(self, study: str, cell: str, dataset: xr.Dataset) -> None:
        """Write a finished cell, compressed; the file appears whole or not at all.

        Args:
            study: Name of the study.
            cell: Name of the cell.
            dataset: Its results, with labelled dimensions.
        """
        write_dataset(self._cell_path(study, cell), dataset)

    def write_packed(self, study: str, cells: Mapping[str, xr.Dataset]) -> None:
        """Write what cells hold for each seed, all into one file; see `samirage.lab.pack`.

        Args:
            study: Name of the study.
            cells: The cells by name.
        """
        write_dataset(self._packed_path(study), pack(cells))

    def remove_leftovers(self, study: str) -> None:
        """Remove what killed processes left half-written among the cells of a study.

        Args:
            study: Name of the study.
        """
        for partial in (self.path / "cells" / study).glob(".*.partial"):
            if time.time() - partial.stat().st_mtime > _DEAD_AFTER_S:
                partial.unlink(missing_ok=True)

    def write_claims(self, study: str, claims: Sequence[Claim]) -> None:
        """Store the claims of one study, replacing earlier ones.

        Args:
            study: Name of the study.
            claims: Its claims.
        """
        self._add("claims.json", study, [claim.to_dict() for claim in claims])

    def claims(self, study: str) -> list[Claim]:
        """Return the stored claims of one study; none if the study has not finished.

        Args:
            study: Name of the study.

        Returns:
            Its claims, in their order.

        Raises:
            UserError: If they cannot be read.
        """
        path = self.path / "claims.json"
        stored = _read_json(path) if path.exists() else {}
        try:
            return [Claim.from_dict(record) for record in stored.get(study, [])]
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} holds a claim that cannot be read ({error}); delete the file and run "
                f"`samirage reproduce {study}` again on this folder"
            ) from None

    def write_reading(self, study: str, reading: Reading | None) -> None:
        """Store how to read the results of one study, replacing what was stored.

        Args:
            study: Name of the study.
            reading: How; None stores nothing.
        """
        if reading is not None:
            self._add("readings.json", study, reading.to_dict())

    def reading(self, study: str) -> Reading | None:
        """Return how to read the results of one study; None if that is not stored.

        Args:
            study: Name of the study.

        Raises:
            UserError: If it cannot be read.
        """
        path = self.path / "readings.json"
        stored = _read_json(path) if path.exists() else {}
        if study not in stored:
            return None
        try:
            return Reading.from_dict(stored[study])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} cannot be used for study {study!r} ({error}); delete the file and run "
                f"`samirage reproduce {study}` again on this folder"
            ) from None


@lru_cache(maxsize=8)  # it is one file for hundreds of cells
def _read_packed(path: Path, changed: int, size: int) -> xr.Dataset:
    del changed, size  # which are there for the cache
    return _read_dataset(path, "restore it, or name another folder")


def _read_dataset(path: Path, way_out: str) -> xr.Dataset:
    try:
        with xr.open_dataset(io.BytesIO(path.read_bytes()), engine="h5netcdf") as dataset:
            return dataset.load()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); {way_out}") from None


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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it, or name another folder") from None


def _write_json(path: Path, document: Any) -> None:
    write_whole(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())

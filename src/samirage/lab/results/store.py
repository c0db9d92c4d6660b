"""The run folder: everything that a run leaves behind, and enough to rebuild every figure without training.

```
RUN/manifest.json            per study: resolved config, seeds, versions, hardware, commit, command, cells planned
RUN/cells/STUDY/CELL.nc      one NetCDF file per finished cell, dimensions labelled
RUN/cells/STUDY.nc           in a packed run instead: all finished cells, without their curves
RUN/claims.json              per study: what was claimed and what was measured
RUN/digests.json             per study: a digest of the content of every cell, by which a change is noticed
RUN/readings.json            per study that has no section of its own on the page: how to show it, and what was found
RUN/report/index.html        the page
```

Every file appears whole or not at all, so that a killed run leaves whole files or none, and what several processes add
to a shared file is added in turn. The folder may be in an object store; there nobody can wait for a turn, so that one
driver at a time should write to it.
"""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import xarray as xr

from samirage.errors import UserError
from samirage.lab.results import manifest as manifests
from samirage.lab.results.claims import Claim
from samirage.lab.results.json_files import read_json, write_json
from samirage.lab.results.names import file_name
from samirage.lab.results.netcdf import read_dataset, write_dataset
from samirage.lab.results.pack import pack, unpack
from samirage.lab.results.plot_spec import PlotSpec
from samirage.lab.results.shared_folder import SharedFolder

FORMAT: Final = 1

BY_STUDY: Final = ("claims.json", "readings.json", "digests.json")

_DEAD_AFTER_S = 600.0  # writing a cell takes seconds; a temporary file this old belongs to a process that was killed


class RunFolder(SharedFolder):
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
        super().__init__(path)
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
        return self.place("manifest.json")

    def _studies(self) -> dict[str, dict[str, Any]]:
        if not self._manifest_path.exists():
            return {}
        document = read_json(self._manifest_path)
        if not isinstance(document, dict) or not isinstance(document.get("studies"), dict):
            raise UserError(f"{self._manifest_path} is not a manifest of a run; name another folder")
        if document.get("format") != FORMAT:
            raise UserError(
                f"{self.path} was written in format {document.get('format')!r}, and this version reads format "
                f"{FORMAT}; rebuild it with the version that made it, or name a new folder"
            )
        try:
            return manifests.checked(document["studies"])
        except ValueError as error:
            raise UserError(f"{self._manifest_path} cannot be used: {error}; restore it, or name another") from None

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

        Raises:
            ValueError: If a name or type in it is not one that a manifest may have.
        """
        manifests.checked({study: manifest})
        with self.turn():
            write_json(self._manifest_path, {"format": FORMAT, "studies": {**self._studies(), study: manifest}})

    def _packed_path(self, study: str) -> Path:
        return self.place("cells", f"{file_name(study)}.nc")

    def _cell_path(self, study: str, cell: str) -> Path:
        return self.place("cells", file_name(study), f"{file_name(cell)}.nc")

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
        if not path.exists():
            return None
        packed = _read_packed(path, path.stat().st_mtime_ns, path.stat().st_size)
        if "cell" not in packed.coords or packed["cell"].dims != ("cell",):
            raise UserError(f"{path} holds no packed cells; restore it, or name another folder")
        return packed

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
            try:
                return unpack(packed, cell)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                said = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(
                    f"cell {cell!r} in {self._packed_path(study)} cannot be used ({said}); restore the file, or name "
                    "another folder"
                ) from error
        if not path.exists():
            raise UserError(f"{path} is missing; run `samirage reproduce {study}` again on this folder")
        return read_dataset(path, f"delete it and run `samirage reproduce {study}` again on this folder")

    def write_cell(self, study: str, cell: str, dataset: xr.Dataset) -> None:
        """Write a finished cell, compressed; the file appears whole or not at all.

        Args:
            study: Name of the study.
            cell: Name of the cell.
            dataset: Its results, with labelled dimensions.
        """
        write_dataset(self._cell_path(study, cell), dataset)

    def write_packed(self, study: str, cells: Mapping[str, xr.Dataset]) -> None:
        """Write what cells hold for each seed, all into one file; see `samirage.lab.results.pack`.

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
        for partial in self.place("cells", file_name(study)).glob(".*.partial"):
            if time.time() - partial.stat().st_mtime > _DEAD_AFTER_S:
                partial.unlink(missing_ok=True)

    def write_claims(self, study: str, claims: Sequence[Claim]) -> None:
        """Store the claims of one study, replacing earlier ones.

        Args:
            study: Name of the study.
            claims: Its claims.
        """
        self.add("claims.json", study, [claim.to_dict() for claim in claims])

    def claims(self, study: str) -> list[Claim]:
        """Return the stored claims of one study; none if the study has not finished.

        Args:
            study: Name of the study.

        Returns:
            Its claims, in their order.

        Raises:
            UserError: If they cannot be read.
        """
        return [Claim.from_dict(record) for record in self.claim_records(study)]

    def claim_records(self, study: str) -> list[dict[str, Any]]:
        """Return the stored claims of one study as they are written, with the verdicts, which `claims` ignores.

        Args:
            study: Name of the study.

        Returns:
            The records, of each of which `Claim.from_dict` makes a claim.

        Raises:
            UserError: If it cannot.
        """
        records: list[dict[str, Any]] = self.by_study("claims.json").get(study, [])
        try:
            for record in records:
                Claim.from_dict(record)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.place('claims.json')} holds a claim that cannot be read ({error}); delete the file and run "
                f"`samirage reproduce {study}` again on this folder"
            ) from None
        return records

    def write_reading(self, study: str, reading: PlotSpec | None) -> None:
        """Store how to read the results of one study, replacing what was stored.

        Args:
            study: Name of the study.
            reading: How; None stores nothing.
        """
        if reading is not None:
            self.add("readings.json", study, reading.to_dict())

    def reading(self, study: str) -> PlotSpec | None:
        """Return how to read the results of one study; None if that is not stored.

        Args:
            study: Name of the study.

        Raises:
            UserError: If it cannot be read.
        """
        stored = self.by_study("readings.json")
        if study not in stored:
            return None
        try:
            return PlotSpec.from_dict(stored[study])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.place('readings.json')} cannot be used for study {study!r} ({error}); delete the file and run "
                f"`samirage reproduce {study}` again on this folder"
            ) from None

    def write_digests(self, study: str, digests: Mapping[str, str]) -> None:
        """Store the digests of the cells of one study, replacing earlier ones.

        Args:
            study: Name of the study.
            digests: The digest of every finished cell; see `samirage.lab.results.digest`.
        """
        self.add("digests.json", study, dict(digests))

    def digests(self, study: str) -> dict[str, str]:
        """Return the stored digests of the cells of one study, by cell; none if older versions have written the run.

        Args:
            study: Name of the study.

        Raises:
            UserError: If they cannot be read.
        """
        stored = self.by_study("digests.json").get(study, {})
        if not isinstance(stored, dict) or not all(isinstance(one, str) for one in stored.values()):
            raise UserError(f"{self.place('digests.json')} holds no digests of study {study}; restore the file")
        return stored

    def unplanned(self, study: str) -> list[str]:
        """Return the names of stored cells of a study that its manifest does not plan.

        Args:
            study: Name of the study.
        """
        planned, packed = set(self.manifest(study)["cells"]), self._packed(study)
        held = [path.stem for path in sorted(self.place("cells", file_name(study)).glob("*.nc"))]
        held += [] if packed is None else [str(name) for name in packed["cell"].to_numpy()]
        return [name for name in held if name not in planned]


@lru_cache(maxsize=8)  # it is one file for hundreds of cells
def _read_packed(path: Path, changed: int, size: int) -> xr.Dataset:
    del changed, size  # which are there for the cache
    return read_dataset(path, "restore it, or name another folder")

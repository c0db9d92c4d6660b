"""Stored cells, joined: all seeds of one method at one radius as one data set."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from samirage.errors import UserError
from samirage.lab.results.constants import JUDGED_BY
from samirage.lab.results.runs import join_blocks
from samirage.lab.results.store import RunFolder

NEEDED = (
    *("loss", "grad_norm", "shift_ratio", "test_accuracy"),
    *("final_loss", "final_test_accuracy", "final_shift_ratio", "final_grad_norm", "hallucinated", "diverged"),
)
_NUMBER = (int, float, np.integer, np.floating)


@dataclass(frozen=True)
class StudyRuns:
    """What a study has computed so far.

    Attributes:
        runs: Data set of each (method, rho): dimensions `seed`, `step`, `eval_step`. Plain steps have rho 0.
        rhos: The radii, planned or finished, ascending; without the 0 of methods that have no radius.
        seconds: Time that the finished cells took, in seconds; NaN when it was not recorded.
    """

    runs: Mapping[tuple[str, float], xr.Dataset]
    rhos: tuple[float, ...]
    seconds: float

    def of(self, method: str, rho: float = 0.0) -> xr.Dataset | None:
        """Return the runs of one method at one radius.

        Args:
            method: Name of the method.
            rho: The radius; 0 for a method that has none.

        Returns:
            Its data set, or None when no cell of it has finished.
        """
        return self.runs.get((method, rho))

    def methods(self) -> tuple[str, ...]:
        """Return the methods with at least one finished cell, in the order of their cells."""
        return tuple(dict.fromkeys(method for method, _ in self.runs))


def load_runs(folder: RunFolder, study: str) -> StudyRuns:
    """Read all finished cells of a study whose cells are (method × rho × block of seeds).

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The runs, blocks of seeds joined and sorted by seed.

    Raises:
        UserError: If no cell has finished, a cell cannot be read, or its content is not that of such a study.
    """
    finished = folder.finished(study)
    if not finished:
        raise UserError(
            f"{folder.path} holds no finished cell of study {study!r}; run `samirage reproduce {study}` on this folder"
        )
    cells = [_checked(folder.read_cell(study, name), folder, study, name) for name in finished]
    seconds = sum(float(cell["wall_seconds"]) if "wall_seconds" in cell else math.nan for cell in cells)
    try:
        runs = join_blocks(cells)
    except ValueError as error:
        raise UserError(
            f"cells of study {study!r} in {folder.path} do not fit together ({error}); "
            f"delete them and run `samirage reproduce {study}` again on this folder"
        ) from None
    config: Mapping[str, Any] = folder.manifest(study).get("config", {})
    with_radius = {rho for method, rho in runs if method != "sgd"} | {float(rho) for rho in config.get("rhos", ())}
    return StudyRuns(runs, tuple(sorted(with_radius)), seconds)


def _checked(cell: xr.Dataset, folder: RunFolder, study: str, name: str) -> xr.Dataset:
    absent = [key for key in NEEDED if key not in cell] + [key for key in ("method", "rho") if key not in cell.attrs]
    trouble = f"lacks {', '.join(absent)}" if absent else ""
    other = [key for key in NEEDED if key in cell and not ("seed" in cell[key].dims and cell[key].dtype.kind in "biuf")]
    if other:
        trouble = f"holds something else than a number for each seed as {', '.join(other)}"
    elif not absent and not (isinstance(cell.attrs["method"], str) and isinstance(cell.attrs["rho"], _NUMBER)):
        trouble = "has a method that is no text, or a radius that is no number"
    if trouble:
        raise UserError(
            f"cell {name!r} of study {study!r} in {folder.path} {trouble}; "
            f"delete it and run `samirage reproduce {study}` again on this folder"
        )
    return cell


def judged_by(runs: Iterable[xr.Dataset], name: str) -> float:
    """Return by which number runs were told to be at hallucinated points.

    Args:
        runs: Data sets with a variable `hallucinated`.
        name: Which number, one of `samirage.lab.results.constants.JUDGED_BY`.

    Returns:
        What the first data set says that says it; where none does, as in results of version 0.1.0, today's value.

    Example:
        >>> judged_by([xr.Dataset({"hallucinated": ("seed", [True], {"end_fraction": 0.2})})], "end_fraction")
        0.2
    """
    stored = (run["hallucinated"].attrs.get(name) for run in runs)
    return float(next((value for value in stored if isinstance(value, _NUMBER)), JUDGED_BY[name]))

"""What study `doctor` has stored, as the plots and the table need it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

NOT_TRIED = -1


@dataclass(frozen=True)
class Confusion:
    """How often runs of each class were called what.

    Attributes:
        truths: The classes that occur as labels, in the order of the statuses.
        said: The classes that occur as labels or diagnoses.
        counts: Number of seeds; shape (truths, said).
    """

    truths: tuple[str, ...]
    said: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def right(self) -> int:
        """Number of seeds that were diagnosed right."""
        return sum(int(self.counts[i, self.said.index(truth)]) for i, truth in enumerate(self.truths))

    @property
    def total(self) -> int:
        """Number of seeds that were diagnosed."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class RunRow:
    """One labelled run in the table.

    Attributes:
        name: Its name.
        family: `"analytic"` or `"network"`.
        truth: Its class.
        reason: Why that is known.
        n: Number of seeds.
        free: Seeds that the free figures diagnose right.
        alone: Seeds that the records of single steps diagnose right.
        confirmed: Seeds that extra passes diagnose right.
        tried: Seeds that got extra passes.
        others: What else the free figures said, with numbers of seeds.
        margin: The smallest margin of any seed's diagnosis; NaN where nothing was asked.
        at_rest: Whether only extra passes can tell its class.
    """

    name: str
    family: str
    truth: str
    reason: str
    n: int
    free: int
    alone: int
    confirmed: int
    tried: int
    others: tuple[tuple[str, int], ...]
    margin: float
    at_rest: bool


@dataclass(frozen=True)
class Life:
    """The life of one run.

    Attributes:
        title: What it is called.
        steps: Steps at which the loss was recorded, ascending.
        loss: The loss there.
        ends: Last step of each window, ascending.
        statuses: What the run was doing in each window, as `samirage.Status` has it.
    """

    title: str
    steps: NDArray[Any]
    loss: NDArray[Any]
    ends: NDArray[Any]
    statuses: tuple[str, ...]

    @classmethod
    def of(cls, diagnoses: Sequence[Any], title: str = "") -> "Life":
        """Make the life of a run from its diagnoses, as `samirage.Monitor.diagnoses` gives them.

        Args:
            diagnoses: At least one.
            title: What to call it.

        Returns:
            The life, for `samirage.report.plots.life_plot`.
        """
        ends = np.array([one.last_step for one in diagnoses])
        loss = np.array([one.figures["loss"].value for one in diagnoses])
        return cls(title, ends, loss, ends, tuple(one.status.value for one in diagnoses))


def confusion(cells: Sequence[xr.Dataset], name: str = "status") -> Confusion:
    """Count how often runs of each class were called what.

    Args:
        cells: Cells of study `doctor`, at least one.
        name: Which diagnosis: `"status"`, `"status_confirmed"` or `"status_alone"`.

    Returns:
        The table; seeds that were not tried are left out.
    """
    names = statuses(cells[0])
    pairs = [
        (str(cell.attrs["truth"]), names[int(code)])
        for cell in cells
        for code in cell[name].values
        if code != NOT_TRIED
    ]
    occurring = {truth for truth, _ in pairs} | {said for _, said in pairs}
    truths = tuple(one for one in names if one in {truth for truth, _ in pairs})
    said = tuple(one for one in names if one in occurring)
    counts = np.array([[pairs.count((truth, one)) for one in said] for truth in truths], dtype=np.int64)
    return Confusion(truths, said, counts.reshape(len(truths), len(said)))


def statuses(cell: xr.Dataset) -> tuple[str, ...]:
    """Return the names of the statuses that the codes of a cell stand for.

    Args:
        cell: A cell of study `doctor`.
    """
    return tuple(str(name) for name in cell.attrs["statuses"])


def run_row(cell: xr.Dataset) -> RunRow:
    """Summarise one labelled run.

    Args:
        cell: A cell of study `doctor`.
    """
    names, truth = statuses(cell), str(cell.attrs["truth"])
    code = names.index(truth)
    free = cell["status"].values
    tried = cell["status_confirmed"].values != NOT_TRIED
    others = [(names[int(one)], int((free == one).sum())) for one in np.unique(free) if one != code]
    margins = cell["margin"].values
    return RunRow(
        name=str(cell.attrs["run"]),
        family=str(cell.attrs["family"]),
        truth=truth,
        reason=str(cell.attrs["reason"]),
        n=int(free.size),
        free=int((free == code).sum()),
        alone=int((cell["status_alone"].values == code).sum()),
        confirmed=int((cell["status_confirmed"].values == code).sum()),
        tried=int(tried.sum()),
        others=tuple(others),
        margin=float(np.nanmin(margins)) if np.isfinite(margins).any() else float("nan"),
        at_rest=bool(cell.attrs["at_rest"]),
    )


def life(cell: xr.Dataset, index: int = 0) -> Life:
    """Return the life of one seed of a labelled run.

    Args:
        cell: A cell of study `doctor`.
        index: Which seed, from 0.
    """
    names, one = statuses(cell), cell.isel(seed=index)
    said = tuple(names[int(code)] for code in one["status_over_time"].values)
    return Life(str(cell.attrs["run"]), one["step"].values, one["loss"].values, one["window"].values, said)

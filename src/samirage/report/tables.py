"""The table of a study: one row per method and radius, as data; the template prints it."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from samirage.lab.results.statistics import MeanEstimate, ShareEstimate, mean_estimate, share_estimate
from samirage.report.runs import StudyRuns


@dataclass(frozen=True)
class MethodRow:
    """What the runs of one method at one radius ended with.

    Attributes:
        method: Name of the method.
        rho: Its radius; 0 for a method that has none.
        n: Number of seeds, diverged ones included.
        diverged: How many of them diverged.
        accuracy: Final test accuracy, a fraction, over the seeds where it is finite.
        loss: Final training loss over the seeds where it is finite (a diverged seed has none).
        hallucinated: Seeds at hallucinated points at the end, of all `n`; a diverged seed counts as not there.
        worst_accuracy: Lowest final test accuracy, a fraction; NaN when no seed has one.
        worst_seed: The seed that has it; None when no seed has one.
        shift_ratio: Median over the seeds of the final shift ratio; NaN for a method that has none.
        grad_norm: Median over the seeds of the final gradient norm.
    """

    method: str
    rho: float
    n: int
    diverged: int
    accuracy: MeanEstimate
    loss: MeanEstimate
    hallucinated: ShareEstimate
    worst_accuracy: float
    worst_seed: int | None
    shift_ratio: float
    grad_norm: float


def method_row(method: str, rho: float, runs: xr.Dataset) -> MethodRow:
    """Summarise the runs of one method at one radius.

    Args:
        method: Name of the method.
        rho: Its radius.
        runs: Its runs, with the per-seed variables of a study's cell.

    Returns:
        The row.
    """
    accuracy = runs["final_test_accuracy"].to_numpy().astype(np.float64)
    diverged = runs["diverged"].to_numpy().astype(bool)
    worst = int(np.nanargmin(accuracy)) if np.isfinite(accuracy).any() else None
    return MethodRow(
        method=method,
        rho=rho,
        n=int(accuracy.size),
        diverged=int(diverged.sum()),
        accuracy=mean_estimate(accuracy),
        loss=mean_estimate(runs["final_loss"].to_numpy()),
        hallucinated=share_estimate(runs["hallucinated"].to_numpy().astype(bool) & ~diverged),
        worst_accuracy=float("nan") if worst is None else float(accuracy[worst]),
        worst_seed=None if worst is None else int(runs["seed"].to_numpy()[worst]),
        shift_ratio=finite_median(runs["final_shift_ratio"].to_numpy()),
        grad_norm=finite_median(runs["final_grad_norm"].to_numpy()),
    )


def method_table(study: StudyRuns) -> list[MethodRow]:
    """Make the table of a study: methods in the order of their cells, radii ascending.

    Args:
        study: Its runs.

    Returns:
        The rows; a method × radius without a finished cell has none.
    """
    order = {method: index for index, method in enumerate(study.methods())}
    keys = sorted(study.runs, key=lambda key: (order[key[0]], key[1]))
    return [method_row(method, rho, study.runs[method, rho]) for method, rho in keys]


def finite_median(values: np.ndarray) -> float:
    """Return the median of the finite values.

    Args:
        values: The values, any shape.

    Returns:
        The median; NaN when there are no finite values.

    Example:
        >>> finite_median(np.array([1.0, np.nan, 4.0, 2.0]))
        2.0
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return float(np.median(finite)) if finite.size else float("nan")

"""The section of study `alternatives`: what was tried besides the guard as it is, ranked by its worst setting."""

from dataclasses import dataclass
from statistics import fmean

import xarray as xr

from samirage.lab.methods import labels_of, method_named
from samirage.lab.results.statistics import MeanEstimate, mean_estimate
from samirage.lab.results.store import RunFolder
from samirage.report.plots.remedies import setting_label
from samirage.report.sections.guard import Runs, load, table
from samirage.report.sections.section import Block, Section, missing_notice


@dataclass(frozen=True)
class Rank:
    """One method over all its settings.

    Attributes:
        label: Its name.
        worst: Test accuracy, a fraction, in the setting in which its mean is lowest.
        where: That setting.
        mean: Mean over the settings of the mean test accuracy.
        hit: Seeds at hallucinated points, over all settings.
        n: Number of seeds, over all settings.
        gradients: Gradients per step, on average.
    """

    label: str
    worst: MeanEstimate
    where: str
    mean: float
    hit: int
    n: int
    gradients: float


def build(folder: RunFolder, study: str) -> Section:
    """Build the section.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section.

    Raises:
        UserError: If a cell cannot be read.
    """
    runs = load(folder, study)
    ranks = ranking(runs)
    best = ranks[0]
    labels = labels_of(method for cells in runs.values() for method, _ in cells)
    return Section(
        title="What else was tried",
        headline=(
            "Other ways to guard SAM on the same task, at radii where SAM alone fails, ranked by the setting in which "
            "each is worst.",
            f"First comes: {best.label} ({100 * best.worst.mean:.1f} % at its worst, {best.where}).",
        ),
        question="What else could guard SAM, and how bad is each at its worst?",
        notices=missing_notice(folder, study),
        opening=(Block("alternatives.html", {"ranks": ranks}),),
        blocks=(Block("remedies.html", {"tables": [table(s, r) for s, r in runs.items()], "labels": labels}),),
    )


def ranking(runs: Runs) -> list[Rank]:
    """Rank the methods by the mean accuracy of their worst setting, the best first.

    Args:
        runs: For every setting, the runs of each (method, rho).

    Returns:
        A rank for each method.
    """
    by_method: dict[str, list[tuple[str, MeanEstimate, xr.Dataset]]] = {}
    for setting, cells in runs.items():
        for (method, rho), run in cells.items():
            where = setting_label(setting) + (f", ρ = {rho:g}" if rho else "")
            accuracy = mean_estimate(run["final_test_accuracy"].to_numpy())
            by_method.setdefault(method, []).append((where, accuracy, run))
    ranks = []
    for method, found in by_method.items():
        where, worst, _ = min(found, key=lambda one: one[1].mean)
        each = [run for _, _, run in found]
        ranks.append(
            Rank(
                label=method_named(method).label,
                worst=worst,
                where=where,
                mean=fmean(accuracy.mean for _, accuracy, _ in found),
                hit=sum(int(run["hallucinated"].sum()) for run in each),
                n=sum(run.sizes["seed"] for run in each),
                gradients=fmean(float((run["gradients"] / run.attrs["steps"]).mean()) for run in each),
            )
        )
    return sorted(ranks, key=lambda rank: -rank.worst.mean)

"""The section of study `guard`: every remedy at every radius, for every loss and batch size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from samirage.lab.methods import RECOMMENDED, labels_of, method_named
from samirage.lab.results.runs import join_blocks, rejected_share
from samirage.lab.results.store import RunFolder
from samirage.report.numbers import percent
from samirage.report.plots import remedies_figure
from samirage.report.plots.remedies import Setting, setting_label
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, FigureBlock, Section, missing_notice
from samirage.report.tables import MethodRow, method_row

CHANCE = 0.1  # ten digits

INTRODUCTION = (
    "A guard follows the slope that SAM finds at distance ρ only where it agrees with the slope at the network itself; "
    "where it does not, the step follows the network's own slope, and SAM looks less far next time. The remedies are "
    "compared here on handwritten digits (MNIST), at radii from harmless to absurd."
)

Runs = Mapping[Setting, Mapping[tuple[str, float], xr.Dataset]]


@dataclass(frozen=True)
class RemedyTable:
    """The table of one setting.

    Attributes:
        title: Its heading.
        rhos: The radii, ascending.
        rows: For every method, its row at each radius; None where no cell has finished. Plain steps have one row.
        rejected: For every method and radius, the mean share of steps that its guard rejected; None without a guard.
    """

    title: str
    rhos: tuple[float, ...]
    rows: Mapping[str, Sequence[MethodRow | None]]
    rejected: Mapping[str, Sequence[float | None]]


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
    label = describe(runs)
    columns = min(2, len(runs))
    figure = FigureBlock(
        id=f"{study}-remedies",
        title="Final accuracy with every remedy",
        caption=(
            "Mean final test accuracy against the perturbation radius ρ; vertical strokes: two standard errors. Where "
            "markers are hollow, at least one seed ended at a hallucinated point. Grey line: plain gradient descent; "
            "dotted: guessing."
        ),
        drawings=(
            drawing(remedies_figure(runs, chance=CHANCE, columns=columns), f"{study}-wide", label, screens="wide"),
            drawing(remedies_figure(runs, chance=CHANCE, columns=1), f"{study}-narrow", label, screens="narrow"),
        ),
    )
    labels = labels_of(method for cells in runs.values() for method, _ in cells)
    return Section(
        title="Remedies: which of them holds at any radius",
        headline=(INTRODUCTION, *headline(runs)),
        question="Which remedy keeps SAM from hallucinating at any radius, and what does it cost?",
        notices=missing_notice(folder, study),
        opening=(Block("figure.html", figure),),
        blocks=(Block("remedies.html", {"tables": [table(s, r) for s, r in runs.items()], "labels": labels}),),
    )


def load(folder: RunFolder, study: str) -> Runs:
    """Read all finished cells.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        For every setting, the runs of each (method, rho).

    Raises:
        UserError: If a cell cannot be read.
    """
    cells = [folder.read_cell(study, name) for name in folder.finished(study)]
    joined = join_blocks(cells, by=("loss_name", "batch_size", "method", "rho"))
    runs: dict[Setting, dict[tuple[str, float], xr.Dataset]] = {}
    for (loss, batch, method, rho), run in joined.items():
        runs.setdefault((loss, batch), {})[method, rho] = run
    return runs


def table(setting: Setting, runs: Mapping[tuple[str, float], xr.Dataset]) -> RemedyTable:
    """Make the table of one setting.

    Args:
        setting: Loss and batch size.
        runs: The runs of each (method, rho).

    Returns:
        The table.
    """
    rhos = tuple(sorted({rho for _, rho in runs if rho > 0}))
    rows: dict[str, list[MethodRow | None]] = {}
    rejected: dict[str, list[float | None]] = {}
    for method in dict.fromkeys(name for name, _ in runs):
        at = (0.0,) if method == "sgd" else rhos
        found = [runs.get((method, rho)) for rho in at]
        rows[method] = [
            None if run is None else method_row(method, rho, run) for rho, run in zip(at, found, strict=True)
        ]
        rejected[method] = [
            None if run is None or "rejections" not in run else float(rejected_share(run).mean()) for run in found
        ]
    return RemedyTable(setting_label(setting), rhos, rows, rejected)


def headline(runs: Runs) -> tuple[str, ...]:
    """Say in plain words what the runs show, whatever that is.

    Args:
        runs: The runs.

    Returns:
        Paragraphs.
    """
    guarded = [
        run for cells in runs.values() for (method, _), run in cells.items() if "guard" in method_named(method).pieces
    ]
    alone = [run for cells in runs.values() for (method, _), run in cells.items() if method == "sam"]
    if not guarded or not alone:
        return ("No guarded run has finished yet.",)
    hit, n = sum(int(run["hallucinated"].sum()) for run in guarded), sum(run.sizes["seed"] for run in guarded)
    hit_alone, n_alone = sum(int(run["hallucinated"].sum()) for run in alone), sum(run.sizes["seed"] for run in alone)
    first = (
        f"{hit_alone} of {n_alone} networks trained with SAM alone end at a hallucinated point, and {hit} of {n} with "
        "a guard."
    )
    ours = {
        (setting, rho): float(run["final_test_accuracy"].mean())
        for setting, cells in runs.items()
        for (method, rho), run in cells.items()
        if method == RECOMMENDED
    }
    if not ours:
        return (first,)
    (setting, rho), worst = min(ours.items(), key=lambda item: item[1])
    others = {
        method_named(name).label: min(
            float(run["final_test_accuracy"].mean())
            for cells in runs.values()
            for (method, _), run in cells.items()
            if method == name
        )
        for name in ("sam", "switch", "decay")
        if any(method == name for cells in runs.values() for method, _ in cells)
    }
    compared = ", ".join(f"{label}: {percent(value)}" for label, value in others.items())
    return (
        f"{first} The lowest mean accuracy over all radii, losses and batch sizes is {percent(worst)} for the guard "
        f"with a decaying radius ({setting_label(setting)}, ρ = {rho:g})" + (f"; {compared}." if compared else "."),
    )


def describe(runs: Runs) -> str:
    """Say what the figure shows, for a screen reader.

    Args:
        runs: The runs.

    Returns:
        The text.
    """
    parts = []
    for setting, cells in runs.items():
        ours = [(rho, float(run["final_test_accuracy"].mean())) for (m, rho), run in cells.items() if m == RECOMMENDED]
        alone = [(rho, float(run["final_test_accuracy"].mean())) for (m, rho), run in cells.items() if m == "sam"]
        for name, values in (("SAM only", alone), ("guard, radius decays to 0", ours)):
            if values:
                told = ", ".join(f"{percent(value)} at ρ = {rho:g}" for rho, value in sorted(values))
                parts.append(f"{setting_label(setting)}, {name}: {told}.")
    return "Mean final test accuracy. " + " ".join(parts)

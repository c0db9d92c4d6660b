"""The section of study `wells`: the remedies on a function of two variables, where everything can be seen."""

from collections.abc import Mapping

import xarray as xr

from samirage.lab.methods import method_named
from samirage.lab.results.store import RunFolder
from samirage.report.plots import wells_figure
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, FigureBlock, Section, missing_notice


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
    cells = {name: folder.read_cell(study, name) for name in folder.finished(study)}
    label = describe(cells)
    rho = next(iter(cells.values())).attrs["rho"]
    figure = FigureBlock(
        id=f"{study}-ends",
        title="Two wells and the ridge between them",
        caption=(
            f"Paths of SAM with ρ = {rho:g} on the level lines of f, and where they end; each panel counts the ends at "
            "which the shifted slope vanishes although f's own does not."
        ),
        drawings=(
            drawing(wells_figure(cells, columns=3), f"{study}-wide", label, screens="wide"),
            drawing(wells_figure(cells, columns=1), f"{study}-narrow", label, screens="narrow"),
        ),
    )
    return Section(
        title="Remedies in a double well",
        headline=(
            "From one slope of a ridge, SAM looks across it and sees the bottom of the other well: its step vanishes, "
            "and it stands still halfway up. Here many starts on one function show which remedy prevents that.",
            label,
        ),
        question="Which remedy frees SAM from the ridge of a double well, where everything can be seen?",
        notices=missing_notice(folder, study),
        opening=(Block("figure.html", figure),),
    )


def describe(cells: Mapping[str, xr.Dataset]) -> str:
    """Say in words where the runs end.

    Args:
        cells: For every method, its cell.

    Returns:
        The text.
    """
    parts = [
        f"{method_named(method).label}: {int(cell['hallucinated'].sum())} of {cell.sizes['seed']}"
        for method, cell in cells.items()
    ]
    return "Runs that end at a hallucinated point: " + "; ".join(parts) + "."

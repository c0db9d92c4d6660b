"""The section of study `construction`: why such points must exist, drawn from the computed one."""

from samirage.lab.results.store import RunFolder
from samirage.report.numbers import significant
from samirage.report.plots.construction import construction_plot
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, PlotBlock, Section, missing_notice

INTRODUCTION = (
    "Why must such points exist? Around the top of a hill lies a region where the loss is above some level. Take its "
    "point that is farthest from a minimizer: there the slope points exactly at the minimizer. With ρ equal to that "
    "distance, SAM looks from this point at the minimizer, finds no slope, and stays (Theorem 2.2 of the paper)."
)

TITLES = {"moat": "A curve of minimizers around a hill", "bump": "A bump on the side of a bowl"}


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
    titled = {TITLES.get(name, name): cell for name, cell in cells.items()}
    said = [
        f"{title}: at ρ = {significant(float(cell['distance_to_star']))} the gradient at the farthest point has norm "
        f"{significant(float(cell['grad_norm_at']))}, and the gradient that SAM follows "
        f"{significant(float(cell['grad_plus_norm_at']), 1)}. The line to the minimizer passes the maximizer at a "
        f"distance of {significant(float(cell['misses_maximizer_by']), 2)}. Does this point attract SAM? "
        f"{str(cell.attrs['attractor']).capitalize()}."
        for title, cell in titled.items()
    ]
    label = " ".join(said)
    return Section(
        title="Why they exist",
        headline=(INTRODUCTION,),
        question="Why must such points exist?",
        notices=missing_notice(folder, study),
        opening=(
            Block("plot.html", PlotBlock(
                id=f"{study}-figure",
                title="The farthest point of a superlevel component (Figure 2 of the paper)",
                caption=(
                    "Shaded: the component about the maximizer where f is above its value at xₕ. Dashed: the circle "
                    "about the minimizer that just holds it. The arrow is the direction of the gradient at xₕ; its "
                    "length says nothing. All points are computed. " + label
                ),
                drawings=(
                    drawing(construction_plot(titled, columns=2), f"{study}-wide", label, screens="wide"),
                    drawing(construction_plot(titled, columns=1), f"{study}-slim", label, screens="narrow"),
                ),
            )),
        ),
    )  # fmt: skip

"""The section of study `toy`: a minimum of f^SAM where f has none, drawn."""

from collections.abc import Sequence
from typing import Final

import xarray as xr

from samirage.lab.results.store import RunFolder
from samirage.report.numbers import percent, significant
from samirage.report.plots.maps import Panel, maps_plot
from samirage.report.plots.surfaces import surface_pair
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import (
    Block,
    Drawing,
    PlotBlock,
    Screens,
    Section,
    SurfacesBlock,
    missing_notice,
)

WIDE: Final[Screens] = "wide"
NARROW: Final[Screens] = "narrow"

INTRODUCTION = (
    "SAM does not descend the loss f but what it finds at distance ρ uphill, fˢᴬᴹ. Here is a landscape on which one "
    "can see what that may do: a valley that runs in a ring around a hill. From inside of the ring, SAM looks across "
    "the hill into the valley behind it, and rests."
)


def build(folder: RunFolder, study: str) -> Section:
    """Build the section.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section.

    Raises:
        UserError: If the cell cannot be read.
    """
    cell = folder.read_cell(study, "moat")
    top = 4 * float(cell["mark_loss"].values[cell["mark_kind"].values == "maximizer"].max())
    valley, seen = "minimizers of f", "minimizers of f^SAM"
    figure1 = [
        Panel(cell, "loss", "(a) f", marks=(valley, "maximizer")),
        Panel(cell, "loss_sam", "(b) f^SAM", marks=(seen,)),
        Panel(cell, "loss_sam", "(c) −g⁺, which SAM follows, on f^SAM", field="descent_sam", marks=(seen, "sam")),
    ]
    ways = [
        Panel(cell, "loss", title, marks=(valley, seen, method))
        for method, title in (
            ("sgd", "Plain gradient descent, on f"),
            ("sam", "SAM only, on f"),
            ("switch", "Switch: plain first, then SAM, on f"),
            ("guard", "SAM with guard, on f"),
        )
    ]
    label = describe(cell)
    return Section(
        title="A minimum that is not there, drawn",
        headline=(INTRODUCTION, headline(cell)),
        question="What does SAM see of a landscape, and where does it go?",
        notices=missing_notice(folder, study),
        opening=(
            Block("plot.html", PlotBlock(
                id=f"{study}-maps",
                title="The loss, what SAM sees of it, and where SAM goes (Figure 1 of the paper)",
                caption=(
                    "One scale for all maps, with levels closer near the bottom; what is higher is in the lightest "
                    "colour. (a) A curve of minimizers around an isolated maximizer. (b) The minimizers of fˢᴬᴹ, which "
                    "are no stationary points of f. The valley itself is a cliff of fˢᴬᴹ: the ascent direction turns "
                    "round there. (c) Arrows along the gradient that SAM follows; their length is the square root of "
                    "its norm. The function is ours: that of the paper is not known to us."
                ),
                drawings=_drawings(figure1, f"{study}-maps", label, columns=3, top=top),
            )),
        ),
        blocks=(
            Block("plot.html", PlotBlock(
                id=f"{study}-ways",
                title="Four ways down from the same starts",
                caption=(
                    "A dot where a run starts, a marker where it ends. The learning rate is "
                    f"{significant(float(cell.attrs['lr']))} and the radius {significant(float(cell.attrs['rho']))}."
                ),
                drawings=_drawings(ways, f"{study}-ways", label, columns=2, top=top, scale=("loss",)),
            )),
            Block("surfaces.html", SurfacesBlock(
                id=f"{study}-surfaces",
                title="The same as surfaces",
                caption="f and fˢᴬᴹ over the same square, cut off at the same height, with the ways of SAM.",
                surfaces=tuple(surface_pair(cell, top=top / 2, marks=(valley, seen, "maximizer", "sam"))),
            )),
        ),
    )  # fmt: skip


def _drawings(
    panels: Sequence[Panel],
    prefix: str,
    label: str,
    *,
    columns: int,
    top: float,
    scale: Sequence[str] = ("loss", "loss_sam"),
) -> tuple[Drawing, ...]:
    return tuple(
        drawing(maps_plot(panels, columns=n, top=top, scale=scale), f"{prefix}-{screens}", label, screens=screens)
        for n, screens in ((columns, WIDE), (1, NARROW))
    )


def headline(cell: xr.Dataset) -> str:
    """Say in plain words what the runs show, whatever that is.

    Args:
        cell: The cell.
    """
    near = float(cell["set_distance"].min()) / 2
    shares = {m: percent(float((cell[f"end_distance_{m}"] < near).mean())) for m in ("sgd", "sam", "switch", "guard")}
    return (
        f"Of {cell.sizes['seed']} starts, plain gradient descent brings {shares['sgd']} into the valley, SAM "
        f"{shares['sam']}, SAM after plain steps {shares['switch']}, and SAM with a guard {shares['guard']}. Where SAM "
        f"rests, the real gradient is at least {significant(float(cell['set_grad_norm'].min()))}."
    )


def describe(cell: xr.Dataset) -> str:
    """Say what the plots show, for a screen reader.

    Args:
        cell: The cell.
    """
    return (
        "Maps of f, with a closed curve of minimizers around a maximizer, and of f-SAM, whose minimizers form a "
        f"smaller closed curve inside of it, at least {significant(float(cell['set_distance'].min()))} away. "
        f"{headline(cell)}"
    )

"""The section of study `network`: a hallucinated minimizer of a network, in planes through it."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from samirage.lab.results.store import RunFolder
from samirage.report.numbers import percent, significant
from samirage.report.plots.maps import Panel, maps_plot
from samirage.report.plots.profile import profile_plot
from samirage.report.plots.surfaces import surface_pair
from samirage.report.sections.drawing import drawing
from samirage.report.sections.section import Block, PlotBlock, Section, SurfacesBlock, missing_notice

INTRODUCTION = (
    "The same in a network that reads handwritten digits, with 25,450 weights. Flipping the signs of some hidden units "
    "gives the same network elsewhere, so that minimizers come in pairs with ridges between them. At the point xₕ, SAM "
    "looks across such a ridge at a minimizer."
)


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
    opening, blocks = [], []
    if (cell := cells.get("random")) is not None:
        panels = [Panel(cell, "loss", "(a) f"), Panel(cell, "loss_sam", "(b) f^SAM")]
        label = f"{figures_at(cell)} Maps of f and f-SAM on a plane of two random directions through x_h."
        opening.append(Block("plot.html", PlotBlock(
            id=f"{study}-random",
            title="Two random directions (Figure 3 (a) and (b) of the paper)",
            caption=(
                "f and fˢᴬᴹ about xₕ, on one scale. A coordinate of 1 is a change as large as the weights: the hollow "
                "that SAM sees is narrow and deep beside anything that f does there. " + honesty(cell)
            ),
            drawings=(
                drawing(maps_plot(panels, columns=2), f"{study}-random-wide", label, screens="wide"),
                drawing(maps_plot(panels, columns=1), f"{study}-random-slim", label, screens="narrow"),
            ),
        )))  # fmt: skip
        blocks.append(Block("surfaces.html", SurfacesBlock(
            id=f"{study}-surfaces",
            title="The same as surfaces",
            caption="f and fˢᴬᴹ over the plane of two random directions, cut off at the same height.",
            surfaces=tuple(surface_pair(cell)),
        )))  # fmt: skip
    if (cell := cells.get("along-u")) is not None:
        label = f"The loss along u: it rises from x_h over a ridge and falls to x-plus. {figures_at(cell)}"
        opening.append(Block("plot.html", PlotBlock(
            id=f"{study}-profile",
            title="The ridge that SAM looks across",
            caption="The loss along the ascent direction u, from behind xₕ to beyond x⁺ = xₕ + ρu. " + honesty(cell),
            drawings=(
                drawing(profile_plot(cell), f"{study}-profile-wide", label, screens="wide"),
                drawing(profile_plot(cell, width=4.2), f"{study}-profile-slim", label, screens="narrow"),
            ),
        )))  # fmt: skip
    if (cell := cells.get("trajectory")) is not None:
        label = (
            "Map of f-SAM on the plane through x_h, x_0 and x_N: SAM goes from x_0 to x_N, at the bottom of a valley."
        )
        scale = ("loss_sam",)
        panel = Panel(cell, "loss_sam", "(c) f^SAM")
        opening.append(Block("plot.html", PlotBlock(
            id=f"{study}-trajectory",
            title="SAM comes back (Figure 3 (c) of the paper)",
            caption=(
                "fˢᴬᴹ on the plane through xₕ, the start x₀ a little beside it, and x_N, where SAM ends. All points of "
                "the segment between xₕ and x_N are hallucinated: they differ in weights of pixels never inked. "
                f"Coordinates are distances. {honesty(cell)}"
            ),
            drawings=(
                drawing(maps_plot([panel], columns=1, scale=scale), f"{study}-way-wide", label, screens="wide"),
                drawing(maps_plot([panel], columns=1, scale=scale), f"{study}-way-slim", label, screens="narrow"),
            ),
        )))  # fmt: skip
    return Section(
        title="A hallucinated minimizer of a network",
        headline=(INTRODUCTION, *((figures_at(next(iter(cells.values()))),) if cells else ())),
        question="What does a hallucinated minimizer of a network look like?",
        notices=missing_notice(folder, study),
        opening=tuple(opening),
        blocks=tuple(blocks),
        facts=_facts(cells),
    )


def figures_at(cell: xr.Dataset) -> str:
    """Say in numbers what x_h is.

    Args:
        cell: Any cell of the study.
    """
    attracts = {"yes": "it attracts SAM", "no": "it does not attract SAM"}.get(
        str(cell.attrs["attractor"]), "whether it attracts SAM is undecided"
    )
    grad, seen, loss, loss_sam, rho = (
        significant(float(value), digits)
        for value, digits in (
            (cell["grad_norm_at"], 3),
            (cell["grad_plus_norm_at"], 2),
            (cell["loss_at"], 5),
            (cell["loss_sam_at"], 5),
            (cell.attrs["rho"], 3),
        )
    )
    return (
        f"At xₕ the gradient of f has norm {grad}; the gradient that SAM follows, at distance ρ = {rho}, has norm "
        f"{seen}. The loss is {loss}, and SAM sees {loss_sam}. The certificate says: {cell.attrs['certificate']}; "
        f"{attracts}."
    )


def honesty(cell: xr.Dataset) -> str:
    """Say what a plot of a slice leaves out.

    Args:
        cell: A slice.
    """
    far = float(np.nanmax(cell["mark_distance"].values))
    apart = float(np.nanmax(np.abs(cell["mark_loss"].values - cell["mark_loss_on_slice"].values)))
    text = "All that is overlaid lies on the slice."
    if far > 0:
        text = (
            f"Of what is overlaid, nothing lies farther from the slice than {significant(far, 2)}; its true loss "
            f"differs from what the slice shows by at most {significant(apart, 2)}."
        )
    if "explained_variance" in cell.attrs:
        shares = [percent(float(share)) for share in np.atleast_1d(cell.attrs["explained_variance"])]
        text += f" The axes explain {' and '.join(shares)} of the variance of the trajectory."
    if cell.attrs.get("note"):
        text += f" {cell.attrs['note']}."
    return text


def _facts(cells: Mapping[str, xr.Dataset]) -> tuple[tuple[str, str], ...]:
    for cell in cells.values():
        low, high = (significant(float(v)) for v in cell.attrs["mu_ends"])
        return (
            ("batch norm", str(cell.attrs["batch_norm"])),
            ("learning rate of SAM", significant(float(cell.attrs["lr"]))),
            ("eigenvalues of M, real parts", f"{low} to {high}"),
        )
    return ()

"""Where runs in a double well end: one panel for each method, over the level lines of the function."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from samirage.lab.methods import method_named
from samirage.report.plots.style import INK, SAM, SWITCH, Margins, axes_grid, styled
from samirage.report.plots.switching import name_drawn, switchable

HALLUCINATED, TRUE = SAM, SWITCH


@styled
def wells_figure(cells: Mapping[str, xr.Dataset], *, columns: int) -> Figure:
    """Draw paths and ends of the runs of each method, in the colour of where they end, and the minimizers.

    Args:
        cells: For every method, a cell of study `wells`; at least one.
        columns: Number of columns of panels.

    Returns:
        The figure, one axes for each method; axes that are left over are hidden.
    """
    rows = -(-len(cells) // columns)
    narrow = columns == 1
    figure, grid = axes_grid(
        columns,
        [2.0] * rows,
        width=3.8 if narrow else 1.0 + 2.75 * columns,
        margins=Margins(left=0.65, right=0.15, top=1.15 if narrow else 0.75, bottom=0.5, column_gap=0.25, row_gap=0.4),
        extra_gaps={},
    )  # fmt: skip
    panels = [axes for row in grid for axes in row]
    for index, axes in enumerate(panels):
        axes.set_visible(index < len(cells))
        axes.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= len(cells))
        if index % columns == 0:
            axes.set_ylabel("y")
        if index + columns >= len(cells):
            axes.set_xlabel("x")
    for axes, (method, cell) in zip(panels, cells.items(), strict=False):
        f = cell["f"].transpose("y", "x").to_numpy()
        levels = np.quantile(f, np.linspace(0.02, 0.9, 12))
        axes.contour(cell["x"], cell["y"], f, levels=levels, colors=INK, linewidths=0.5, alpha=0.35)
        hit = cell["hallucinated"].to_numpy().astype(bool)
        path = cell["path"].transpose("shown", "point", "coordinate").to_numpy()
        for course, astray in zip(path, hit, strict=False):
            colour = HALLUCINATED if astray else TRUE
            (line,) = axes.plot(course[:, 0], course[:, 1], color=colour, linewidth=0.7, alpha=0.6, label="path")
            name_drawn(line, series="hallucinated" if astray else "true")
        end = cell["end"].transpose("seed", "coordinate").to_numpy()
        for which, colour, label in ((~hit, TRUE, "true"), (hit, HALLUCINATED, "hallucinated")):
            x, y = np.unique(end[which].round(2), axis=0).T  # hundreds lie on each other
            axes.plot(x, y, linestyle="none", marker="o", markersize=4, color=colour, label=label)
        wells = cell["minimizers"].transpose("well", "coordinate").to_numpy()
        axes.plot(wells[:, 0], wells[:, 1], linestyle="none", marker="+", markersize=9, color=INK, label="minimizers")
        axes.set_xlim(float(cell["x"].min()), float(cell["x"].max()))
        axes.set_ylim(float(cell["y"].min()), float(cell["y"].max()))
        axes.set_title(f"{method_named(method).label}: {hit.sum()} of {hit.size}", pad=4)
    looks = (
        (HALLUCINATED, "o", 0.8, "ends where the shifted slope vanishes, and f's does not"),
        (TRUE, "o", 0.8, "ends elsewhere"),
        (INK, "+", 0.0, "minimizers of f"),
    )
    figure.legend(
        handles=[
            Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=width, label=label)
            for colour, marker, width, label in looks
        ],
        loc="upper left", ncols=1 if narrow else 3, frameon=False, fontsize=8.5, bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.5,
    )  # fmt: skip
    switchable(figure, ["hallucinated", "true", "minimizers"])
    return figure

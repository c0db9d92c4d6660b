"""The construction that proves that hallucinated points exist, drawn from the computed point."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from samirage.report.plots.maps import KINDS, PAPER
from samirage.report.plots.style import INK, SAM, styled

_WIDTH: Final = 4.6  # inches, of the axes of one panel


@styled
def construction_figure(cells: Mapping[str, xr.Dataset], *, columns: int) -> Figure:
    """Draw, for each function, the component about the maximizer, its farthest point, and the gradient there.

    Args:
        cells: Title -> cell of study `construction`, at least one.
        columns: How many stand in a row.

    Returns:
        The figure, one axes for each.
    """
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    heights = [_WIDTH * float(np.ptp(c["second"].values) / np.ptp(c["first"].values)) for c in cells.values()]
    each = max(heights)
    width, height = columns * (_WIDTH + 0.75), rows * (each + 0.95)
    figure = Figure(figsize=(width, height))
    for i, (title, cell) in enumerate(cells.items()):
        x, y = (i % columns) * (_WIDTH + 0.75) + 0.6, height - (i // columns) * (each + 0.95) - 0.4 - heights[i]
        axes = figure.add_axes((x / width, y / height, _WIDTH / width, heights[i] / height))
        _draw(axes, cell)
        axes.set_title(title, loc="left", pad=6)
    return figure


def _draw(axes: Axes, cell: xr.Dataset) -> None:
    x, y = cell["first"].values, cell["second"].values
    loss = cell["loss"].transpose("second", "first").values
    level = float(cell["level"])
    spread = np.quantile(loss, np.linspace(0.02, 0.9, 14))
    axes.contour(x, y, loss, levels=np.unique(spread), colors=[INK], linewidths=0.4, alpha=0.35)
    inside = cell["component"].transpose("second", "first").values.astype(bool)
    # The edge of the component at the level itself, not at the grid's steps.
    shown = np.where(_grown(inside), loss, level - 1.0)
    axes.contourf(x, y, shown, levels=[level, np.inf], colors=[SAM], alpha=0.22)
    axes.contour(x, y, shown, levels=[level], colors=[SAM], linewidths=1.4)
    points = {name: cell[name].values for name in ("x_h", "x_star", "x_top")}
    distance = float(cell["distance_to_star"])
    axes.add_patch(
        Circle(tuple(points["x_star"]), distance, fill=False, edgecolor=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    )
    axes.plot(*zip(points["x_h"], points["x_star"], strict=True), color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    unit = cell["gradient"].values / float(cell["grad_norm_at"])
    axes.annotate(
        "", _pair(points["x_h"] + 0.42 * distance * unit), _pair(points["x_h"]),
        arrowprops={"arrowstyle": "-|>", "color": SAM, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}, zorder=3,
    )  # fmt: skip
    said = {
        "x_h": ("hallucinated", "xₕ, the farthest point"),
        "x_star": ("minimizer", "x⋆, the minimizer"),
        "x_top": ("maximizer", "x•, the maximizer"),
    }
    for name, (kind, text) in said.items():
        marker, face, size = KINDS[kind]
        axes.plot(
            *points[name], linestyle="none", marker=marker, markersize=size, markerfacecolor=face,
            markeredgecolor="#1b1b1e", markeredgewidth=0.9, zorder=4,
        )  # fmt: skip
        left = name == "x_h" or points[name][0] > (x[0] + x[-1]) / 2
        # The maximizer's name goes to the side of it where the gradient does not pass.
        up = {"x_h": -13, "x_star": 12, "x_top": 12 if abs(unit[1]) < 0.3 else -13}[name]
        axes.annotate(
            text, _pair(points[name]), xytext=(-4 if left else 4, up), textcoords="offset points", fontsize=8.5,
            ha="right" if left else "left", va="center", color="#1b1b1e",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8}, zorder=5,
        )  # fmt: skip
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel("x")
    axes.set_ylabel("y", labelpad=2)


def _pair(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its neighbours, so that the contour at the level lies inside of it."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown

"""A hallucinated point in two dimensions: where it is and what it sees, which start ends where, and its branch."""

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from samirage.report.plots.style import DECAY, INK, SAM, SGD, SWITCH, Margins, axes_grid, styled

_SAM, _PLAIN, _BRANCH, _TRUE = SAM, SGD, DECAY, SWITCH
_LEVELS = 14
_MARKERS = {"minimizer": "o", "maximizer": "^", "saddle": "x"}
_HATCHES = ("", "///", "\\\\\\", "...")


@styled
def portrait_figure(cell: xr.Dataset, *, columns: int) -> Figure:
    """Draw the landscape with its hallucinated point, the basins of SAM, and the branch against the radius.

    Args:
        cell: A portrait of study `points`.
        columns: 3 for panels side by side, 1 for panels one below the other.

    Returns:
        The figure, its axes in that order; the last has a twin for the gradient.
    """
    rows = 3 // columns
    narrow = columns == 1
    handles = _legend(cell)
    lines = len(handles) if narrow else math.ceil(len(handles) / 4)
    figure, grid = axes_grid(
        columns,
        [2.6] * rows,
        width=4.0 if narrow else 11.4,
        margins=Margins(left=0.65, right=0.2, top=0.45 + 0.19 * lines, bottom=0.5, column_gap=0.75, row_gap=0.7),
        extra_gaps={},
        share_y=False,
    )
    landscape, basin, branch = (axes for row in grid for axes in row)
    _draw_landscape(landscape, cell)
    _draw_basins(basin, cell)
    _draw_branch(branch, cell)
    for axes, title in ((landscape, "What it sees"), (basin, "Where SAM ends"), (branch, "As the radius varies")):
        axes.set_title(title, pad=4)
    figure.legend(
        handles=handles, loc="upper left", ncols=1 if narrow else 4, frameon=False, fontsize=8.5,
        bbox_to_anchor=(0.0, 1.0), borderaxespad=0.4, handlelength=1.8, columnspacing=1.4, labelspacing=0.35,
    )  # fmt: skip
    return figure


def _window(axes: Axes, cell: xr.Dataset) -> None:
    axes.set_xlim(float(cell.x[0]), float(cell.x[-1]))
    axes.set_ylim(float(cell.y[0]), float(cell.y[-1]))
    axes.set_xlabel("x")
    axes.set_ylabel("y", labelpad=1)


def _draw_landscape(axes: Axes, cell: xr.Dataset) -> None:
    _window(axes, cell)
    f = cell.f.values.astype(np.float64)
    low, high = float(f.min()), float(np.quantile(f, 0.9))
    levels = low + (high - low) * np.linspace(0.02, 1.0, _LEVELS) ** 2
    axes.contour(cell.x, cell.y, f, levels=levels, colors=_PLAIN, linewidths=0.7, zorder=1)
    axes.plot(*cell.branch_x.values.T, color=_BRANCH, linewidth=1.4, label="branch", zorder=2)
    for kind, marker in _MARKERS.items():
        chosen = cell.stationary.values[cell.stationary_kind.values == kind]
        axes.plot(*chosen.T, linestyle="none", marker=marker, markersize=6, color=_TRUE, label=kind, zorder=3)
    point, plus, grad = (cell[name].values[0] for name in ("point", "point_plus", "point_grad"))
    axes.plot(*np.stack([point, plus]).T, color=_SAM, linewidth=1.0, dashes=(4, 2), label="look", zorder=4)
    length = 0.3 * cell.attrs["rho"] / math.hypot(*grad)
    axes.annotate(
        "", xy=point + length * grad, xytext=point, zorder=5,
        arrowprops={"arrowstyle": "-|>", "color": _SAM, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
    axes.plot(*point, marker="*", markersize=11, color=_SAM, label="hallucinated", zorder=6)


def _draw_basins(axes: Axes, cell: xr.Dataset) -> None:
    _window(axes, cell)
    for end, (kind, place) in enumerate(zip(cell.end_kind.values, cell.end_x.values, strict=True)):
        mask = cell.basin.values == end
        colour, hatch = _look(cell, end)
        area = PathPatch(
            _outline(mask, cell.column.values, cell.row.values), facecolor=(colour, 0.45), edgecolor=INK,
            linewidth=0.0, hatch=hatch, label=f"basin {end}", zorder=1,
        )  # fmt: skip
        axes.add_patch(area)
        if np.isfinite(place).all():
            marker = "*" if str(kind).startswith("hallucinated") else "o"
            axes.plot(*place, linestyle="none", marker=marker, markersize=7, color=INK, label=f"end {end}", zorder=4)


def _outline(mask: NDArray[np.bool_], columns: NDArray[np.float64], rows: NDArray[np.float64]) -> Path:
    """One path around all set cells of a grid: a rectangle for each run of them in a row."""
    wide, high = columns[1] - columns[0], rows[1] - rows[0]
    vertices: list[tuple[float, float]] = []
    for flags, y in zip(mask, rows, strict=True):
        turns = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
        for begin, end in turns.reshape(-1, 2):
            left, right = columns[begin] - wide / 2, columns[end - 1] + wide / 2
            low, top = y - high / 2, y + high / 2
            vertices += [(left, low), (right, low), (right, top), (left, top), (left, low)]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(vertices) // 5)
    return Path(np.array(vertices).reshape(-1, 2), codes)


def _look(cell: xr.Dataset, end: int) -> tuple[str, str]:
    """Colour and hatch of an end: one colour a kind of news, the hatch tells two of a kind apart."""
    kinds = [str(kind) for kind in cell.end_kind.values]
    colour = _SAM if kinds[end].startswith("hallucinated") else _TRUE if "minimizer" in kinds[end] else _PLAIN
    return colour, _HATCHES[kinds[:end].count(kinds[end]) % len(_HATCHES)]


def _draw_branch(axes: Axes, cell: xr.Dataset) -> None:
    rho, low, high = cell.branch_rho.values, *map(float, cell.exists.values)
    for begin, end in cell.attracting.values:
        axes.axvspan(begin, end, facecolor=(_SAM, 0.15), label="attracts")
    axes.plot(rho, cell.branch_grad_norm, color=_BRANCH, linewidth=1.6, label="gradient", zorder=3)
    lr = cell.branch_max_stable_lr.values
    inside = lr > 0
    if inside.any():
        axes.plot(
            rho[inside], lr[inside], color=_TRUE, linewidth=1.6, dashes=(4, 1.5), label="largest stable lr", zorder=3
        )
    axes.axvline(cell.attrs["rho"], color=_SAM, linewidth=1.0, dashes=(1, 2), label="shown")
    pad = 0.15 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("Perturbation radius ρ")


def _legend(cell: xr.Dataset) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Line2D([], [], linestyle="none", marker="*", markersize=10, color=_SAM, label="hallucinated point"),
        Line2D([], [], color=_SAM, linewidth=1.0, dashes=(4, 2), label="from it to x⁺, along the gradient"),
        Line2D([], [], color=_BRANCH, linewidth=1.6, label="its branch; ‖g‖ along it"),
    ]
    if (cell.branch_max_stable_lr.values > 0).any():
        handles.append(
            Line2D([], [], color=_TRUE, linewidth=1.6, dashes=(4, 1.5), label="largest stable learning rate")
        )
        handles.append(Patch(facecolor=(_SAM, 0.15), label="radii that attract"))
    kinds = [kind for kind in _MARKERS if (cell.stationary_kind.values == kind).any()]
    handles += [
        Line2D([], [], linestyle="none", marker=_MARKERS[kind], markersize=6, color=_TRUE, label=f"true {kind}")
        for kind in kinds
    ]
    for end, share in enumerate(cell.end_share.values):
        colour, hatch = _look(cell, end)
        label = f"{100 * share:.0f} % end: {cell.end_kind.values[end]}"
        handles.append(Patch(facecolor=(colour, 0.45), edgecolor=INK, linewidth=0.3, hatch=hatch, label=label))
    return handles

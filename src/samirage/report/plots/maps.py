"""Maps of slices: contours with one scale for f and f^SAM, vector fields, and what is overlaid.

Colours are those of viridis, whose lightness rises all the way, so that it reads in grey and with any colour vision.
Levels lie closer near the bottom, where minimizers are: evenly spaced in the square root of the height above it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from samirage.lab.methods import METHODS
from samirage.report.numbers import minus, significant
from samirage.report.plots.style import INK, SAM, styled
from samirage.report.plots.switching import name_drawn, switchable

_LEVELS: Final = 16
_ARROWS: Final = 19  # along each axis
_COLUMN: Final = 3.55  # inches, of the axes of one panel
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.95, 0.15, 0.42, 0.5, 0.75  # inches
_BAR: Final = 0.62  # inches, for the colour bar below
_GAP_NAME: Final = "gap"  # of the legend's entry for where there is no finite loss
_LINE: Final = 0.27  # inches, of one line of the legend

PAPER: Final = "#ffffff"  # halo of what is drawn on a map, whose colours do not change with the page's

KINDS: Final[dict[str, tuple[str, str, float]]] = {  # of a mark: its marker, its face, its size
    "minimizer": ("o", PAPER, 6.5),
    "maximizer": ("^", PAPER, 7.0),
    "saddle": ("X", PAPER, 7.0),
    "hallucinated": ("*", SAM, 11.0),
    "point": ("s", PAPER, 5.5),
}
LABEL_BOX: Final = {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.85}
SET_COLOURS: Final = {"minimizers of f": PAPER}  # others are in the colour of hallucinated points

FieldName = Literal["descent", "descent_sam"]


@dataclass(frozen=True)
class Panel:
    """One map.

    Attributes:
        slice: A slice of a plane; see `samirage.landscape.scan`.
        variable: What is drawn in colours.
        title: What stands above it.
        field: The vector field drawn on it; None for none.
        marks: Names of the marks on it, a path's without what follows the colon; None for all.
    """

    slice: xr.Dataset
    variable: str
    title: str
    field: FieldName | None = None
    marks: tuple[str, ...] | None = None


@styled
def maps_figure(
    panels: Sequence[Panel],
    *,
    columns: int,
    scale: Sequence[str] = ("loss", "loss_sam"),
    top: float | None = None,
) -> Figure:
    """Draw maps side by side, all with the same levels and colours.

    Args:
        panels: The maps, at least one.
        columns: How many stand in a row.
        scale: The variables of all slices whose values span the scale.
        top: Where the scale ends; by default `shared_levels` chooses.

    Returns:
        The figure: one axes for each panel, then that of the colour bar.
    """
    levels = shared_levels(
        [panel.slice[name].values for panel in panels for name in scale if name in panel.slice], top=top
    )
    columns = min(columns, len(panels))
    heights = [_COLUMN * _aspect(panel.slice) for panel in panels]
    rows = [max(heights[i : i + columns]) for i in range(0, len(panels), columns)]
    legend = _legend(panels)
    across = max(1, int((_LEFT + columns * _COLUMN + (columns - 1) * _GAP) / 2.0))
    legend_height = _LINE * math.ceil(len(legend) / across) + 0.1 if legend else 0.0
    width = _LEFT + columns * _COLUMN + (columns - 1) * _GAP + _RIGHT
    height = sum(rows) + len(rows) * (_TOP + _BOTTOM) + _BAR + legend_height
    figure = Figure(figsize=(width, height))
    same_axes = len({str(panel.slice["second"].attrs.get("long_name")) for panel in panels}) == 1
    norm = BoundaryNorm(levels, 256, extend="max")
    y = height - legend_height
    for row, row_height in enumerate(rows):
        y -= _TOP + row_height
        for column, panel in enumerate(panels[row * columns : (row + 1) * columns]):
            x = _LEFT + column * (_COLUMN + _GAP)
            own = heights[row * columns + column]
            axes = figure.add_axes((x / width, (y + row_height - own) / height, _COLUMN / width, own / height))
            _map(axes, panel, levels, norm)
            if column and same_axes:
                axes.set_ylabel("")
        y -= _BOTTOM
    bar = figure.add_axes(
        (_LEFT / width, 0.42 / height, min(_COLUMN * 1.3, width - _LEFT - 0.5) / width, 0.11 / height)
    )
    _bar(figure, bar, levels, norm, "loss, one scale for all maps" if len(panels) > 1 else "loss")
    if legend:
        figure.legend(
            handles=list(legend.values()),
            loc="upper left", bbox_to_anchor=(0.1 / width, 1.0), ncols=across, frameon=False,
            fontsize=8.5, handlelength=1.8, columnspacing=1.4, borderaxespad=0.2,
        )  # fmt: skip
        switchable(figure, ["" if name == _GAP_NAME else name for name in legend])
    return figure


def shared_levels(
    values: Sequence[NDArray[np.float64]], count: int = _LEVELS, *, top: float | None = None
) -> NDArray[np.float64]:
    """Return levels for several maps, closer to each other at the bottom.

    The steep sides of one map would otherwise leave no colours to the others: the scale ends at the largest value of
    the flattest map or at a third of the way to the largest of all, whichever is higher, and the bar says so.

    Args:
        values: The values of each map; NaN is left out.
        count: Number of intervals.
        top: The highest level, if it is to be another.

    Returns:
        The levels, ascending, shape (count + 1,).

    Example:
        >>> shared_levels([np.array([0.0, 1.0]), np.array([0.5, 4.0])], 2).tolist()
        [0.0, 0.3333333333333333, 1.3333333333333333]
    """
    finite = [v[np.isfinite(v)] for v in values]
    finite = [v for v in finite if v.size]
    if not finite:
        return np.linspace(0.0, 1.0, count + 1)
    low = float(min(v.min() for v in finite))
    tops = [float(v.max()) for v in finite]
    high = max(min(tops), low + (max(tops) - low) / 3) if top is None else top
    if not high > low:
        high = low + max(abs(low), 1.0) * 1e-6
    return low + (high - low) * (np.arange(count + 1) / count) ** 2


def _aspect(slice_: xr.Dataset) -> float:
    """Height over width: that of the plane, as long as a reader can still see something."""
    spans = [float(slice_[axis].max() - slice_[axis].min()) for axis in ("second", "first")]
    return min(max(spans[0] / spans[1], 0.45), 1.25)


def _map(axes: Axes, panel: Panel, levels: NDArray[np.float64], norm: BoundaryNorm) -> None:
    found = panel.slice
    x, y = found["first"].values, found["second"].values
    values = found[panel.variable].transpose("second", "first").values
    filled = axes.contourf(x, y, np.ma.masked_invalid(values), levels=levels, norm=norm, cmap="viridis", extend="max")
    filled.set_edgecolor("face")  # or thin lines of paper show between the colours
    axes.contour(
        x, y, np.ma.masked_invalid(values), levels=levels[1:], colors=[PAPER], linewidths=0.35, alpha=0.5
    )  # fmt: skip
    if not np.isfinite(values).all():
        axes.set_facecolor("#b9b9bf")
    if panel.field is not None:
        _arrows(axes, found, panel.field)
    draw_marks(axes, found, panel.marks)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_title(written(panel.title), loc="left", pad=6)
    axes.set_xlabel(written(str(found["first"].attrs.get("long_name", "first"))))
    axes.set_ylabel(written(str(found["second"].attrs.get("long_name", "second"))), labelpad=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def _arrows(axes: Axes, found: xr.Dataset, field: FieldName) -> None:
    """Arrows along the field, long where it is strong: their length is the square root of its, so that all are seen."""
    step = [max(1, len(found[axis]) // _ARROWS) for axis in ("second", "first")]
    some = (
        found[field]
        .transpose("second", "first", "axis")
        .isel(second=slice(step[0] // 2, None, step[0]), first=slice(step[1] // 2, None, step[1]))
    )
    u, v = some.values[..., 0], some.values[..., 1]
    length = np.hypot(u, v)
    usual = np.nanquantile(length, 0.9) or 1.0
    factor = np.minimum(np.sqrt(length / usual), 1.2) / np.where(length > 0, length, 1.0)
    spacing = float(some["first"].values[1] - some["first"].values[0])
    axes.quiver(
        some["first"].values, some["second"].values, u * factor, v * factor, color=PAPER, alpha=0.9,
        angles="xy", scale_units="xy", scale=1.1 / spacing, width=0.0042, headwidth=4, headlength=4.5, zorder=2,
    )  # fmt: skip


def draw_marks(axes: Axes, found: xr.Dataset, names: tuple[str, ...] | None) -> None:
    """Draw the marks of a slice.

    Args:
        axes: Where.
        found: The slice.
        names: Which, a path's without what follows the colon; None for all.
    """
    for name, kind, x, y in marks_of(found):
        stem = name.partition(":")[0]
        if names is not None and stem not in names:
            continue
        if kind == "path":
            style = METHODS.get(stem.lower(), METHODS["sam"])
            axes.plot(x, y, color=PAPER, linewidth=2.6, alpha=0.85, zorder=3, label=stem)
            axes.plot(x, y, color=style.colour, linewidth=1.3, zorder=3.1, label=stem)
            axes.plot(
                x[:1], y[:1], linestyle="none", marker=".", color=style.colour, markersize=5, zorder=3.2, label=stem
            )
            axes.plot(
                x[-1:], y[-1:], linestyle="none", marker=style.marker, color=style.colour, markersize=5,
                markeredgecolor=PAPER, markeredgewidth=0.7, zorder=3.6, label=stem,
            )  # fmt: skip
        elif kind == "set":
            colour = SET_COLOURS.get(name, KINDS["hallucinated"][1])
            axes.plot(x, y, color=INK if colour == PAPER else PAPER, linewidth=3.6, zorder=2.8, label=name)
            axes.plot(x, y, color=colour, linewidth=2.0, zorder=2.9, label=name)
        else:
            marker, face, size = KINDS[kind]
            axes.plot(
                x, y, linestyle="none", marker=marker, markersize=size, markerfacecolor=face,
                markeredgecolor="#1b1b1e", markeredgewidth=0.9, zorder=4, label=kind,
            )  # fmt: skip
            if kind in {"hallucinated", "point"} and name != kind:
                note = axes.annotate(
                    written(name), (x[0], y[0]), xytext=(7, 6), textcoords="offset points", fontsize=9.5, zorder=5,
                    color="#1b1b1e", bbox=LABEL_BOX,
                )  # fmt: skip
                for part in (note, note.get_bbox_patch()):
                    if part is not None:
                        name_drawn(part, series=kind)


def marks_of(found: xr.Dataset) -> list[tuple[str, str, NDArray[Any], NDArray[Any]]]:
    """Return the marks of a slice: name, kind, coordinates of their points; consecutive rows of one name are one mark.

    Args:
        found: The slice.
    """
    names, kinds = ([str(v) for v in found[key].values] for key in ("mark_name", "mark_kind"))
    second = found["mark_second"].values if "mark_second" in found else np.zeros(len(names))
    marks: list[tuple[str, str, NDArray[Any], NDArray[Any]]] = []
    first = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or names[i] != names[first] or kinds[first] not in {"path", "set"}:
            marks.append((names[first], kinds[first], found["mark_first"].values[first:i], second[first:i]))
            first = i
    return marks


def written(text: str) -> str:
    """Print names as mathematics is written: indices below, `SAM` above.

    Args:
        text: Such as `"f^SAM at x_h"`.

    Example:
        >>> written("f^SAM from x_0 to x_h"), written("x_*"), written("x_N")
        ('fˢᴬᴹ from x₀ to xₕ', 'x⋆', 'x_N')
    """
    for plain, raised in {"^SAM": "ˢᴬᴹ", "x_h": "xₕ", "x_*": "x⋆", "x_0": "x₀"}.items():
        text = text.replace(plain, raised)
    return text


def _legend(panels: Sequence[Panel]) -> dict[str, Line2D | Patch]:
    kinds: dict[str, Line2D | Patch] = {}
    for panel in panels:
        for name, kind, _, _ in marks_of(panel.slice):
            stem = name.partition(":")[0]
            if panel.marks is not None and stem not in panel.marks:
                continue
            if kind == "path":
                style = METHODS.get(stem.lower(), METHODS["sam"])
                kinds[stem] = Line2D([], [], color=style.colour, marker=style.marker, markersize=5, label=style.label)
            elif kind == "set":
                colour = SET_COLOURS.get(name, KINDS["hallucinated"][1])
                edge = INK if colour == PAPER else colour
                kinds[name] = Patch(facecolor=colour, edgecolor=edge, linewidth=0.8, label=written(name))
            elif kind not in kinds:
                marker, face, size = KINDS[kind]
                label = {"hallucinated": "hallucinated point", "point": "start"}.get(kind, f"{kind} of f")
                kinds[kind] = Line2D(
                    [], [], linestyle="none", marker=marker, markersize=size * 0.85, markerfacecolor=face,
                    markeredgecolor=INK, markeredgewidth=0.9, label=label,
                )  # fmt: skip
        if any((~np.isfinite(panel.slice[panel.variable].values)).ravel()):
            kinds[_GAP_NAME] = Patch(facecolor="#b9b9bf", label="no finite loss")
    return kinds


def _bar(figure: Figure, bar: Axes, levels: NDArray[np.float64], norm: BoundaryNorm, label: str) -> None:
    drawn = figure.colorbar(
        ScalarMappable(norm, mpl.colormaps["viridis"]), cax=bar, orientation="horizontal", extend="max",
        spacing="uniform", ticks=levels[::4],
    )  # fmt: skip
    bar.set_xticklabels(tick_texts(levels[::4]))
    bar.set_xlabel(label, labelpad=2)
    drawn.outline.set_linewidth(0.5)


def tick_texts(values: NDArray[np.float64]) -> list[str]:
    """Print the ticks of a scale: as many digits as tell them apart, and 0 for what is 0 beside the others.

    Args:
        values: The ticks, ascending.

    Example:
        >>> tick_texts(np.array([1e-12, 0.5, 2.0])), tick_texts(np.array([1.4340, 1.4341]))
        (['0', '0.5', '2'], ['1.434', '1.4341'])
    """
    span = float(values[-1] - values[0])
    rounded = [0.0 if abs(v) < 1e-3 * span else float(v) for v in values]
    for digits in range(3, 12):
        texts = [minus(significant(v, digits)) for v in rounded]
        if len(set(texts)) == len(texts):
            break
    return texts

"""What a comparison found: every measure against what was varied, one column per panel and one line per method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from samirage.lab.methods import Method, method_named
from samirage.lab.results.plot_spec import Measure, Reading
from samirage.lab.results.statistics import mean_estimate
from samirage.report.numbers import with_error
from samirage.report.plots.style import INK, PALETTE, Margins, axes_grid, log_axis, styled
from samirage.report.plots.switching import name_drawn, switchable

Line = Mapping[str | float, xr.Dataset]
"""The runs of a method, by their place on the axis."""

Panels = Mapping[str, Mapping[str, Line]]
"""Panel → method → line."""

_ROOM = 0.09  # of a log axis, for a label
_TURNED = 7  # from so many characters on, names below the axis are turned


@styled
def comparison_figure(panels: Panels, reading: Reading, *, narrow: bool) -> Figure:
    """Draw means over the seeds with two standard errors; hollow: at least one seed ended at a hallucinated point.

    Args:
        panels: The runs.
        reading: What is drawn, and how.
        narrow: Whether all panels stand in one column; else each measure is a row of them.

    Returns:
        The figure, one axes for each measure and panel.
    """
    names = list(panels)
    looks = method_styles([method for panel in panels.values() for method in panel], reading.labels)
    places = axis_places(panels, reading)
    turned = reading.scale == "names" and max(len(str(x)) for x in places) >= _TURNED
    columns, rows = (1, len(names) * len(reading.measures)) if narrow else (len(names), len(reading.measures))
    in_legend = 1 if narrow else 3
    figure, grid = axes_grid(
        columns,
        [1.75] * rows,
        width=3.8 if narrow else 1.0 + max(2, columns) * (3.4 if columns < 4 else 2.7),
        margins=Margins(
            left=0.75, right=0.15, top=0.55 + 0.19 * -(-(len(looks) + 1) // in_legend),
            bottom=1.2 if turned else 0.55, column_gap=0.3, row_gap=0.4,
        ),
        extra_gaps={},
    )  # fmt: skip
    order = (
        [(m, p) for p in names for m in reading.measures]
        if narrow
        else [(m, p) for m in reading.measures for p in names]
    )
    axes_of = [axes for row in grid for axes in row]
    for index, (axes, (measure, panel)) in enumerate(zip(axes_of, order, strict=True)):
        _draw_panel(axes, panels[panel], measure, reading, places, looks)
        if len(names) > 1 or narrow:
            axes.set_title(panel if narrow or index < columns else "", pad=4)
        first, last = index % columns == 0, index + columns >= len(order)
        axes.tick_params(labelleft=first, labelbottom=last)
        axes.set_ylabel(measure.label if first else "")
        axes.set_xlabel(reading.axis if last else "")
        if last and turned:
            for text in axes.get_xticklabels():
                text.set(rotation=45, ha="right", rotation_mode="anchor")
    figure.legend(
        handles=_legend(looks), loc="upper left", ncols=in_legend, frameon=False, fontsize=8.5,
        bbox_to_anchor=(0.0, 1.0), borderaxespad=0.5, handlelength=2.4, columnspacing=1.4,
    )  # fmt: skip
    switchable(figure, [*looks, ""])
    return figure


def axis_places(panels: Panels, reading: Reading) -> list[str | float]:
    """Return all values of x: numbers ascending, names in the order of the cells.

    Args:
        panels: The runs.
        reading: What they are.
    """
    found = dict.fromkeys(x for panel in panels.values() for line in panel.values() for x in line)
    return list(found) if reading.scale == "names" else sorted(found, key=float)


def method_styles(methods: Sequence[str], labels: Mapping[str, str]) -> dict[str, Method]:
    """Return how each method is drawn; those without colour and marker take turns.

    Args:
        methods: Their names; repeated ones count once.
        labels: Names for people.
    """
    colours, markers = [colour for colour in PALETTE if colour != INK], "osDv^PX>d<"
    looks = {}
    for index, name in enumerate(dict.fromkeys(methods)):
        method = method_named(name)
        looks[name] = replace(
            method,
            label=labels.get(name, method.label),
            colour=method.colour or colours[index % len(colours)],
            marker=method.marker or markers[index % len(markers)],
        )
    return looks


def _draw_panel(
    axes: Axes,
    lines: Mapping[str, Line],
    measure: Measure,
    reading: Reading,
    places: Sequence[str | float],
    looks: Mapping[str, Method],
) -> None:
    at = {x: i if reading.scale == "names" else float(x) for i, x in enumerate(places)}
    if reading.scale == "log":
        axes.set_xscale("log")
    if measure.scale == "log":
        log_axis(axes)
    axes.xaxis.set_major_locator(FixedLocator(list(at.values())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(_tick_labels(places, reading))
    if measure.full:
        axes.set_ylim(-0.02 * measure.factor, 1.02 * measure.factor)
    for method, line in lines.items():
        look = looks[method]
        drawn = {x: line[x] for x in places if x in line and measure.name in line[x]}
        if not drawn:
            continue
        estimates = [
            mean_estimate(measure.factor * run[measure.name].to_numpy().astype(np.float64)) for run in drawn.values()
        ]
        means, errors = np.array([e.mean for e in estimates]), np.array([2 * e.standard_error for e in estimates])
        place = np.array([at[x] for x in drawn])
        axes.plot(
            place, means, color=look.colour, linewidth=1.6, dashes=look.dashes or (None, None), label=f"{method} mean",
            linestyle="none" if reading.scale == "names" and len(places) > len(place) > 1 else "-", zorder=3,
        )  # fmt: skip
        axes.vlines(place, means - errors, means + errors, color=look.colour, linewidth=1.0, label=f"{method} error")
        told = [
            f"{look.label}, {x if isinstance(x, str) else f'{x:g}'}: {with_error(e.mean, e.standard_error)} (n = {e.n})"
            for x, e in zip(drawn, estimates, strict=True)
        ]
        hit = np.array(["hallucinated" in run and bool(run["hallucinated"].any()) for run in drawn.values()])
        for which, face, label in ((~hit, look.colour, "clean"), (hit, "none", "hallucinated")):
            (markers,) = axes.plot(
                place[which], means[which], linestyle="none", marker=look.marker, markersize=4.5, zorder=4,
                color=look.colour, markerfacecolor=face, label=f"{method} {label}",
            )  # fmt: skip
            name_drawn(markers, points=[text for text, chosen in zip(told, which, strict=True) if chosen])


def _tick_labels(places: Sequence[str | float], reading: Reading) -> list[str]:
    """Name the places, but for those of a log axis that are too near to the one before."""
    if reading.scale != "log":
        return [x if isinstance(x, str) else f"{x:g}" for x in places]
    logs = [math.log10(float(x)) for x in places]
    room, last, labels = _ROOM * (logs[-1] - logs[0]), -math.inf, []
    for x, log in zip(places, logs, strict=True):
        labels.append(f"{x:g}" if log - last >= room else "")
        last = log if labels[-1] else last
    return labels


def _legend(looks: Mapping[str, Method]) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], color=look.colour, marker=look.marker, markersize=4.5, linewidth=1.6,
            dashes=look.dashes or (None, None), label=look.label,
        )
        for look in looks.values()
    ]  # fmt: skip
    hollow = Line2D([], [], linestyle="none", marker="o", markersize=4.5, color=INK, markerfacecolor="none")
    hollow.set_label("hollow: some seeds hallucinate")
    return [*handles, hollow]

"""The figure that the paper lacks: the shift ratio and the gradient norm of every seed, and where each run ended.

A run is stuck at a hallucinated point when its shift ratio falls to nothing while its gradient does not.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from samirage.lab.methods import METHODS
from samirage.report.plots.style import INK, Margins, axes_grid, figure_width, log_axis, rho_label, styled
from samirage.report.plots.thin import points_per_curve
from samirage.report.plots.training import (
    GROUPS,
    curve_legend,
    draw_curves,
    finish_column,
    group_title,
    last_step,
    mark_switch,
)
from samirage.report.runs import StudyRuns

THRESHOLD = 0.1  # of the shift ratio; the value with which the study flags a run
FLOORS = {"shift_ratio": 1e-8, "grad_norm": 1e-8}


@styled
def shift_figure(study: StudyRuns) -> Figure:
    """Draw shift ratio and gradient norm over the steps: one column per radius, two rows per method.

    Beyond the last step, one marker per seed says where it ended: filled at a hallucinated point, hollow elsewhere.

    Args:
        study: The runs.

    Returns:
        The figure: rows of axes are shift ratio and gradient norm of SAM only, then of the switch.
    """
    columns = max(len(study.rhos), 1)
    figure, rows = axes_grid(
        columns,
        [1.25, 1.1, 1.25, 1.1],
        width=figure_width(columns),
        margins=Margins(left=0.95, right=0.15, top=1.12, bottom=0.5, column_gap=0.12, row_gap=0.14),
        extra_gaps={2: 0.98},
    )
    most = points_per_curve(sum(run.sizes["seed"] for run in study.runs.values()) * 2)
    spans = {name: log_span(study, name) for name in FLOORS}
    for group, method in enumerate(GROUPS):
        for column, rho in enumerate(study.rhos):
            pair, runs = [rows[2 * group][column], rows[2 * group + 1][column]], study.of(method, rho)
            for axes, name in zip(pair, FLOORS, strict=True):
                reference = study.of("sgd") if name == "grad_norm" else None
                draw_curves(
                    axes, runs, reference, name, "step", method, most, centre="median", floor=FLOORS[name]
                )  # fmt: skip
                log_axis(axes)
                axes.set_ylim(*spans[name])
            finish_column(study, pair, column)
            mark_ends(pair, runs, METHODS[method].colour, last_step(study))
            pair[0].axhline(THRESHOLD, color=INK, linewidth=0.8, dashes=(1, 2), label="threshold", zorder=0)
            title(pair[0], rho, runs)
            if runs is not None and "switch_step" in runs.attrs:
                mark_switch(pair, float(runs.attrs["switch_step"]), label=column == 0)
        rows[2 * group][0].annotate(
            f"r = {THRESHOLD:g}", (0.5, THRESHOLD), xycoords=("axes fraction", "data"), xytext=(0, -2),
            textcoords="offset points", fontsize=8, va="top", ha="center",
        )  # fmt: skip
        rows[2 * group][0].set_ylabel("Shift ratio r")
        rows[2 * group + 1][0].set_ylabel("Gradient norm\n‖g‖")
        figure.align_ylabels([rows[2 * group][0], rows[2 * group + 1][0]])
        group_title(figure, rows[2 * group][0], METHODS[method].label, above=0.45)
    figure.text(0.5, 0.08 / figure.get_figheight(), "Training step", ha="center", va="bottom")
    curve_legend(
        figure,
        centre="median",
        extra={
            name: Line2D(
                [], [], linestyle="none", marker="o", markersize=5, color=INK, markerfacecolor=face, label=label
            )
            for name, face, label in (
                ("hallucinated", INK, "ended at a hallucinated point"),
                ("elsewhere", "none", "ended elsewhere"),
            )
        },
    )
    return figure


def log_span(study: StudyRuns, name: str) -> tuple[float, float]:
    """Return limits of a log axis that hold the values of all runs, extremes of a diverging seed excepted.

    Args:
        study: The runs.
        name: The variable.

    Returns:
        Lower and upper limit.
    """
    values = np.concatenate([runs[name].to_numpy().ravel() for runs in study.runs.values()]).astype(np.float64)
    values = np.maximum(values[np.isfinite(values)], FLOORS[name])
    if not values.size:
        return 0.01, 10.0
    low, high = np.quantile(values, [0.0, 0.9995])
    return float(min(low, THRESHOLD)) * 0.5, float(high) * 2.0


def mark_ends(pair: list[Axes], runs: xr.Dataset | None, colour: str, last: float) -> None:
    """Draw one marker per seed beyond the last step: filled at a hallucinated point, hollow elsewhere.

    Args:
        pair: Axes of the shift ratio and of the gradient norm.
        runs: Runs of the method at one radius, or None.
        colour: Colour of the method.
        last: The last step.
    """
    pair[0].set_xlim(0.0, last * 1.22)
    pair[1].set_xlim(0.0, last * 1.22)
    if runs is None:
        return
    stuck = runs["hallucinated"].to_numpy().astype(bool)
    # Spread sideways in a fixed zigzag, so that seeds which ended at the same height can be counted.
    x = last * (1.05 + 0.12 * (np.arange(stuck.size) * 5 % 8) / 7)
    for axes, name in zip(pair, ("final_shift_ratio", "final_grad_norm"), strict=True):
        y = runs[name].to_numpy().astype(np.float64)
        y = np.maximum(y, FLOORS[name.removeprefix("final_")])
        for flag in (False, True):
            drawn = (stuck == flag) & np.isfinite(y)
            axes.plot(
                x[drawn], y[drawn], linestyle="none", marker="o", markersize=3.2, color=colour,
                markerfacecolor=colour if flag else "none", markeredgewidth=0.7, zorder=4,
                label="hallucinated" if flag else "elsewhere",
            )  # fmt: skip


def title(axes: Axes, rho: float, runs: xr.Dataset | None) -> None:
    """Write the radius and the count of seeds at hallucinated points above a column.

    Args:
        axes: The column's first axes.
        rho: The radius.
        runs: Its runs, or None.
    """
    text = rho_label(rho)
    if runs is not None:
        stuck = runs["hallucinated"].to_numpy().astype(bool)
        text += f"\n● {int(stuck.sum())} of {stuck.size}"
    axes.set_title(text, pad=5, fontsize=9, linespacing=1.35)

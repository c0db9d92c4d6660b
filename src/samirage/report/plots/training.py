"""The paper's Figure 4: training loss and test accuracy of every seed, SAM only above, the switch below.

Departures from the paper: the loss is drawn on a log axis, and plain gradient descent is drawn for reference.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from samirage.lab.methods import METHODS
from samirage.report.plots.style import INK, Margins, axes_grid, figure_width, log_axis, rho_label, step_axis, styled
from samirage.report.plots.switching import switchable
from samirage.report.plots.thin import Centre, centre_curve, points_per_curve, seed_curves
from samirage.report.runs import StudyRuns

GROUPS = ("sam", "switch")
LOSS_FLOOR = 1e-8


@styled
def training_figure(study: StudyRuns) -> Figure:
    """Draw training loss and test accuracy over the steps: one column per radius, two rows per method.

    Args:
        study: The runs.

    Returns:
        The figure: rows of axes are loss and accuracy of SAM only, then of the switch.
    """
    columns = max(len(study.rhos), 1)
    figure, rows = axes_grid(
        columns,
        [1.2, 1.0, 1.2, 1.0],
        width=figure_width(columns),
        margins=Margins(left=0.85, right=0.15, top=0.95, bottom=0.5, column_gap=0.12, row_gap=0.14),
        extra_gaps={2: 0.8},
    )
    most = points_per_curve(sum(run.sizes["seed"] for run in study.runs.values()) * 2)
    span = loss_span(study)
    for group, method in enumerate(GROUPS):
        for column, rho in enumerate(study.rhos):
            top, bottom = rows[2 * group][column], rows[2 * group + 1][column]
            runs, reference = study.of(method, rho), study.of("sgd")
            draw_curves(top, runs, reference, "loss", "step", method, most, floor=LOSS_FLOOR)
            draw_curves(bottom, runs, reference, "test_accuracy", "eval_step", method, most, scale=100.0)
            top.set_title(rho_label(rho), pad=5)
            log_axis(top)
            top.set_ylim(*span)
            bottom.set_ylim(0.0, 100.0)
            bottom.set_yticks([0, 50, 100])
            finish_column(study, [top, bottom], column)
            if runs is not None and "switch_step" in runs.attrs:
                mark_switch([top, bottom], float(runs.attrs["switch_step"]), label=column == 0)
        rows[2 * group][0].set_ylabel("Training loss")
        rows[2 * group + 1][0].set_ylabel("Test accuracy\n(%)")
        figure.align_ylabels([rows[2 * group][0], rows[2 * group + 1][0]])
        group_title(figure, rows[2 * group][0], METHODS[method].label)
    figure.text(0.5, 0.08 / figure.get_figheight(), "Training step", ha="center", va="bottom")
    curve_legend(figure, centre="mean")
    return figure


def loss_span(study: StudyRuns) -> tuple[float, float]:
    """Return limits of a log axis that hold the losses of all runs.

    Args:
        study: The runs.

    Returns:
        Lower and upper limit.
    """
    values = np.concatenate([runs["loss"].to_numpy().ravel() for runs in study.runs.values()]).astype(np.float64)
    values = np.maximum(values[np.isfinite(values)], LOSS_FLOOR)
    # A single exploding seed must not flatten all the others: the top is cut at 100 times the typical start.
    start = np.nanmedian([np.nanmedian(runs["loss"].to_numpy()[:, 0]) for runs in study.runs.values()])
    high = min(values.max(), 100.0 * float(start)) if values.size else 1.0
    low = values.min() if values.size else 0.1
    return float(low) * 0.7, float(max(high, low)) * 1.5


def draw_curves(
    axes: Axes,
    runs: xr.Dataset | None,
    reference: xr.Dataset | None,
    name: str,
    along: str,
    method: str,
    max_points: int,
    *,
    centre: Centre = "mean",
    scale: float = 1.0,
    floor: float | None = None,
) -> None:
    """Draw thin curves per seed, the bold centre, and the mean of plain gradient descent for reference.

    Args:
        axes: Where.
        runs: Runs of the method at one radius, or None when they have not finished, which is said.
        reference: Runs of plain gradient descent, or None.
        name: The variable.
        along: Its dimension besides `seed`.
        method: Name of the method, for the colour.
        max_points: Largest number of points of a curve.
        centre: "mean" or "median".
        scale: Factor for the values.
        floor: Smallest value to draw.
    """
    if runs is None:
        axes.text(0.5, 0.5, "not\nfinished", ha="center", va="center", transform=axes.transAxes, fontsize=8.5)
        return
    if reference is not None:
        curve = centre_curve(reference, name, along, centre, max_points, scale=scale, floor=floor)
        # Above the bold curve: where the two coincide, which is the good news, both must be seen.
        axes.plot(*curve.T, color=INK, linewidth=0.8, dashes=(4, 3), label="reference", zorder=4)
    seeds = seed_curves(runs, name, along, max_points, scale=scale, floor=floor)
    colour = METHODS[method].colour
    axes.add_collection(
        LineCollection(seeds, colors=colour, linewidths=0.5, alpha=seed_opacity(len(seeds)), label="seeds", zorder=1)
    )
    middle = centre_curve(runs, name, along, centre, max_points, scale=scale, floor=floor)
    axes.plot(*middle.T, color=colour, linewidth=2.0, label="centre", zorder=3, solid_capstyle="round")


def seed_opacity(seeds: int) -> float:
    """Return the opacity of the curve of one seed: fewer seeds, stronger curves.

    Args:
        seeds: Number of seeds.

    Returns:
        The opacity, 0.15 … 0.5.

    Example:
        >>> seed_opacity(4), seed_opacity(16), seed_opacity(1000)
        (0.5, 0.35, 0.15)
    """
    return min(0.5, max(0.15, 1.4 / math.sqrt(max(seeds, 1))))


def last_step(study: StudyRuns) -> float:
    """Return the last step at which anything was recorded.

    Args:
        study: The runs.

    Returns:
        The step.
    """
    return max(float(runs[along].max()) for runs in study.runs.values() for along in ("step", "eval_step"))


def finish_column(study: StudyRuns, axes: Sequence[Axes], column: int) -> None:
    """Give the axes of one column and group their x axis, and y labels in the first column only.

    Args:
        study: The runs.
        axes: The axes from top to bottom.
        column: Index of the column.
    """
    last = last_step(study)
    for position, one in enumerate(axes):
        one.set_xlim(0.0, last)
        step_axis(one, last, labels=position == len(axes) - 1)
        one.tick_params(labelleft=column == 0)


def mark_switch(axes: Sequence[Axes], step: float, *, label: bool) -> None:
    """Mark the step at which SAM takes over.

    Args:
        axes: Where.
        step: The step.
        label: Whether to say what the mark means, in the last of the axes.
    """
    for one in axes:
        one.axvline(step, color=INK, linewidth=0.8, linestyle=":", label="switch", zorder=0)
    if label:
        axes[-1].annotate(
            "SAM starts", (step, 0.0), xycoords=("data", "axes fraction"), xytext=(3, 3), textcoords="offset points",
            fontsize=8, va="bottom",
        )  # fmt: skip


def group_title(figure: Figure, first: Axes, text: str, *, above: float = 0.28) -> None:
    """Write the name of a group of rows above its first axes, at the left edge of the figure.

    Args:
        figure: The figure.
        first: The group's first axes.
        text: The name.
        above: How far above the axes, in inches.
    """
    y = first.get_position().y1 + above / figure.get_figheight()
    figure.text(0.1 / figure.get_figwidth(), y, text, fontsize=11, fontweight="bold", va="bottom", ha="left")


def curve_legend(
    figure: Figure, *, centre: str, extra: Mapping[str, Line2D] | None = None, reference: bool = True
) -> None:
    """Explain the curves in one line at the top.

    Args:
        figure: The figure.
        centre: What the bold curve is.
        extra: Further entries, by the label of what they explain.
        reference: Whether plain gradient descent is drawn.
    """
    extra = extra or {}
    names = ["seeds", "centre", *(["reference"] if reference else []), *extra]
    entries = [
        Line2D([], [], color=INK, linewidth=0.6, alpha=0.6, label="one seed"),
        Line2D([], [], color=INK, linewidth=2.0, label=f"{centre} of the seeds"),
    ]
    if reference:
        entries.append(Line2D([], [], color=INK, linewidth=0.8, dashes=(4, 3), label="plain gradient descent"))
    figure.legend(
        handles=[*entries, *extra.values()],
        loc="upper left", ncols=len(entries) + len(extra), frameon=False, fontsize=8.5,
        bbox_to_anchor=(0.0, 1.0), borderaxespad=0.5, handlelength=1.8, columnspacing=1.4,
    )  # fmt: skip
    switchable(figure, names)

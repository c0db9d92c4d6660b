"""The life of a run: what it was doing, window by window, under its loss curve."""

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from samirage.report.diagnoses import Life
from samirage.report.plots.style import DECAY, INK, SAM, SGD, SWITCH, Margins, axes_grid, log_axis, step_axis, styled

# Status -> colour, opacity, hatch. One colour a kind of news; the hatch tells the members of a kind apart, in grey too.
LOOKS: dict[str, tuple[str, float, str]] = {
    "progressing": (SWITCH, 0.85, ""),
    "stationary": (SGD, 0.35, ""),
    "bouncing about a minimizer": (SGD, 0.7, "\\\\\\"),
    "hallucinated minimizer": (SAM, 0.95, ""),
    "hallucinated saddle": (SAM, 0.75, "..."),
    "hallucinated plateau": (SAM, 0.75, "///"),
    "hallucinated maximizer": (SAM, 0.75, "ooo"),
    "hallucinated bounce": (SAM, 0.75, "xxx"),
    "drifting into hallucination": (SAM, 0.35, ""),
    "saddle trap": (DECAY, 0.85, ""),
    "maximizer trap": (DECAY, 0.75, "///"),
    "inactive": (INK, 0.25, "---"),
    "diverged": (INK, 0.9, ""),
    "undecided": (INK, 0.0, ""),
}


@styled
def life_figure(lives: Sequence[Life], *, columns: int = 1) -> Figure:
    """Draw each run's loss, and under it a band that says what it was doing.

    Args:
        lives: The runs, at least one.
        columns: Number of columns of panels; the runs fill them row by row.

    Returns:
        The figure: for each row of panels, axes of the losses, then of the bands. Those that are left over are hidden.
    """
    rows = math.ceil(len(lives) / columns)
    occurring = [name for name in LOOKS if any(name in life.statuses for life in lives)]
    narrow = columns == 1
    per_line = 1 if narrow else 3
    figure, grid = axes_grid(
        columns,
        [1.25, 0.2] * rows,
        width=3.8 if narrow else 1.0 + 3.4 * columns,
        margins=Margins(
            left=0.7,
            right=0.15,
            top=0.45 + 0.19 * math.ceil(len(occurring) / per_line),
            bottom=0.5,
            column_gap=0.62,
            row_gap=0.05,
        ),
        extra_gaps={2 * row: 0.62 for row in range(1, rows)},
        share_y=False,
    )
    for index in range(rows * columns):
        row, column = divmod(index, columns)
        top, band = grid[2 * row][column], grid[2 * row + 1][column]
        if index >= len(lives):
            top.set_visible(False)
            band.set_visible(False)
            continue
        _draw_loss(top, lives[index])
        _draw_band(band, lives[index])
        last = float(max(lives[index].steps[-1], lives[index].ends[-1]))
        for axes, labelled in ((top, False), (band, True)):
            axes.set_xlim(0.0, last)
            step_axis(axes, last, labels=labelled)
        if column == 0:
            top.set_ylabel("Loss")
        if index + columns >= len(lives):
            band.set_xlabel("Step")
    figure.legend(
        handles=[_patch(name) for name in occurring], loc="upper left", ncols=per_line, frameon=False, fontsize=8.5,
        bbox_to_anchor=(0.0, 1.0), borderaxespad=0.4, handlelength=1.8, columnspacing=1.4, labelspacing=0.35,
    )  # fmt: skip
    return figure


def _patch(name: str) -> Patch:
    colour, opacity, hatch = LOOKS[name]
    return Patch(facecolor=(colour, opacity), edgecolor=INK, linewidth=0.5, hatch=hatch, label=name)


def _draw_loss(axes: Axes, life: Life) -> None:
    loss = life.loss.astype(np.float64)
    axes.set_title(life.title, pad=4)
    finite = loss[np.isfinite(loss)]
    axes.plot(life.steps, loss, color=INK, linewidth=1.2, label="loss")
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        log_axis(axes)


def _draw_band(axes: Axes, life: Life) -> None:
    begin = 0.0
    place = 0
    for name, group in groupby(life.statuses):
        place += len(list(group))
        end = float(life.ends[place - 1])
        colour, opacity, hatch = LOOKS[name]
        axes.axvspan(begin, end, facecolor=(colour, opacity), edgecolor=INK, linewidth=0.5, hatch=hatch, label=name)
        begin = end
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)

"""Knocked off a hallucinated point: the shift ratio afterwards, and the distance, against the step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from samirage.report.plots.style import INK, SAM, SGD, Margins, axes_grid, log_axis, step_axis, styled
from samirage.report.plots.switching import switchable

_RATIOS = (1e-8, 30.0)  # what is drawn; curves that go further leave the frame
_DISTANCES = (1e-6, 10.0)


@dataclass(frozen=True)
class Knock:
    """What happened after one kind of perturbation.

    Attributes:
        title: Which.
        steps: The steps, shape (n,).
        shift_ratio: Of each network, shape (networks, n).
        distance: From the hallucinated point, relative to its own distance from the origin, shape (networks, n).
        control: The same of plain steps from the point itself; empty where there are none.
    """

    title: str
    steps: NDArray[np.int64]
    shift_ratio: NDArray[np.float64]
    distance: NDArray[np.float64]
    control: NDArray[np.float64]


@styled
def back_figure(knocks: Sequence[Knock], *, columns: int, threshold: float) -> Figure:
    """Draw one column of panels for each kind: shift ratio above, distance below.

    Args:
        knocks: At least one.
        columns: Columns of panels; 1 puts all below each other.
        threshold: Shift ratio of a polished point, drawn as a line.

    Returns:
        The figure; axes in rows, the shift ratios of a row of columns before its distances.
    """
    bands = -(-len(knocks) // columns)
    narrow = columns == 1
    figure, grid = axes_grid(
        columns,
        [1.5, 1.1] * bands,
        width=4.0 if narrow else 11.4,
        margins=Margins(left=0.75, right=0.2, top=1.0 if narrow else 0.65, bottom=0.5, column_gap=0.3, row_gap=0.15),
        extra_gaps={2 * band: 0.6 for band in range(1, bands)},
    )
    for index in range(bands * columns):
        band, column = divmod(index, columns)
        top, bottom = grid[2 * band][column], grid[2 * band + 1][column]
        if index >= len(knocks):
            top.set_visible(False)
            bottom.set_visible(False)
            continue
        _draw(top, bottom, knocks[index], threshold)
        top.tick_params(labelleft=column == 0)
        bottom.tick_params(labelleft=column == 0)
        if column == 0:
            top.set_ylabel("Shift ratio")
            bottom.set_ylabel("Distance / ‖x‖")
        bottom.set_xlabel("Step after the perturbation")
    figure.legend(
        handles=[
            Line2D([], [], color=SAM, linewidth=1.2, label="SAM, one line a network"),
            Line2D([], [], color=SGD, linewidth=1.2, dashes=(4, 1.5), label="plain steps, not perturbed"),
            Line2D([], [], color=INK, linewidth=0.8, dashes=(1, 2), label="where polishing counts as done"),
        ],
        loc="upper left", ncols=1 if narrow else 3, frameon=False, fontsize=8.5, bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.4,
    )  # fmt: skip
    switchable(figure, [("shift ratio", "distance"), "plain", "polished"])
    return figure


def _draw(top: Axes, bottom: Axes, knock: Knock, threshold: float) -> None:
    top.set_title(knock.title, pad=4)
    last = float(knock.steps[-1])
    for curve in knock.shift_ratio:
        top.plot(knock.steps, np.where(curve > 0, curve, np.nan), color=SAM, linewidth=1.2, label="shift ratio")
    top.axhline(threshold, color=INK, linewidth=0.8, dashes=(1, 2), label="polished")
    for curve in knock.distance:
        bottom.plot(knock.steps, np.where(curve > 0, curve, np.nan), color=SAM, linewidth=1.2, label="distance")
    for curve in knock.control:
        bottom.plot(
            knock.steps, np.where(curve > 0, curve, np.nan), color=SGD, linewidth=1.2, dashes=(4, 1.5), label="plain"
        )
    for axes, labels, ends in ((top, False, _RATIOS), (bottom, True, _DISTANCES)):
        log_axis(axes)
        axes.set_ylim(*ends)
        axes.set_xlim(0.0, last)
        step_axis(axes, last, labels=labels)

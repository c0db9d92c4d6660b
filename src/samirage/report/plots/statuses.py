"""What the runs of a comparison were doing at the end: a bar of diagnoses for each method and place on the axis."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from samirage.report.plots.style import DECAY, GUARD, INK, SAM, SGD, SWITCH, Margins, axes_grid, styled

Counts = Mapping[str, Mapping[str, int]]
"""Bar → status → number of seeds."""

_BAR = 0.2  # inches

# Status → sentinel colour and opacity: alarms are orange, violet and brown, what is well is blue and green.
_LOOKS = {
    "progressing": (GUARD, 1.0),
    "stationary": (GUARD, 0.55),
    "bouncing about a minimizer": (SWITCH, 1.0),
    "drifting into hallucination": ("#7a5c00", 0.6),
    "hallucinated minimizer": (SAM, 1.0),
    "hallucinated saddle": (SAM, 0.7),
    "hallucinated plateau": (SAM, 0.45),
    "hallucinated maximizer": (SAM, 0.25),
    "hallucinated bounce": (DECAY, 1.0),
    "saddle trap": (DECAY, 0.6),
    "maximizer trap": (DECAY, 0.35),
    "diverged": (INK, 1.0),
    "undecided": (SGD, 0.6),
    "inactive": (SGD, 0.3),
}


@styled
def statuses_figure(panels: Mapping[str, Counts], *, columns: int) -> Figure:
    """Draw for every panel its bars, each divided by what the seeds were doing.

    Args:
        panels: For every panel its bars, from the top.
        columns: Number of columns of panels.

    Returns:
        The figure.
    """
    names = list(panels)
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    seen = [s for s in _LOOKS if any(s in bar for counts in panels.values() for bar in counts.values())]
    in_legend = 2 if columns == 1 else 4
    figure, grid = axes_grid(
        columns,
        [_BAR * max(len(panels[name]) for name in row) for row in rows],
        width=3.8 if columns == 1 else 1.4 + 3.3 * columns,
        margins=Margins(
            left=1.75,
            right=0.15,
            top=0.5 + 0.2 * -(-len(seen) // in_legend),
            bottom=0.55,
            column_gap=0.25,
            row_gap=0.55,
        ),
        extra_gaps={},
    )
    for row, axes_row in zip(rows, grid, strict=True):
        for column, axes in enumerate(axes_row):
            axes.set_visible(column < len(row))
            if column < len(row):
                _draw(axes, row[column], panels[row[column]], seen)
                axes.tick_params(labelleft=column == 0)
                axes.set_xlabel("Share of the seeds (%)" if row is rows[-1] else "")
    figure.legend(
        handles=[Patch(facecolor=_LOOKS[s], edgecolor="none", label=s) for s in seen],
        loc="upper left", ncols=in_legend, frameon=False, fontsize=8.5,
        bbox_to_anchor=(0.0, 1.0), borderaxespad=0.5, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _draw(axes: Axes, title: str, counts: Counts, statuses: Sequence[str]) -> None:
    bars = list(counts)
    totals = np.array([sum(counts[bar].values()) for bar in bars], dtype=float)
    left = np.zeros(len(bars))
    for status in statuses:
        share = 100 * np.array([counts[bar].get(status, 0) for bar in bars]) / np.maximum(totals, 1)
        seen = np.flatnonzero(share)
        axes.barh(seen, share[seen], left=left[seen], height=0.78, color=_LOOKS[status], label=status)
        left += share
    axes.set_title(title, pad=4)
    axes.set_yticks(range(len(bars)), bars)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.tick_params(axis="y", length=0)

"""How often runs of each class were called what: one panel for each way to diagnose them."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from samirage.report.diagnoses import Confusion
from samirage.report.plots.style import INK, SAM, SWITCH, styled

_RIGHT, _WRONG = SWITCH, SAM
_CELL = 0.42  # inches
_LEFT, _TOP, _GAP = 2.15, 2.0, 0.35  # inches, for the names of the rows, of the columns, and between panels


@styled
def confusion_figure(panels: Mapping[str, Confusion], *, cell: float = _CELL) -> Figure:
    """Draw a matrix for each way to diagnose: rows are the true classes, columns what was said, numbers are seeds.

    Args:
        panels: Name of the way -> how often what was said; at least one.
        cell: Width and height of a cell, in inches.

    Returns:
        The figure, one axes for each panel, from the top.
    """
    columns = max(len(one.said) for one in panels.values())
    width = _LEFT + cell * columns + 0.5
    height = sum(_TOP + cell * len(one.truths) + _GAP for one in panels.values())
    figure = Figure(figsize=(width, height))
    y = height
    for title, confusion in panels.items():
        said = f"{title}: {confusion.right} of {confusion.total} seeds right"
        figure.text(0.1 / width, (y - 0.1) / height, said, fontsize=10.5, fontweight="bold", va="top")
        y -= _TOP + cell * len(confusion.truths)
        box = (
            _LEFT / width,
            y / height,
            cell * len(confusion.said) / width,
            cell * len(confusion.truths) / height,
        )
        _draw(figure.add_axes(box), confusion)
        y -= _GAP
    return figure


def _draw(axes: Axes, confusion: Confusion) -> None:
    rows, columns = len(confusion.truths), len(confusion.said)
    totals = confusion.counts.sum(1)
    for i, truth in enumerate(confusion.truths):
        for j, said in enumerate(confusion.said):
            count, right = int(confusion.counts[i, j]), said == truth
            share = count / totals[i] if totals[i] else 0.0
            if count:
                axes.add_patch(_square(j, i, _RIGHT if right else _WRONG, 0.12 + 0.28 * share))
                weight = "normal" if right else "bold"
                axes.text(j, i, str(count), ha="center", va="center", fontsize=8.5, fontweight=weight)
            elif right:
                axes.add_patch(_square(j, i, _RIGHT, 0.08))
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks(np.arange(columns), confusion.said, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(np.arange(rows), confusion.truths)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=4)
    for edge in ("left", "bottom", "top", "right"):
        axes.spines[edge].set_visible(True)
    axes.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=INK, alpha=0.15, linewidth=0.5)


def _square(column: int, row: int, colour: str, opacity: float) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=(colour, opacity), edgecolor="none")

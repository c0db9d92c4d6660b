"""How all figures look, decided once.

How each method is drawn is said in `samirage.lab.methods`. Text, axes and series are drawn in sentinel colours, which
`figure_svg` replaces by the colours of the page: the same figure is then readable on light and on dark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from samirage.lab.methods import COLOURS, METHODS
from samirage.report.numbers import power_of_ten
from samirage.report.svg import to_inline_svg

PAGE_WIDTH = 11.4  # inches, of a figure as wide as the page
LEGEND_WIDTH = 8.4  # inches, of the longest legend

INK = "#1b1b1f"
SGD, SAM, SWITCH, DECAY, GUARD = (METHODS[name].colour for name in ("sgd", "sam", "switch", "decay", "guard"))

# Sentinel colour -> (name of the page's colour, colour on light, colour on dark).
PALETTE = {
    INK: ("ink", INK, "#e8e6e1"),
    **{light: (name, light, dark) for name, (light, dark) in COLOURS.items()},
}


_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # wider than most: what fits in it fits in the fonts of the page
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "ytick.minor.size": 0.0,
    "xtick.minor.size": 0.0,
    "axes.grid": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
    "svg.fonttype": "none",  # text stays text: small, searchable, and in the font of the page
    "svg.hashsalt": "samirage",  # the same data gives the same file
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(make: Callable[P, R]) -> Callable[P, R]:
    """Run a function that draws with the style of this module, and leave matplotlib's settings as they were.

    Args:
        make: The function.

    Returns:
        The function, styled.
    """

    @wraps(make)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        # From matplotlib's defaults, not from the user's settings: the same data gives the same figure everywhere.
        settings: Any = {**mpl.rcParamsDefault, **_RC, "backend": mpl.rcParams["backend"]}
        with mpl.rc_context(settings):
            return make(*args, **kwargs)

    return inner


@styled
def figure_svg(figure: Figure, *, prefix: str, label: str, standalone: bool = False) -> str:
    """Turn a figure into one SVG element.

    Args:
        figure: The figure.
        prefix: Begins every id in the SVG, so that several fit on one page.
        label: What a screen reader says.
        standalone: Whether it is to be a file of its own, which brings its colours for light and dark along.

    Returns:
        The SVG element; it refers to nothing outside itself.
    """
    return to_inline_svg(figure, prefix=prefix, label=label, palette=PALETTE, standalone=standalone)


@dataclass(frozen=True)
class Margins:
    """Space around and between axes, in inches."""

    left: float
    right: float
    top: float
    bottom: float
    column_gap: float
    row_gap: float


def axes_grid(
    columns: int,
    heights: Sequence[float],
    *,
    width: float,
    margins: Margins,
    extra_gaps: dict[int, float],
    share_y: bool = True,
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure with a grid of axes whose sizes are known in inches, so that text always has the room it needs.

    Args:
        columns: Number of columns.
        heights: Height of each row in inches, from the top.
        width: Width of the figure in inches.
        margins: Space around and between.
        extra_gaps: Additional space in inches above the row with that index.
        share_y: Whether the axes of one row share y.

    Returns:
        The figure, and its axes as rows of columns.
    """
    total = (
        margins.top + margins.bottom + sum(heights) + margins.row_gap * (len(heights) - 1) + sum(extra_gaps.values())
    )
    figure = Figure(figsize=(width, total))
    each = (width - margins.left - margins.right - margins.column_gap * (columns - 1)) / columns
    rows: list[list[Axes]] = []
    y = total - margins.top
    for index, height in enumerate(heights):
        y -= height + extra_gaps.get(index, 0.0) + (margins.row_gap if index else 0.0)
        row: list[Axes] = []
        for column in range(columns):
            x = margins.left + column * (each + margins.column_gap)
            box = (x / width, y / total, each / width, height / total)
            row.append(figure.add_axes(box, sharey=row[0] if row and share_y else None))
        rows.append(row)
    return figure, rows


def figure_width(columns: int) -> float:
    """Return the width in inches of a figure with that many columns: that of the page, more for more than 8 columns.

    Args:
        columns: Number of columns.

    Returns:
        The width.

    Example:
        >>> figure_width(1) < figure_width(4) == figure_width(8) < figure_width(12)
        True
    """
    return max(min(1.0 + columns * 2.6, PAGE_WIDTH), 1.0 + columns * 1.3, LEGEND_WIDTH)


def log_axis(axes: Axes) -> None:
    """Make the y axis logarithmic, with few ticks and powers of ten written as text.

    Args:
        axes: The axes.
    """
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def decade(value: float) -> str:
    """Print a tick of a log axis: 0.01 … 1000 in digits, other powers of ten as such.

    Args:
        value: The tick.

    Returns:
        Its label.

    Example:
        >>> decade(0.1), decade(100.0), decade(1e-4)
        ('0.1', '100', '10⁻⁴')
    """
    return f"{value:g}" if 1e-2 <= value <= 1e3 else power_of_ten(round(math.log10(value)))


def step_axis(axes: Axes, last: float, *, labels: bool) -> None:
    """Set up the axis of training steps: first and last round step only, set inwards, so that columns never collide.

    Args:
        axes: The axes.
        last: The last step.
        labels: Whether to print the numbers.
    """
    ticks = [t for t in MaxNLocator(nbins=4, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(0, last) if t <= last]
    named: dict[int, Literal["left", "right"]] = {0: "left", len(ticks) - 1: "right"}
    axes.set_xticks(ticks, [f"{tick:,.0f}" if i in named else "" for i, tick in enumerate(ticks)])
    for i, alignment in named.items():
        axes.get_xticklabels()[i].set_horizontalalignment(alignment)
    axes.tick_params(labelbottom=labels)


def rho_label(rho: float) -> str:
    """Print a radius.

    Args:
        rho: The radius.

    Returns:
        Its label.

    Example:
        >>> rho_label(0.05)
        'ρ = 0.05'
    """
    return f"ρ = {rho:g}"

"""What each remedy makes of SAM: final test accuracy against the radius, one panel per loss and batch size."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from samirage.lab.methods import METHODS
from samirage.report.numbers import with_error
from samirage.report.plots.style import INK, Margins, axes_grid, styled
from samirage.report.plots.switching import name_drawn, switchable

Setting = tuple[str, float]
"""Loss and batch size; 0 is the full batch."""

DRAWN = ("sam", "switch", "decay", "guard", "guard+decay")


@styled
def remedies_figure(
    runs: Mapping[Setting, Mapping[tuple[str, float], xr.Dataset]], *, chance: float, columns: int
) -> Figure:
    """Draw mean final test accuracy against rho for every method, with two standard errors; hollow: hallucinated seeds.

    Args:
        runs: For every setting, the runs of each (method, rho); plain steps have rho 0.
        chance: Accuracy of guessing, a fraction.
        columns: Number of columns of panels; the settings fill them row by row.

    Returns:
        The figure, one axes per setting; axes that are left over are hidden.
    """
    settings = list(runs)
    rows = math.ceil(len(settings) / columns)
    narrow = columns == 1
    figure, grid = axes_grid(
        columns,
        [1.75] * rows,
        width=3.8 if narrow else 1.0 + 3.6 * columns,
        margins=Margins(
            left=0.75, right=0.15, top=1.75 if narrow else 0.95, bottom=0.55, column_gap=0.3, row_gap=0.4
        ),
        extra_gaps={},
    )  # fmt: skip
    panels = [axes for row in grid for axes in row]
    for axes, setting in zip(panels, settings, strict=False):
        _draw_panel(axes, setting, runs[setting], chance)
    for index, axes in enumerate(panels):
        axes.set_visible(index < len(settings))
        axes.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= len(settings))
        if index % columns == 0:
            axes.set_ylabel("Test accuracy (%)")
        if index + columns >= len(settings):
            axes.set_xlabel("Perturbation radius ρ")
    figure.legend(
        handles=_legend(), loc="upper left", ncols=1 if narrow else 3, frameon=False, fontsize=8.5,
        bbox_to_anchor=(0.0, 1.0), borderaxespad=0.5, handlelength=2.4, columnspacing=1.4,
    )  # fmt: skip
    switchable(figure, [*DRAWN, "sgd", ""])
    return figure


def setting_label(setting: Setting) -> str:
    """Name a setting.

    Args:
        setting: Loss and batch size.

    Returns:
        Its name.

    Example:
        >>> setting_label(("cross-entropy", 128.0)), setting_label(("cross-entropy", 0.0))
        ('cross-entropy, batch 128', 'cross-entropy, full batch')
    """
    loss, batch = setting
    return f"{loss}, " + (f"batch {batch:g}" if batch else "full batch")


def _draw_panel(axes: Axes, setting: Setting, runs: Mapping[tuple[str, float], xr.Dataset], chance: float) -> None:
    rhos = sorted({rho for _, rho in runs if rho > 0})
    axes.set_title(setting_label(setting), pad=4)
    axes.set_xscale("log")
    if rhos:
        axes.set_xlim(rhos[0] / 1.5, rhos[-1] * 1.5)
    axes.xaxis.set_major_locator(FixedLocator(rhos))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{rho:g}" for rho in rhos])
    axes.set_ylim(0.0, 100.0)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.axhline(100 * chance, color=INK, linewidth=0.8, dashes=(1, 2), label="chance", zorder=0)
    if ("sgd", 0.0) in runs:
        accuracy = _accuracy(runs["sgd", 0.0])
        axes.axhline(accuracy.mean(), color=METHODS["sgd"].colour, linewidth=1.4, label="sgd mean", zorder=1)
    for method in DRAWN:
        _draw_method(axes, method, {rho: run for (name, rho), run in runs.items() if name == method})


def _draw_method(axes: Axes, method: str, runs: Mapping[float, xr.Dataset]) -> None:
    look = METHODS[method]
    rhos = sorted(runs)
    means = np.array([_accuracy(runs[rho]).mean() for rho in rhos])
    errors = np.array([2 * _standard_error(_accuracy(runs[rho])) for rho in rhos])
    axes.plot(rhos, means, color=look.colour, linewidth=1.6, dashes=look.dashes, label=f"{method} mean", zorder=3)
    axes.vlines(
        rhos, means - errors, means + errors, color=look.colour, linewidth=1.0, label=f"{method} error", zorder=2
    )
    hit = np.array([bool(runs[rho]["hallucinated"].any()) for rho in rhos], dtype=bool)
    for which, face, label in ((~hit, look.colour, "clean"), (hit, "none", "hallucinated")):
        (markers,) = axes.plot(
            np.array(rhos)[which], means[which], linestyle="none", marker=look.marker, markersize=4.5, zorder=4,
            color=look.colour, markerfacecolor=face, label=f"{method} {label}",
        )  # fmt: skip
        name_drawn(markers, points=[
            f"{look.label}, ρ = {rhos[i]:g}: {with_error(means[i], errors[i] / 2)}%" for i in np.flatnonzero(which)
        ])  # fmt: skip


def _legend() -> Sequence[Line2D]:
    handles = [
        Line2D(
            [], [], color=look.colour, marker=look.marker, markersize=4.5, linewidth=1.6, dashes=look.dashes,
            label=look.label,
        )
        for look in (METHODS[method] for method in DRAWN)
    ]  # fmt: skip
    hollow = Line2D([], [], linestyle="none", marker="o", markersize=4.5, color=INK, markerfacecolor="none")
    hollow.set_label("hollow: some seeds hallucinate")
    plain = Line2D([], [], color=METHODS["sgd"].colour, linewidth=1.4, label=METHODS["sgd"].label)
    return [*handles, plain, hollow]


def _accuracy(run: xr.Dataset) -> np.ndarray:
    values: np.ndarray = 100.0 * run["final_test_accuracy"].to_numpy().astype(np.float64)
    return values


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else 0.0

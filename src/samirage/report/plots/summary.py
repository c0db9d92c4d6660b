"""The one picture: final test accuracy against the radius, and how many seeds ended at hallucinated points."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from samirage.lab.methods import METHODS
from samirage.lab.results.statistics import share_estimate
from samirage.report.plots.style import INK, Margins, axes_grid, styled
from samirage.report.plots.switching import name_drawn, switchable
from samirage.report.runs import StudyRuns

COMPARED = ("sam", "switch")
USUAL_RHO = 0.5  # the largest radius in the searches of the paper that introduced SAM (arXiv 2010.01412)


@styled
def summary_figure(study: StudyRuns, *, width: float = 7.6, chance: float | None = None) -> Figure:
    """Draw final test accuracy against rho, and below it the share of seeds at hallucinated points.

    Args:
        study: The runs.
        width: Width of the figure in inches; about 3.8 suits a phone, at the same size of text.
        chance: Accuracy of guessing, a fraction, to be drawn as a line; None for no line.

    Returns:
        The figure: axes are accuracy, then share.
    """
    narrow = width < 5.0
    figure, rows = axes_grid(
        1,
        [2.7, 1.05],
        width=width,
        margins=Margins(
            left=0.75, right=0.12, top=0.98 if narrow else 0.5, bottom=0.52, column_gap=0.0, row_gap=0.2
        ),
        extra_gaps={},
    )  # fmt: skip
    top, bottom = rows[0][0], rows[1][0]
    place = Places(study.rhos)
    for axes in (top, bottom):
        axes.set_xscale("log")
        axes.set_xlim(*place.limits)
    _draw_reference(top, study.of("sgd"))
    if chance is not None:
        top.axhline(100 * chance, color=INK, linewidth=0.8, dashes=(1, 2), label="chance", zorder=0)
        top.annotate(
            "guessing", (0.0, 100 * chance), xycoords=("axes fraction", "data"), xytext=(4, 2),
            textcoords="offset points", fontsize=8, va="bottom",
        )  # fmt: skip
    _mark_usual(top, study.rhos)
    for method in COMPARED:
        _draw_accuracy(top, study, method, place)
        _draw_share(bottom, study, method, place)
    for axes in (top, bottom):
        axes.xaxis.set_major_locator(FixedLocator([place.centre(rho) for rho in study.rhos]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{rho:g}" for rho in study.rhos])
        axes.set_yticks([0, 50, 100])
    top.tick_params(labelbottom=False)
    top.set_yticks(range(0, 101, 20))
    top.set_ylim(0.0, 100.0)
    bottom.set_ylim(-4.0, 104.0)
    top.set_ylabel("Final test accuracy (%)")
    bottom.set_ylabel("Hallucinated\n(% of seeds)")
    figure.align_ylabels([top, bottom])
    bottom.set_xlabel("Perturbation radius ρ" if narrow else "Perturbation radius ρ (log scale)")
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=5, linewidth=2, label=look.label)
        for look in (METHODS[method] for method in COMPARED)
    ]
    if study.of("sgd") is not None:
        grey = METHODS["sgd"].colour
        handles.append(Patch(facecolor=grey, alpha=0.3, label=f"{METHODS['sgd'].label} (range of seeds)"))
    figure.legend(
        handles=handles, loc="upper left", ncols=1 if narrow else 3, frameon=False, fontsize=9, borderaxespad=0.3,
        bbox_to_anchor=((0.0 if narrow else 0.55) / width, 1.0), handlelength=2.0, columnspacing=1.6,
    )  # fmt: skip
    switchable(figure, [*COMPARED, "sgd"][: len(handles)])
    return figure


class Places:
    """Where things stand on the log axis of rho: the methods side by side at every radius, the seeds spread a little.

    A radius of 0, which a log axis does not have, stands left of the smallest one.

    Args:
        rhos: The radii, ascending.

    Example:
        >>> Places((0.1, 1.0)).centre(0.1), Places((0.1, 1.0)).beside(1.0, 0) < 1.0
        (0.1, True)
    """

    def __init__(self, rhos: tuple[float, ...]) -> None:
        positive = [rho for rho in rhos if rho > 0.0] or [1.0]
        self._zero = positive[0] / 3.0
        placed = np.log10([self.centre(rho) for rho in rhos] or [1.0])
        gap = float(np.diff(placed).min()) if placed.size > 1 else 0.5
        self._gap = min(gap, 0.4)
        self.limits = (10 ** (placed[0] - 0.6 * self._gap), 10 ** (placed[-1] + 0.6 * self._gap))

    def centre(self, rho: float) -> float:
        """Return where a radius stands.

        Args:
            rho: The radius.

        Returns:
            Its abscissa.
        """
        return rho if rho > 0.0 else self._zero

    def beside(self, rho: float, index: int, spread: float = 0.0) -> float:
        """Return where one of the compared methods stands at a radius.

        Args:
            rho: The radius.
            index: Index of the method: 0 stands left, 1 right.
            spread: Sideways offset of a seed, -1 … 1.

        Returns:
            The abscissa.
        """
        return float(10 ** (np.log10(self.centre(rho)) + self._gap * (0.16 * (2 * index - 1) + 0.1 * spread)))


def _draw_reference(axes: Axes, runs: xr.Dataset | None) -> None:
    if runs is None:
        return
    accuracy, grey = _accuracy(runs), METHODS["sgd"].colour
    # One diverged seed would stretch the band over the whole figure; the mean has it in, as in the table.
    steady = _accuracy(runs.isel(seed=~runs["diverged"].to_numpy().astype(bool)))
    if steady.size:
        axes.axhspan(steady.min(), steady.max(), color=grey, alpha=0.3, linewidth=0, label="sgd range", zorder=0)
    if accuracy.size:
        axes.axhline(accuracy.mean(), color=grey, linewidth=1.2, label="sgd mean", zorder=1)


def _mark_usual(axes: Axes, rhos: tuple[float, ...]) -> None:
    if not rhos or not rhos[0] <= USUAL_RHO < rhos[-1]:
        return
    axes.plot(
        [axes.get_xlim()[0], USUAL_RHO], [4.0, 4.0], color=INK, linewidth=0.8, label="usual", marker="|", markersize=5
    )
    axes.annotate(
        f"usual radii, up to {USUAL_RHO:g}", (USUAL_RHO, 4.0), xytext=(6, 0), textcoords="offset points",
        fontsize=8, va="center",
    )  # fmt: skip


def _draw_accuracy(axes: Axes, study: StudyRuns, method: str, place: Places) -> None:
    index, look = COMPARED.index(method), METHODS[method]
    means: list[tuple[float, float]] = []
    for rho in study.rhos:
        runs = study.of(method, rho)
        accuracy = _accuracy(runs) if runs is not None else np.empty(0)
        if not accuracy.size:
            continue
        spread = 2.0 * (np.arange(accuracy.size) * 5 % 8) / 7 - 1.0
        x = [place.beside(rho, index, offset) for offset in spread]
        axes.plot(
            x, accuracy, linestyle="none", marker=look.marker, markersize=3.2, color=look.colour, alpha=0.45,
            markeredgewidth=0, label=f"{method} seeds", zorder=2,
        )  # fmt: skip
        means.append((place.beside(rho, index), float(accuracy.mean())))
    axes.plot(*np.reshape(means, (-1, 2)).T, color=look.colour, linewidth=2.0, label=f"{method} mean", zorder=3)


def _draw_share(axes: Axes, study: StudyRuns, method: str, place: Places) -> None:
    index, look = COMPARED.index(method), METHODS[method]
    rows: list[tuple[float, float, float, float]] = []
    for rho in study.rhos:
        runs = study.of(method, rho)
        if runs is not None:
            share = share_estimate(
                runs["hallucinated"].to_numpy().astype(bool) & ~runs["diverged"].to_numpy().astype(bool)
            )
            rows.append((place.beside(rho, index), 100 * share.share, 100 * share.low, 100 * share.high))
    x, y, low, high = np.reshape(rows, (-1, 4)).T
    axes.vlines(x, low, high, color=look.colour, linewidth=1.2, label=f"{method} interval", zorder=2)
    (shares,) = axes.plot(
        x, y, color=look.colour, marker=look.marker, markersize=4.5, linewidth=1.2, label=f"{method} share", zorder=3
    )  # fmt: skip
    radii = [rho for rho in study.rhos if study.of(method, rho) is not None]
    name_drawn(shares, points=[
        f"{look.label}, ρ = {rho:g}: {share:.0f}% of the seeds hallucinate" for rho, share in zip(radii, y, strict=True)
    ])  # fmt: skip


def _accuracy(runs: xr.Dataset) -> np.ndarray:
    values = 100.0 * runs["final_test_accuracy"].to_numpy().astype(np.float64)
    return values[np.isfinite(values)]

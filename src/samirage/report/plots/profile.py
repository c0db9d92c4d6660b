"""The profile along the ascent direction: the ridge that SAM looks across, with x at 0 and x⁺ at rho."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from samirage.lab.methods import METHODS
from samirage.report.plots.style import INK, styled


@styled
def profile_figure(found: xr.Dataset, *, width: float = 6.4) -> Figure:
    """Draw a function along a line.

    Args:
        found: A slice of a line, with the attribute `rho`.
        width: In inches.

    Returns:
        The figure, one axes.
    """
    figure = Figure(figsize=(width, 2.9))
    axes = figure.add_axes((0.85 / width, 0.5 / 2.9, 1 - 1.05 / width, 1 - 0.75 / 2.9))
    t, loss, rho = found["first"].values, found["loss"].values, float(found.attrs["rho"])
    axes.plot(t, loss, color=INK, linewidth=1.5, label="f")
    at = {name: float(np.interp(place, t, loss)) for name, place in (("x", 0.0), ("x⁺", rho))}
    for (name, height), place, marker in zip(at.items(), (0.0, rho), ("*", "o"), strict=True):
        axes.plot(
            [place], [height], linestyle="none", marker=marker, markersize=11 if marker == "*" else 7,
            color=METHODS["sam"].colour if marker == "*" else "none", markeredgecolor=INK, zorder=3,
        )  # fmt: skip
        said = "SAM stands here" if name == "x" else "and sees the slope here"
        left = name == "x"
        axes.annotate(
            f"{name}: {said}", (place, height), xytext=(4 if left else -4, -16), textcoords="offset points",
            ha="left" if left else "right", va="top", fontsize=8.5,
        )  # fmt: skip
    for place, name in ((0.0, "t = 0"), (rho, f"t = ρ = {rho:.3g}")):
        axes.axvline(place, color=INK, linewidth=0.7, dashes=(2, 3), zorder=0)
        axes.annotate(
            name, (place, 1), xycoords=("data", "axes fraction"), xytext=(4, -2), textcoords="offset points",
            ha="left", va="top", fontsize=8.5,
        )  # fmt: skip
    low, high = float(np.nanmin(loss)), float(np.nanmax(loss))
    axes.set_ylim(low - 0.28 * (high - low), high + 0.08 * (high - low))
    axes.set_xlim(t[0], t[-1])
    axes.set_xlabel(str(found["first"].attrs["long_name"]))
    axes.set_ylabel("loss f")
    return figure

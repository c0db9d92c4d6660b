"""Surfaces to turn: f and f^SAM side by side, as data for plotly in the page.

The page brings plotly.js along, once and compressed (`samirage.report.scripts`): it must work without a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from samirage.lab.methods import METHODS
from samirage.report.plots.maps import KINDS, SET_COLOURS, marks_of, shared_levels, written

_MOST: Final = 61  # grid points along an axis of a surface in the page
_SYMBOLS: Final = {
    "minimizer": "circle",
    "maximizer": "diamond",
    "saddle": "x",
    "hallucinated": "diamond",
    "point": "square",
}
_EYE: Final = {"x": -1.44, "y": -1.44, "z": 2.04}


@dataclass(frozen=True)
class Surface:
    """One surface of a pair.

    Attributes:
        title: What stands above it.
        spec: Data and layout for plotly, plain data for JSON.
    """

    title: str
    spec: dict[str, Any]


def surface_pair(found: xr.Dataset, *, top: float | None = None, marks: Sequence[str] | None = None) -> list[Surface]:
    """Return the surfaces of f and f^SAM over one plane, with one scale of heights and colours.

    Args:
        found: A slice of a plane with `loss` and `loss_sam`.
        top: Where the scale ends; by default `samirage.report.plots.maps.shared_levels` chooses.
        marks: Names of the marks on it, a path's without what follows the colon; None for all.

    Returns:
        The two surfaces; what is higher than the scale is cut off.
    """
    levels = shared_levels([found[name].values for name in ("loss", "loss_sam")], top=top)
    low, high = float(levels[0]), float(levels[-1])
    return [
        Surface(written(title), _spec(found, variable, heights, low, high, marks))
        for title, variable, heights in (
            ("f", "loss", "mark_loss_on_slice"),
            ("f^SAM", "loss_sam", "mark_loss_sam_on_slice"),
        )
    ]


def _spec(
    found: xr.Dataset, variable: str, heights: str, low: float, high: float, marks: Sequence[str] | None
) -> dict[str, Any]:
    stride = -(-len(found["first"]) // _MOST)
    thin = found.isel(first=slice(None, None, stride), second=slice(None, None, stride))
    z = thin[variable].transpose("second", "first").values
    cut = _cut_off(z, high)
    traces: list[dict[str, Any]] = [
        {
            "type": "surface",
            "x": _numbers(thin["first"].values),
            "y": _numbers(thin["second"].values),
            "z": [_numbers(row) for row in cut],
            "cmin": low,
            "cmax": high,
            "colorscale": "Viridis",
            "showscale": False,
            "contours": {"z": {"show": True, "color": "rgba(255,255,255,0.5)", "width": 1,
                               "start": low, "end": high, "size": (high - low) / 14}},
            "hovertemplate": "(%{x:.4g}, %{y:.4g})<br>loss %{z:.5g}<extra></extra>",
        }
    ]  # fmt: skip
    at = found[heights].values
    row = 0
    for name, kind, x, y in marks_of(found):
        height = at[row : row + len(x)]
        row += len(x)
        stem = name.partition(":")[0]
        shown = (
            (height <= high) & (height >= low) & _within(found["first"].values, x) & _within(found["second"].values, y)
        )
        if (marks is not None and stem not in marks) or not shown.any():
            continue
        traces.append(_mark(written(name), stem, kind, x, y, np.where(shown, height + 0.01 * (high - low), np.nan)))
    label = {
        axis: written(str(found[axis].attrs.get("long_name", axis)).partition(" (")[0]) for axis in ("first", "second")
    }
    axis = {"showbackground": False, "nticks": 5}
    layout = {
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "showlegend": False,
        "scene": {
            "xaxis": {**axis, "title": {"text": label["first"]}},
            "yaxis": {**axis, "title": {"text": label["second"]}},
            "zaxis": {**axis, "title": {"text": "loss"}, "range": [low, high + 0.02 * (high - low)]},
            "aspectmode": "manual",
            "aspectratio": {"x": 1, "y": 1, "z": 0.65},
            "camera": {"eye": _EYE},
        },
    }
    return {"data": traces, "layout": layout}


def _cut_off(z: NDArray[np.float64], high: float) -> NDArray[np.float64]:
    """Leave out what is higher, and let the rim end at that height: no spikes from one grid point to the next."""
    above = np.pad(z > high, 1, mode="edge")
    rows, columns = z.shape
    around = [above[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    cut: NDArray[np.float64] = np.where(np.all(around, axis=0), np.nan, np.minimum(z, high))
    return cut


def _mark(name: str, stem: str, kind: str, x: NDArray[Any], y: NDArray[Any], z: NDArray[np.float64]) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter3d",
        "x": _numbers(x),
        "y": _numbers(y),
        "z": _numbers(z),
        "name": name,
        "hovertemplate": f"{name}<br>(%{{x:.4g}}, %{{y:.4g}})<br>loss %{{z:.5g}}<extra></extra>",
    }
    if kind in {"path", "set"}:
        style = METHODS.get(stem.lower(), METHODS["sam"])
        colour = style.colour if kind == "path" else SET_COLOURS.get(stem, KINDS["hallucinated"][1])
        return {**trace, "mode": "lines", "line": {"color": colour, "width": 5}}
    face = KINDS[kind][1]
    marker = {"symbol": _SYMBOLS[kind], "color": face, "size": 5, "line": {"color": "#1b1b1e", "width": 1}}
    return {**trace, "mode": "markers", "marker": marker}


def _within(axis: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (values >= axis[0]) & (values <= axis[-1])
    return inside


def _numbers(values: NDArray[Any]) -> list[float | None]:
    """Round to what a screen shows; None for gaps."""
    return [float(f"{v:.7g}") if np.isfinite(v) else None for v in values.tolist()]

"""What a picture of a hallucinated point in two dimensions needs: the landscape, the point, its branch, the basins."""

from typing import Any, Final

import numpy as np
import torch
import xarray as xr

from samirage.landscape import BumpOnBowl, DoubleWell, Smooth
from samirage.points import (
    HallucinatedPoint,
    RadiusInterval,
    basins,
    certify,
    find_hallucinated,
    polish,
    radius_interval,
)
from samirage.points.find.evidence import evidence

_GRID: Final = 81  # points of the level lines along each axis
_BRANCH_POINTS: Final = 121  # radii between the ends of the branch

# Name -> function, radius, window (left, right, bottom, top), learning rate of the basins.
PORTRAITS: Final[dict[str, tuple[Any, float, tuple[float, float, float, float], float]]] = {
    "double-well": (DoubleWell, 1.5, (-1.8, 1.8, -1.2, 1.2), 0.1),
    "bump-on-bowl": (BumpOnBowl, 1.9, (-1.2, 2.8, -1.4, 1.4), 0.05),
}


def portrait(name: str, *, resolution: int) -> xr.Dataset:
    """Compute a picture.

    Args:
        name: One of `PORTRAITS`.
        resolution: Starts of the basins along each axis, at least 2.

    Returns:
        The landscape on a grid (`y`, `x`); the hallucinated points (`point`) with what they see, those that attract
        first; the branch of the first (`branch`) with the radii between which it exists and attracts; where SAM ends
        (`row`, `column`), as numbers of the ends (`end`).
    """
    make, rho, window, lr = PORTRAITS[name]
    f = make()
    left, right, bottom, top = window
    xs, ys = np.linspace(left, right, _GRID), np.linspace(bottom, top, _GRID)
    grid = torch.as_tensor(np.stack(np.meshgrid(xs, ys), -1))
    points = find_hallucinated(f, f.minimizers[0], rho=rho)
    certificates = [certify(f, p.x, rho) for p in points]
    interval = radius_interval(f, points[0].x, rho)
    assert interval.attracting is not None
    curve = _resampled(f, interval)
    found = basins(f, rho=rho, lr=lr, window=window, resolution=resolution)
    data: dict[str, Any] = {
        "f": (("y", "x"), f(grid).numpy().astype(np.float32)),
        "point": (("point_index", "axis"), torch.stack([p.x for p in points]).numpy()),
        "point_plus": (("point_index", "axis"), torch.stack([p.x_plus for p in points]).numpy()),
        "point_grad": (("point_index", "axis"), torch.stack([f.grad(p.x) for p in points]).numpy()),
        "point_kind": ("point_index", np.array([p.kind.value for p in points], dtype=object)),
        "point_superlevel": ("point_index", np.array(["superlevel" in p.found_by for p in points])),
        "point_attracts": ("point_index", np.array([bool(c.attractor) for c in certificates])),
        "branch_x": (("branch", "axis"), torch.stack([p.x for p in curve]).numpy()),
        "branch_rho": ("branch", np.array([p.rho for p in curve])),
        "branch_grad_norm": ("branch", np.array([p.grad_norm for p in curve])),
        "branch_max_stable_lr": ("branch", np.array([p.max_stable_lr for p in curve], dtype=np.float64)),
        "exists": ("edge", np.array([interval.low, interval.high])),
        "attracting": (("stretch", "edge"), np.array(interval.attracting, dtype=np.float64).reshape(-1, 2)),
        "basin": (("row", "column"), found.labels.astype(np.int16)),
        "end_x": (("end", "axis"), torch.stack([end.x for end in found.ends]).numpy()),
        "end_kind": ("end", np.array([end.kind.value for end in found.ends], dtype=object)),
        "end_share": ("end", np.array([end.share for end in found.ends])),
    }
    known = {"minimizer": f.minimizers, "maximizer": f.maximizers, "saddle": f.saddles}
    stationary = [(kind, point) for kind, listed in known.items() for point in listed]
    data["stationary"] = (("stationary_index", "axis"), torch.stack([point for _, point in stationary]).numpy())
    data["stationary_kind"] = ("stationary_index", np.array([kind for kind, _ in stationary], dtype=object))
    coords = {"x": xs, "y": ys, "column": found.first, "row": found.second, "axis": ["x", "y"], "edge": ["low", "high"]}
    return xr.Dataset(data, coords=coords, attrs={"function": name, "rho": rho, "basin_lr": lr})


def _resampled(f: Smooth, interval: RadiusInterval) -> list[HallucinatedPoint]:
    """The points of a branch that does not turn, at evenly spaced radii between its ends."""
    order = interval.branch.rho.argsort()
    known, places = interval.branch.rho[order].numpy(), interval.branch.x[order].numpy()
    radii = np.linspace(interval.low, interval.high, _BRANCH_POINTS + 2)[1:-1]
    near = np.stack([np.interp(radii, known, places[:, axis]) for axis in range(f.dim)], 1)
    return [
        evidence(f, polish(f, torch.as_tensor(x), radius).x, radius)
        for x, radius in zip(near, radii.tolist(), strict=True)
    ]

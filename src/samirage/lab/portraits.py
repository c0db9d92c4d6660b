"""What a picture of a hallucinated point in two dimensions needs: the landscape, the point, its branch, the basins."""

from typing import Any, Final

import numpy as np
import torch
import xarray as xr

from samirage.landscape import BumpOnBowl, DoubleWell
from samirage.points import basins, certify, find_hallucinated, radius_interval

_GRID: Final = 81  # points of the level lines along each axis
_BRANCH_POINTS: Final = 400

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
    interval = radius_interval(f, points[0].x, rho, max_points=_BRANCH_POINTS)
    curve = interval.branch
    assert curve.attracts is not None
    assert curve.max_stable_lr is not None
    assert interval.attracting is not None
    found = basins(f, rho=rho, lr=lr, window=window, resolution=resolution)
    data: dict[str, Any] = {
        "f": (("y", "x"), f(grid).numpy().astype(np.float32)),
        "point": (("point_index", "axis"), torch.stack([p.x for p in points]).numpy()),
        "point_plus": (("point_index", "axis"), torch.stack([p.x_plus for p in points]).numpy()),
        "point_grad": (("point_index", "axis"), torch.stack([f.grad(p.x) for p in points]).numpy()),
        "point_kind": ("point_index", np.array([p.kind.value for p in points], dtype=object)),
        "point_superlevel": ("point_index", np.array(["superlevel" in p.found_by for p in points])),
        "point_attracts": ("point_index", np.array([bool(c.attractor) for c in certificates])),
        "branch_x": (("branch", "axis"), curve.x.numpy()),
        "branch_rho": ("branch", curve.rho.numpy()),
        "branch_grad_norm": ("branch", curve.grad_norm.numpy()),
        "branch_attracts": ("branch", curve.attracts.numpy()),
        "branch_max_stable_lr": ("branch", curve.max_stable_lr.numpy()),
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

"""Study `construction`: Figure 2 of arXiv 2509.21818, the construction that proves that hallucinated points exist.

Around a local maximizer lies a component of a superlevel set; its point that is farthest from a minimizer has a
gradient that points exactly at the minimizer. All of it is computed here, nothing drawn by hand: the farthest point by
the construction itself and, as a check that knows nothing of it, among the grid points of the component.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
import xarray as xr

from samirage.errors import require
from samirage.lab.results.claims import EXTREME, Claim, Relation
from samirage.lab.results.config import StudyConfig
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.studies.toy import minimizers
from samirage.landscape import AbstractFunction, BumpOnBowl, Mark, Moat, plane, scan
from samirage.points import certify
from samirage.points.find.sphere import sharpen
from samirage.points.find.superlevel import SuperlevelSearch, superlevel_candidate
from samirage.sam import displacement

_FUNCTIONS: Final[dict[str, tuple[Callable[[], AbstractFunction], float, tuple[tuple[float, float], ...]]]] = {
    # what is drawn: the function, the radius, the window
    "moat": (Moat, 1.15, ((-1.3, 1.3), (-1.05, 1.05))),
    "bump": (BumpOnBowl, 1.95, ((-0.5, 2.4), (-1.0, 1.0))),
}


@dataclass(frozen=True, kw_only=True)
class ConstructionConfig(StudyConfig):
    """What decides the numbers of this study, besides what every study has.

    Attributes:
        grid: Grid points along each axis.
        seeds: Number of seeds; the search for the farthest point draws its rays from the first.
    """

    grid: int
    seeds: int = 1


SCALES: Final = {
    "smoke": ConstructionConfig(scale="smoke", grid=61),
    "laptop": ConstructionConfig(scale="laptop", grid=121),
    "paper": ConstructionConfig(scale="paper", grid=601),
}


class ConstructionStudy(AbstractSeededStudy[ConstructionConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.

    Example:
        >>> [cell.name for cell in ConstructionStudy(SCALES["smoke"]).cells()]
        ['moat', 'bump']
    """

    name: ClassVar[str] = "construction"
    scales = SCALES
    fixed = ("loss", "rhos")

    def cells(self) -> list[Cell]:
        """Return the plan: one cell for each function."""
        return [Cell(name, passes=self._settings.grid**2, settings={}) for name in _FUNCTIONS]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Find the farthest point, and scan the plane around it; see `AbstractStudy`.

        Raises:
            ArithmeticError: If no component reaches so far.
        """
        make, rho, spans = _FUNCTIONS[cell.name]
        f, one = make(), self._settings
        top = f.maximizers[0].to(self.device)
        # Of the moat's curve of minimizers, one off its axis of symmetry.
        target = (minimizers(f, 9)[1] if isinstance(f, Moat) else f.minimizers[0]).to(self.device)
        candidate = superlevel_candidate(f, target, top, rho, SuperlevelSearch(seed=one.first_seed))
        if candidate is None:
            raise ArithmeticError(f"no component of {cell.name} reaches so far as {rho}")
        (x,) = sharpen(f, target, rho, candidate[None])
        grad = f.grad(x)
        plus = x + displacement(x, grad, rho)
        level = float(f(x))
        axes = torch.eye(2, dtype=torch.float64, device=self.device)
        origin = torch.zeros(2, dtype=torch.float64, device=self.device)
        at = plane(origin, directions=(axes[0], axes[1]), spans=(spans[0], spans[1]), labels=("x", "y"))
        results = scan(f, at, rho=rho, steps=one.grid, marks=[Mark("x_h", "hallucinated", x)])
        advance(one.grid**2)
        inside, farthest = component(results, level, top.tolist(), target.tolist())
        certificate = certify(f, x, rho)
        away = target - x
        miss = float((top - x - (grad / grad.norm()) * ((top - x) @ grad / grad.norm())).norm())
        sine = float((grad / grad.norm() - away / away.norm()).norm())
        return results.assign(
            component=(("second", "first"), inside),
            x_h=("axis", x.cpu().numpy()),
            x_star=("axis", target.cpu().numpy()),
            x_top=("axis", top.cpu().numpy()),
            gradient=("axis", grad.cpu().numpy()),
            level=level,
            angle_degrees=math.degrees(2 * math.asin(min(1.0, sine / 2))),
            misses_maximizer_by=miss,
            grad_norm_at=float(grad.norm()),
            grad_plus_norm_at=float(f.grad(plus).norm()),
            distance_to_star=float(away.norm()),
            farthest_of_grid=farthest,
            spacing=float(np.hypot(*(np.diff(results[axis])[0] for axis in ("first", "second")))),
        ).assign_attrs(
            function=type(f).__name__ + "()",
            certificate=str(certificate.kind.value),
            attractor="unknown" if certificate.attractor is None else ("yes" if certificate.attractor else "no"),
        )

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the computed point against what the theorem says of it; see `AbstractStudy`."""
        cells = list(results.values())
        if not cells:
            return []
        angle = max(float(cell.angle_degrees) for cell in cells)
        off = max(
            abs(float(cell.farthest_of_grid) - float(cell.distance_to_star)) / float(cell.spacing) for cell in cells
        )
        slope = min(float(cell.grad_norm_at) for cell in cells)
        seen = max(float(cell.grad_plus_norm_at) for cell in cells)
        repelled = sum(cell.attrs["attractor"] == "no" for cell in cells)
        common: dict[str, Any] = {"command": command, "standard_error": math.nan, "n": len(cells), "no_error": EXTREME}
        return [
            Claim(
                statement="The gradient at the farthest point of the component points at the minimizer: the angle",
                source="Figure 2", relation=Relation.AT_MOST, expected=1e-6, unit="°", measured=angle, **common,
            ),
            Claim(
                statement="No grid point of the component is farther from the minimizer: the difference of the "
                "distances, in units of the grid's diagonal spacing",
                source="Figure 2", relation=Relation.AT_MOST, expected=1.0, measured=off, **common,
            ),
            Claim(
                statement="The point is not stationary: the gradient there",
                source="Theorem 2.2", relation=Relation.AT_LEAST, expected=0.05, measured=slope, **common,
            ),
            Claim(
                statement="SAM looks from it at a stationary point: the gradient at x⁺",
                source="Theorem 2.2", relation=Relation.AT_MOST, expected=1e-10, measured=seen, **common,
            ),
            Claim(
                statement="Existence is not attraction: the point that looks at an isolated minimizer repels SAM",
                source="ours", relation=Relation.AT_LEAST, expected=1.0, measured=float(repelled), **common,
            ),
        ]  # fmt: skip


def component(
    results: xr.Dataset, level: float, inside: list[float], target: list[float]
) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], float]:
    """Return the component of a superlevel set that holds a point, on the grid, and its reach from another point.

    Args:
        results: A slice with `loss` over `second` × `first`, whose coordinates are those of the plane.
        level: The level.
        inside: The point that the component holds.
        target: The point from which distances count.
    """
    labels, _ = require("lab", "scipy.ndimage").label(results.loss.values >= level)
    row = int(np.abs(results["second"].values - inside[1]).argmin())
    column = int(np.abs(results["first"].values - inside[0]).argmin())
    mask = labels == labels[row, column]
    distance = np.hypot(results["first"].values[None, :] - target[0], results["second"].values[:, None] - target[1])
    return mask, float(distance[mask].max())

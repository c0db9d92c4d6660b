"""Study `toy`: Figure 1 of arXiv 2509.21818. A minimum of f^SAM where f has none, and it attracts.

The paper's function is in an appendix that we do not have; ours, `Moat`, has the same features: a curve of minimizers
around an isolated maximizer, without symmetry about it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import torch
import xarray as xr
from torch import Tensor

from samirage.lab.engine.compute import default_threads
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.functions import Particles
from samirage.lab.engine.recipe import recipe_parts
from samirage.lab.results.claims import EXTREME, Claim, Relation
from samirage.lab.studies.base import AbstractSeededStudy, Cell, without_own
from samirage.landscape import Mark, Moat, plane, scan
from samirage.points import polish
from samirage.sam import displacement, sam_map

_WINDOW: Final = (-1.5, 1.5)
_DRAWN: Final = 4  # starts whose ways are drawn, for each method
_ROUND: Final = 240  # points of a drawn curve


@dataclass(frozen=True)
class ToyConfig:
    """All that decides the numbers of this study.

    Attributes:
        scale: Preset that the values started from.
        grid: Grid points along each axis.
        steps: Steps of every run.
        seeds: Number of starts.
        rho: Perturbation radius.
        lr: Learning rate.
        first_seed: The first seed; the others follow.
        device: Where to compute.
        threads: CPU threads.
    """

    scale: str
    grid: int
    steps: int
    seeds: int
    rho: float = 1.3
    lr: float = 0.02
    first_seed: int = 0
    device: str = "cpu"
    threads: int = 1


SCALES: Final = {
    "smoke": ToyConfig("smoke", grid=33, steps=1000, seeds=16),
    "laptop": ToyConfig("laptop", grid=97, steps=2000, seeds=200),
    "paper": ToyConfig("paper", grid=193, steps=5000, seeds=2000),
}


class ToyStudy(AbstractSeededStudy[ToyConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.

    Example:
        >>> [cell.name for cell in ToyStudy(SCALES["smoke"]).cells()]
        ['moat']
    """

    name: ClassVar[str] = "toy"

    def cells(self) -> list[Cell]:
        """Return the plan: one cell."""
        one = self._settings
        return [Cell("moat", passes=2 * one.grid**2 + 7 * one.steps, settings={})]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Scan the plane, and run every method from every start; see `AbstractStudy`."""
        f, one = Moat(), self._settings
        plain = Recipe(steps=one.steps, lr=one.lr)
        recipes = {"sgd": plain} | {
            method: replace(plain, rho=one.rho, **recipe_parts(method, steps=one.steps))
            for method in ("sam", "switch", "guard")
        }
        starts = torch.stack([self._start(seed) for seed in self.seeds]).to(self.device)
        ways, ends = [], {}
        for method, recipe in recipes.items():
            points = Particles(f, starts)
            way = [starts]

            def after_step(step: int, passes: int, points: Particles = points, way: list[Tensor] = way) -> None:
                way.append(points.params[0].clone())
                advance(passes)

            train(points, recipe, after_step)
            drawn = torch.stack(way)[:, :_DRAWN]
            kept = _visible(len(drawn))
            ways += [Mark(f"{method}:{i}", "path", drawn[kept, i]) for i in range(drawn.shape[1])]
            # Of an orbit about a minimizer the mean of the last steps says where it is, not its last point.
            ends[method] = torch.stack(way[-max(1, one.steps // 20) :]).mean(0)
        valley, seen = minimizers(f, _ROUND).to(self.device), hallucinated_set(f, one.rho).to(self.device)
        marks = [Mark("minimizers of f", "set", torch.cat([valley, valley[:1]])), *ways]
        marks.append(Mark("minimizers of f^SAM", "set", torch.cat([seen, seen[:1]])))
        origin = torch.zeros(2, dtype=torch.float64, device=self.device)
        axes = tuple(torch.eye(2, dtype=torch.float64, device=self.device))
        at = plane(origin, directions=(axes[0], axes[1]), spans=_WINDOW, labels=("x", "y"))
        results = scan(f, at, rho=one.rho, steps=one.grid, marks=marks)
        advance(2 * one.grid**2)
        for method, x in ends.items():
            grad = f.grad(x)
            grad_plus = f.grad(x + displacement(x, grad, one.rho))
            apart = torch.cdist(x, valley).amin(1)
            results[f"end_distance_{method}"] = ("seed", apart.cpu().numpy())
            results[f"end_grad_norm_{method}"] = ("seed", grad.norm(dim=1).cpu().numpy())
            results[f"end_grad_plus_norm_{method}"] = ("seed", grad_plus.norm(dim=1).cpu().numpy())
        slope = f.grad(seen)
        results["set_grad_norm"] = ("set_point", slope.norm(dim=1).cpu().numpy())
        results["set_distance"] = ("set_point", torch.cdist(seen, valley).amin(1).cpu().numpy())
        results["set_grad_plus_norm"] = (
            "set_point",
            f.grad(seen + displacement(seen, slope, one.rho)).norm(dim=1).cpu().numpy(),
        )
        return results.assign_coords(seed=self.seeds).assign_attrs(function="Moat()", lr=one.lr)

    def _start(self, seed: int) -> Tensor:
        drawn = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return _WINDOW[0] + (_WINDOW[1] - _WINDOW[0]) * drawn

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the picture against what the paper says of its own; see `AbstractStudy`."""
        cell = results.get("moat")
        if cell is None:
            return []
        n = cell.sizes["seed"]
        # An end counts as at a minimizer where it is less than half as far from one as the nearest hallucinated point.
        near = float(cell.set_distance.min()) / 2

        def share(method: str, name: str, below: float) -> tuple[float, float]:
            flags = cell[f"end_{name}_{method}"].values < below
            return float(flags.mean()), math.sqrt(float(flags.mean() * (1 - flags.mean())) / n)

        stuck, stuck_error = share("sam", "grad_plus_norm", 1e-4)
        safe = [share(method, "distance", near) for method in ("sgd", "switch", "guard")]
        common: dict[str, Any] = {"command": command, "standard_error": math.nan, "no_error": EXTREME}
        return [
            Claim(
                statement="At the minimizers of fˢᴬᴹ the gradient of f is far from 0: its smallest norm",
                source="Figure 1 (b)", relation=Relation.AT_LEAST, expected=0.05,
                measured=float(cell.set_grad_norm.min()), n=cell.sizes["set_point"], **common,
            ),
            Claim(
                statement="At these points the gradient that SAM follows vanishes: its largest norm",
                source="Figure 1 (b)", relation=Relation.AT_MOST, expected=1e-9,
                measured=float(cell.set_grad_plus_norm.max()), n=cell.sizes["set_point"], **common,
            ),
            Claim(
                statement="They attract SAM: every start ends at one of them",
                source="Figure 1 (c)", relation=Relation.AT_LEAST, expected=1.0, measured=stuck, n=n,
                command=command, standard_error=stuck_error,
            ),
            Claim(
                statement="Plain gradient descent ends at a minimizer of f from every start",
                source="ours", relation=Relation.AT_LEAST, expected=1.0, measured=safe[0][0], n=n,
                command=command, standard_error=safe[0][1],
            ),
            Claim(
                statement="Guarded SAM ends about a minimizer of f from every start",
                source="ours", relation=Relation.AT_LEAST, expected=1.0, measured=safe[2][0], n=n,
                command=command, standard_error=safe[2][1],
            ),
            Claim(
                statement="A warm start alone does not help here, where no minimizer holds SAM: no start ends at one",
                source="ours", relation=Relation.AT_MOST, expected=0.0, measured=safe[1][0], n=n,
                command=command, standard_error=safe[1][1],
            ),
        ]  # fmt: skip


def minimizers(f: Moat, count: int) -> Tensor:
    """Return points all along the curve of minimizers, shape (count, 2): where rays from the maximizer meet it.

    Args:
        f: The function.
        count: How many points.
    """
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    ray = torch.stack([angle.cos(), angle.sin()], 1)
    low, high = torch.zeros(count, 1, dtype=torch.float64), torch.full((count, 1), 4.0, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        (residual,) = f.residuals((middle * ray).unbind(1))
        outside = residual[:, None] > 0
        low, high = torch.where(outside, low, middle), torch.where(outside, middle, high)
    points: Tensor = low * ray
    return points


def hallucinated_set(f: Moat, rho: float) -> Tensor:
    """Return points all along the curve at which SAM rests, sorted about the maximizer: SAM's ends, polished.

    Args:
        f: The function.
        rho: Perturbation radius.
    """
    angle = 2 * math.pi * torch.arange(_ROUND, dtype=torch.float64) / _ROUND
    x = 0.3 * torch.stack([angle.cos(), angle.sin()], 1)
    for _ in range(2000):
        x = sam_map(f.grad, x, rho=rho, lr=0.02)
    ends = [polish(f, point, rho) for point in x]
    points = torch.stack([end.x for end in ends if end.converged and float(f.grad(end.x).norm()) > 1e-3])
    return points[torch.atan2(points[:, 1], points[:, 0]).argsort()]


def _visible(count: int) -> list[int]:
    """Which steps of a way to keep: all of the first, ever fewer of the later ones, and the last."""
    kept = sorted({min(count - 1, round(1.12**k)) for k in range(120)} | set(range(min(count, 40))) | {count - 1})
    return [k for k in kept if k < count]


def create(scale: str, overrides: Mapping[str, Any], data_dir: str | None) -> ToyStudy:
    """Return the study at a scale.

    Args:
        scale: One of `SCALES`.
        overrides: Settings that differ from the scale's own, by name.
        data_dir: Not used: there are no data.
    """
    without_own("toy", overrides)
    return ToyStudy(replace(SCALES[scale], **{"threads": default_threads(), **overrides}))

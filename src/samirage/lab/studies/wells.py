"""Study `wells`: where SAM ends in a double well, alone and with each remedy, from many starts.

The function is `(x² − 1)²/4 + 0.4y² + 0.15xy`, whose minima lie on both sides of a ridge. At radius 1.5 a hallucinated
attractor lies before each of them; see `samirage.landscape.DoubleWell`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import torch
import xarray as xr

from samirage.lab.engine.compute import default_threads
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.functions import Particles
from samirage.lab.engine.recipe import recipe_parts
from samirage.lab.results.claims import Claim, Relation
from samirage.lab.results.statistics import share_estimate
from samirage.lab.studies.base import AbstractSeededStudy, Cell, without_own
from samirage.landscape import DoubleWell
from samirage.sam.medians import median

EXTENT: Final = ((-2.0, 2.0), (-1.5, 1.5))  # of the starts, and of the map
_MAP: Final = (81, 61)  # values of f on it
_PATH: Final = 40  # most points of a stored path
_SHOWN: Final = 24  # most starts of which a path is stored
_STALLED: Final = 0.1  # shift ratio below which a run stands at a hallucinated point
_SLOPE: Final = 0.05  # gradient norm above which that is not the bottom of a well


@dataclass(frozen=True)
class WellsConfig:
    """All that decides the numbers of this study.

    Attributes:
        scale: Preset that the values started from.
        seeds: Number of starts; each is drawn from its own seed.
        steps: Steps from each.
        rho: Perturbation radius.
        lr: Learning rate.
        switch_fraction: Share of the steps that the switch takes plain.
        first_seed: The first seed; the others follow.
        device: Where to compute.
        threads: CPU threads.
    """

    scale: str
    seeds: int
    steps: int
    rho: float = 1.5
    lr: float = 0.05
    switch_fraction: float = 0.1
    first_seed: int = 0
    device: str = "cpu"
    threads: int = 1


SCALES: Final[dict[str, WellsConfig]] = {
    "smoke": WellsConfig("smoke", seeds=30, steps=600),
    "laptop": WellsConfig("laptop", seeds=500, steps=1000),
    "paper": WellsConfig("paper", seeds=10_000, steps=2000),
}

METHODS: Final = ("sam", "switch", "guard", "guard+switch")


class WellsStudy(AbstractSeededStudy[WellsConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.

    Raises:
        UserError: If the device is not to be had.

    Example:
        >>> [cell.name for cell in WellsStudy(SCALES["smoke"]).cells()]
        ['sam', 'switch', 'guard', 'guard+switch']
    """

    name: ClassVar[str] = "wells"

    def cells(self) -> list[Cell]:
        """Return the plan: a cell for each method."""
        passes = 2 * self._settings.steps
        return [Cell(name=method, passes=passes, settings={"method": method}) for method in METHODS]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Follow one method from all starts; see `AbstractStudy`."""
        settings, method = self._settings, cell.settings["method"]
        parts = recipe_parts(method, steps=settings.steps, switch_fraction=settings.switch_fraction)
        recipe = Recipe(steps=settings.steps, lr=settings.lr, rho=settings.rho, **parts)
        f, starts = DoubleWell(), self._starts()
        points = Particles(f, starts)
        every = -(-settings.steps // _PATH)
        path = [starts[:_SHOWN].cpu().numpy()]

        def after_step(step: int, passes: int) -> None:
            if (step + 1) % every == 0:
                path.append(points.params[0][:_SHOWN].cpu().numpy().copy())
            advance(passes)

        course = train(points, recipe, after_step)
        x = points.params[0]
        grad_norm = torch.linalg.vector_norm(f.value_and_grad(x)[1], dim=1)
        window = max(1, settings.steps // 20)
        # A run under a guard may look from a rejected place at the last step: what it does is in the steps before.
        ratio = median(course["shift_ratio"][-window:])
        wells = torch.stack([m.to(x) for m in f.minimizers])
        axes = [np.linspace(*ends, count) for ends, count in zip(EXTENT, _MAP, strict=True)]
        grid = torch.tensor(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
        return xr.Dataset(
            {
                "path": (("point", "shown", "coordinate"), np.stack(path).astype(np.float32)),
                "end": (("seed", "coordinate"), x.cpu().numpy()),
                "final_grad_norm": ("seed", grad_norm.cpu().numpy()),
                "final_shift_ratio": ("seed", ratio.cpu().numpy()),
                "distance_to_minimizer": ("seed", torch.cdist(x, wells).amin(1).cpu().numpy()),
                "hallucinated": ("seed", ((ratio < _STALLED) & (grad_norm > _SLOPE)).cpu().numpy()),
                "gradients": ("seed", course["passes"].sum(0).cpu().numpy()),
                "f": (("x", "y"), f(grid).reshape(_MAP).float().numpy()),
                "minimizers": (("well", "coordinate"), wells.cpu().numpy()),
            },
            coords={"seed": self.seeds, "shown": self.seeds[:_SHOWN], "x": axes[0], "y": axes[1]},
            attrs={"study": self.name, "method": method, "rho": settings.rho, "lr": settings.lr},
        ).transpose("seed", ...)

    def _starts(self) -> torch.Tensor:
        low, high = np.array(EXTENT).T
        drawn = [np.random.default_rng(seed).uniform(low, high) for seed in self.seeds]
        return torch.tensor(np.array(drawn), device=self.device)

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the ends against what theory says of this function; see `AbstractStudy`."""
        rho = self._settings.rho
        said: dict[str, tuple[str, Relation, float]] = {
            "sam": ("SAM alone ends at a hallucinated point from at least half of the starts", Relation.AT_LEAST, 0.5),
            "switch": (
                "SAM after a warm start does so too from at least half: it leaves the minimizer again",
                Relation.AT_LEAST,
                0.5,
            ),
            "guard": ("SAM with a guard does so from none", Relation.AT_MOST, 0.0),
            "guard+switch": ("SAM with guard and warm start does so from none", Relation.AT_MOST, 0.0),
        }
        claims = []
        for method, (statement, relation, expected) in said.items():
            if method in results:
                hit = share_estimate(results[method].hallucinated.values)
                claims.append(
                    Claim(
                        statement=f"In the double well at rho = {rho:g}, {statement} (share of starts)",
                        source="ours",
                        relation=relation,
                        expected=expected,
                        measured=hit.share,
                        standard_error=math.sqrt(hit.share * (1 - hit.share) / hit.n),
                        n=hit.n,
                        command=command,
                    )
                )
        return claims


def create(scale: str, overrides: Mapping[str, Any], data_dir: str | None) -> WellsStudy:
    """Return the study at a scale.

    Args:
        scale: One of `SCALES`.
        overrides: Settings that differ from the scale's own, by name.
        data_dir: Of no use: the study needs no data.

    Raises:
        UserError: If the study cannot be configured so.
    """
    del data_dir
    without_own("wells", overrides)
    return WellsStudy(replace(SCALES[scale], **{"threads": default_threads(), **overrides}))

"""Study `prevalence`: how often hallucinated points and local maximizers occur, near initialisation and along training.

From points of many networks SAM is run for a while, to see whether it is drawn into a hallucinated point; the ascent
direction is looked along, for a ridge in reach; and the gradient is followed uphill, to see whether there is a top.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.line_scan import look
from samirage.lab.engine.stacked import AbstractStack
from samirage.lab.results.claims import Claim, Relation, share_claim
from samirage.lab.results.plot_spec import Measure, Reading
from samirage.lab.studies.base import Cell
from samirage.lab.studies.comparison import AbstractComparison, Case, Runs
from samirage.lab.tasks.mnist import end_variables
from samirage.sam import norm

_NEARBY: Final = 0.1  # relative distance of a random point from the initial one
_SHARES: Final = (0.03, 0.1, 0.3, 1.0)  # of the training, after which one looks
_RADII: Final = tuple(float(rho) for rho in np.geomspace(0.01, 30.0, 22))
_TOP: Final = 1e-3  # of the gradient's early norm, below which an ascent has reached a top


class PrevalenceStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in PrevalenceStudy.create("smoke", {}, None).cells()][:2]
        ['rho10-sgd-initial', 'rho10-sgd-nearby']
    """

    name: ClassVar[str] = "prevalence"

    def cases(self) -> list[Case]:
        """Return every place along plain and SAM training, and every radius to look at; see `AbstractComparison`."""
        steps = self._settings.steps
        places = {f"step {round(share * steps)}": round(share * steps) for share in _SHARES}
        return [
            *(
                self.case(f"ρ = {rho:g}", "sgd", place, rho, steps=1)
                for rho in self._settings.rhos
                for place in ("initial", "nearby")
            ),
            *(
                self.case(f"ρ = {rho:g}", method, place, rho, steps=n)
                for rho in self._settings.rhos
                for place, n in places.items()
                for method in ("sgd", "sam")
            ),
        ]

    def cells(self) -> list[Cell]:
        """Return the plan, with the passes of the way and of SAM from there; see `AbstractComparison`."""
        return [replace(cell, passes=self._passes(self._cases[cell.settings["case"]])) for cell in super().cells()]

    def _passes(self, case: Case) -> int:
        way = self._way(case)
        return (way.passes if way else 0) + self._from_there(case).passes

    def _way(self, case: Case) -> Recipe | None:
        """Return how to come to a place: by plain steps, or by SAM at a radius at which it trains well."""
        if case.x in {"initial", "nearby"}:
            return None
        return replace(case.recipe, rho=0.0 if case.method == "sgd" else 0.3)

    def _from_there(self, case: Case) -> Recipe:
        return replace(case.recipe, rho=_rho(case), steps=self._settings.steps // 2)

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Go to a place, look around, and run SAM from it; see `AbstractStudy`."""
        case, seeds = self._cases[cell.settings["case"]], cell.settings["seeds"]
        members = self.digits(0.0, "").members(case.loss, seeds)

        def after_step(step: int, passes: int) -> None:
            advance(passes)

        if case.x == "nearby":
            _scatter(members, seeds)
        if (way := self._way(case)) is not None:
            train(members, way, after_step)
        here = [p.clone() for p in members.params]
        rays = look(members, _RADII).within(_rho(case))
        course = train(members, self._from_there(case), after_step)
        hit = end_variables(course)["hallucinated"]
        for p, start in zip(members.params, here, strict=True):
            p.copy_(start)
        top, climb = _climb(members, lr=case.recipe.lr, steps=self._settings.steps)
        return xr.Dataset(
            {
                "hallucinated": hit,
                "ridge_in_reach": ("seed", torch.isfinite(rays.ridge).cpu().numpy()),
                "least_shift_ratio": ("seed", rays.shift_ratio.amin(0).cpu().numpy()),
                "top": ("seed", top.cpu().numpy()),
                "way_to_top": ("seed", climb.cpu().numpy()),
            },
            {"seed": np.array(seeds)},
            self.attributes(case),
        )

    def reading_of(self, runs: Runs) -> Reading:
        """Say how to read the results; see `AbstractComparison`."""
        findings = []
        for panel in dict.fromkeys(key[0] for key in runs):
            lines = [run for key, run in runs.items() if key[0] == panel]
            hit, ridge, top = (_flags(lines, name) for name in ("hallucinated", "ridge_in_reach", "top"))
            far = np.median(np.concatenate([run["way_to_top"] for run in lines]))
            findings.append(
                f"{panel}: from {int(hit.sum())} of {hit.size} places SAM is drawn into a hallucinated point; from "
                f"{int(ridge.sum())} a ridge is in reach; from {int(top.sum())} the ascent ends where the loss is "
                f"flat (at a median distance of {far:.2g})."
            )
        return Reading(
            title="How common hallucinated points are",
            question="Near the initial point and along the training: from how many places does SAM run into a "
            "hallucinated point, and does following the gradient uphill lead to a local maximizer, as the paper's "
            "theorem needs one?",
            axis="Where it starts",
            scale="names",
            measures=(
                Measure("hallucinated", "SAM ends hallucinated (%)", factor=100.0, full=True),
                Measure("ridge_in_reach", "Ridge within ρ (%)", factor=100.0, full=True),
                Measure("top", "Ascent ends on flat land (%)", factor=100.0, full=True),
            ),
            labels={"sgd": "On the way of plain steps", "sam": "On the way of SAM at ρ = 0.3"},
            findings=tuple(findings),
            caption="“Nearby” is a random point at a tenth of the initial point's norm from it. An ascent ends on "
            "flat land where the gradient has fallen to a thousandth: a local maximizer, or a plateau at the top.",
        )

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold small radii and the ascent against what theory needs; see `AbstractComparison`."""
        rhos = sorted({float(key[0].removeprefix("ρ = ")) for key in runs})
        claims = []
        for rho in rhos:
            flags = _flags([run for key, run in runs.items() if key[0] == f"ρ = {rho:g}"], "hallucinated")
            small = rho <= 0.3
            places = "no place" if small else "at least half of the places"
            claims.append(
                share_claim(
                    f"ρ = {rho:g}: SAM is drawn into a hallucinated point from {places}",
                    Relation.AT_MOST if small else Relation.AT_LEAST, 0.0 if small else 0.5, flags, command,
                )
            )  # fmt: skip
        claims.append(
            share_claim(
                "From the initial point, following the gradient uphill ends on flat land (a maximizer or a "
                "plateau), at least for nine networks in ten",
                Relation.AT_LEAST, 0.9,
                _flags([run for key, run in runs.items() if key[2] == "initial"], "top"), command,
            )
        )  # fmt: skip
        return claims


def _rho(case: Case) -> float:
    return float(case.panel.removeprefix("ρ = "))


def _flags(runs: list[xr.Dataset], name: str) -> np.ndarray:
    return np.concatenate([run[name].to_numpy().astype(bool) for run in runs]) if runs else np.array([], dtype=bool)


def _scatter(members: AbstractStack, seeds: list[int]) -> None:
    """Move every member by a random vector, a share of its own norm long."""
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        mine = [p[i] for p in members.params]
        steps = [torch.randn(p.shape, generator=generator).to(p) for p in mine]
        scale = _NEARBY * norm(mine) / norm(steps)
        for p, step in zip(mine, steps, strict=True):
            p.add_(scale * step)


def _distance(params: list[Tensor], others: list[Tensor]) -> Tensor:
    return norm([p - q for p, q in zip(params, others, strict=True)], batched=True)


def _climb(members: AbstractStack, *, lr: float, steps: int) -> tuple[Tensor, Tensor]:
    """Follow the gradient uphill; return whether its norm falls to almost nothing, and how far that is."""
    start, grads = [p.clone() for p in members.params], [torch.empty_like(p) for p in members.params]
    members.loss_and_grads(members.params, grads)
    early = norm(grads, batched=True)
    for _ in range(steps):
        torch._foreach_add_(members.params, grads, alpha=lr)
        members.loss_and_grads(members.params, grads)
    return norm(grads, batched=True) < _TOP * early, _distance(members.params, start)

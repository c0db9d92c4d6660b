"""Study `small-rho`: do hallucinated points vanish when the radius is small? From which radius on are there any?

At a hallucinated point the shifted gradient `g⁺`, at the distance `rho` along the ascent direction, is 0. So the ascent
direction is looked along, at points of real runs: the least distance at which `g⁺` vanishes beside the gradient is the
least radius with which SAM would take the point for a minimizer.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import numpy as np
import torch
import xarray as xr

from samirage.lab.engine.ensemble import train
from samirage.lab.engine.line_scan import look
from samirage.lab.results.claims import Claim, Relation, share_claim
from samirage.lab.results.plot_spec import ACCURACY, Measure, Reading
from samirage.lab.studies.base import Cell, without_own
from samirage.lab.studies.comparison import AbstractComparison, Case, ComparisonConfig, Runs, hits, pick
from samirage.lab.tasks.mnist import LEARNING_RATES, end_variables

_LOOKS: Final = 6  # along a run, evenly
_RADII: Final = tuple(float(rho) for rho in np.geomspace(1e-3, 100.0, 26))
_SMALL: Final = 0.1


class SmallRhoStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in SmallRhoStudy.create("smoke", {}, None).cells()][:2]
        ['softmax-squared-sam-10', 'cross-entropy-sam-10']
    """

    name: ClassVar[str] = "small-rho"
    default_rhos: ClassVar[tuple[float, ...]] = (0.001, 0.01, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)

    @classmethod
    def settings(cls, scale: str, overrides: Mapping[str, Any]) -> ComparisonConfig:
        """Return the configuration of a scale; the losses are the study's own. See `AbstractComparison`."""
        without_own(cls.name, overrides, ("loss",))
        return super().settings(scale, overrides)

    def cases(self) -> list[Case]:
        """Return every loss at every radius; see `AbstractComparison`."""
        return [
            Case(loss, "sam", rho, self.recipe("sam", rho, lr=lr), loss)
            for loss, lr in LEARNING_RATES.items()
            for rho in self._settings.rhos
        ]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Train with SAM, and look along the ascent direction at several steps; see `AbstractStudy`."""
        case, seeds = self._cases[cell.settings["case"]], cell.settings["seeds"]
        digits = self.digits(0.0, "")
        members = digits.members(case.loss, seeds)
        every = max(1, case.recipe.steps // _LOOKS)
        nearest, steps = [], []

        def after_step(step: int, passes: int) -> None:
            advance(passes)
            if (step + 1) % every == 0:
                nearest.append(look(members, _RADII).mirage)
                steps.append(step + 1)

        course = train(members, case.recipe, after_step)
        end = end_variables(course)
        accuracy = (members.logits(digits.test_x).argmax(-1) == digits.test_labels).float().mean(1)
        mirage = torch.stack(nearest)
        least = mirage.amin(0).clamp(max=_RADII[-1])  # beyond the last radius nobody looked
        return xr.Dataset(
            {
                **end,
                "final_test_accuracy": ("seed", accuracy.cpu().numpy()),
                "mirage": (("look", "seed"), mirage.cpu().numpy()),
                "nearest_mirage": ("seed", least.cpu().numpy()),
                "mirage_in_reach": ("seed", (mirage <= case.recipe.rho).float().mean(0).cpu().numpy()),
            },
            {"seed": np.array(seeds), "look": np.array(steps)},
            self.attributes(case),
        ).transpose("seed", ...)

    def reading_of(self, runs: Runs) -> Reading:
        """Say how to read the results; see `AbstractComparison`."""
        findings = []
        for panel in dict.fromkeys(key[0] for key in runs):
            line = pick(runs, panel, "sam")
            nearest = min(float(run["nearest_mirage"].min()) for run in line.values())
            reached = {
                x: float(run["mirage_in_reach"].mean()) for x, run in line.items() if run["mirage_in_reach"].any()
            }
            seen = ", ".join(f"in {100 * share:.1f} % of the looks at ρ = {x:g}" for x, share in reached.items())
            k, n = hits(list(line.values()))
            findings.append(
                f"{panel}: the shifted gradient vanished within ρ {seen or 'in no look at any radius'}; the least "
                f"distance of all was {nearest:.2g}. {k} of {n} runs end at hallucinated points."
            )
        return Reading(
            title="Small radii",
            question="At the radii that people use nobody sees hallucination. Do the points vanish there? At a "
            "hallucinated point the gradient at the distance ρ along the ascent direction vanishes. How far must one "
            "look, along real runs, to see that?",
            axis="Perturbation radius ρ",
            scale="log",
            measures=(
                Measure("nearest_mirage", "Least distance to g⁺ ≈ 0", scale="log"),
                Measure("mirage_in_reach", "g⁺ ≈ 0 within ρ (%)", factor=100.0, full=True),
                ACCURACY,
            ),
            findings=tuple(findings),
            caption="At several steps of every run, the loss is looked at along the gradient, at distances of up to "
            "100. g⁺ ≈ 0: the norm of the shifted gradient is below a tenth of the gradient's.",
        )

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold small radii against the possibility of a hallucinated point; see `AbstractComparison`."""
        claims = []
        for panel in dict.fromkeys(key[0] for key in runs):
            line = pick(runs, panel, "sam")
            small = [run for x, run in line.items() if float(x) <= _SMALL]
            large = [run for x, run in line.items() if float(x) >= 10.0]
            claims += [
                share_claim(
                    f"{panel}: at radii up to {_SMALL:g} the shifted gradient never vanishes within ρ: none of the "
                    "points looked at is a hallucinated one",
                    Relation.AT_MOST, 0.0, _flags(small, "mirage_in_reach"), command,
                ),
                share_claim(
                    f"{panel}: at radii of 10 and more the shifted gradient vanishes within ρ at some time, at least "
                    "for nine runs in ten",
                    Relation.AT_LEAST, 0.9, _flags(large, "mirage_in_reach"), command,
                ),
            ]  # fmt: skip
        return claims


def _flags(runs: list[xr.Dataset], name: str) -> list[bool]:
    return [bool(value > 0) for run in runs for value in run[name].to_numpy()]

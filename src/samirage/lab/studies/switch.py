"""Study `switch`: when to switch from plain steps to SAM, from the start to half of the training, or by criterion."""

from typing import ClassVar

import numpy as np

from samirage.lab.results.claims import Claim, Relation, mean_claim, share_claim
from samirage.lab.results.plot_spec import ACCURACY, HALLUCINATED, PlotSpec
from samirage.lab.studies.comparison import AbstractComparison, Case, Runs, accuracy, best_of, hits, percent, pick
from samirage.sam import WarmStart

_FRACTIONS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
_CRITERION = "slope"  # on the axis: until the slopes agree


class SwitchStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in SwitchStudy.create("smoke", {}, None).cells()][:2]
        ['rho10-switch-0', 'rho10-guard+switch-0']
    """

    name: ClassVar[str] = "switch"

    def cases(self) -> list[Case]:
        """Return every switch point at every radius, without and with a guard; see `AbstractComparison`."""
        steps = self._settings.steps
        starts = {f"{100 * f:g}%": WarmStart(fraction=f, total_steps=steps) for f in _FRACTIONS}
        starts[_CRITERION] = WarmStart(until="slope")
        return [
            self.case(f"ρ = {rho:g}", method, x, rho, warm_start=start)
            for rho in self._settings.rhos
            for x, start in starts.items()
            for method in ("switch", "guard+switch")
        ]

    def reading_of(self, runs: Runs) -> PlotSpec:
        """Say how to read the results; see `AbstractComparison`."""
        findings = []
        for panel in dict.fromkeys(key[0] for key in runs):
            line = pick(runs, panel, "switch")
            best, _ = best_of(line)
            k, n = hits(list(line.values()))
            told = (
                f"{panel}: without a guard the best switch point is {best} ({percent(line[best])} % test accuracy); "
                f"over all switch points {k} of {n} networks end at hallucinated points."
            )
            if _CRITERION in line:
                by = line[_CRITERION]
                share = float((by["gradients"] / by.attrs["steps"]).mean())
                told += (
                    f" By the criterion a network takes {share:.2f} gradients a step: 1 would be plain steps "
                    "throughout, 2 SAM."
                )
            findings.append(told)
        return PlotSpec(
            title="When to switch from plain steps to SAM",
            question="The paper's remedy is a short warm start: plain steps first, then SAM. How long must it be, and "
            "can a criterion (the slope at the perturbed point agrees with the gradient) choose its end?",
            axis="Share of plain steps before SAM",
            scale="names",
            measures=(ACCURACY, HALLUCINATED),
            findings=tuple(findings),
            caption="“slope”: plain steps until three probes in a row find the slope at x⁺ to agree with the gradient.",
        )

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold the paper's remedy against other switch points; see `AbstractComparison`."""
        claims = []
        for panel in dict.fromkeys(key[0] for key in runs):
            line, guarded = pick(runs, panel, "switch"), pick(runs, panel, "guard+switch")
            if not {"0%", "10%", _CRITERION} <= set(line):
                continue
            best, _ = best_of(line)
            claims += [
                mean_claim(
                    f"{panel}: a warm start of 10 % is not below SAM alone in mean test accuracy by more than 0.01",
                    Relation.AT_LEAST, -0.01, accuracy(line["10%"]) - accuracy(line["0%"]), command, source="Figure 4",
                ),
                mean_claim(
                    f"{panel}: the criterion is at most 0.03 below the best switch point ({best}) in mean accuracy",
                    Relation.AT_LEAST, -0.03, accuracy(line[_CRITERION]) - accuracy(line[best]), command,
                ),
                share_claim(
                    f"{panel}: after a warm start of 10 % no network ends at a hallucinated point",
                    Relation.AT_MOST, 0.0, line["10%"]["hallucinated"], command, source="Figure 4",
                ),
            ]  # fmt: skip
            if guarded:
                claims.append(
                    share_claim(
                        f"{panel}: with a guard no network ends at a hallucinated point, whenever it switches",
                        Relation.AT_MOST,
                        0.0,
                        np.concatenate([run["hallucinated"] for run in guarded.values()]),
                        command,
                    )
                )
        return claims

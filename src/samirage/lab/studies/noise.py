"""Study `noise`: wrong labels. Does SAM help more with them, and does a guard take that help away?"""

from dataclasses import replace
from typing import ClassVar, Final

from samirage.lab.results.claims import Claim, Relation, mean_claim
from samirage.lab.results.plot_spec import ACCURACY, SHIFT_RATIO, PlotSpec
from samirage.lab.studies.comparison import AbstractComparison, Case, Runs, accuracy, pick

_NOISES: Final = (0.0, 0.2, 0.4, 0.6)
_METHODS: Final = ("sgd", "sam", "switch", "guard", "guard+decay")


class NoiseStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in NoiseStudy.create("smoke", {}, None).cells()][:2]
        ['rho3-sgd-0', 'rho3-sam-0']
    """

    name: ClassVar[str] = "noise"
    default_rhos: ClassVar[tuple[float, ...]] = (0.3, 1.0, 3.0)

    def cases(self) -> list[Case]:
        """Return every share of wrong labels, radius and method; see `AbstractComparison`."""
        return [
            replace(self.case(f"ρ = {rho:g}", method, 100 * noise, rho), noise=noise)
            for rho in self._settings.rhos
            for noise in _NOISES
            for method in _METHODS
        ]

    def reading_of(self, runs: Runs) -> PlotSpec:
        """Say how to read the results; see `AbstractComparison`."""
        findings = []
        for panel in dict.fromkeys(key[0] for key in runs):
            plain = pick(runs, panel, "sgd")
            for method, name in (("sam", "SAM alone"), ("guard", "the guard")):
                line = pick(runs, panel, method)
                gains = [
                    f"{100 * float((accuracy(run) - accuracy(plain[x])).mean()):+.1f} at {x:g} %"
                    for x, run in line.items()
                    if x in plain
                ]
                findings.append(
                    f"{panel}: {name} against plain gradient descent, in points of test accuracy, by share of "
                    f"wrong labels: {', '.join(gains)}.".replace("-", "−")
                )
        return PlotSpec(
            title="Wrong labels",
            question="SAM is said to help most where labels are wrong. Does that hold here, at which radius, and "
            "does it survive the remedies?",
            axis="Wrong labels (%)",
            scale="linear",
            measures=(ACCURACY, SHIFT_RATIO),
            findings=tuple(findings),
            caption="Test labels are all right.",
        )  # fmt: skip

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold SAM's help against its absence; see `AbstractComparison`."""
        claims = []
        for panel in dict.fromkeys(key[0] for key in runs):
            lines = {method: pick(runs, panel, method) for method in _METHODS}
            if any(set(line) != {100 * noise for noise in _NOISES} for line in lines.values()):
                continue
            gain = {x: accuracy(lines["guard"][x]) - accuracy(lines["sgd"][x]) for x in lines["sgd"]}
            claims += [
                mean_claim(
                    f"{panel}: guarded SAM gains no less over plain gradient descent with 40 % wrong labels than "
                    "with none, in mean test accuracy",
                    Relation.AT_LEAST, 0.0, gain[40.0] - gain[0.0], command,
                ),
                mean_claim(
                    f"{panel}: with 40 % wrong labels the guard is not below SAM alone in mean test accuracy by more "
                    "than 0.01",
                    Relation.AT_LEAST, -0.01, accuracy(lines["guard"][40.0]) - accuracy(lines["sam"][40.0]), command,
                ),
            ]  # fmt: skip
        return claims

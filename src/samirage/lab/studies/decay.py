"""Study `decay`: a radius that is constant, one that falls by a schedule, and one that the guard chooses."""

from typing import ClassVar, Final

from samirage.lab.methods import labels_of
from samirage.lab.results.claims import Claim, Relation, mean_claim, share_claim
from samirage.lab.results.plot_spec import ACCURACY, HALLUCINATED, Reading
from samirage.lab.studies.comparison import AbstractComparison, Case, Runs, accuracy, pick, worst_of, worst_told

# In this study the methods differ in how the radius varies, so the others are labelled by that too.
_LABELS: Final = {
    "sam": "Constant",
    **labels_of(["linear", "cosine", "tenth", "rise"]),
    "guard": "Guard",
    "guard+decay": "Guard, linear to 0",
}


class DecayStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in DecayStudy.create("smoke", {}, None).cells()][:3]
        ['Fullbatch-sgd-30', 'Fullbatch-sam-30', 'Fullbatch-linear-30']
    """

    name: ClassVar[str] = "decay"
    default_rhos: ClassVar[tuple[float, ...]] = (0.3, 1.0, 3.0, 10.0, 30.0)

    def cases(self) -> list[Case]:
        """Return every schedule at every radius, with the full batch and minibatches; see `AbstractComparison`."""
        batches = {"Full batch": None, "Batch 64": 64}
        plain = {
            panel: [self.case(panel, "sgd", rho, 0.0, batch_size=size) for rho in self._settings.rhos[:1]]
            for panel, size in batches.items()
        }
        return [
            case
            for panel, size in batches.items()
            for case in (
                *plain[panel],
                *(
                    self.case(panel, method, rho, rho, batch_size=size)
                    for rho in self._settings.rhos
                    for method in _LABELS
                ),
            )
        ]

    def reading_of(self, runs: Runs) -> Reading:
        """Say how to read the results; see `AbstractComparison`."""
        findings = [worst_told(runs, panel, _LABELS) for panel in dict.fromkeys(key[0] for key in runs)]
        return Reading(
            title="A radius that decays, and one that is guarded",
            question="Does it help to let the radius fall during the training, by which curve, and what does a guard "
            "add?",
            axis="Perturbation radius ρ at its largest",
            scale="log",
            measures=(ACCURACY, HALLUCINATED),
            labels=_LABELS,
            findings=tuple(findings),
            caption="“Rise” lets the radius grow instead. Plain gradient descent has no radius: one point, on the "
            "left.",
        )  # fmt: skip

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold the schedules against the constant radius, and the guard against them; see `AbstractComparison`."""
        claims = []
        for panel in dict.fromkeys(key[0] for key in runs):
            lines = {method: pick(runs, panel, method) for method in _LABELS}
            if not all(lines.values()):
                continue
            margins = {rho: accuracy(run) - accuracy(lines["sam"][rho]) for rho, run in lines["linear"].items()}
            rho, least = min(margins.items(), key=lambda item: float(item[1].mean()))
            worst = {method: accuracy(worst_of(line)[1]) for method, line in lines.items()}
            claims += [
                mean_claim(
                    f"{panel}: a radius that decays linearly to 0 is not below a constant one in mean test accuracy "
                    f"by more than 0.01 at any radius (least margin, at {rho:g})",
                    Relation.AT_LEAST, -0.01, least, command,
                ),
                mean_claim(
                    f"{panel}: at its worst radius, a guarded and decaying radius is at least 0.05 above a decaying "
                    "one at its worst, in mean test accuracy",
                    Relation.AT_LEAST, 0.05, worst["guard+decay"] - worst["linear"], command,
                ),
                share_claim(
                    f"{panel}: at the largest radius, a linear decay leaves no network at a hallucinated point",
                    Relation.AT_MOST, 0.0, lines["linear"][max(lines["linear"], key=float)]["hallucinated"], command,
                ),
            ]  # fmt: skip
        return claims

"""Study `variants`: do other forms of SAM hallucinate too? ASAM, unnormalized SAM, GSAM, LookSAM, and momentum."""

from typing import ClassVar, Final

import numpy as np

from samirage.lab.methods import labels_of
from samirage.lab.results.claims import Claim, Relation, mean_claim, share_claim
from samirage.lab.results.plot_spec import ACCURACY, HALLUCINATED, Reading
from samirage.lab.studies.comparison import AbstractComparison, Case, Runs, accuracy, pick, worst_of, worst_told
from samirage.sam import Guard

_LABELS: Final = {"sam": "SAM", **labels_of(["asam", "unnormalized", "gsam", "looksam", "momentum"])}
_PANELS: Final = ("Alone", "With guard")


class VariantsStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in VariantsStudy.create("smoke", {}, None).cells()][:2]
        ['Alone-sam-30', 'Alone-asam-30']
    """

    name: ClassVar[str] = "variants"
    default_rhos: ClassVar[tuple[float, ...]] = (0.3, 1.0, 3.0, 10.0, 30.0)

    def cases(self) -> list[Case]:
        """Return every variant at every radius, without and with a guard; see `AbstractComparison`."""
        return [
            self.case(panel, method, rho, rho, guard=guard)
            for panel, guard in zip(_PANELS, (None, Guard()), strict=True)
            for rho in self._settings.rhos
            for method in _LABELS
        ]

    def reading_of(self, runs: Runs) -> Reading:
        """Say how to read the results; see `AbstractComparison`."""
        findings = [worst_told(runs, panel, _LABELS) for panel in dict.fromkeys(key[0] for key in runs)]
        return Reading(
            title="Variants of SAM",
            question="Hallucination is a property of a gradient taken at a distance. Do the usual variants share "
            "it, and does the guard help them as it helps SAM?",
            axis="Perturbation radius ρ",
            scale="log",
            measures=(ACCURACY, HALLUCINATED),
            labels=_LABELS,
            findings=tuple(findings),
            caption="The radii mean different distances: ASAM's is measured in units of the weights, unnormalized "
            "SAM's is multiplied by the gradient norm.",
        )

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold every variant against what SAM does; see `AbstractComparison`."""
        alone, guarded = ({m: pick(runs, panel, m) for m in _LABELS} for panel in _PANELS)
        if not all((*alone.values(), *guarded.values())):
            return []
        claims = []
        for method, label in _LABELS.items():
            worst = max((run["hallucinated"] for run in alone[method].values()), key=lambda flags: float(flags.mean()))
            claims.append(
                share_claim(
                    f"{label} alone: at its worst radius at least half of the networks end at hallucinated points",
                    Relation.AT_LEAST, 0.5, worst, command,
                )
            )  # fmt: skip
        claims.append(
            share_claim(
                "With a guard no network ends at a hallucinated point, whatever the variant and the radius",
                Relation.AT_MOST, 0.0,
                np.concatenate([run["hallucinated"] for line in guarded.values() for run in line.values()]), command,
            )
        )  # fmt: skip
        for method, label in _LABELS.items():
            worst_alone, worst_guarded = (accuracy(worst_of(lines[method])[1]) for lines in (alone, guarded))
            claims.append(
                mean_claim(
                    f"{label}: at its worst radius, the guard raises the mean test accuracy by at least 0.2",
                    Relation.AT_LEAST, 0.2, worst_guarded - worst_alone, command,
                )
            )  # fmt: skip
        return claims

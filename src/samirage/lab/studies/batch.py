"""Study `batch`: from 32 examples a step to all. Does the noise of small batches keep SAM from hallucinating?"""

from typing import ClassVar, Final

from samirage.lab.results.claims import Claim, Relation, mean_claim, share_claim
from samirage.lab.results.plot_spec import ACCURACY, SHIFT_RATIO, PlotSpec
from samirage.lab.studies.comparison import AbstractComparison, Case, Runs, accuracy, hits, pick

_SIZES: Final = (32, 64, 128, 256)
_METHODS: Final = ("sgd", "sam", "switch", "guard+decay")


class BatchStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in BatchStudy.create("smoke", {}, None).cells()][:2]
        ['rho10-sgd-32', 'rho10-sam-32']
    """

    name: ClassVar[str] = "batch"

    def cases(self) -> list[Case]:
        """Return every batch size, radius and method; see `AbstractComparison`."""
        sizes = [size for size in _SIZES if size < self._settings.images]
        return [
            self.case(f"ρ = {rho:g}", method, float(size), rho, batch_size=size)
            for rho in self._settings.rhos
            for size in (*sizes, self._settings.images)
            for method in _METHODS
        ]

    def reading_of(self, runs: Runs) -> PlotSpec:
        """Say how to read the results; see `AbstractComparison`."""
        findings = []
        for panel in dict.fromkeys(key[0] for key in runs):
            counts = {x: hits([run]) for x, run in pick(runs, panel, "sam").items()}
            told = ", ".join(f"{k} of {n} at batch {x:g}" for x, (k, n) in counts.items())
            findings.append(f"{panel}, networks trained with SAM alone that end at hallucinated points: {told}.")
        return PlotSpec(
            title="Batch size",
            question="The paper's clearest collapse is with the full batch. Does the noise of minibatches shake SAM "
            "off hallucinated points, at the same number of steps?",
            axis="Examples per step",
            scale="log",
            measures=(ACCURACY, SHIFT_RATIO),
            findings=tuple(findings),
            caption="The largest batch is the full one.",
        )

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold small batches against the full one; see `AbstractComparison`."""
        claims = []
        for panel in dict.fromkeys(key[0] for key in runs):
            alone, ours = pick(runs, panel, "sam"), pick(runs, panel, "guard+decay")
            plain = pick(runs, panel, "sgd")
            if len(alone) < 2 or set(alone) != set(ours) or set(ours) != set(plain):
                continue
            small, full = min(alone, key=float), max(alone, key=float)
            margins = {x: accuracy(run) - accuracy(plain[x]) for x, run in ours.items()}
            worst, margin = min(margins.items(), key=lambda item: float(item[1].mean()))
            claims += [
                mean_claim(
                    f"{panel}: with batches of {small:g}, SAM alone is not below itself with the full batch in mean "
                    "test accuracy by more than 0.01",
                    Relation.AT_LEAST, -0.01, accuracy(alone[small]) - accuracy(alone[full]), command,
                ),
                share_claim(
                    f"{panel}: with batches of {small:g}, no network trained with SAM alone ends at a hallucinated "
                    "point",
                    Relation.AT_MOST, 0.0, alone[small]["hallucinated"], command,
                ),
                mean_claim(
                    f"{panel}: the guard with a decaying radius is at most 0.02 below plain gradient descent in mean "
                    f"test accuracy, whatever the batch size (least margin, at {worst:g})",
                    Relation.AT_LEAST, -0.02, margin, command,
                ),
            ]  # fmt: skip
        return claims

"""Study `evidence`: what a run is doing that does not learn. Gradient norms and a diagnosis at the end of every run.

The evidence that a collapse of SAM is a hallucination, and not a saddle point or bouncing about a minimum.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from samirage.lab.methods import method_named
from samirage.lab.results.claims import Claim, Relation, share_claim
from samirage.lab.results.plot_spec import ACCURACY, GRAD_NORM, SHIFT_RATIO, Reading
from samirage.lab.studies.base import without_own
from samirage.lab.studies.comparison import AbstractComparison, Case, ComparisonConfig, Runs, accuracy
from samirage.lab.tasks.diagnosis_codes import STATUSES
from samirage.lab.tasks.mnist import LEARNING_RATES
from samirage.sam import Status

_METHODS: Final = ("sam", "switch", "decay", "guard", "guard+decay")
_EVIDENCE: Final = ("status", "final_grad_norm", "final_shift_ratio")
_COLLAPSED: Final = 0.2  # test accuracy below which a network has not learnt its ten digits
_TRAPS: Final = (Status.SADDLE_TRAP, Status.MAXIMIZER_TRAP, Status.BOUNCING_MINIMIZER, Status.STATIONARY)


class EvidenceStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in EvidenceStudy.create("smoke", {}, None).cells()][:2]
        ['softmax-squared-sgd-0', 'softmax-squared-sam-30']
    """

    name: ClassVar[str] = "evidence"
    default_rhos: ClassVar[tuple[float, ...]] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

    @classmethod
    def settings(cls, scale: str, overrides: Mapping[str, Any]) -> ComparisonConfig:
        """Return the configuration of a scale; the losses are the study's own. See `AbstractComparison`."""
        without_own(cls.name, overrides, ("loss",))
        return super().settings(scale, overrides)

    def cases(self) -> list[Case]:
        """Return every loss, radius and method; see `AbstractComparison`."""
        runs = [("sgd", 0.0), *((method, rho) for method in _METHODS for rho in self._settings.rhos)]
        return [
            Case(loss, method, rho, self.recipe(method, rho, lr=lr), loss)
            for loss, lr in LEARNING_RATES.items()
            for method, rho in runs
        ]

    def reading_of(self, runs: Runs) -> Reading:
        """Say how to read the results; see `AbstractComparison`."""
        findings = []
        for panel in dict.fromkeys(key[0] for key in runs):
            status, grad, ratio = (_of_collapsed(runs, panel, name) for name in _EVIDENCE)
            if status.size:
                told = [(STATUSES[code].value, int((status == code).sum())) for code in np.unique(status)]
                told.sort(key=lambda pair: -pair[1])
                findings.append(
                    f"{panel}: {status.size} networks trained with SAM alone end below {100 * _COLLAPSED:.0f} % test "
                    f"accuracy; their diagnoses: {', '.join(f'{value} ({n})' for value, n in told)}. Medians of "
                    f"their gradient norms: ‖g‖ {np.nanmedian(grad):.2g}, ‖g⁺‖ {np.nanmedian(grad * ratio):.2g}."
                )
        return Reading(
            title="What a run that does not learn is doing",
            question="When SAM stops learning, is it at a hallucinated point, in a saddle, or bouncing about a "
            "minimum? Every run is diagnosed at its end, and its two gradient norms are read.",
            axis="Perturbation radius ρ",
            scale="names",
            measures=(ACCURACY, SHIFT_RATIO, GRAD_NORM),
            findings=tuple(findings),
            caption="The guess is 10 %. Plain gradient descent stands at radius 0; it has no shift ratio.",
        )

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold the diagnoses against what the paper says of collapsed runs; see `AbstractComparison`."""
        claims = []
        for panel in dict.fromkeys(key[0] for key in runs):
            status = [STATUSES[code] for code in _of_collapsed(runs, panel, "status")]
            claims += [
                share_claim(
                    f"{panel}: of the networks that SAM alone leaves below 20 % accuracy, at least nine in ten are "
                    "at or about a hallucinated point by their diagnosis",
                    Relation.AT_LEAST, 0.9, [s.is_hallucinated for s in status], command, source="Figure 4",
                ),
                share_claim(
                    f"{panel}: of those networks, below 20 % accuracy with SAM alone, at most one in twenty is in a "
                    "saddle, at a maximizer, or at rest or bouncing at a minimum",
                    Relation.AT_MOST, 0.05, [s in _TRAPS for s in status], command,
                ),
            ]  # fmt: skip
        guarded = [run for (_, method, _), run in runs.items() if "guard" in method_named(method).pieces]
        small = [run for (_, method, rho), run in runs.items() if method != "sgd" and float(rho) <= 0.3]
        flags = {name: [_alarmed(run) for run in group] for name, group in (("guarded", guarded), ("small", small))}
        claims += [
            share_claim(
                "No guarded network is diagnosed as hallucinating, whatever the radius and the loss",
                Relation.AT_MOST, 0.0, np.concatenate(flags["guarded"]) if guarded else [], command,
            ),
            share_claim(
                "At radii up to 0.3 no network of any method is diagnosed as hallucinating",
                Relation.AT_MOST, 0.0, np.concatenate(flags["small"]) if small else [], command,
            ),
        ]  # fmt: skip
        return claims


def _of_collapsed(runs: Runs, panel: str, name: str) -> NDArray[Any]:
    """Return a variable of all seeds of SAM alone, with this loss, that did not learn."""
    found = [run for (p, method, _), run in runs.items() if p == panel and method == "sam"]
    parts = [run[name].to_numpy()[(accuracy(run) < _COLLAPSED).to_numpy()] for run in found]
    return np.concatenate(parts) if parts else np.array([], dtype=int)


def _alarmed(run: xr.Dataset) -> NDArray[np.bool_]:
    return np.array([STATUSES[code].is_hallucinated for code in run["status"].to_numpy()], dtype=bool)

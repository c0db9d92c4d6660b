"""Study `alternatives`: what was tried besides the guard as it is, on the same task, so that what lost is on record.

Other thresholds and growth rates, the slope alone, the ascent gain, the warm start by criterion, and momentum; each
alone, and most of them with the switch.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import xarray as xr

from samirage.lab.methods import METHODS as ALL_METHODS
from samirage.lab.results.claims import SINGLE, Claim, Relation
from samirage.lab.results.runs import join_blocks
from samirage.lab.results.statistics import mean_estimate
from samirage.lab.studies.guard import RUN, GuardConfig, GuardStudy, configured
from samirage.lab.tasks.mnist import LEARNING_RATES

_SINGLE: Final = (
    *("sgd", "sam", "guard", "kappa0.3", "kappa0.5", "kappa0.9", "slope0.3", "gain", "growth1.02", "growth1.2"),
    *("criterion", "criterion-guard", "momentum", "momentum-guard"),
)
METHODS: Final = (*_SINGLE, *(f"{name}+switch" for name in _SINGLE if f"{name}+switch" in ALL_METHODS))
_REFERENCE: Final = "guard+switch"  # what the claims compare the others with
_WIDE: Final = (3.0, 10.0, 30.0)  # radii at which SAM alone fails

SCALES: Final[dict[str, GuardConfig]] = {
    "smoke": GuardConfig("smoke", "mnist-mini", 100, 30, (10.0,), ("softmax-squared",), (0,), seeds=2),
    "laptop": GuardConfig("laptop", "mnist-mini", 1000, 300, _WIDE, tuple(LEARNING_RATES), (0,), seeds=8),
    "paper": GuardConfig("paper", "mnist", 60_000, 2000, _WIDE, tuple(LEARNING_RATES), (0, 128), seeds=16),
}


class AlternativesStudy(GuardStudy):
    """The study, for one configuration; see `GuardStudy`."""

    name: ClassVar[str] = "alternatives"
    methods: ClassVar[tuple[str, ...]] = METHODS

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the guard as it is against every alternative, each at its worst setting; see `AbstractStudy`."""
        runs = join_blocks(results.values(), by=RUN)
        worst = {method: _worst(runs, method) for method in self.methods}
        ours = worst.pop(_REFERENCE)
        if ours is None:
            return []
        claims = []
        for method, theirs in worst.items():
            if theirs is not None:
                mine, other = mean_estimate(ours), mean_estimate(theirs)
                error = math.hypot(mine.standard_error, other.standard_error)
                claims.append(
                    Claim(
                        statement=f"In the setting where each is worst, {_REFERENCE} is not below “{method}” in mean "
                        "test accuracy by more than two standard errors",
                        source="ours",
                        relation=Relation.AT_LEAST,
                        expected=0.0,
                        measured=mine.mean - other.mean,
                        standard_error=error,
                        n=mine.n,
                        command=command,
                        tolerance=2 * error if math.isfinite(error) else 0.0,
                        no_error=SINGLE if math.isnan(error) else "",
                    )
                )
        return claims


def _worst(runs: Mapping[tuple[Any, ...], xr.Dataset], method: str) -> xr.DataArray | None:
    """Return the test accuracies of the method's setting with the lowest mean."""
    found = [run.final_test_accuracy for key, run in runs.items() if key[2] == method]
    return min(found, key=lambda values: float(values.mean())) if found else None


def create(scale: str, overrides: Mapping[str, Any], data_dir: str | None) -> AlternativesStudy:
    """Return the study at a scale; see `samirage.lab.studies.guard.create`."""
    return AlternativesStudy(configured(SCALES, scale, overrides), data_dir)

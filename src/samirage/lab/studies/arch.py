"""Study `arch`: other networks. Activation, width, depth, loss, a small CNN and a small transformer."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np

from samirage.lab.engine.networks import NETWORKS
from samirage.lab.results.claims import Claim, Relation, mean_claim, share_claim
from samirage.lab.results.plot_spec import ACCURACY, HALLUCINATED, PlotSpec
from samirage.lab.studies.comparison import AbstractComparison, Case, ComparisonConfig, Runs, accuracy, hits, pick
from samirage.lab.tasks.mnist import LEARNING_RATES

_METHODS: Final = ("sgd", "sam", "switch", "guard+decay")
_BASE: Final = "tanh 32"  # that of the other studies, with the first loss

# Network → learning rate, where it is not that of the loss: of 0.1, 0.3 and 1, the best for plain steps.
_RATES: Final[Mapping[str, float]] = {"transformer": 0.3}
_COSTLY: Final = ("CNN", "transformer")  # convolutions and attention: minibatches, or the study would take hours
_COSTLY_BATCH: Final = 50


class ArchStudy(AbstractComparison):
    """The study, for one configuration; see `AbstractComparison`.

    Example:
        >>> [cell.name for cell in ArchStudy.create("smoke", {}, None).cells()][:2]
        ['rho10-sgd-tanh8', 'rho10-sam-tanh8']
    """

    name: ClassVar[str] = "arch"
    fixed = ("loss",)

    @classmethod
    def settings(cls, scale: str, overrides: Mapping[str, Any]) -> ComparisonConfig:
        """Return the configuration of a scale, with half as many seeds; see `AbstractComparison`."""
        settings = super().settings(scale, overrides)
        return replace(settings, seeds=max(2, settings.seeds // 2))

    def cases(self) -> list[Case]:
        """Return every network at every radius with every method; see `AbstractComparison`."""
        first, *others = LEARNING_RATES
        kinds = [(name, name, first) for name in NETWORKS] + [(loss, _BASE, loss) for loss in others]
        return [
            Case(
                f"ρ = {rho:g}", method, name,
                self.recipe(method, rho, lr=_RATES.get(name, LEARNING_RATES[loss]),
                            batch_size=_COSTLY_BATCH if name in _COSTLY else None), loss, network=network,
            )
            for rho in self._settings.rhos
            for name, network, loss in kinds
            for method in _METHODS
        ]  # fmt: skip

    def reading_of(self, runs: Runs) -> PlotSpec:
        """Say how to read the results; see `AbstractComparison`."""
        findings = []
        for panel in dict.fromkeys(key[0] for key in runs):
            line = pick(runs, panel, "sam")
            hit = [f"{x} ({k} of {n})" for x, (k, n) in ((x, hits([run])) for x, run in line.items()) if k]
            findings.append(
                f"{panel}: SAM alone leaves seeds at hallucinated points with {', '.join(hit) or 'none'} of the "
                f"{len(line)} kinds of network and loss."
            )
        return PlotSpec(
            title="Other networks and losses",
            question="Is hallucination a matter of the paper's two-layer tanh network, or do other activations, "
            "widths, depths, losses, convolutions and attention show it too?",
            axis="Network, or loss with the network “tanh 32”",
            scale="names",
            measures=(ACCURACY, HALLUCINATED),
            findings=tuple(findings),
            caption="Numbers are widths of hidden layers. CNN and transformer see batches of 50. Unless it is "
            "named, the loss is the squared error of softmax outputs.",
        )  # fmt: skip

    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold all networks against the first, and the remedy against plain steps; see `AbstractComparison`."""
        claims = []
        for panel in dict.fromkeys(key[0] for key in runs):
            alone, plain, ours = (pick(runs, panel, method) for method in ("sam", "sgd", "guard+decay"))
            if not set(alone) == set(plain) == set(ours):
                continue
            margins = {x: accuracy(run) - accuracy(plain[x]) for x, run in ours.items()}
            worst, margin = min(margins.items(), key=lambda item: float(item[1].mean()))
            claims += [
                mean_claim(
                    f"{panel}: the guard with a decaying radius is at most 0.03 below plain gradient descent in mean "
                    f"test accuracy with every network and loss (least margin: {worst})",
                    Relation.AT_LEAST, -0.03, margin, command,
                ),
                share_claim(
                    f"{panel}: with a guard and a decaying radius no network of any kind ends at a hallucinated point",
                    Relation.AT_MOST, 0.0, np.concatenate([run["hallucinated"] for run in ours.values()]), command,
                ),
            ]  # fmt: skip
        largest = f"ρ = {max(self._settings.rhos):g}"
        kinds = [bool(run["hallucinated"].any()) for run in pick(runs, largest, "sam").values()]
        claims.append(
            share_claim(
                f"{largest}: SAM alone hallucinates, at least at some seed, with at least half of all kinds of "
                "network and loss",
                Relation.AT_LEAST, 0.5, kinds, command,
            )
        )  # fmt: skip
        return claims

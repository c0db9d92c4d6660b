"""Study `cifar`: ResNet-18 on CIFAR-100 with stochastic gradients, SAM alone against the remedies (Figure 5)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Final

import xarray as xr
from numpy.typing import ArrayLike

from samirage.lab.results.claims import EXTREME, Claim, Relation, mean_claim, share_claim
from samirage.lab.results.plot_spec import GRAD_NORM, HALLUCINATED, Measure, PlotSpec
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.studies.comparison import Runs, accuracy, best_of, hits, joined, pick
from samirage.lab.tasks.cifar import (
    METHODS,
    PANEL,
    SCALES,
    CifarConfig,
    attributes_of,
    network_of,
    passes_of,
    pictures_of,
    recipe_of,
    settings,
)
from samirage.lab.tasks.image_data import Pictures
from samirage.lab.tasks.loop import LONGEST_WINDOW, ImageTraining

_ACCURACY: Final = Measure("final_test_accuracy", "Test accuracy (%)", factor=100.0)  # its differences are small
_PAPERS: Final = {"sam": ("SAM alone", 77.05), "switch": ("the switch to SAM", 77.49)}  # at the radius of the peak
_PEAK: Final = 0.3
_NAMES: Final = {
    "sgd": "plain SGD",
    "sam": "SAM alone",
    "switch": "switch",
    "decay": "decaying radius",
    "guard": "guard",
}
_LABELS: Final = {"sgd": "Plain SGD (ρ = 0)"}


class CifarStudy(AbstractSeededStudy[CifarConfig]):
    """The study, for one configuration. A cell is one network.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, unless it is to be found or downloaded.

    Raises:
        UserError: If the device is unavailable.

    Example:
        >>> [cell.name for cell in CifarStudy.create("smoke", {}, None).cells()][:4]
        ['sgd-seed0', 'sgd-seed1', 'rho0.3-sam-seed0', 'rho0.3-sam-seed1']
    """

    name: ClassVar[str] = "cifar"
    scales = SCALES
    fixed = ("loss",)

    @cached_property
    def _pictures(self) -> Pictures:
        return pictures_of(self._settings, self.device, self._data_dir)

    def prepare(self) -> None:
        """Load the data set; see `AbstractStudy`."""
        _ = self._pictures

    @classmethod
    def settings(cls, scale: str, overrides: Mapping[str, Any]) -> CifarConfig:
        """Return the configuration of a scale, with what is fast on the device; see `AbstractSeededStudy`."""
        return settings(scale, overrides)

    def cells(self) -> list[Cell]:
        """Return the plan: plain SGD, then every method at every radius, each seed for itself."""
        cases = [("sgd", 0.0)] + [(method, rho) for rho in self._settings.rhos for method in METHODS[1:]]
        return [
            Cell(
                name=(f"rho{rho:g}-" if rho else "") + f"{method}-seed{seed}",
                passes=passes_of(self._settings, method),
                settings={"method": method, "rho": rho, "seed": seed},
            )
            for method, rho in cases
            for seed in self.seeds
        ]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Train one network, and diagnose it; see `AbstractStudy`."""
        method, rho, seed = (cell.settings[name] for name in ("method", "rho", "seed"))
        recipe = recipe_of(self._settings, method, rho, seed)
        training = ImageTraining(
            network_of(self._settings, seed, self.device),
            self._pictures,
            recipe,
            weight_decay=self._settings.weight_decay,
            ways=self._settings.ways,
        )
        return training.run(seed, advance).assign_attrs(attributes_of(self._settings, method, recipe))

    def reading(self, results: Mapping[str, xr.Dataset]) -> PlotSpec:
        """Say how to read the results; see `AbstractStudy`."""
        runs, config = joined(results), self._settings
        about = (
            "artificial images" if config.data == "synthetic" else
            f"{config.images:,} images of {config.classes} classes, {config.size}×{config.size} pixels"
        )  # fmt: skip
        return PlotSpec(
            title="Images and stochastic gradients",
            question="Figure 5 of the paper: how do SAM alone and the switch from plain steps to SAM depend on the "
            "radius when a residual network learns CIFAR-100 from minibatches, and what do a guard and a decaying "
            "radius do there?",
            axis="Perturbation radius ρ",
            scale="linear",
            measures=(_ACCURACY, HALLUCINATED, GRAD_NORM),
            labels=_LABELS,
            findings=tuple(_told(runs)),
            caption=f"ResNet-18 of width {config.width}, {about}, {config.epochs} epochs, batches of "
            f"{config.batch_size}. ρ = 0 is plain SGD. A diagnosis is about at most {LONGEST_WINDOW:,} steps.",
        )

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the results against the paper's Figure 5, and against what the remedies promise; see `AbstractStudy`."""
        runs = joined(results)
        lines = {method: pick(runs, PANEL, method) for method in METHODS}
        nothing: list[float] = []
        claims = []
        for method, (label, expected) in _PAPERS.items():
            run = lines[method].get(_PEAK)
            values = nothing if run is None else 100 * accuracy(run)
            claims.append(
                self._papers(
                    f"At ρ = {_PEAK:g}, {label} reaches a test accuracy of {expected:g} % on the average, within a "
                    "point", Relation.EQUAL_WITHIN, expected, values, command, tolerance=1.0, unit="%",
                )
            )  # fmt: skip
        best = {method: float(best_of(line)[0]) for method, line in lines.items() if line}
        # A peak has something on both sides.
        around = {float(x) > _PEAK for x in lines["sam"] if x != _PEAK} == {False, True}
        peak = [best["sam"]] if around else nothing
        claim = self._papers(
            f"SAM alone is best at ρ = {_PEAK:g}", Relation.EQUAL_WITHIN, _PEAK, peak, command, tolerance=1e-9
        )
        claims.append(replace(claim, n=len(self.seeds), no_error=EXTREME) if around else claim)
        if "switch" in best and "sam" in best:
            gain = accuracy(lines["switch"][best["switch"]]) - accuracy(lines["sam"][best["sam"]])
            claims.append(
                self._papers(
                    "The switch at its best radius is not below SAM alone at its best", Relation.AT_LEAST, 0.0,
                    100 * gain, command, unit="%",
                )
            )  # fmt: skip
        return claims + self._own(lines, command)

    def _papers(
        self, statement: str, relation: Relation, expected: float, values: ArrayLike, command: str, *,
        tolerance: float = 0.0, unit: str = "",
    ) -> Claim:  # fmt: skip
        """A claim of the paper, which only the whole data set and network can support or refute."""
        claim = mean_claim(statement, relation, expected, values, command, source="Figure 5", tolerance=tolerance)
        whole = self._settings.scale == "paper"
        reason = "" if whole else "Figure 5 is about all of CIFAR-100 and the whole ResNet-18: use --scale paper"
        return replace(claim, unit=unit, comparable=whole, reason=reason)

    def _own(self, lines: Mapping[str, Mapping[str | float, xr.Dataset]], command: str) -> list[Claim]:
        shared = set(lines["guard"]) & set(lines["sam"])
        if not shared:
            return []
        largest = max(shared, key=float)
        guard, alone = lines["guard"][largest], lines["sam"][largest]
        flags = [bool(flag) for run in lines["guard"].values() for flag in run["hallucinated"].to_numpy()]
        return [
            mean_claim(
                f"At the largest radius, ρ = {largest:g}, the guard is at most 0.01 below SAM alone in mean test "
                "accuracy", Relation.AT_LEAST, -0.01, accuracy(guard) - accuracy(alone), command,
            ),
            share_claim(
                "With the guard no network ends at a hallucinated point, at any radius", Relation.AT_MOST, 0.0, flags,
                command,
            ),
        ]  # fmt: skip


def _told(runs: Runs) -> list[str]:
    """Tell mean and standard deviation of every method, where it is best and everywhere, and where SAM alone ended."""
    best, everywhere = [], []
    for method, label in _NAMES.items():
        line = pick(runs, PANEL, method)
        if line:
            top = float(best_of(line)[0])
            best.append(f"{label} {_mean_and_spread(line[top])} %" + (f" at ρ = {top:g}" if top else ""))
        if line and method != "sgd":
            by_radius = (f"{_mean_and_spread(line[x])} ({x:g})" for x in sorted(line, key=float))
            everywhere.append(f"{label} {', '.join(by_radius)}")
    k, n = hits(list(pick(runs, PANEL, "sam").values()))
    return [
        f"Test accuracy at the best radius of each, mean ± standard deviation over the seeds: {'; '.join(best)}.",
        f"The same in percent at every radius (in brackets): {'; '.join(everywhere)}.",
        f"SAM alone ended at a hallucinated point in {k} of {n} networks, over all radii.",
    ]


def _mean_and_spread(run: xr.Dataset) -> str:
    values = 100 * accuracy(run)
    spread = f" ± {float(values.std(ddof=1)):.2f}" if values.size > 1 else ""
    return f"{float(values.mean()):.2f}{spread}"

"""Study `guard`: which remedy keeps SAM from hallucinating, at any radius, and what it costs elsewhere.

The setting is that of study `mnist`, with three losses, with the full batch and with minibatches. Methods: `sgd`,
`sam`, `switch` (plain steps first), `decay` (the radius falls linearly to 0), `guard`, and the guard composed with the
other two.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import xarray as xr

from samirage.errors import UserError
from samirage.lab.engine.compute import default_threads
from samirage.lab.engine.ensemble import Recipe
from samirage.lab.engine.recipe import recipe_parts
from samirage.lab.methods import RECOMMENDED, method_named
from samirage.lab.results.claims import Claim, Relation, mean_claim, share_claim
from samirage.lab.results.runs import join_blocks, rejected_share
from samirage.lab.results.statistics import mean_estimate
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.tasks.mnist import LEARNING_RATES, Digits
from samirage.sam import Guard

METHODS: Final = ("sgd", "sam", "switch", "decay", "guard", "guard+switch", "guard+decay", "guard+switch+decay")
_UNGUARDED: Final = ("sam", "switch", "decay")
_RECORDED_POINTS: Final = 20  # most points of a stored curve: there are hundreds of cells
_PRACTICAL_RHO: Final = 0.3
RUN: Final = ("loss_name", "batch_size", "method", "rho")  # what distinguishes a run
_FULL_BATCH: Final = 0  # the batch size that stands for all examples, since JSON and NetCDF have no None


@dataclass(frozen=True)
class GuardConfig:
    """All that decides the numbers of this study.

    Attributes:
        scale: Preset that the values started from.
        data: Name of the data set.
        images: Training images used; the first so many.
        steps: Gradient steps.
        rhos: Perturbation radii.
        losses: Names of the losses.
        batch_sizes: Images per step; 0 is the full batch.
        seeds: Number of seeds.
        hidden: Width of the hidden layer.
        switch_fraction: Share of the steps that the switch takes plain.
        kappa: The guard's smallest agreement.
        first_seed: The first seed; the others follow.
        block: Most seeds in one cell.
        device: Where to compute.
        threads: CPU threads.
    """

    scale: str
    data: str
    images: int
    steps: int
    rhos: tuple[float, ...]
    losses: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    seeds: int
    hidden: int = 32
    switch_fraction: float = 0.1
    kappa: float = Guard().kappa
    first_seed: int = 0
    block: int = 80
    device: str = "cpu"
    threads: int = 1


_ALL_RHOS: Final = (0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_ALL_LOSSES: Final = tuple(LEARNING_RATES)

SCALES: Final[dict[str, GuardConfig]] = {
    "smoke": GuardConfig("smoke", "mnist-mini", 200, 60, (0.1, 10.0), ("softmax-squared",), (_FULL_BATCH, 64), seeds=4),
    "laptop": GuardConfig("laptop", "mnist-mini", 1000, 300, _ALL_RHOS, _ALL_LOSSES, (_FULL_BATCH, 128), seeds=16),
    "paper": GuardConfig("paper", "mnist", 60_000, 2000, _ALL_RHOS, _ALL_LOSSES, (_FULL_BATCH, 128), seeds=80),
}


class GuardStudy(AbstractSeededStudy[GuardConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, where it is not the one in the package.

    Raises:
        UserError: If a loss is unknown, or the device unavailable.

    Example:
        >>> [cell.name for cell in GuardStudy(SCALES["smoke"]).cells()][:3]
        ['softmax-squared-full-sgd', 'softmax-squared-full-sam-rho0.1', 'softmax-squared-full-switch-rho0.1']
    """

    name: ClassVar[str] = "guard"
    methods: ClassVar[tuple[str, ...]] = METHODS

    def __init__(self, settings: GuardConfig, data_dir: str | None = None) -> None:
        for loss in settings.losses:
            if loss not in LEARNING_RATES:
                raise UserError(f"unknown loss {loss!r}: use one of {', '.join(LEARNING_RATES)}")
        super().__init__(settings)
        self._data_dir = data_dir

    @cached_property
    def _digits(self) -> Digits:
        one = self._settings
        return Digits(one.data, images=one.images, hidden=one.hidden, device=self.device, data_dir=self._data_dir)

    def prepare(self) -> None:
        """Load the data set; see `AbstractStudy`."""
        _ = self._digits

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as plain data for JSON."""
        return super().config | {
            "lrs": [LEARNING_RATES[loss] for loss in self._settings.losses],
            "methods": list(self.methods),
            "dtype": "float32",
        }

    def cells(self) -> list[Cell]:
        """Return the plan: every loss, batch size, radius and method, in blocks of seeds."""
        settings = self._settings
        blocks = self.blocks(settings.block)
        cells = []
        for loss in settings.losses:
            for batch in settings.batch_sizes:
                runs = [("sgd", 0.0), *((m, rho) for rho in settings.rhos for m in self.methods if m != "sgd")]
                for method, rho in runs:
                    for block in blocks:
                        recipe = self.recipe(loss, batch, method, rho)
                        name = f"{loss}-{batch or 'full'}-{method}" + (f"-rho{rho:g}" if rho else "")
                        name += f"-seeds{block[0]}-{block[-1]}" if len(blocks) > 1 else ""
                        what = {"loss": loss, "batch": batch, "method": method, "rho": rho, "seeds": block}
                        cells.append(Cell(name=name, passes=recipe.passes, settings=what))
        return cells

    def recipe(self, loss: str, batch: int, method: str, rho: float) -> Recipe:
        """Return how a method trains. With momentum the learning rate is `1 − momentum` times that of the loss.

        Args:
            loss: Name of the loss.
            batch: Images per step; 0 for all.
            method: Name of the method, one of `methods`.
            rho: Perturbation radius.
        """
        one = self._settings
        parts = recipe_parts(method, steps=one.steps, switch_fraction=one.switch_fraction, kappa=one.kappa)
        lr = LEARNING_RATES[loss] * (1 - parts.get("momentum", 0.0))
        return Recipe(steps=one.steps, lr=lr, rho=rho, batch_size=batch or None, **parts)

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Train one method at one radius with one loss and batch size, for one block of seeds; see `AbstractStudy`."""
        what = cell.settings
        recipe = self.recipe(what["loss"], what["batch"], what["method"], what["rho"])
        return self._digits.train(
            what["loss"],
            recipe,
            what["seeds"],
            points=_RECORDED_POINTS,
            advance=advance,
            attributes={
                "study": self.name,
                "method": what["method"],
                "rho": what["rho"],
                "loss_name": what["loss"],
                "batch_size": what["batch"],
                "lr": recipe.lr,
                "passes": cell.passes,
                "steps": recipe.steps,
            },
        )

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the results against what the guard promises; see `AbstractStudy`."""
        runs = join_blocks(results.values(), by=RUN)
        claims = []
        guarded = [run for run in runs.values() if "guard" in method_named(run.attrs["method"]).pieces]
        if guarded:
            flags = np.concatenate([run.hallucinated.values for run in guarded])
            worst = max(guarded, key=lambda run: float(rejected_share(run).mean()))
            claims += [
                share_claim(
                    "No guarded run ends at a hallucinated point, whatever the radius, loss and batch size",
                    Relation.AT_MOST, 0.0, flags, command,
                ),
                mean_claim(
                    "In the guarded cell with most rejections, at most one step in ten is rejected",
                    Relation.AT_MOST, 0.1, rejected_share(worst), command,
                ),
            ]  # fmt: skip
        for loss, batch in dict.fromkeys(key[:2] for key in runs):
            accuracy = {key[2:]: run.final_test_accuracy for key, run in runs.items() if key[:2] == (loss, batch)}
            where = f"{loss}, " + (f"batch {batch:g}" if batch else "full batch")
            claims += _claims_of(where, accuracy, command)
        return claims


def _claims_of(where: str, accuracy: Mapping[tuple[str, float], xr.DataArray], command: str) -> list[Claim]:
    """Hold the recommended combination against the other methods, for one loss and batch size."""
    ours = {rho: values for (method, rho), values in accuracy.items() if method == RECOMMENDED}
    alone = {rho: values for (method, rho), values in accuracy.items() if method == "sam"}
    if not ours or not alone:
        return []
    claims = []

    def add(statement: str, expected: float, difference: xr.DataArray, tolerance: float = 0.0) -> None:
        statement = f"{where}: {statement}"
        claims.append(mean_claim(statement, Relation.AT_LEAST, expected, difference, command, tolerance=tolerance))

    best = max(alone.values(), key=lambda values: float(values.mean()))
    worst_rho, worst = min(ours.items(), key=lambda item: float(item[1].mean()))
    add(
        f"at its worst radius ({worst_rho:g}), {RECOMMENDED} is at most 0.03 below SAM at its best one, in mean test "
        "accuracy",
        -0.03,
        worst - best,
    )
    for other in _UNGUARDED:
        margins = {
            rho: ours[rho] - accuracy[other, rho] for rho in ours if rho > _PRACTICAL_RHO and (other, rho) in accuracy
        }
        if margins:
            rho, margin = min(margins.items(), key=lambda item: float(item[1].mean()))
            add(
                f"at every radius above {_PRACTICAL_RHO:g}, {RECOMMENDED} is not below {other} in mean test accuracy "
                f"(least margin, at {rho:g})",
                0.0,
                margin,
            )
    small = {rho: ours[rho] - alone[rho] for rho in ours if rho <= _PRACTICAL_RHO and rho in alone}
    if small:
        errors = {rho: 2 * mean_estimate(margin).standard_error for rho, margin in small.items()}
        rho, margin = min(small.items(), key=lambda item: float(item[1].mean()) + errors[item[0]])
        add(
            f"at radii up to {_PRACTICAL_RHO:g}, {RECOMMENDED} is not below SAM by more than two standard errors "
            f"(least margin, at {rho:g})",
            0.0,
            margin,
            tolerance=errors[rho] if math.isfinite(errors[rho]) else 0.0,
        )
    return claims


def configured(scales: Mapping[str, GuardConfig], scale: str, overrides: Mapping[str, Any]) -> GuardConfig:
    """Return the configuration of a scale, with the settings that differ.

    Args:
        scales: The scales of the study, by name.
        scale: One of them.
        overrides: Settings that differ from the scale's own, by name; a single `loss` replaces the losses.
    """
    given = dict(overrides)
    if "loss" in given:
        given["losses"] = (given.pop("loss"),)
    return replace(scales[scale], **{"threads": default_threads(), **given})


def create(scale: str, overrides: Mapping[str, Any], data_dir: str | None) -> GuardStudy:
    """Return the study at a scale.

    Args:
        scale: One of `SCALES`.
        overrides: Settings that differ from the scale's own, by name; a single `loss` replaces the losses.
        data_dir: Folder of the data set, where it is not the one in the package.

    Raises:
        UserError: If the study cannot be configured so.
    """
    return GuardStudy(configured(SCALES, scale, overrides), data_dir)

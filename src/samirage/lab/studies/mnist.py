"""Study `mnist`: full-batch MNIST on a two-layer tanh network, the setting of Figure 4 of arXiv 2509.21818.

Methods: `sgd` (plain gradient steps), `sam` (SAM from the first step) and `switch` (plain steps first, then SAM).
The practical radii, up to about 0.5, are among those chosen here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from samirage.errors import UserError
from samirage.lab.engine.compute import default_threads
from samirage.lab.engine.ensemble import Recipe
from samirage.lab.engine.models import LOSSES
from samirage.lab.engine.recipe import recipe_parts
from samirage.lab.results.claims import Claim, Relation, mean_claim, share_claim
from samirage.lab.results.runs import join_blocks
from samirage.lab.results.statistics import mean_estimate
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.tasks.mnist import LEARNING_RATES, Digits

Method = Literal["sgd", "sam", "switch"]

_RECORDED_POINTS: Final = 300  # most points of a stored curve
_PRACTICAL_RHO: Final = 0.5  # about the largest radius that people train with
_MIDDLE_RHO: Final = 3.0  # where SAM alone has collapsed, and switching still learns
_LARGE_RHO: Final = 10.0  # where all of SAM's runs freeze


@dataclass(frozen=True)
class MnistConfig:
    """All that decides the numbers of this study.

    Attributes:
        scale: Preset that the values started from.
        data: Name of the data set.
        images: Training images used; the first so many.
        hidden: Width of the hidden layer.
        loss: Name of the loss; one of `LOSSES`.
        steps: Gradient steps.
        lr: Learning rate; None takes the one that suits the loss.
        rhos: Perturbation radii.
        switch_fraction: Share of the steps that `switch` takes plain.
        batch_size: Images per step; None is the full batch.
        seeds: Number of seeds.
        first_seed: The first of them; the others follow.
        block: Most seeds in one cell.
        device: Where to compute.
        threads: CPU threads.
    """

    scale: str
    data: str
    images: int
    steps: int
    rhos: tuple[float, ...]
    seeds: int
    hidden: int = 32
    loss: str = "softmax-squared"
    lr: float | None = None
    switch_fraction: float = 0.1
    batch_size: int | None = None
    first_seed: int = 0
    block: int = 80
    device: str = "cpu"
    threads: int = 1


SCALES: Final[dict[str, MnistConfig]] = {
    "smoke": MnistConfig("smoke", "mnist-mini", images=200, steps=60, rhos=(0.1, 10.0), seeds=4),
    "laptop": MnistConfig("laptop", "mnist-mini", images=1000, steps=600, rhos=(0.05, 0.2, 0.5, 1, 3, 10), seeds=16),
    "paper": MnistConfig(
        "paper", "mnist", images=60_000, steps=2000, rhos=(0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10), seeds=80
    ),
}


class MnistStudy(AbstractSeededStudy[MnistConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, where it is not the one in the package.

    Raises:
        UserError: If the loss is unknown, or the device unavailable.

    Example:
        >>> [cell.name for cell in MnistStudy(SCALES["smoke"]).cells()]
        ['sgd', 'sam-rho0.1', 'switch-rho0.1', 'sam-rho10', 'switch-rho10']
    """

    name: ClassVar[str] = "mnist"

    def __init__(self, settings: MnistConfig, data_dir: str | None = None) -> None:
        if settings.loss not in LOSSES:
            raise UserError(f"unknown loss {settings.loss!r}: use one of {', '.join(LOSSES)}")
        lr = LEARNING_RATES[settings.loss] if settings.lr is None else settings.lr
        super().__init__(replace(settings, lr=lr))
        self._recipe = Recipe(steps=settings.steps, lr=lr, batch_size=settings.batch_size)
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
        return {
            **super().config,
            "width": self._digits.width,
            "dtype": "float32",
        }

    def cells(self) -> list[Cell]:
        """Return the plan: SGD once, then SAM alone and switched for every radius, each in blocks of seeds."""
        settings = self._settings
        plain = round(settings.switch_fraction * settings.steps)
        methods: list[tuple[Method, float, int]] = [("sgd", 0.0, settings.steps)]
        for rho in settings.rhos:
            methods += [("sam", rho, 2 * settings.steps), ("switch", rho, 2 * settings.steps - plain)]
        blocks = self.blocks(settings.block)
        return [
            Cell(
                name=method
                + (f"-rho{rho:g}" if method != "sgd" else "")
                + (f"-seeds{block[0]}-{block[-1]}" if len(blocks) > 1 else ""),
                passes=passes,
                settings={"method": method, "rho": rho, "seeds": block},
            )
            for method, rho, passes in methods
            for block in blocks
        ]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Train one method at one radius for one block of seeds; see `AbstractStudy`."""
        settings = self._settings
        method, rho, seeds = cell.settings["method"], cell.settings["rho"], cell.settings["seeds"]
        parts = recipe_parts(method, steps=settings.steps, switch_fraction=settings.switch_fraction)
        recipe = replace(self._recipe, rho=rho, **parts)
        attributes = {"study": self.name, "method": method, "rho": rho, "loss_name": settings.loss, "lr": recipe.lr}
        if recipe.warm_start is not None:
            attributes["switch_step"] = recipe.warm_start.length
        return self._digits.train(
            settings.loss, recipe, seeds, points=_RECORDED_POINTS, advance=advance, attributes=attributes
        )

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the results against Figure 4 of the paper, and against what we expect; see `AbstractStudy`."""
        runs, claims = join_blocks(results.values()), []
        if ("sam", _LARGE_RHO) in runs:
            claims.append(
                share_claim(
                    f"With SAM alone at rho = {_LARGE_RHO:g}, at least nine runs in ten end where the shifted gradient "
                    "vanishes (shift ratio < 0.01) though the gradient does not (norm > 0.1), with test accuracy < 0.2",
                    Relation.AT_LEAST, 0.9, _collapsed(runs["sam", _LARGE_RHO]), command,
                    source="Figure 4, in kind; thresholds ours",
                )
            )  # fmt: skip
        if {("sam", _MIDDLE_RHO), ("switch", _MIDDLE_RHO)} <= runs.keys():
            claims.append(
                mean_claim(
                    f"At rho = {_MIDDLE_RHO:g}, switching beats SAM alone by at least 0.2 in mean test accuracy",
                    Relation.AT_LEAST, 0.2, _gain(runs["switch", _MIDDLE_RHO], runs["sam", _MIDDLE_RHO]), command,
                    source="Figure 4, in kind; threshold ours",
                )
            )  # fmt: skip
        switched = [run for (method, _), run in runs.items() if method == "switch"]
        if switched and "sgd" in {method for method, _ in runs}:
            worst = min(switched, key=lambda run: mean_estimate(run.final_test_accuracy).mean)
            claims.append(
                mean_claim(
                    "Switching remains stable across radii: even at its worst radius, it is at most 0.1 below SGD in "
                    "mean test accuracy",
                    Relation.AT_LEAST, -0.1, _gain(worst, runs["sgd", 0.0]), command,
                    source="Figure 4, in kind; threshold ours",
                )
            )  # fmt: skip
        practical = [run for (method, rho), run in runs.items() if method == "sam" and rho <= _PRACTICAL_RHO]
        if practical:
            claims.append(
                share_claim(
                    f"At practical radii (rho ≤ {_PRACTICAL_RHO:g}), no run with SAM alone ends at a hallucinated "
                    "point",
                    Relation.AT_MOST, 0.0, np.concatenate([run.hallucinated.values for run in practical]), command,
                )
            )  # fmt: skip
        return claims


def _collapsed(run: xr.Dataset) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = (
        (run.final_shift_ratio < 0.01) & (run.final_grad_norm > 0.1) & (run.final_test_accuracy < 0.2)
    ).values
    return flags


def _gain(run: xr.Dataset, other: xr.Dataset) -> xr.DataArray:
    """Differences in final test accuracy: paired by seed, since both start from the same networks."""
    gain: xr.DataArray = run.final_test_accuracy - other.final_test_accuracy
    return gain


def create(scale: str, overrides: Mapping[str, Any], data_dir: str | None) -> MnistStudy:
    """Return the study at a scale.

    Args:
        scale: One of `SCALES`.
        overrides: Settings that differ from the scale's own, by name.
        data_dir: Folder of the data set, where it is not the one in the package.

    Raises:
        UserError: If the study cannot be configured so.
    """
    return MnistStudy(replace(SCALES[scale], **{"threads": default_threads(), **overrides}), data_dir)

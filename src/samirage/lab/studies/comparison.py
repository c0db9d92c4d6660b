"""Studies that train the same networks in many ways and compare: what they share.

Such a study says what it varies (`cases`), how to read the results, and what it claims. All else is here.
"""

import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Final

import xarray as xr

from samirage.errors import UserError
from samirage.lab.engine.compute import default_threads
from samirage.lab.engine.ensemble import Recipe
from samirage.lab.engine.networks import NETWORKS
from samirage.lab.engine.recipe import recipe_parts
from samirage.lab.results.claims import Claim
from samirage.lab.results.plot_spec import Reading
from samirage.lab.results.runs import join_blocks
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.tasks.mnist import LEARNING_RATES, Digits

Runs = Mapping[tuple[str, str, str | float], xr.Dataset]
"""All seeds of each (panel, method, x)."""

_RECORDED_POINTS: Final = 20  # most points of a stored curve: there are hundreds of cells


@dataclass(frozen=True)
class ComparisonConfig:
    """All that decides the numbers of a comparison, but for its cases.

    Attributes:
        scale: Preset that the values started from.
        data: Name of the data set.
        images: Training images used; the first so many.
        steps: Gradient steps.
        seeds: Number of seeds.
        rhos: Perturbation radii.
        loss: Name of the loss.
        hidden: Width of the hidden layer.
        first_seed: The first seed; the others follow.
        block: Most seeds in one cell.
        device: Where to compute.
        threads: CPU threads.
    """

    scale: str
    data: str
    images: int
    steps: int
    seeds: int
    rhos: tuple[float, ...]
    loss: str = "softmax-squared"
    hidden: int = 32
    first_seed: int = 0
    block: int = 80
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Case:
    """One way to train: a point on a line of the figure.

    Attributes:
        panel: Its panel, a text for people.
        method: Its line.
        x: Its place on the axis.
        recipe: How to train.
        loss: Name of the loss.
        noise: Share of wrong labels.
        network: Name of the architecture, one of `samirage.lab.engine.networks.NETWORKS`; empty for the study's tanh
            network.
    """

    panel: str
    method: str
    x: str | float
    recipe: Recipe
    loss: str
    noise: float = 0.0
    network: str = ""

    @property
    def name(self) -> str:
        """Names the cell."""
        x = self.x if isinstance(self.x, str) else f"{self.x:g}"
        parts = (re.sub(r"[^\w.+-]+", "", part.replace("ρ", "rho")) for part in (self.panel, self.method, x))
        return "-".join(part for part in parts if part)


class AbstractComparison(AbstractSeededStudy[ComparisonConfig]):
    """A comparison, for one configuration.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, where it is not the one in the package.

    Attributes:
        default_rhos: Perturbation radii, unless others are asked for; those of the smoke scale are the last only.

    Raises:
        UserError: If the loss is unknown, or the device unavailable.
    """

    default_rhos: ClassVar[tuple[float, ...]] = (0.3, 3.0, 10.0)

    def __init__(self, settings: ComparisonConfig, data_dir: str | None = None) -> None:
        if settings.loss not in LEARNING_RATES:
            raise UserError(f"unknown loss {settings.loss!r}: use one of {', '.join(LEARNING_RATES)}")
        super().__init__(settings)

        @cache
        def digits(noise: float, network: str) -> Digits:
            return Digits(
                settings.data,
                images=settings.images,
                hidden=settings.hidden,
                device=self.device,
                data_dir=data_dir,
                noise=noise,
                network=NETWORKS[network] if network else None,
            )

        self.digits: Callable[[float, str], Digits] = digits
        self._cases = {case.name: case for case in self.cases()}

    @classmethod
    def create(cls, scale: str, overrides: Mapping[str, Any], data_dir: str | None) -> "AbstractComparison":
        """Return the study at a scale.

        Args:
            scale: `"smoke"`, `"laptop"` or `"paper"`.
            overrides: Settings that differ from the scale's own, by name.
            data_dir: Folder of the data set, where it is not the one in the package.

        Raises:
            UserError: If the study cannot be configured so.
        """
        return cls(cls.settings(scale, overrides), data_dir)

    @classmethod
    def settings(cls, scale: str, overrides: Mapping[str, Any]) -> ComparisonConfig:
        """Return the configuration of a scale.

        Args:
            scale: `"smoke"`, `"laptop"` or `"paper"`.
            overrides: Settings that differ from the scale's own, by name.
        """
        rhos = cls.default_rhos
        settings = {
            "smoke": ComparisonConfig("smoke", "mnist-mini", images=100, steps=40, seeds=2, rhos=rhos[-1:]),
            "laptop": ComparisonConfig("laptop", "mnist-mini", images=500, steps=300, seeds=8, rhos=rhos),
            "paper": ComparisonConfig("paper", "mnist", images=60_000, steps=2000, seeds=80, rhos=rhos),
        }[scale]
        return replace(settings, **{"threads": default_threads(), **overrides})

    def prepare(self) -> None:
        """Load the data set; see `AbstractStudy`."""
        self.digits(0.0, "")

    @property
    def config(self) -> dict[str, Any]:
        """The settings and a digest of the plan, as plain data for JSON."""
        plan = hashlib.sha256(repr(list(self._cases.values())).encode()).hexdigest()
        return super().config | {"plan": plan[:16], "dtype": "float32"}

    @abstractmethod
    def cases(self) -> list[Case]:
        """Return all that is compared, in the order in which it is to be computed."""

    @abstractmethod
    def reading_of(self, runs: Runs) -> Reading:
        """Say how to read the results.

        Args:
            runs: What has finished.
        """

    @abstractmethod
    def claims_of(self, runs: Runs, command: str) -> list[Claim]:
        """Hold the results against what was expected.

        Args:
            runs: What has finished.
            command: The command that made them.
        """

    def recipe(self, method: str, rho: float, **others: Any) -> Recipe:
        """Return how a method trains. With momentum the learning rate is `1 − momentum` times that of the loss.

        Args:
            method: Its name, one of `samirage.lab.methods.METHODS`.
            rho: Perturbation radius.
            others: Other fields of the recipe, which go before those of the method.
        """
        steps = self._settings.steps
        parts = {"rho": 0.0 if method == "sgd" else rho, **recipe_parts(method, steps=steps), **others}
        lr = LEARNING_RATES[self._settings.loss] * (1 - parts.get("momentum", 0.0))
        return Recipe(**{"steps": steps, "lr": lr, **parts})

    def case(self, panel: str, method: str, x: str | float, rho: float, **others: Any) -> Case:
        """Return a case of a method, with this study's loss.

        Args:
            panel: Its panel.
            method: Name of the method; see `recipe`.
            x: Its place on the axis.
            rho: Perturbation radius.
            others: Other fields of the recipe.
        """
        return Case(panel, method, x, self.recipe(method, rho, **others), self._settings.loss)

    def cells(self) -> list[Cell]:
        """Return the plan: every case, in blocks of seeds."""
        blocks = self.blocks(self._settings.block)
        return [
            Cell(
                name=name + (f"-seeds{block[0]}-{block[-1]}" if len(blocks) > 1 else ""),
                passes=case.recipe.passes,
                settings={"case": name, "seeds": block},
            )
            for name, case in self._cases.items()
            for block in blocks
        ]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Train all networks of a case, and diagnose each; see `AbstractStudy`."""
        case = self._cases[cell.settings["case"]]
        return self.trained(case, cell.settings["seeds"], advance).assign_attrs(self.attributes(case))

    def trained(self, case: Case, seeds: Sequence[int], advance: Callable[[int], None]) -> xr.Dataset:
        """Train the networks of a case.

        Args:
            case: How.
            seeds: Their seeds.
            advance: Called with the number of passes done since the last call.
        """
        return self.digits(case.noise, case.network).train(
            case.loss,
            case.recipe,
            seeds,
            points=_RECORDED_POINTS,
            advance=advance,
            attributes={},
            diagnosed=True,
        )

    def attributes(self, case: Case) -> dict[str, Any]:
        """Return what the data set of a case says about it.

        Args:
            case: The case.
        """
        return {
            "study": self.name,
            "panel": case.panel,
            "method": case.method,
            "x": case.x,
            "rho": case.recipe.rho,
            "lr": case.recipe.lr,
            "steps": case.recipe.steps,
            "passes": case.recipe.passes,
        }

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the results against what was expected; see `AbstractStudy`."""
        return self.claims_of(joined(results), command)

    def reading(self, results: Mapping[str, xr.Dataset]) -> Reading:
        """Say how to read the results; see `AbstractStudy`."""
        return self.reading_of(joined(results))


def joined(results: Mapping[str, xr.Dataset]) -> Runs:
    """Join the blocks of seeds of every case.

    Args:
        results: The finished cells, by name.
    """
    return join_blocks(results.values(), by=("panel", "method", "x"))


def pick(runs: Runs, panel: str, method: str) -> dict[str | float, xr.Dataset]:
    """Return the runs of one line, by their place on the axis.

    Args:
        runs: The runs.
        panel: The panel.
        method: The method.
    """
    return {key[2]: run for key, run in runs.items() if key[:2] == (panel, method)}


def accuracy(run: xr.Dataset) -> xr.DataArray:
    """Return the final test accuracy of every seed."""
    return run["final_test_accuracy"]


def percent(run: xr.Dataset) -> str:
    """Print the mean final test accuracy of a run in percent, without the sign."""
    return f"{100 * float(accuracy(run).mean()):.1f}"


def hits(runs: Sequence[xr.Dataset]) -> tuple[int, int]:
    """Count the seeds that ended at hallucinated points.

    Args:
        runs: The runs.

    Returns:
        How many, and of how many.
    """
    return sum(int(run["hallucinated"].sum()) for run in runs), sum(run.sizes["seed"] for run in runs)


def worst_of(line: Mapping[str | float, xr.Dataset]) -> tuple[str | float, xr.Dataset]:
    """Return the place on a line where the mean test accuracy is lowest, and the run there.

    Args:
        line: The runs, by their place on the axis; at least one.
    """
    return min(line.items(), key=lambda item: float(accuracy(item[1]).mean()))


def best_of(line: Mapping[str | float, xr.Dataset]) -> tuple[str | float, xr.Dataset]:
    """Return the place on a line where the mean test accuracy is highest, and the run there.

    Args:
        line: The runs, by their place on the axis; at least one.
    """
    return max(line.items(), key=lambda item: float(accuracy(item[1]).mean()))


def worst_told(runs: Runs, panel: str, labels: Mapping[str, str]) -> str:
    """Say how the methods of a panel do, each at the radius that is worst for it.

    Args:
        runs: The runs.
        panel: The panel.
        labels: Names for people, of the methods that are told.
    """
    told = []
    for method, label in labels.items():
        line = pick(runs, panel, method)
        if line:
            rho, worst = worst_of(line)
            k, n = hits(list(line.values()))
            told.append(f"{label} {percent(worst)} % at ρ = {rho:g} ({k} of {n} hallucinated in all)")
    return f"{panel}, test accuracy at the worst radius of each: {'; '.join(told)}."

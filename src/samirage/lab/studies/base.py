"""What every study is: a plan of cells, a way to compute one cell, and claims about the results.

A cell is the unit that is computed, stored and resumed: one setting, for one block of seeds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args

import torch
import xarray as xr

from samirage.errors import UserError
from samirage.lab.engine.compute import default_threads, usable_device
from samirage.lab.results.claims import Claim
from samirage.lab.results.config import StudyConfig
from samirage.lab.results.plot_spec import PlotSpec


@dataclass(frozen=True)
class Cell:
    """One unit of work.

    Attributes:
        name: Unique in its study; names the file.
        passes: Gradient evaluations per seed, by which progress is measured.
        settings: What distinguishes the cell, for the study's own use.
    """

    name: str
    passes: int
    settings: Mapping[str, Any]


class AbstractStudy(ABC):
    """One experiment. A study is deterministic: the same config gives the same numbers on the same machine.

    It is pickled as what it was made with, and made anew from that, once in a process, for its data may be large.
    So what a study is made with must be plain and hashable, and its class one that other processes can import.

    Attributes:
        name: Name on the command line and in the run folder.
    """

    name: ClassVar[str]
    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Take down what the study is made with."""
        study = super().__new__(cls)
        study._made_with = (args, kwargs)
        return study

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the study was made with."""
        args, kwargs = self._made_with
        return _made, (type(self), args, tuple(kwargs.items()))

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as plain data for JSON: all that decides the numbers."""

    @property
    @abstractmethod
    def seeds(self) -> list[int]:
        """The seeds, over all cells."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """How many CPU threads it uses."""

    def prepare(self) -> None:  # noqa: B027 - studies of functions have nothing to load
        """Load what the cells are computed from, such as a data set, so that one that is missing is known at once.

        The plan, the claims and the reading need none of it.

        Raises:
            UserError: If it is missing, or has too few examples.
        """

    @abstractmethod
    def cells(self) -> list[Cell]:
        """Return the plan: all cells, in the order in which they are to be computed."""

    @abstractmethod
    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Compute one cell.

        Args:
            cell: One of `cells()`.
            advance: To be called with the number of passes done since the last call.

        Returns:
            The results, with labelled dimensions. Durations carry `seconds` in their name; all else is reproducible.
        """

    @abstractmethod
    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the results against what the paper, or we, say.

        Args:
            results: The finished cells, by name.
            command: The command that made them.

        Returns:
            The claims with their measured values.
        """

    def reading(self, results: Mapping[str, xr.Dataset]) -> PlotSpec | None:
        """Say how the page is to show the results; None where the page has a section of its own for the study.

        Args:
            results: The finished cells, by name.
        """
        del results
        return None


@lru_cache(maxsize=2)  # a worker comes to the next study when it has done with the last
def _made(kind: type[AbstractStudy], args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> AbstractStudy:
    return kind(*args, **dict(kwargs))


S = TypeVar("S", bound=StudyConfig)


class AbstractSeededStudy(AbstractStudy, Generic[S]):
    """A study over consecutive seeds, as its settings say.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, where it is not the one in the package; of no use to a study without data.

    Attributes:
        settings_type: The class of the settings: what a subclass puts in the brackets, as in
            `AbstractSeededStudy[MnistConfig]`.
        scales: The configurations `"smoke"`, `"laptop"` and `"paper"`.
        fixed: Settings of the command line that the study fixes itself: `"loss"`, `"rhos"` or both.

    Raises:
        UserError: If the device is unavailable.
    """

    settings_type: ClassVar[type[Any]]
    scales: ClassVar[Mapping[str, Any]]
    fixed: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take down the class of the settings."""
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, StudyConfig):
                    cls.settings_type = argument

    @classmethod
    def create(cls, scale: str, overrides: Mapping[str, Any], data_dir: str | None = None) -> Self:
        """Return the study at a scale.

        Args:
            scale: `"smoke"`, `"laptop"` or `"paper"`.
            overrides: Settings that differ from the scale's own, by name.
            data_dir: Folder of the data set, where it is not the one in the package.

        Raises:
            UserError: If the study cannot be configured so.
        """
        words = {"loss": ("losses", "--loss"), "rhos": ("radii", "--rho")}
        foreign = [words[name][1] for name in cls.fixed if name in overrides]
        if foreign:
            has = " and ".join(words[name][0] for name in cls.fixed)
            raise UserError(
                f"study {cls.name} has {has} of its own: leave out {' and '.join(foreign)}, or name other studies"
            )
        return cls(cls.settings(scale, overrides), data_dir)

    @classmethod
    def settings(cls, scale: str, overrides: Mapping[str, Any]) -> S:
        """Return the configuration of a scale.

        Args:
            scale: `"smoke"`, `"laptop"` or `"paper"`.
            overrides: Settings that differ from the scale's own, by name.
        """
        settings: S = replace(cls.scales[scale], **{"threads": default_threads(), **overrides})
        return settings

    @classmethod
    def recorded(cls, config: Mapping[str, Any]) -> Self:
        """Return the study of a recorded configuration, for its plan, claims and reading: none of them needs its data.

        Args:
            config: What `config` returned, after JSON. Entries that are no settings are left out, and so is the device.

        Raises:
            ValueError: If a setting is missing or has the wrong type.
            UserError: If the study cannot be configured so.
        """
        return cls(replace(cls.settings_type.from_dict(config, cls.name), device="cpu"))

    def __init__(self, settings: S, data_dir: str | None = None) -> None:
        self._settings, self._data_dir = settings, data_dir
        self._device = usable_device(settings.device)

    @property
    def config(self) -> dict[str, Any]:
        """The settings, as plain data for JSON."""
        return self._settings.to_dict()

    @property
    def seeds(self) -> list[int]:
        """The seeds, over all cells."""
        return list(range(self._settings.first_seed, self._settings.first_seed + self._settings.seeds))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    @property
    def threads(self) -> int:
        """How many CPU threads it uses."""
        return self._settings.threads

    def blocks(self, size: int) -> list[list[int]]:
        """Cut the seeds into blocks.

        Args:
            size: Most seeds in a block.

        Returns:
            The blocks.
        """
        return [self.seeds[i : i + size] for i in range(0, len(self.seeds), size)]

"""Study `doctor`: is the diagnosis right? Runs whose class is known by construction, several seeds each.

Every run is diagnosed four ways: by the free figures of a monitor at its end, by those and extra passes over the loss,
by the records of its steps alone (an optimizer without a monitor), and by the monitor at every half window of its life.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from samirage.diagnosis import Diagnosis, Thresholds, Watch
from samirage.diagnosis.confirm import Loss, confirm_status
from samirage.diagnosis.figures import values_of
from samirage.lab.engine.ensemble import train
from samirage.lab.engine.functions import Particles
from samirage.lab.engine.models import LOSSES
from samirage.lab.engine.stacked import AbstractStack
from samirage.lab.results.claims import Claim, Relation, share_claim
from samirage.lab.results.config import StudyConfig
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.studies.doctor.labelled_runs import POINTS, Labelled, LabelledNetwork, LabelledPoint, networks
from samirage.lab.tasks.diagnosis_codes import ATTRIBUTES, SAMPLE, STATUSES, codes, judged
from samirage.lab.tasks.mnist import Digits
from samirage.landscape import Objective
from samirage.sam import MotionFigures, Status

_RECORDED_POINTS: Final = 200  # most points of a stored curve
_NOT_TRIED: Final = -1
_MOTION: Final = tuple(field.name for field in fields(MotionFigures))


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(StudyConfig):
    """What decides the numbers of this study, besides what every study has.

    Attributes:
        data: Name of the data set of the networks.
        images: Training images used; the first so many.
        steps: Gradient steps of the networks.
        seeds: Number of seeds of every run.
        confirmed: Number of them that get the extra passes, of the networks (of the points all do).
    """

    data: str
    images: int
    steps: int
    seeds: int
    confirmed: int


SCALES: Final[dict[str, DoctorConfig]] = {
    "smoke": DoctorConfig(scale="smoke", data="mnist-mini", images=200, steps=160, seeds=2, confirmed=1),
    "laptop": DoctorConfig(scale="laptop", data="mnist-mini", images=500, steps=400, seeds=16, confirmed=4),
    "paper": DoctorConfig(scale="paper", data="mnist", images=10_000, steps=1000, seeds=80, confirmed=16),
}


class DoctorStudy(AbstractSeededStudy[DoctorConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, where it is not the one in the package.

    Raises:
        UserError: If the device is unavailable.

    Example:
        >>> [cell.name for cell in DoctorStudy(SCALES["smoke"]).cells()][:3]
        ['ring-hallucinated', 'ring-hallucinated-momentum', 'ring-small-radius']
    """

    name: ClassVar[str] = "doctor"
    scales = SCALES
    fixed = ("loss", "rhos")

    def __init__(self, settings: DoctorConfig, data_dir: str | None = None) -> None:
        super().__init__(settings, data_dir)
        self._runs: dict[str, Labelled] = {run.name: run for run in (*POINTS, *networks(settings.steps))}

    @cached_property
    def _digits(self) -> dict[int, Digits]:  # by width of the hidden layer
        one, widths = self._settings, {run.hidden for run in self._runs.values() if isinstance(run, LabelledNetwork)}
        return {
            hidden: Digits(one.data, images=one.images, hidden=hidden, device=self.device, data_dir=self._data_dir)
            for hidden in widths
        }

    def prepare(self) -> None:
        """Load the data set; see `AbstractStudy`."""
        _ = self._digits

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as plain data for JSON."""
        return {**super().config, "thresholds": asdict(Thresholds())}

    def cells(self) -> list[Cell]:
        """Return the plan: one cell for each labelled run."""
        return [
            Cell(
                name=run.name,
                passes=run.recipe.passes,
                settings={},
            )
            for run in self._runs.values()
        ]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Make one labelled run for every seed, and diagnose it; see `AbstractStudy`."""
        run = self._runs[cell.name]
        members = self._members(run)
        watch = Watch(window=run.window, sample=SAMPLE, batched=True)
        course = train(members, run.recipe, lambda step, passes: advance(passes), watch)
        ends = [window.last_step for window in watch.windows]
        life = [[judged(values, window) for values in values_of(window)] for window in watch.windows]
        last = watch.windows[-1]
        values = values_of(last)
        free = life[-1]
        alone = [judged({**one, **dict.fromkeys(_MOTION, math.nan)}, last) for one in values]
        confirmed = [_NOT_TRIED] * len(free)
        for i, (loss, x) in enumerate(self._losses(run, members)):
            found = confirm_status(
                free[i].free_status, loss, x, rho=run.recipe.rho, lr=run.recipe.lr, thresholds=Thresholds()
            )
            confirmed[i] = STATUSES.index(found.status)
        stride = -(-run.recipe.steps // _RECORDED_POINTS)
        results: dict[str, tuple[Any, NDArray[Any]]] = {
            "status": ("seed", codes(free)),
            "status_alone": ("seed", codes(alone)),
            "status_confirmed": ("seed", np.array(confirmed, dtype=np.int8)),
            "status_over_time": (("window", "seed"), np.stack([codes(diagnoses) for diagnoses in life])),
            "margin": ("seed", np.array([_margin(diagnosis) for diagnosis in free])),
            "loss": (("step", "seed"), course["loss"][::stride].cpu().numpy()),
        }
        names = list(values[0])
        results["figures"] = (("seed", "figure"), np.array([[one[name] for name in names] for one in values]))
        attributes = {
            "study": self.name,
            "run": run.name,
            "family": "network" if isinstance(run, LabelledNetwork) else "analytic",
            "truth": run.truth.value,
            "reason": run.reason,
            "at_rest": int(run.at_rest),
            "rho": run.recipe.rho,
            "lr": run.recipe.lr,
            "window_steps": run.window,
            **ATTRIBUTES,
        }
        coords: dict[str, Any] = {
            "seed": np.array(self.seeds),
            "step": np.arange(0, run.recipe.steps, stride),
            "window": np.array(ends),
            "figure": names,
        }
        return xr.Dataset(results, coords=coords, attrs=attributes).transpose("seed", ...)

    def _members(self, run: Labelled) -> Particles | AbstractStack:
        if isinstance(run, LabelledPoint):
            starts = run.points(self.seeds).to(self._device)
            return Particles(run.function, starts, noise=run.noise)
        assert isinstance(run, LabelledNetwork)
        return self._digits[run.hidden].members(run.loss, self.seeds)

    def _losses(self, run: Labelled, members: Particles | AbstractStack) -> list[tuple[Loss, Tensor]]:
        """Return, for the members that get extra passes, the loss and the point at which they ended."""
        if isinstance(run, LabelledPoint):
            return [(run.function, x) for x in members.params[0]]
        assert isinstance(run, LabelledNetwork)
        assert isinstance(members, AbstractStack)
        digits = self._digits[run.hidden]
        data = [(digits.x, digits.labels)]
        objectives = [
            Objective(module.eval(), LOSSES[run.loss], data) for module in members.modules()[: self._settings.confirmed]
        ]
        return [(objective, objective.flat_parameters()) for objective in objectives]

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the diagnoses against the labels; see `AbstractStudy`."""
        cells = list(results.values())
        analytic = [cell for cell in cells if cell.attrs["family"] == "analytic"]
        moving = [cell for cell in analytic if not cell.attrs["at_rest"]]
        digits = [cell for cell in cells if cell.attrs["family"] == "network"]
        healthy = [cell for cell in cells if cell.attrs["truth"] == Status.PROGRESSING.value]
        claims = []

        def add(statement: str, relation: Relation, expected: float, flags: Sequence[NDArray[np.bool_]]) -> None:
            if flags:
                together = np.concatenate([one.ravel() for one in flags])
                claims.append(share_claim(statement, relation, expected, together, command))

        add(
            "On analytic functions the free figures diagnose every seed right, where the run has not come to rest at a "
            "point that only extra passes can tell",
            Relation.AT_LEAST,
            1.0,
            [correct(cell) for cell in moving],
        )
        add(
            "With extra passes, every seed on analytic functions is diagnosed right",
            Relation.AT_LEAST,
            1.0,
            [correct(cell, "status_confirmed") for cell in analytic],
        )
        add(
            "On networks the free figures diagnose at least 95 of 100 seeds right",
            Relation.AT_LEAST,
            0.95,
            [correct(cell) for cell in digits],
        )
        add(
            "In no window of the life of a healthy run is there an alarm",
            Relation.AT_MOST,
            0.0,
            [alarms(cell) for cell in healthy],
        )
        add(
            "From the records of single steps alone, without a monitor, at least nine seeds in ten are diagnosed right "
            "(but for runs that only extra passes can tell)",
            Relation.AT_LEAST,
            0.9,
            [correct(cell, "status_alone") for cell in (*moving, *digits)],
        )
        return claims


def correct(cell: xr.Dataset, name: str = "status") -> NDArray[np.bool_]:
    """Tell of which seeds the diagnosis is the label; those that were not tried are left out.

    Args:
        cell: A cell of this study.
        name: Which diagnosis.
    """
    codes = cell[name].values
    right: NDArray[np.bool_] = (codes == list(cell.attrs["statuses"]).index(cell.attrs["truth"]))[codes != _NOT_TRIED]
    return right


def alarms(cell: xr.Dataset) -> NDArray[np.bool_]:
    """Tell in which windows of which seeds there was an alarm.

    Args:
        cell: A cell of this study.
    """
    names = list(cell.attrs["statuses"])
    bad = [names.index(name) for name in cell.attrs["alarms"]]
    flags: NDArray[np.bool_] = np.isin(cell.status_over_time.values, bad)
    return flags


def _margin(diagnosis: Diagnosis) -> float:
    """The smallest margin of what the diagnosis rests on; NaN where nothing was asked."""
    return min((f.margin for f in diagnosis.figures.values() if f.passed), default=math.nan)

"""Study `points`: hallucinated points, found and held against closed forms, certified, come back to, and proved.

What can be worked out by hand is compared with what searching finds; networks are trained to a hallucinated point and
knocked off it (the protocol of Figure 3 of arXiv 2509.21818); and theorems are proved, wrong ones among them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from samirage.lab.results.claims import DETERMINISTIC, EXTREME, NOTHING, Claim, Relation
from samirage.lab.results.config import StudyConfig
from samirage.lab.results.constants import POLISHED_SHIFT_RATIO
from samirage.lab.studies.base import AbstractSeededStudy, Cell
from samirage.lab.studies.points.closed_forms import CLOSED_FORMS, WINDOW_TOLERANCE
from samirage.lab.studies.points.perturb_and_return import ReturnSettings, returns
from samirage.lab.studies.points.portraits import PORTRAITS, portrait
from samirage.lab.studies.points.proofs import ANALYTIC, analytic_subject, network_subject, prove_and_plant
from samirage.lab.tasks.mnist import Digits

_HIDDEN: Final = 32
_SMALL_IMAGES: Final = 40  # of the networks that are proved
_RESIDUAL: Final = 1e-12


@dataclass(frozen=True, kw_only=True)
class PointsConfig(StudyConfig):
    """What decides the numbers of this study, besides what every study has.

    Attributes:
        functions: The analytic functions whose closed forms are checked.
        proved: Those of which a point is proved.
        networks: The small networks of which a point is proved: `"5x1"` has 5·5 inputs and 1 hidden unit.
        resolution: Starts of the basins along each axis.
        data: Name of the data set of the networks that SAM trains.
        images: Training images used; the first so many.
        loss: Their loss.
        rho: Their perturbation radius.
        steps: SAM's steps before polishing.
        return_steps: SAM's steps after the perturbation.
        seeds: Number of networks.
    """

    functions: tuple[str, ...]
    proved: tuple[str, ...]
    networks: tuple[str, ...]
    resolution: int
    data: str
    images: int
    steps: int
    return_steps: int
    seeds: int
    loss: str = "softmax-squared"
    rho: float = 10.0


SCALES: Final[dict[str, PointsConfig]] = {
    "smoke": PointsConfig(
        scale="smoke",
        functions=("quadratic", "moat"),
        proved=("double-well", "moat"),
        networks=("3x1",),
        resolution=12,
        data="mnist-mini",
        images=100,
        steps=200,
        return_steps=60,
        seeds=1,
    ),
    "laptop": PointsConfig(
        scale="laptop",
        functions=tuple(CLOSED_FORMS),
        proved=tuple(ANALYTIC),
        networks=("3x1", "5x1", "7x1", "10x1", "14x1", "14x2"),
        resolution=90,
        data="mnist-mini",
        images=500,
        steps=600,
        return_steps=1000,
        seeds=4,
    ),
    "paper": PointsConfig(
        scale="paper",
        functions=tuple(CLOSED_FORMS),
        proved=tuple(ANALYTIC),
        networks=("3x1", "3x2", "5x1", "7x1", "10x1", "14x1", "28x1", "24x2"),
        resolution=240,
        data="mnist",
        images=10_000,
        steps=2000,
        return_steps=1000,
        seeds=16,
    ),
}


class PointsStudy(AbstractSeededStudy[PointsConfig]):
    """The study, for one configuration.

    Args:
        settings: The configuration.
        data_dir: Folder of the data set, where it is not the one in the package.

    Raises:
        UserError: If the device is unavailable.

    Example:
        >>> [cell.name for cell in PointsStudy(SCALES["smoke"]).cells()][:3]
        ['closed-forms-quadratic', 'closed-forms-moat', 'portrait-double-well']
    """

    name: ClassVar[str] = "points"
    scales = SCALES
    fixed = ("loss", "rhos")

    @cached_property
    def _digits(self) -> Digits:
        one = self._settings
        return Digits(one.data, images=one.images, hidden=_HIDDEN, device=self.device, data_dir=self._data_dir)

    def prepare(self) -> None:
        """Load the data set; see `AbstractStudy`."""
        _ = self._digits

    def cells(self) -> list[Cell]:
        """Return the plan: closed forms, pictures, proofs, and one cell for each network that is knocked off."""
        settings = self._settings
        passes = 2 * settings.steps + 3 * settings.return_steps  # SAM, SAM after the perturbations, plain steps
        plan = [("closed-forms", name) for name in settings.functions]
        plan += [("portrait", name) for name in PORTRAITS]
        plan += [("proof", name) for name in settings.proved]
        plan += [("proof-network", shape) for shape in settings.networks]
        cells = [Cell(f"{part}-{which}", 1, {part: which}) for part, which in plan]
        return [*cells, *(Cell(f"return-seed{seed}", passes, {"return": seed}) for seed in self.seeds)]

    def run(self, cell: Cell, advance: Callable[[int], None]) -> xr.Dataset:
        """Compute one cell; see `AbstractStudy`."""
        settings = self._settings
        ((part, which),) = cell.settings.items()
        if part == "return":
            how = ReturnSettings(settings.loss, settings.rho, settings.steps, settings.return_steps)
            found = returns(self._digits, how, [which], advance)
        else:
            found = _PARTS[part](which, settings)
            advance(cell.passes)
        return found.assign_attrs(study=self.name, part=part)

    def claims(self, results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
        """Hold the results against what theory says; see `AbstractStudy`."""
        return [claim for make in (_analytic_claims, _proof_claims, _return_claims) for claim in make(results, command)]


def _closed_forms(name: str, settings: PointsConfig) -> xr.Dataset:
    rows = CLOSED_FORMS[name]()
    return xr.Dataset(
        {
            "expected": ("quantity", np.array([float(row.expected) for row in rows])),
            "found": ("quantity", np.array([float(row.found) for row in rows])),
            "tolerance": ("quantity", np.array([row.tolerance for row in rows])),
            "residual": ("quantity", np.array([row.residual for row in rows])),
            "holds": ("quantity", np.array([row.holds for row in rows])),
        },
        coords={"quantity": np.array([row.quantity for row in rows], dtype=object)},
        attrs={"function": name},
    )


def _portrait(name: str, settings: PointsConfig) -> xr.Dataset:
    return portrait(name, resolution=settings.resolution)


def _proof(name: str, settings: PointsConfig) -> xr.Dataset:
    return prove_and_plant(analytic_subject(name)).assign_attrs(subject=name)


def _network_proof(shape: str, settings: PointsConfig) -> xr.Dataset:
    side, hidden = map(int, shape.split("x"))
    subject = network_subject(side=side, hidden=hidden, images=_SMALL_IMAGES)
    return prove_and_plant(subject).assign_attrs(subject=f"network-{shape}", inputs=side**2, hidden=hidden)


# All but the networks that are knocked off: part of the plan -> how its cells are computed.
_PARTS: Final[dict[str, Callable[[str, PointsConfig], xr.Dataset]]] = {
    "closed-forms": _closed_forms,
    "portrait": _portrait,
    "proof": _proof,
    "proof-network": _network_proof,
}


# --- claims ------------------------------------------------------------------------------------------


def _of(results: Mapping[str, xr.Dataset], beginning: str) -> dict[str, xr.Dataset]:
    return {name: cell for name, cell in results.items() if name.startswith(beginning)}


def _claim(
    statement: str, source: str, relation: Relation, expected: float, measured: Sequence[float] | NDArray[Any],
    command: str, *, worst: bool = False, tolerance: float = 0.0,
) -> Claim:  # fmt: skip
    """A claim about the share of flags that are set or, if `worst`, about the largest of the numbers."""
    values = np.asarray(measured, dtype=np.float64).ravel()
    share = math.nan if not values.size else float(values.max() if worst else values.mean())
    no_error = NOTHING if not values.size else "" if not worst else DETERMINISTIC if values.size == 1 else EXTREME
    spread = math.nan if no_error else math.sqrt(max(share * (1 - share), 0.0) / values.size)
    return Claim(
        statement=statement, source=source, relation=relation, expected=expected, measured=share,
        standard_error=spread, n=int(values.size), command=command, tolerance=tolerance, no_error=no_error,
    )  # fmt: skip


def _analytic_claims(results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
    cells = _of(results, "closed-forms-")
    claims = []
    if cells:
        holds = np.concatenate([cell.holds.values for cell in cells.values()])
        residuals = np.concatenate([cell.residual.values for cell in cells.values()])
        claims += [
            _claim("Every closed form agrees with what was found without being told it, within its tolerance",
                   "ours, from theory", Relation.AT_LEAST, 1.0, holds, command),
            _claim("The residual ‖g⁺‖ of every point, and the error of every orbit, is at most 1e-12 in float64",
                   "ours", Relation.AT_MOST, _RESIDUAL, residuals[np.isfinite(residuals)], command, worst=True),
        ]  # fmt: skip
    for name, side in (("attracts from rho", "begins"), ("attracts to rho", "ends")):
        for cell in _of(results, "closed-forms-double-well").values():
            row = next(i for i, text in enumerate(cell.quantity.values) if text.startswith(name))
            claims.append(
                _claim(f"The double well's window of attracting radii {side} where the distances of its critical "
                       "points say, found by following the branch", "ours, from theory", Relation.EQUAL_WITHIN,
                       float(cell.expected[row]), [float(cell.found[row])], command, worst=True,
                       tolerance=WINDOW_TOLERANCE)
            )  # fmt: skip
    repelling = [
        float(cell.found.values[list(cell.quantity.values).index("share of SAM's runs from beside it that leave")])
        for cell in _of(results, "closed-forms-bump-on-bowl").values()
    ]
    if repelling:
        claims.append(
            _claim("The point that Theorem 2.2 constructs about the bump exists, and repels: every run of SAM that "
                   "starts beside it leaves", "Theorem 2.2 (existence); repulsion ours", Relation.AT_LEAST, 1.0,
                   repelling, command)
        )  # fmt: skip
    return claims


def _proof_claims(results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
    proofs = list(_of(results, "proof-").values())
    if not proofs:
        return []
    found = [cell for cell in proofs if bool(cell.found)]
    networks = [int(cell.parameters) for cell in _of(results, "proof-network-").values() if bool(cell.confirmed)]
    return [
        _claim("Every point that was found is proved by ball arithmetic, and the proof is confirmed by a checker that "
               "shares no code with the prover", "ours", Relation.AT_LEAST, 1.0,
               [bool(cell.proved) and bool(cell.confirmed) for cell in found], command),
        _claim("No wrong claim is proved: a radius off by a millionth, a point off by more than the box, an indefinite "
               "curvature at x⁺, attraction beyond the largest stable learning rate", "ours", Relation.AT_MOST, 0.0,
               np.concatenate([cell.planted_proved.values for cell in proofs]), command),
        _claim("Parameters of the largest network of which a point is proved", "ours", Relation.AT_LEAST, 1.0,
               networks, command, worst=True),
    ]  # fmt: skip


def _return_claims(results: Mapping[str, xr.Dataset], command: str) -> list[Claim]:
    cells = list(_of(results, "return-").values())
    if not cells:
        return []
    ratios = np.concatenate([cell.polished_shift_ratio.values for cell in cells])
    hallucinated = [str(cell.attrs["statuses"][int(kind)]).startswith("hallucinated")
                    for cell in cells for kind in cell.kind.values]  # fmt: skip
    random = [cell.sel(perturbation="random") for cell in cells]
    stays = [
        bool(run.shift_ratio[-1] <= POLISHED_SHIFT_RATIO and run.distance[-1] <= 1.01 * run.distance[0])
        for cell in random
        for run in (cell.isel(seed=i) for i in range(cell.sizes["seed"]))
    ]
    adverse = np.concatenate([cell.back.sel(perturbation=["downhill", "steepest"]).values.ravel() for cell in cells])
    polished = np.format_float_scientific(POLISHED_SHIFT_RATIO, trim="-", exp_digits=1)
    figure = "Figure 3, in kind; thresholds ours"
    return [
        _claim("Networks that SAM trained on handwritten digits are polished to a shift ratio of at most "
               f"{polished}", "ours",
               Relation.AT_MOST, POLISHED_SHIFT_RATIO, ratios, command, worst=True),
        _claim("The certificate calls every such point hallucinated", "ours", Relation.AT_LEAST, 1.0, hallucinated,
               command),
        _claim("After a random perturbation of a hundredth of its size, SAM's network has a shift ratio of at most "
               f"{polished} at the end and is at most 1 % farther away", figure, Relation.AT_LEAST, 1.0, stays,
               command),
        _claim("Knocked off against the slope, or along the way on which the shift ratio grows fastest, by a tenth of "
               "its size, SAM's network ends at a hallucinated point again", figure, Relation.AT_LEAST, 0.9, adverse,
               command),
    ]  # fmt: skip

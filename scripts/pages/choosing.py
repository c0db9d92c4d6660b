"""The page on choosing a radius and a remedy: what the stored comparison of remedies says, as tables and sentences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import numpy as np
import xarray as xr

from pages.stored import FOLDER, finished, origin, section, table
from samirage.lab.methods import METHODS, method_named
from samirage.lab.results.statistics import MeanEstimate, mean_estimate
from samirage.report.numbers import percent, with_error
from samirage.report.plots.remedies import setting_label
from samirage.report.sections import guard

STUDY = "guard"


@cache
def _runs() -> guard.Runs:
    return guard.load(FOLDER, STUDY)


def _accuracy(run: xr.Dataset) -> np.ndarray:
    return np.asarray(run.sortby("seed")["final_test_accuracy"].to_numpy(), dtype=np.float64)


def _points(estimate: MeanEstimate) -> str:
    text = with_error(estimate.mean, estimate.standard_error, scale=100)
    return text if estimate.mean < 0 else f"+{text}"


@dataclass(frozen=True)
class Alone:
    """SAM alone in one setting.

    Attributes:
        setting: Loss and batch size, for people.
        best: The radius at which its mean test accuracy is highest.
        gain: What it gains there over plain gradient descent with the same seeds, a fraction.
        safe: The largest radius up to which no seed ends at a hallucinated point, and the mean test accuracy is at
            most two standard errors below that of plain gradient descent; None where there is none.
        hit: The smallest radius at which a seed ends at a hallucinated point; None where there is none.
    """

    setting: str
    best: float
    gain: MeanEstimate
    safe: float | None
    hit: float | None


def alone(setting: str, cells: Mapping[tuple[str, float], xr.Dataset]) -> Alone:
    """Read how SAM alone does in one setting.

    Args:
        setting: Its name for people.
        cells: The runs of each (method, rho).
    """
    plain = _accuracy(cells["sgd", 0.0])
    runs = {rho: run for (method, rho), run in sorted(cells.items()) if method == "sam"}
    gains = {rho: mean_estimate(_accuracy(run) - plain) for rho, run in runs.items()}
    best = max(gains, key=lambda rho: gains[rho].mean)
    hits = [rho for rho, run in runs.items() if run["hallucinated"].any()]
    safe = None
    for rho, gain in gains.items():
        if rho in hits or gain.mean < -2 * gain.standard_error:
            break
        safe = rho
    return Alone(setting, best, gains[best], safe, min(hits, default=None))


def radius_block() -> list[str]:
    """Return up to which radius SAM alone is safe, in every setting."""
    found = [alone(setting_label(setting), cells) for setting, cells in _runs().items()]
    rows = [
        [
            one.setting,
            f"{one.best:g}",
            _points(one.gain),
            "none" if one.safe is None else f"{one.safe:g}",
            "none" if one.hit is None else f"{one.hit:g}",
        ]
        for one in found
    ]
    radii = sorted({rho for cells in _runs().values() for method, rho in cells if method == "sam"})
    safe = [one.safe for one in found if one.safe is not None]
    hits = [one.hit for one in found if one.hit is not None]
    if len(safe) == len(found):
        text = f"Up to ρ = {min(safe):g}, SAM alone is safe in all {len(found)} settings"
    else:
        text = f"In {len(found) - len(safe)} of {len(found)} settings SAM alone is safe at none of the radii tried"
    text += f"; the smallest radius at which a network ends at a hallucinated point is {min(hits):g}" if hits else ""
    return [
        f"{text}. Radii tried: {', '.join(f'{rho:g}' for rho in radii)}.",
        "",
        *table(
            ["setting", "best radius", "gain over plain steps there (points)", "safe up to", "hallucinates from"], rows
        ),
        "",
        "*Safe up to*: at this radius and all smaller ones no network ends at a hallucinated point, and the mean test "
        "accuracy is not below that of plain gradient descent by more than two standard errors.",
        "",
        f"({origin(STUDY)})",
    ]


@dataclass(frozen=True)
class Remedy:
    """One method over all settings and radii.

    Attributes:
        label: Its name for people.
        worst: Its mean test accuracy where that is lowest.
        where: There.
        below: The greatest shortfall of its mean against plain gradient descent in the same setting, in points.
        usual: Mean over the settings and the radii up to the largest safe one of its gain over plain steps, in points.
        hit: Networks at hallucinated points.
        n: Networks.
        gradients: Gradients per step.
    """

    label: str
    worst: MeanEstimate
    where: str
    below: MeanEstimate
    usual: float
    hit: int
    n: int
    gradients: float


def remedies() -> list[Remedy]:
    """Rank the methods by their greatest shortfall against plain gradient descent, the best first."""
    safe = [alone(setting_label(setting), cells).safe for setting, cells in _runs().items()]
    usual = min((rho for rho in safe if rho is not None), default=0.3)
    found = []
    for method in dict.fromkeys(name for cells in _runs().values() for name, _ in cells):
        cells = [
            (f"{setting_label(setting)}, ρ = {rho:g}" if rho else setting_label(setting), rho, run, cells["sgd", 0.0])
            for setting, cells in _runs().items()
            for (name, rho), run in cells.items()
            if name == method
        ]
        worst = min(cells, key=lambda cell: _accuracy(cell[2]).mean())
        margins = [(rho, mean_estimate(_accuracy(run) - _accuracy(plain))) for _, rho, run, plain in cells]
        found.append(
            Remedy(
                label=method_named(method).label,
                worst=mean_estimate(_accuracy(worst[2])),
                where=worst[0],
                below=min((margin for _, margin in margins), key=lambda margin: margin.mean),
                usual=100 * fmean(margin.mean for rho, margin in margins if rho <= usual),
                hit=sum(int(run["hallucinated"].sum()) for _, _, run, _ in cells),
                n=sum(run.sizes["seed"] for _, _, run, _ in cells),
                gradients=fmean(run.attrs["passes"] / run.attrs["steps"] for _, _, run, _ in cells),
            )
        )
    return sorted(found, key=lambda one: -one.below.mean)


def remedy_block() -> list[str]:
    """Return the methods, ranked by how much they lose at worst."""
    ranked = remedies()
    rows = [
        [
            one.label,
            _points(one.below) if one.below.mean else "0",
            f"{with_error(one.worst.mean, one.worst.standard_error, scale=100)} ({one.where})",
            f"{one.usual:+.2f}".replace("-", "−"),
            f"{one.hit} of {one.n}",
            f"{one.gradients:.2f}",
        ]
        for one in ranked
    ]
    best = next(one for one in ranked if one.gradients > 1.0)
    alone_ = next(one for one in ranked if one.label == METHODS["sam"].label)
    free = [one.label for one in ranked if one.gradients > 1.0 and not one.hit]
    return [
        f"The remedy that loses least at worst is: {best.label}. Over {len(_runs())} settings and all radii its mean "
        f"test accuracy is never more than {-100 * best.below.mean:.1f} points below plain gradient descent, and never "
        f"below {percent(best.worst.mean)}; SAM alone falls to {percent(alone_.worst.mean)}. "
        + (f"No network ends at a hallucinated point with: {'; '.join(free)}." if free else ""),
        "",
        *table(
            [
                "method",
                "worst margin over plain steps (points)",
                "lowest mean accuracy (%)",
                "mean margin at safe radii (points)",
                "at hallucinated points",
                "gradients per step",
            ],
            rows,
        ),
        "",
        f"({origin(STUDY)})",
    ]


def findings_block(study: str) -> Callable[[], list[str]]:
    """Return what makes the block with the findings of a study.

    Args:
        study: Name of the study.
    """

    def block() -> list[str]:
        if study not in finished():
            return [f"Study `{study}` is not stored yet."]
        return [
            *(f"- {finding}" for finding in section(study).headline[1:]),
            "",
            f"[Figure and claims](results.md#{study}). ({origin(study)})",
        ]

    return block


def further_block() -> list[str]:
    """Return the studies that vary one thing, with the question of each."""
    own = {"switch", "decay"}
    return [
        f"- [{section(study).title}](results.md#{study}): {section(study).headline[0]}"
        for study in finished()
        if FOLDER.reading(study) is not None and study not in own
    ]

"""The figures of a diagnosis: what each is called, what it means, and how it stands to its threshold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

import torch

from samirage.diagnosis.rules import Condition
from samirage.diagnosis.window_statistics import Window
from samirage.sam import CourseFigures, MotionFigures

# Name -> (symbol, meaning in a few words), in the order in which they are shown.
MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    "shift_ratio": ("r", "shifted gradient over gradient"),
    "slope_ratio": ("s/‖g‖", "slope at x⁺ over slope at x"),
    "cosine": ("c", "cosine of gradient and shifted gradient"),
    "ascent_gain": ("G", "realised over predicted gain in loss"),
    "lower_share": ("f⁺<f", "steps whose ascent point is lower"),
    "ridge_share": ("ridge", "steps that look across a ridge"),
    "opposed_share": ("c<0", "steps whose gradients oppose each other"),
    "motion_coherence": ("B", "how much the steps add up"),
    "successive_cosine": ("τ", "cosine of successive steps"),
    "transverse_cosine": ("c⊥", "cosine of the gradients across the bouncing"),
    "grad_coherence": ("C0", "how much the gradients add up"),
    "mean_grad_ratio": ("D0", "mean gradient over mean step length"),
    "mean_shift_ratio": ("r̄", "mean step over mean gradient"),
    "descent_efficiency": ("e", "how well the steps follow the mean gradient"),
    "loss_trend": ("Δf", "relative change of the loss, if significant"),
    "loss_drop": ("drop", "relative fall of the loss since the beginning"),
    "grad_fraction": ("‖g‖/early", "gradient over that of the first steps"),
    "grad_plus_fraction": ("‖g⁺‖/early", "shifted gradient over the first gradients"),
    "radius_fraction": ("‖e‖/ρ", "realised over intended radius"),
    "rejected_share": ("rejected", "steps that the guard rejected"),
    "same_grad_share": ("g⁺=g", "steps whose two gradients are equal"),
    "same_loss_share": ("f⁺=f", "steps whose two losses are equal"),
    "perturbed_share": ("2-pass", "steps that took two passes"),
    "finite_share": ("finite", "steps with finite loss and gradients"),
    "loss": ("f", "loss"),
    "radius": ("‖e‖", "realised radius"),
}


@dataclass(frozen=True)
class Figure:
    """One figure of a diagnosis.

    Attributes:
        name: Its name.
        symbol: Its symbol.
        meaning: What it is, in a few words.
        value: Its value; NaN when it could not be measured.
        threshold: What decides about it; NaN when nothing does.
        below: Whether the status asks for a value below the threshold, rather than at least as large.
        margin: By how much the value satisfies that, in units of the threshold; below 0 if it does not.
        passed: Whether it does; None when it could not be checked, or nothing was asked.

    Example:
        >>> print(Figure("shift_ratio", "r", "shifted gradient over gradient", 0.02, 0.1, True, 0.8, True))
        r = 0.02, < 0.1, margin +0.8
    """

    name: str
    symbol: str
    meaning: str
    value: float
    threshold: float = math.nan
    below: bool = True
    margin: float = math.nan
    passed: bool | None = None

    @property
    def asked(self) -> bool:
        """Whether the status asks anything of this figure."""
        return not math.isnan(self.threshold)

    @property
    def test(self) -> str:
        """What the status asks, such as `"< 0.1"`; empty if nothing."""
        return f"{'<' if self.below else '≥'} {self.threshold:.3g}" if self.asked else ""

    @property
    def verdict(self) -> str:
        """`"holds"`, `"fails"`, `"could not check"`, or empty if nothing was asked."""
        if not self.asked:
            return ""
        return "could not check" if self.passed is None else "holds" if self.passed else "fails"

    def __str__(self) -> str:
        value = "not measured" if math.isnan(self.value) else f"{self.value:.3g}"
        if not self.asked:
            return f"{self.symbol} = {value}"
        if self.passed is None:
            return f"{self.symbol} {self.test} could not be checked"
        return f"{self.symbol} = {value}, {self.test}, margin {self.margin:+.2g}"


def values_of(window: Window) -> list[dict[str, float]]:
    """Read the figures of a window from the device, for each member.

    Args:
        window: The window.

    Returns:
        For each of its members the value of each figure of `MEANINGS`; the radius fraction, which needs `rho`, is NaN.
    """
    names, tensors = [], []
    for part, kind in ((window.course, CourseFigures), (window.motion, MotionFigures)):
        for field in fields(kind):
            names.append(field.name)
            tensors.append(getattr(part, field.name).reshape(-1))
    table = torch.stack([t.to(tensors[0]) for t in tensors]).cpu()  # one transfer for all
    rows: list[list[float]] = table.double().t().tolist()
    return [{**dict(zip(names, row, strict=True)), "radius_fraction": math.nan} for row in rows]


def figures(values: Mapping[str, float], conditions: tuple[Condition, ...]) -> dict[str, Figure]:
    """Set the values beside what a rule asks of them.

    Args:
        values: Value of each figure.
        conditions: The rule's conditions; of two on one figure, the one with the smaller margin is shown.

    Returns:
        The figures, those that are asked for first.
    """
    shown: dict[str, Figure] = {}
    for condition in conditions:
        name, value = condition.figure, values[condition.figure]
        figure = Figure(
            name,
            *MEANINGS[name],
            value,
            condition.threshold,
            condition.below,
            condition.margin(value),
            condition.test(value),
        )
        if name not in shown or not shown[name].margin <= figure.margin:
            shown[name] = figure
    rest = {name: Figure(name, *meaning, values[name]) for name, meaning in MEANINGS.items() if name not in shown}
    return {**shown, **rest}

"""What the methods of `samirage.lab.methods` are made of, as parts of a recipe; and guards by other criteria."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from samirage.lab.methods import METHODS
from samirage.lab.results.constants import SWITCH_FRACTION
from samirage.sam import GSAM, Decay, Guard, LookSAM, Ramp, StepFigures, WarmStart


@dataclass(frozen=True)
class SlopeGuard(Guard):
    """Accept where the loss still rises at `x⁺`, whatever the direction: `s ≥ kappa‖g‖`."""

    kappa: float = 0.3

    def accepts(self, figures: StepFigures) -> Tensor:
        """Tell whether to follow the shifted gradient; see `Guard.accepts`."""
        return figures.slope_plus >= self.kappa * figures.grad_norm


@dataclass(frozen=True)
class GainGuard(Guard):
    """Accept where the loss rose by the predicted gain, or most of it: `kappa ≤ G ≤ 1/kappa`."""

    kappa: float = 0.5

    def accepts(self, figures: StepFigures) -> Tensor:
        """Tell whether to follow the shifted gradient; see `Guard.accepts`."""
        return (figures.ascent_gain >= self.kappa) & (figures.ascent_gain <= 1 / self.kappa)


# Piece of a method → what it sets in a recipe, from the number of steps and the settings of the piece.
PIECES: Final[Mapping[str, Callable[[int, Mapping[str, Any]], dict[str, Any]]]] = {
    "switch": lambda steps, given: {"warm_start": WarmStart(total_steps=steps, **given)},
    "criterion": lambda steps, given: {"warm_start": WarmStart(until="slope", **given)},
    "decay": lambda steps, given: {"schedule": Decay(total_steps=steps, **given)},
    "rise": lambda steps, given: {"schedule": Ramp(steps=steps, **given)},
    "guard": lambda steps, given: {"guard": Guard(**given)},
    "slope-guard": lambda steps, given: {"guard": SlopeGuard(**given)},
    "gain-guard": lambda steps, given: {"guard": GainGuard(**given)},
    "momentum": lambda steps, given: dict(given),
    "variant": lambda steps, given: dict(given),
    "gsam": lambda steps, given: {"variant": GSAM(**given)},
    "looksam": lambda steps, given: {"variant": LookSAM(**given)},
}


def recipe_parts(
    method: str, *, steps: int, switch_fraction: float = SWITCH_FRACTION, kappa: float = Guard().kappa
) -> dict[str, Any]:
    """Return the fields of a `Recipe` that make a method of SAM: warm start, schedule, guard, momentum, variant.

    Args:
        method: Its name, one of `samirage.lab.methods.METHODS`.
        steps: Number of steps of the training.
        switch_fraction: Share of the steps that a switch takes plain, from 0 to 1.
        kappa: The guard's smallest agreement, unless the method has its own.

    Raises:
        KeyError: If there is no such method.

    Example:
        >>> recipe_parts("guard+decay", steps=100)["schedule"] == Decay(total_steps=100)
        True
        >>> recipe_parts("sam", steps=100)
        {}
    """
    usual = {"switch": {"fraction": switch_fraction}, "guard": {"kappa": kappa}}
    parts: dict[str, Any] = {}
    for piece, given in METHODS[method].pieces.items():
        parts |= PIECES[piece](steps, {**usual.get(piece, {}), **given})
    return parts

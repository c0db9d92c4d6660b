"""The numbers at which a figure changes its meaning: arguments of the diagnosis, with the source of each default."""

from dataclasses import dataclass, fields
from typing import Final

from samirage.criteria import HALLUCINATED_GRAD_FRACTION, HALLUCINATED_SHIFT_RATIO

_SIGNED: Final = frozenset({"successive_cosine", "transverse_cosine"})


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the diagnosis. The figures are those of `samirage.sam.CourseFigures` and `MotionFigures`.

    The defaults began as round numbers; those marked "doctor" were then checked, and where need be moved, so that they
    lie between the labelled runs of the study `doctor`, which reports by how much each run satisfies them. Pass others
    as `diagnose(optimizer, thresholds=Thresholds(shift_ratio=0.05))`.

    Attributes:
        stationary: Gradients below this share of the early ones have vanished (a round number).
        shift_ratio: `r` below which the shifted gradient vanishes, where `x⁺` is lower than `x`; also the default of
            `samirage.sam.is_at_hallucinated_point` (studies `mnist`, doctor).
        plateau_shift_ratio: The same, where `x⁺` is not lower (doctor).
        rest_slope_ratio: Slope ratio below which SAM sees no slope at `x⁺` (doctor).
        slope_ratio: Slope ratio from which SAM sees the slope at `x⁺`. On convex stretches it is at least 1 (exact);
            guarded steps have at least the guard's kappa (doctor).
        rest_efficiency: `e` below which a resting run wastes the slope of the loss (doctor).
        efficiency: `e` from which the steps follow the slope (doctor).
        grad_coherence: `C0` from which the loss has one slope all along (doctor).
        motion_coherence: `B` below which the steps cancel (doctor).
        successive_cosine: `tau` below which the steps bounce, rather than being noisy (doctor).
        mean_grad_ratio: `D0` below which they cancel about a critical point (doctor).
        cosine: `c` from which `g` and `g⁺` point the same way, as in a valley (Long and Bartlett, arXiv 2309.12488,
            where it tends to 1).
        trap_cosine: `c` below which a run that cancels its steps at a high loss is trapped (doctor).
        transverse_cosine: Transverse cosine below which SAM pulls towards a saddle (exact sign: −1; doctor).
        loss_trend: Relative change of the loss over the window below which the run has stalled (a round number).
        loss_drop: Relative fall of the loss since the beginning below which it is still high (doctor).
        majority: Share of the steps that makes a figure typical of them.
        nearly_all: Share of the steps that makes a figure true of all, but for a few.

    Raises:
        ValueError: If a threshold is out of its range.

    Example:
        >>> Thresholds(shift_ratio=0.05).shift_ratio
        0.05
        >>> Thresholds(majority=3.0)
        Traceback (most recent call last):
        ...
        ValueError: threshold majority must be above 0 and at most 1; got 3.0
    """

    stationary: float = HALLUCINATED_GRAD_FRACTION
    shift_ratio: float = HALLUCINATED_SHIFT_RATIO
    plateau_shift_ratio: float = 0.15
    rest_slope_ratio: float = 0.1
    slope_ratio: float = 0.3
    rest_efficiency: float = 0.1
    efficiency: float = 0.3
    grad_coherence: float = 0.3
    motion_coherence: float = 0.3
    successive_cosine: float = -0.3
    mean_grad_ratio: float = 0.1
    cosine: float = 0.3
    trap_cosine: float = 0.5
    transverse_cosine: float = -0.3
    loss_trend: float = 0.01
    loss_drop: float = 0.1
    majority: float = 0.5
    nearly_all: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if field.name in _SIGNED:
                if not (number and -1 <= value < 0):
                    raise ValueError(f"threshold {field.name} must be at least -1 and below 0; got {value!r}")
            elif not (number and 0 < value <= 1):
                raise ValueError(f"threshold {field.name} must be above 0 and at most 1; got {value!r}")

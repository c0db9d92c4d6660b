"""The decision table: which figures make which status. The first rule that holds decides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samirage.diagnosis.thresholds import Thresholds
from samirage.sam import Status


@dataclass(frozen=True)
class Condition:
    """A test of one figure: below its threshold, or at least as large.

    Attributes:
        figure: Name of the figure.
        below: Whether the value must be below the threshold; otherwise it must be at least the threshold.
        threshold: The threshold.
        essential: Whether the rule needs the figure. Without it a rule can hold, with "could not check", when the
            figure is missing.
    """

    figure: str
    below: bool
    threshold: float
    essential: bool = False

    def test(self, value: float) -> bool | None:
        """Tell whether the condition holds; None where the value is NaN.

        Args:
            value: Value of the figure.
        """
        if math.isnan(value):
            return None
        return value < self.threshold if self.below else value >= self.threshold

    def margin(self, value: float) -> float:
        """Return by how much the condition holds, above 0 if it does, in units of the threshold.

        Args:
            value: Value of the figure.
        """
        distance = self.threshold - value if self.below else value - self.threshold
        return distance / abs(self.threshold) if self.threshold else distance


@dataclass(frozen=True)
class Rule:
    """What makes a status.

    Attributes:
        status: The status.
        conditions: All of which must hold, or be unknown where they are not essential.
        advice: Advice that fits this rule better than the status' own; empty for that.
    """

    status: Status
    conditions: tuple[Condition, ...]
    advice: str = ""

    def failing(self, values: Mapping[str, float]) -> list[Condition]:
        """Return the conditions that keep the rule from holding.

        Args:
            values: Value of each figure; NaN where it is missing.
        """
        outcomes = [(c, c.test(values[c.figure])) for c in self.conditions]
        return [c for c, passed in outcomes if passed is False or (passed is None and c.essential)]


def below(figure: str, threshold: float) -> Condition:
    """Return the condition that a figure is below its threshold, or missing."""
    return Condition(figure, True, threshold)


def from_(figure: str, threshold: float) -> Condition:
    """Return the condition that a figure is at least its threshold, or missing."""
    return Condition(figure, False, threshold)


def known(condition: Condition) -> Condition:
    """Return the condition made essential."""
    return Condition(condition.figure, condition.below, condition.threshold, essential=True)


_PLAIN = (
    "All steps of the window were plain (a warm start, rho = 0, or a schedule at 0): diagnose again when SAM has "
    "begun, or check the loop if it should have."
)
_UNKNOWN_KIND = (
    "Do not move to the perturbed point, for the losses are not known and cannot tell whether it is lower; lower rho, "
    "or restart with a WarmStart and a Guard, and give step() a closure to learn more."
)


def table(t: Thresholds) -> tuple[Rule, ...]:
    """Return the rules in the order in which they are tried.

    Args:
        t: The thresholds.

    Returns:
        The rules.

    Example:
        >>> table(Thresholds())[0].status
        <Status.DIVERGED: 'diverged'>
    """
    # A loss that rises a little is no progress either; and noise may look like it.
    flat = (below("loss_trend", 10 * t.loss_trend), from_("loss_trend", -t.loss_trend))
    slope_lost = (
        from_("grad_fraction", t.stationary),
        from_("grad_coherence", t.grad_coherence),
        below("descent_efficiency", t.rest_efficiency),
    )
    at_rest = (known(below("slope_ratio", t.rest_slope_ratio)), *slope_lost)
    # Where the noise of minibatches or an erratic path keeps g⁺ from vanishing at any one step, its mean still does.
    at_rest_in_the_mean = (
        known(below("mean_shift_ratio", t.shift_ratio)),
        known(below("shift_ratio", 1.0)),
        known(below("slope_ratio", t.slope_ratio)),
        from_("successive_cosine", t.successive_cosine),
        *slope_lost,
    )
    cancelling = below("motion_coherence", t.motion_coherence)
    critical = below("mean_grad_ratio", t.mean_grad_ratio)
    lower, higher = from_("lower_share", t.majority), below("lower_share", t.majority)
    return (
        Rule(Status.DIVERGED, (known(below("finite_share", t.majority)),)),
        Rule(Status.INACTIVE, (known(Condition("perturbed_share", True, 1e-9)),), _PLAIN),
        Rule(
            Status.INACTIVE,
            (known(from_("same_grad_share", t.nearly_all)), from_("same_loss_share", t.nearly_all)),
        ),
        Rule(Status.INACTIVE, (known(below("radius_fraction", t.majority)),)),
        Rule(
            Status.STATIONARY,
            (known(below("grad_fraction", t.stationary)), known(below("grad_plus_fraction", t.stationary))),
        ),
        Rule(Status.STATIONARY, (known(from_("same_loss_share", t.nearly_all)),)),
        Rule(
            Status.HALLUCINATED_MINIMIZER,
            (known(below("shift_ratio", t.shift_ratio)), known(lower), *at_rest),
        ),
        Rule(
            Status.HALLUCINATED_PLATEAU,
            (known(below("shift_ratio", t.plateau_shift_ratio)), known(higher), *at_rest),
        ),
        Rule(
            Status.HALLUCINATED_PLATEAU,
            (known(below("shift_ratio", t.shift_ratio)), higher, *at_rest),
            _UNKNOWN_KIND,
        ),
        Rule(Status.HALLUCINATED_MINIMIZER, (*at_rest_in_the_mean, known(lower))),
        Rule(Status.HALLUCINATED_PLATEAU, (*at_rest_in_the_mean, known(higher))),
        Rule(Status.HALLUCINATED_PLATEAU, (*at_rest_in_the_mean, higher), _UNKNOWN_KIND),
        Rule(
            Status.PROGRESSING,
            (known(below("loss_trend", -t.loss_trend)), known(from_("slope_ratio", t.slope_ratio))),
        ),
        Rule(  # without a loss; with one, the rule above has decided
            Status.PROGRESSING,
            (
                known(from_("descent_efficiency", t.efficiency)),
                known(from_("mean_grad_ratio", t.mean_grad_ratio)),
                known(from_("slope_ratio", t.slope_ratio)),
                below("loss_trend", -t.loss_trend),
            ),
        ),
        Rule(
            Status.MAXIMIZER_TRAP,
            (
                known(from_("opposed_share", t.majority)),
                known(from_("shift_ratio", 1.0)),
                lower,
                cancelling,
                critical,
                *flat,
            ),
        ),
        Rule(
            Status.SADDLE_TRAP,
            (known(below("transverse_cosine", t.transverse_cosine)), higher, cancelling, critical, *flat),
        ),
        Rule(
            Status.SADDLE_TRAP,
            (
                known(below("cosine", t.trap_cosine)),
                known(below("loss_drop", t.loss_drop)),
                known(from_("slope_ratio", t.slope_ratio)),
                higher,
                cancelling,
                below("mean_grad_ratio", 2 * t.mean_grad_ratio),
                *flat,
            ),
        ),
        Rule(
            Status.BOUNCING_MINIMIZER,
            (
                known(from_("slope_ratio", t.slope_ratio)),
                known(from_("cosine", t.cosine)),
                higher,
                cancelling,
                *flat,
            ),
        ),
        Rule(
            Status.HALLUCINATED_BOUNCE,
            (
                known(below("slope_ratio", t.slope_ratio)),
                known(from_("slope_ratio", -1.0)),
                below("descent_efficiency", t.efficiency),
                from_("grad_coherence", t.grad_coherence),
                from_("mean_grad_ratio", t.mean_grad_ratio),
                cancelling,
                below("loss_trend", 30 * t.loss_trend),
                from_("loss_trend", -30 * t.loss_trend),
            ),
        ),
        Rule(
            Status.DRIFTING,
            (
                known(from_("ridge_share", t.majority)),
                known(below("slope_ratio", t.slope_ratio)),
                below("descent_efficiency", t.efficiency),
                from_("motion_coherence", t.motion_coherence),
            ),
        ),
        Rule(
            Status.DRIFTING,
            (
                known(below("slope_ratio", t.rest_slope_ratio)),
                known(below("descent_efficiency", t.rest_efficiency)),
                known(from_("grad_coherence", t.grad_coherence)),
                known(from_("motion_coherence", t.motion_coherence)),
                from_("loss_trend", -t.loss_trend),
            ),
        ),
        Rule(
            Status.PROGRESSING,
            (known(from_("descent_efficiency", t.efficiency)), known(from_("motion_coherence", t.motion_coherence))),
        ),
    )


def decide(values: Mapping[str, float], rules: Sequence[Rule]) -> Rule | None:
    """Return the first rule that holds, or None.

    Args:
        values: Value of each figure; NaN where it is missing.
        rules: The rules, in order.
    """
    return next((rule for rule in rules if not rule.failing(values)), None)


def nearest(values: Mapping[str, float], rules: Sequence[Rule]) -> tuple[Rule, Condition] | None:
    """Return the rule that fails by one condition alone, with the condition; of several the one that is closest.

    Args:
        values: Value of each figure; NaN where it is missing.
        rules: The rules.
    """
    close = []
    for rule in rules:
        failing = rule.failing(values)
        if len(failing) == 1 and not math.isnan(values[failing[0].figure]):
            close.append((rule, failing[0]))
    return max(close, key=lambda pair: pair[1].margin(values[pair[1].figure]), default=None)

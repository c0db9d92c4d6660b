"""The decision table, row by row, from figures made up for each class; and what it does when figures are missing."""

import math

import pytest

from samirage.diagnosis.diagnosis import judge
from samirage.diagnosis.figures import MEANINGS
from samirage.diagnosis.rules import Condition, decide, nearest, table
from samirage.diagnosis.thresholds import Thresholds
from samirage.sam import Status

RULES = table(Thresholds())

# A run that goes well: every other case changes some of these.
HEALTHY = {
    **dict.fromkeys(MEANINGS, math.nan),
    "perturbed_share": 1.0, "finite_share": 1.0, "same_grad_share": 0.0, "same_loss_share": 0.0,
    "loss": 1.0, "loss_trend": -0.2, "loss_drop": 0.5, "grad_fraction": 0.5, "grad_plus_fraction": 0.6,
    "shift_ratio": 1.2, "slope_ratio": 1.1, "cosine": 0.95, "ascent_gain": 1.1,
    "lower_share": 0.0, "opposed_share": 0.0, "ridge_share": 0.0,
    "motion_coherence": 0.5, "successive_cosine": 0.3, "transverse_cosine": 0.9, "grad_coherence": 0.5,
    "mean_grad_ratio": 0.4, "mean_shift_ratio": 1.0, "descent_efficiency": 1.0,
}  # fmt: skip
REST = {"loss_trend": 0.0, "shift_ratio": 0.01, "slope_ratio": 0.01, "descent_efficiency": 0.01, "grad_coherence": 1.0}
BOUNCE = {
    "loss_trend": 0.0, "motion_coherence": 0.01, "successive_cosine": -1.0, "mean_grad_ratio": 0.01,
    "grad_coherence": 0.1, "descent_efficiency": math.nan, "slope_ratio": 5.0, "shift_ratio": 5.0,
}  # fmt: skip
CASES = [
    (Status.PROGRESSING, {}),
    (Status.PROGRESSING, {"loss_trend": 0.0}),  # slowly, but straight along its slope
    (Status.PROGRESSING, {"motion_coherence": 0.05, "mean_grad_ratio": 0.05}),  # bouncing on the way down
    (Status.DIVERGED, {"finite_share": 0.3}),
    (Status.INACTIVE, {"perturbed_share": 0.0}),
    (Status.INACTIVE, {"same_grad_share": 1.0, "same_loss_share": 1.0}),
    (Status.INACTIVE, {"radius_fraction": 0.1}),
    (Status.PROGRESSING, {"same_grad_share": 1.0}),  # a loss that is linear, and changes from x to x⁺
    (Status.STATIONARY, {"grad_fraction": 1e-4, "grad_plus_fraction": 1e-4}),
    (Status.STATIONARY, {"same_loss_share": 1.0}),
    (Status.HALLUCINATED_MINIMIZER, {**REST, "lower_share": 1.0}),
    (Status.HALLUCINATED_PLATEAU, REST),
    (Status.HALLUCINATED_PLATEAU, {**REST, "shift_ratio": 0.12}),
    (Status.UNDECIDED, {**REST, "slope_ratio": 0.2, "mean_shift_ratio": 0.2}),  # at most steps only, not in the mean
    (
        Status.HALLUCINATED_MINIMIZER,  # in noise
        {**REST, "shift_ratio": 0.5, "slope_ratio": 0.2, "mean_shift_ratio": 0.05, "lower_share": 1.0,
         "successive_cosine": -0.1, "motion_coherence": 0.05, "mean_grad_ratio": 1.0},
    ),
    (
        Status.HALLUCINATED_BOUNCE,
        {**REST, "shift_ratio": 0.5, "slope_ratio": 0.0, "mean_shift_ratio": 0.01, "lower_share": 1.0,
         "successive_cosine": -0.9, "motion_coherence": 0.01, "mean_grad_ratio": 1.5},
    ),
    (Status.BOUNCING_MINIMIZER, BOUNCE),
    (Status.BOUNCING_MINIMIZER, {**BOUNCE, "successive_cosine": 1.0}),  # an orbit of a longer period
    (Status.BOUNCING_MINIMIZER, {**BOUNCE, "mean_grad_ratio": 0.25, "grad_coherence": 0.97}),  # led by a guard
    (Status.SADDLE_TRAP, {**BOUNCE, "transverse_cosine": -1.0}),
    (Status.SADDLE_TRAP, {**BOUNCE, "cosine": 0.3, "loss_drop": 0.0}),
    (
        Status.MAXIMIZER_TRAP,
        {**BOUNCE, "cosine": -1.0, "opposed_share": 1.0, "lower_share": 1.0, "slope_ratio": -20.0, "ridge_share": 1.0},
    ),
    (
        Status.DRIFTING,
        {"loss_trend": 0.5, "ridge_share": 1.0, "slope_ratio": -1.0, "descent_efficiency": -1.0, "cosine": -0.9,
         "opposed_share": 1.0},
    ),
    (Status.DRIFTING, {**REST, "shift_ratio": 0.5, "descent_efficiency": 0.0, "motion_coherence": 0.9}),
    (Status.UNDECIDED, {"loss_trend": 0.3, "descent_efficiency": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "changes"), CASES)
def test_each_class_has_its_figures(status, changes):
    rule = decide({**HEALTHY, **changes}, RULES)
    assert (rule.status if rule else Status.UNDECIDED) is status


def test_every_status_of_the_free_figures_is_in_the_table():
    # A saddle or a maximizer at x⁺ takes extra passes; that nothing fits is no rule.
    passes = {Status.HALLUCINATED_SADDLE, Status.HALLUCINATED_MAXIMIZER}
    assert {rule.status for rule in RULES} == set(Status) - passes - {Status.UNDECIDED}


@pytest.mark.parametrize("index", range(len(CASES)))
def test_one_figure_beyond_its_threshold_is_enough_to_leave_a_rule(index):
    """Whatever a rule asks, is decisive: moved across its threshold, the same rule holds no more."""
    _, changes = CASES[index]
    values = {**HEALTHY, **changes}
    rule = decide(values, RULES)
    for condition in rule.conditions if rule else ():
        across = condition.threshold + (1e-9 if condition.below else -1e-9)
        assert rule.failing({**values, condition.figure: across}) or condition.test(across)
        assert not condition.test(across)


def test_a_figure_that_is_missing_is_no_pass():
    hidden = {**HEALTHY, **BOUNCE, "motion_coherence": math.nan}
    diagnosis = judge(hidden, last_step=99, steps=50, thresholds=Thresholds())
    assert diagnosis.status is Status.BOUNCING_MINIMIZER
    figure = diagnosis.figures["motion_coherence"]
    assert figure.passed is None
    assert figure.verdict == "could not check"
    assert diagnosis.notes == ("Could not check B (how much the steps add up).",)


def test_a_rule_does_not_hold_without_its_essential_figures():
    nothing = dict.fromkeys(MEANINGS, math.nan)
    assert decide(nothing, RULES) is None
    assert nearest(nothing, RULES) is None
    assert judge(nothing, last_step=9, steps=9, thresholds=Thresholds()).status is Status.UNDECIDED


def test_undecided_says_what_it_nearly_is():
    values = {**HEALTHY, **REST, "lower_share": 1.0, "shift_ratio": 0.11, "motion_coherence": 0.9}
    values["descent_efficiency"] = 0.5
    diagnosis = judge(values, last_step=9, steps=9, thresholds=Thresholds())
    assert diagnosis.status is Status.PROGRESSING
    values = {**HEALTHY, "loss_trend": 0.0, "descent_efficiency": 0.29}
    diagnosis = judge(values, last_step=9, steps=9, thresholds=Thresholds())
    assert diagnosis.status is Status.UNDECIDED
    assert diagnosis.notes == ("Nearest: progressing, but for e = 0.29, ≥ 0.3, margin -0.033.",)


def test_margins_are_above_0_where_the_condition_holds():
    below, at_least = Condition("cosine", True, 0.5), Condition("cosine", False, -0.5)
    assert below.margin(0.25) == 0.5
    assert below.margin(1.0) == -1.0
    assert at_least.margin(0.0) == 1.0
    assert at_least.margin(-1.0) == -1.0
    assert below.test(0.5) is False
    assert at_least.test(-0.5) is True
    assert below.test(math.nan) is None


def test_of_two_conditions_on_a_figure_the_closer_one_is_shown():
    diagnosis = judge({**HEALTHY, **BOUNCE, "loss_trend": -0.009}, last_step=9, steps=9, thresholds=Thresholds())
    assert diagnosis.figures["loss_trend"].threshold == -0.01
    assert diagnosis.figures["loss_trend"].margin == pytest.approx(0.1)

"""Where each class of a diagnosis begins and ends: the numbers, typed here once more, on either side of every one."""

import math

import pytest

from samirage.diagnosis.rules import decide, table
from samirage.diagnosis.thresholds import Thresholds
from samirage.sam import Status
from tests.diagnosis.test_rules import BOUNCE, HEALTHY, REST

RULES = table(Thresholds())
NOISY_REST = {
    **REST, "shift_ratio": 0.5, "slope_ratio": 0.2, "mean_shift_ratio": 0.05, "successive_cosine": -0.1,
    "motion_coherence": 0.05, "mean_grad_ratio": 1.0,
}  # fmt: skip
# For each rule, figures for which it decides, and for each figure that it asks a side and a number: "<" is below it.
SPECIFICATION = {
    "diverged": (Status.DIVERGED, {"finite_share": 0.3}, {"finite_share": ("<", 0.5)}),
    "plain": (Status.INACTIVE, {"perturbed_share": 0.0}, {"perturbed_share": ("<", 1e-9)}),
    "same pass twice": (
        Status.INACTIVE, {"same_grad_share": 1.0, "same_loss_share": 1.0},
        {"same_grad_share": ("≥", 0.9), "same_loss_share": ("≥", 0.9)},
    ),
    "smaller radius": (Status.INACTIVE, {"radius_fraction": 0.1}, {"radius_fraction": ("<", 0.5)}),
    "stationary": (
        Status.STATIONARY, {"grad_fraction": 1e-4, "grad_plus_fraction": 1e-4},
        {"grad_fraction": ("<", 1e-3), "grad_plus_fraction": ("<", 1e-3)},
    ),
    "flat": (Status.STATIONARY, {"same_loss_share": 1.0}, {"same_loss_share": ("≥", 0.9)}),
    "hallucinated minimizer": (
        Status.HALLUCINATED_MINIMIZER, {**REST, "lower_share": 1.0, "mean_shift_ratio": 1.0},
        {"shift_ratio": ("<", 0.1), "lower_share": ("≥", 0.5), "slope_ratio": ("<", 0.1), "grad_fraction": ("≥", 1e-3),
         "grad_coherence": ("≥", 0.3), "descent_efficiency": ("<", 0.1)},
    ),
    "hallucinated plateau": (
        Status.HALLUCINATED_PLATEAU, REST,
        {"shift_ratio": ("<", 0.15), "slope_ratio": ("<", 0.1), "grad_fraction": ("≥", 1e-3),
         "grad_coherence": ("≥", 0.3), "descent_efficiency": ("<", 0.1)},
    ),
    "hallucinated plateau, losses unknown": (
        Status.HALLUCINATED_PLATEAU, {**REST, "lower_share": math.nan},
        {"shift_ratio": ("<", 0.1), "slope_ratio": ("<", 0.1), "grad_coherence": ("≥", 0.3),
         "descent_efficiency": ("<", 0.1)},
    ),
    "hallucinated minimizer in noise": (
        Status.HALLUCINATED_MINIMIZER, {**NOISY_REST, "lower_share": 1.0},
        {"mean_shift_ratio": ("<", 0.1), "shift_ratio": ("<", 1.0), "slope_ratio": ("<", 0.3),
         "successive_cosine": ("≥", -0.3), "grad_coherence": ("≥", 0.3), "descent_efficiency": ("<", 0.1),
         "grad_fraction": ("≥", 1e-3), "lower_share": ("≥", 0.5)},
    ),
    "hallucinated plateau in noise": (
        Status.HALLUCINATED_PLATEAU, NOISY_REST,
        {"mean_shift_ratio": ("<", 0.1), "shift_ratio": ("<", 1.0), "slope_ratio": ("<", 0.3),
         "successive_cosine": ("≥", -0.3), "grad_coherence": ("≥", 0.3), "descent_efficiency": ("<", 0.1),
         "grad_fraction": ("≥", 1e-3)},
    ),
    "hallucinated plateau in noise, losses unknown": (
        Status.HALLUCINATED_PLATEAU, {**NOISY_REST, "lower_share": math.nan},
        {"mean_shift_ratio": ("<", 0.1), "shift_ratio": ("<", 1.0), "slope_ratio": ("<", 0.3),
         "successive_cosine": ("≥", -0.3), "grad_coherence": ("≥", 0.3), "descent_efficiency": ("<", 0.1)},
    ),
    "progressing by its loss": (
        Status.PROGRESSING, {"descent_efficiency": 0.0, "motion_coherence": 0.0, "mean_grad_ratio": 0.0},
        {"loss_trend": ("<", -0.01), "slope_ratio": ("≥", 0.3)},
    ),
    "progressing without a loss": (
        Status.PROGRESSING, {"loss_trend": math.nan, "motion_coherence": 0.0},
        {"descent_efficiency": ("≥", 0.3), "mean_grad_ratio": ("≥", 0.1), "slope_ratio": ("≥", 0.3)},
    ),
    "maximizer trap": (
        Status.MAXIMIZER_TRAP,
        {**BOUNCE, "cosine": -1.0, "opposed_share": 1.0, "lower_share": 1.0, "slope_ratio": -20.0, "ridge_share": 1.0},
        {"opposed_share": ("≥", 0.5), "shift_ratio": ("≥", 1.0), "lower_share": ("≥", 0.5),
         "motion_coherence": ("<", 0.3), "mean_grad_ratio": ("<", 0.1), "loss_trend": ("<", 0.1)},
    ),
    "saddle trap": (
        Status.SADDLE_TRAP, {**BOUNCE, "transverse_cosine": -1.0, "cosine": 0.0, "loss_drop": 0.5},
        {"transverse_cosine": ("<", -0.3), "lower_share": ("<", 0.5), "motion_coherence": ("<", 0.3),
         "mean_grad_ratio": ("<", 0.1), "loss_trend": ("<", 0.1)},
    ),
    "saddle trap at a high loss": (
        Status.SADDLE_TRAP, {**BOUNCE, "cosine": 0.2, "loss_drop": 0.0, "mean_grad_ratio": 0.15},
        {"loss_drop": ("<", 0.1), "slope_ratio": ("≥", 0.3), "lower_share": ("<", 0.5), "motion_coherence": ("<", 0.3),
         "mean_grad_ratio": ("<", 0.2), "loss_trend": ("<", 0.1)},
    ),
    "bouncing minimizer": (
        Status.BOUNCING_MINIMIZER, BOUNCE,
        {"slope_ratio": ("≥", 0.3), "cosine": ("≥", 0.3), "lower_share": ("<", 0.5), "motion_coherence": ("<", 0.3),
         "loss_trend": ("<", 0.1)},
    ),
    "hallucinated bounce": (
        Status.HALLUCINATED_BOUNCE,
        {**REST, "shift_ratio": 0.5, "slope_ratio": 0.0, "mean_shift_ratio": 0.5, "lower_share": 1.0,
         "successive_cosine": -0.9, "motion_coherence": 0.01, "mean_grad_ratio": 1.5},
        {"slope_ratio": ("<", 0.3), "descent_efficiency": ("<", 0.3), "grad_coherence": ("≥", 0.3),
         "mean_grad_ratio": ("≥", 0.1), "motion_coherence": ("<", 0.3), "loss_trend": ("<", 0.3)},
    ),
    "drifting": (
        Status.DRIFTING,
        {"loss_trend": 0.5, "ridge_share": 1.0, "slope_ratio": -1.5, "descent_efficiency": 0.0, "cosine": -0.9,
         "opposed_share": 1.0, "lower_share": math.nan},
        {"ridge_share": ("≥", 0.5), "slope_ratio": ("<", 0.3), "descent_efficiency": ("<", 0.3),
         "motion_coherence": ("≥", 0.3)},
    ),
    "drifting without a ridge": (
        Status.DRIFTING, {**REST, "shift_ratio": 0.5, "descent_efficiency": 0.0, "motion_coherence": 0.9},
        {"slope_ratio": ("<", 0.1), "descent_efficiency": ("<", 0.1), "grad_coherence": ("≥", 0.3),
         "motion_coherence": ("≥", 0.3), "loss_trend": ("≥", -0.01)},
    ),
    "progressing along its slope": (
        Status.PROGRESSING, {"loss_trend": 0.0}, {"descent_efficiency": ("≥", 0.3), "motion_coherence": ("≥", 0.3)},
    ),
}  # fmt: skip
# Of conditions from two sides the other one, and one that only figures that are missing above leave over.
OTHER_SIDES = [
    ("maximizer trap", "loss_trend", "≥", -0.01), ("saddle trap", "loss_trend", "≥", -0.01),
    ("saddle trap at a high loss", "loss_trend", "≥", -0.01), ("bouncing minimizer", "loss_trend", "≥", -0.01),
    ("hallucinated bounce", "loss_trend", "≥", -0.3), ("hallucinated bounce", "slope_ratio", "≥", -1.0),
    ("progressing without a loss", "loss_trend", "<", -0.01),
]  # fmt: skip
BOUNDARIES = [(name, figure, *at) for name, (_, _, asked) in SPECIFICATION.items() for figure, at in asked.items()]
BOUNDARIES += OTHER_SIDES

_IN_NOISE = {"mean_shift_ratio", "shift_ratio", "slope_ratio"}
# Without these figures a rule says nothing; without others it still does, with "could not check".
ESSENTIAL = {
    "diverged": {"finite_share"},
    "plain": {"perturbed_share"},
    "same pass twice": {"same_grad_share"},
    "smaller radius": {"radius_fraction"},
    "stationary": {"grad_fraction", "grad_plus_fraction"},
    "flat": {"same_loss_share"},
    "hallucinated minimizer": {"shift_ratio", "lower_share", "slope_ratio"},
    "hallucinated plateau": {"shift_ratio", "lower_share", "slope_ratio"},
    "hallucinated plateau, losses unknown": {"shift_ratio", "slope_ratio"},
    "hallucinated minimizer in noise": {*_IN_NOISE, "lower_share"},
    "hallucinated plateau in noise": {*_IN_NOISE, "lower_share"},
    "hallucinated plateau in noise, losses unknown": _IN_NOISE,
    "progressing by its loss": {"loss_trend", "slope_ratio"},
    "progressing without a loss": {"descent_efficiency", "mean_grad_ratio", "slope_ratio"},
    "maximizer trap": {"opposed_share", "shift_ratio"},
    "saddle trap": {"transverse_cosine"},
    "saddle trap at a high loss": {"cosine", "loss_drop", "slope_ratio"},
    "bouncing minimizer": {"slope_ratio", "cosine"},
    "hallucinated bounce": {"slope_ratio"},
    "drifting": {"ridge_share", "slope_ratio"},
    "drifting without a ridge": {"slope_ratio", "descent_efficiency", "grad_coherence", "motion_coherence"},
    "progressing along its slope": {"descent_efficiency", "motion_coherence"},
}


@pytest.mark.parametrize("name", SPECIFICATION)
def test_each_rule_decides_for_its_figures(name):
    status, changes, asked = SPECIFICATION[name]
    rule = decide({**HEALTHY, **changes}, RULES)
    assert rule is not None
    assert rule.status is status
    assert {condition.figure for condition in rule.conditions} - set(asked) <= unasked(name)


def unasked(name):
    """Figures of a rule of which another rule decides on the other side, or that no rule before it leaves over."""
    return {
        "hallucinated plateau": {"lower_share"},
        "hallucinated plateau, losses unknown": {"lower_share", "grad_fraction"},
        "hallucinated plateau in noise": {"lower_share"},
        "hallucinated plateau in noise, losses unknown": {"lower_share", "grad_fraction"},
        "progressing without a loss": {"loss_trend"},
        "saddle trap at a high loss": {"cosine"},
    }.get(name, set())


@pytest.mark.parametrize(("name", "figure", "side", "number"), BOUNDARIES)
def test_each_rule_ends_where_it_is_said_to(name, figure, side, number):
    _, changes, _ = SPECIFICATION[name]
    values = {**HEALTHY, **changes}
    rule = decide(values, RULES)
    assert rule is not None
    nearby = 1e-6 * abs(number)
    within, beyond = (number - nearby, number) if side == "<" else (number, number - nearby)
    assert not rule.failing({**values, figure: within})
    assert [condition.figure for condition in rule.failing({**values, figure: beyond})] == [figure]


def test_a_trap_at_a_high_loss_points_less_than_half_the_same_way():
    values = {**HEALTHY, **BOUNCE, "loss_drop": 0.0}
    at = {cosine: decide({**values, "cosine": cosine}, RULES) for cosine in (0.4999999, 0.5)}
    assert [rule.status if rule else None for rule in at.values()] == [Status.SADDLE_TRAP, Status.BOUNCING_MINIMIZER]


@pytest.mark.parametrize("name", SPECIFICATION)
def test_a_rule_says_nothing_without_its_essential_figures_and_only_these(name):
    _, changes, _ = SPECIFICATION[name]
    values = {**HEALTHY, **changes}
    rule = decide(values, RULES)
    assert rule is not None
    asked = {condition.figure for condition in rule.conditions}
    # Every condition on an essential figure alone, for one figure may be asked from two sides.
    essential = {figure for figure in asked if rule.failing({**values, figure: math.nan})}
    assert essential == ESSENTIAL[name]
    alone = [condition.figure for condition in rule.failing(dict.fromkeys(values, math.nan))]
    assert sorted(alone) == sorted([*ESSENTIAL[name], *(["slope_ratio"] if name == "hallucinated bounce" else [])])

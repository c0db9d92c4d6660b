"""Where each class of a run ends: its figures one at a time moved to the last value that fits, and across, and hidden.

A row reads `figure sign number: what the run is called on the other side`; with `!` the class needs the figure, and
without it the class may hold when the figure is missing.
"""

import math

import pytest

from samirage.diagnosis.rules import Rule, below, decide, from_, known, nearest, table
from samirage.diagnosis.thresholds import Thresholds
from samirage.sam import Status
from tests.diagnosis.test_rules import HEALTHY

RULES = table(Thresholds())
# Fits no class: the loss rises, and the steps follow the slope neither well nor badly.
UNDECIDED = {**HEALTHY, "loss_trend": 0.5, "descent_efficiency": 0.2, "motion_coherence": 0.5}
REST = {
    "loss_trend": 0.05, "shift_ratio": 0.05, "slope_ratio": 0.05, "descent_efficiency": 0.05, "grad_coherence": 1.0,
    "mean_shift_ratio": 0.5, "motion_coherence": 0.1, "mean_grad_ratio": 0.5,
}  # fmt: skip
MEAN = {**REST, "shift_ratio": 0.5, "slope_ratio": 0.2, "mean_shift_ratio": 0.05, "successive_cosine": 0.0}
CANCEL = {
    "loss_trend": 0.0, "motion_coherence": 0.1, "mean_grad_ratio": 0.05, "grad_coherence": 0.1,
    "descent_efficiency": 0.2, "slope_ratio": 2.0, "shift_ratio": 2.0, "cosine": 0.9, "lower_share": 0.2,
}  # fmt: skip

CASES = {
    "diverged": (
        Status("diverged"),
        {"finite_share": 0.2},
        """
        finite_share! < 0.5: undecided
        """,
    ),
    "plain": (
        Status("inactive"),
        {"perturbed_share": 0.0},
        """
        perturbed_share! < 1e-09: undecided
        """,
    ),
    "same gradients": (
        Status("inactive"),
        {"same_grad_share": 0.95, "same_loss_share": 0.95},
        """
        same_grad_share! >= 0.9: stationary
        same_loss_share >= 0.9: undecided
        """,
    ),
    "small radius": (
        Status("inactive"),
        {"radius_fraction": 0.2},
        """
        radius_fraction! < 0.5: undecided
        """,
    ),
    "vanished": (
        Status("stationary"),
        {"grad_fraction": 5e-4, "grad_plus_fraction": 5e-4},
        """
        grad_fraction! < 0.001: undecided
        grad_plus_fraction! < 0.001: undecided
        """,
    ),
    "same losses": (
        Status("stationary"),
        {"same_loss_share": 0.95},
        """
        same_loss_share! >= 0.9: undecided
        """,
    ),
    "minimizer": (
        Status("hallucinated minimizer"),
        {**REST, "lower_share": 0.8},
        """
        shift_ratio! < 0.1: hallucinated bounce
        lower_share! >= 0.5: hallucinated plateau
        slope_ratio! < 0.1: hallucinated bounce
        grad_fraction >= 0.001: hallucinated bounce
        grad_coherence >= 0.3: undecided
        descent_efficiency < 0.1: hallucinated bounce
        """,
    ),
    "plateau": (
        Status("hallucinated plateau"),
        {**REST, "shift_ratio": 0.12, "lower_share": 0.2},
        """
        shift_ratio! < 0.15: hallucinated bounce
        lower_share! < 0.5: hallucinated bounce
        slope_ratio! < 0.1: hallucinated bounce
        grad_fraction >= 0.001: hallucinated bounce
        grad_coherence >= 0.3: undecided
        descent_efficiency < 0.1: hallucinated bounce
        """,
    ),
    "unknown kind": (
        Status("hallucinated plateau"),
        {**REST, "lower_share": math.nan},
        """
        shift_ratio! < 0.1: hallucinated bounce
        lower_share < 0.5: hallucinated minimizer
        slope_ratio! < 0.1: hallucinated bounce
        grad_fraction >= 0.001: hallucinated bounce
        grad_coherence >= 0.3: undecided
        descent_efficiency < 0.1: hallucinated bounce
        """,
    ),
    "minimizer in the mean": (
        Status("hallucinated minimizer"),
        {**MEAN, "lower_share": 0.8},
        """
        mean_shift_ratio! < 0.1: hallucinated bounce
        shift_ratio! < 1: hallucinated bounce
        slope_ratio! < 0.3: undecided
        successive_cosine >= -0.3: hallucinated bounce
        grad_fraction >= 0.001: hallucinated bounce
        grad_coherence >= 0.3: undecided
        descent_efficiency < 0.1: hallucinated bounce
        lower_share! >= 0.5: hallucinated plateau
        """,
    ),
    "plateau in the mean": (
        Status("hallucinated plateau"),
        {**MEAN, "lower_share": 0.2},
        """
        mean_shift_ratio! < 0.1: hallucinated bounce
        shift_ratio! < 1: hallucinated bounce
        slope_ratio! < 0.3: bouncing about a minimizer
        successive_cosine >= -0.3: hallucinated bounce
        grad_fraction >= 0.001: hallucinated bounce
        grad_coherence >= 0.3: undecided
        descent_efficiency < 0.1: hallucinated bounce
        lower_share! < 0.5: hallucinated minimizer
        """,
    ),
    "unknown kind in the mean": (
        Status("hallucinated plateau"),
        {**MEAN, "lower_share": math.nan},
        """
        mean_shift_ratio! < 0.1: hallucinated bounce
        shift_ratio! < 1: hallucinated bounce
        slope_ratio! < 0.3: bouncing about a minimizer
        successive_cosine >= -0.3: hallucinated bounce
        grad_fraction >= 0.001: hallucinated bounce
        grad_coherence >= 0.3: undecided
        descent_efficiency < 0.1: hallucinated bounce
        lower_share < 0.5: hallucinated minimizer
        """,
    ),
    "falling": (
        Status("progressing"),
        {"loss_trend": -0.05, "descent_efficiency": 0.2},
        """
        loss_trend! < -0.01: undecided
        slope_ratio! >= 0.3: undecided
        """,
    ),
    "following": (
        Status("progressing"),
        {"loss_trend": math.nan, "descent_efficiency": 0.5, "motion_coherence": 0.1},
        """
        descent_efficiency! >= 0.3: bouncing about a minimizer
        mean_grad_ratio! >= 0.1: bouncing about a minimizer
        slope_ratio! >= 0.3: undecided
        loss_trend < -0.01: bouncing about a minimizer
        """,
    ),
    "maximizer": (
        Status("maximizer trap"),
        {**CANCEL, "opposed_share": 0.8, "lower_share": 0.8, "slope_ratio": -5.0, "cosine": -0.9, "ridge_share": 0.8},
        """
        opposed_share! >= 0.5: undecided
        shift_ratio! >= 1: undecided
        lower_share >= 0.5: undecided
        motion_coherence < 0.3: drifting into hallucination
        mean_grad_ratio < 0.1: undecided
        loss_trend < 0.1: undecided
        loss_trend >= -0.01: undecided
        """,
    ),
    "saddle": (
        Status("saddle trap"),
        {**CANCEL, "transverse_cosine": -0.8, "cosine": 0.2},
        """
        transverse_cosine! < -0.3: undecided
        lower_share < 0.5: undecided
        motion_coherence < 0.3: undecided
        mean_grad_ratio < 0.1: undecided
        loss_trend < 0.1: undecided
        loss_trend >= -0.01: progressing
        """,
    ),
    "high saddle": (
        Status("saddle trap"),
        {**CANCEL, "cosine": 0.2, "loss_drop": 0.05, "mean_grad_ratio": 0.15},
        """
        cosine! < 0.5: bouncing about a minimizer
        loss_drop! < 0.1: undecided
        slope_ratio! >= 0.3: undecided
        lower_share < 0.5: undecided
        motion_coherence < 0.3: undecided
        mean_grad_ratio < 0.2: undecided
        loss_trend < 0.1: undecided
        loss_trend >= -0.01: progressing
        """,
    ),
    "valley": (
        Status("bouncing about a minimizer"),
        {**CANCEL},
        """
        slope_ratio! >= 0.3: undecided
        cosine! >= 0.3: undecided
        lower_share < 0.5: undecided
        motion_coherence < 0.3: undecided
        loss_trend < 0.1: undecided
        loss_trend >= -0.01: progressing
        """,
    ),
    "bounce": (
        Status("hallucinated bounce"),
        {**CANCEL, "slope_ratio": 0.0, "grad_coherence": 0.5, "mean_grad_ratio": 0.5, "cosine": 0.2},
        """
        slope_ratio! < 0.3: undecided
        slope_ratio! >= -1: undecided
        descent_efficiency < 0.3: undecided
        grad_coherence >= 0.3: undecided
        mean_grad_ratio >= 0.1: undecided
        motion_coherence < 0.3: undecided
        loss_trend < 0.3: undecided
        loss_trend >= -0.3: undecided
        """,
    ),
    "drifting across a ridge": (
        Status("drifting into hallucination"),
        {"loss_trend": 0.5, "ridge_share": 0.8, "slope_ratio": 0.2, "descent_efficiency": 0.2},
        """
        ridge_share! >= 0.5: undecided
        slope_ratio! < 0.3: undecided
        descent_efficiency < 0.3: progressing
        motion_coherence >= 0.3: undecided
        """,
    ),
    "drifting off its slope": (
        Status("drifting into hallucination"),
        {"loss_trend": 0.05, "slope_ratio": 0.05, "descent_efficiency": 0.05, "grad_coherence": 0.5},
        """
        slope_ratio! < 0.1: undecided
        descent_efficiency! < 0.1: undecided
        grad_coherence! >= 0.3: undecided
        motion_coherence! >= 0.3: hallucinated bounce
        loss_trend >= -0.01: undecided
        """,
    ),
    "straight": (
        Status("progressing"),
        {"loss_trend": 0.5, "descent_efficiency": 0.5},
        """
        descent_efficiency! >= 0.3: undecided
        motion_coherence! >= 0.3: undecided
        """,
    ),
}

ROWS = [
    pytest.param(name, *row.partition(": ")[0].split(), row.partition(": ")[2], id=f"{name}, {row}")
    for name, (_, _, rows) in CASES.items()
    for row in map(str.strip, rows.strip().splitlines())
]


def status(values) -> Status:
    rule = decide(values, RULES)
    return Status.UNDECIDED if rule is None else rule.status


@pytest.mark.parametrize("name", CASES)
def test_the_figures_of_a_case_make_its_class(name):
    expected, changes, _ = CASES[name]
    assert status(UNDECIDED) is Status.UNDECIDED
    assert status({**UNDECIDED, **changes}) is expected


@pytest.mark.parametrize(("name", "figure", "sign", "number", "beyond"), ROWS)
def test_a_class_ends_where_its_row_says(name, figure, sign, number, beyond):
    expected, changes, _ = CASES[name]
    needed, figure, number = figure.endswith("!"), figure.rstrip("!"), float(number)
    just_below = math.nextafter(number, -math.inf)
    inside, outside = (just_below, number) if sign == "<" else (number, just_below)
    values = {**UNDECIDED, **changes}
    assert status({**values, figure: inside}) is expected
    assert status({**values, figure: outside}) is Status(beyond)
    rule = decide(values, RULES)
    assert (decide({**values, figure: math.nan}, RULES) is rule) is not needed


def test_the_table_has_no_class_and_no_condition_besides_those_of_the_cases():
    by_rule = {}
    for _, changes, rows in CASES.values():
        rule = decide({**UNDECIDED, **changes}, RULES)
        by_rule[RULES.index(rule)] = len(rows.strip().splitlines())
    assert by_rule == {i: len(rule.conditions) for i, rule in enumerate(RULES)}


def test_thresholds_move_the_boundaries_of_the_rules():
    """Every threshold decides somewhere: moved alone, it changes what some condition asks for, and nothing else."""
    rules = [c for rule in RULES for c in rule.conditions]
    for name, value in vars(Thresholds()).items():
        moved = [c for rule in table(Thresholds(**{name: 0.99 * value})) for c in rule.conditions]
        changed = [(a, b) for a, b in zip(rules, moved, strict=True) if a != b]
        assert changed, name
        for a, b in changed:
            assert b.threshold == pytest.approx(0.99 * a.threshold, rel=1e-12)


def test_all_that_plain_steps_or_unknown_losses_leave_open_is_said():
    advice = {
        "plain": "All steps of the window were plain",
        "unknown kind": "the losses are not known and cannot tell whether it is lower",
        "unknown kind in the mean": "the losses are not known and cannot tell whether it is lower",
    }
    for name, (_, changes, _) in CASES.items():
        rule = decide({**UNDECIDED, **changes}, RULES)
        assert advice.get(name, "") in rule.advice
        assert bool(rule.advice) == (name in advice)


@pytest.mark.parametrize("name", list(vars(Thresholds())))
def test_a_threshold_out_of_its_range_is_a_sentence(name):
    signed = name in {"successive_cosine", "transverse_cosine"}
    legal, text = ([-1.0, -1e-9], "at least -1 and below 0") if signed else ([1e-9, 1.0, 1], "above 0 and at most 1")
    for value in legal:
        assert getattr(Thresholds(**{name: value}), name) == value
    for value in (0.0, math.nan, math.inf, "0.5", True, *([-1.01, 0.5] if signed else [1.01, -0.5])):
        with pytest.raises(ValueError, match=f"threshold {name} must be {text}; got {value!r}"):
            Thresholds(**{name: value})


def test_the_nearest_class_is_the_one_that_fails_by_one_condition_and_by_the_least():
    far = Rule(Status.DIVERGED, (below("loss", 0.5), from_("cosine", 0.0)))
    near = Rule(Status.DRIFTING, (below("loss", 1.0), from_("cosine", 0.0)))
    twice = Rule(Status.STATIONARY, (below("loss", 1.1), below("cosine", 0.0)))
    hidden = Rule(Status.INACTIVE, (known(below("radius", 1.0)),))
    values = {"loss": 1.2, "cosine": 0.5, "radius": math.nan}
    # 1.2 is beyond 1 by 20 % of it, and beyond 0.5 by 140 %; beyond 1.1 it is by less, but that class fails twice.
    found = nearest(values, [far, near, twice, hidden])
    assert found == (near, near.conditions[0])
    assert found[1].margin(1.2) == pytest.approx(-0.2)
    assert nearest({**values, "loss": 0.2}, [far, near]) is None
    assert decide({**values, "loss": 0.9}, [far, near, twice]) is near


def test_a_margin_about_a_threshold_of_0_is_the_distance():
    assert below("loss", 0.0).margin(-0.25) == 0.25
    assert from_("loss", 0.0).margin(-0.25) == -0.25

"""Claims that are made from values of seeds: means and shares with their errors, worked out by hand."""

import math

import numpy as np
import pytest

from samirage.lab.results.claims import Claim, Relation, Verdict, mean_claim, share_claim
from samirage.lab.results.statistics import mean_estimate, share_estimate, wilson_interval

COMMAND = "samirage reproduce mnist"


def test_a_claim_on_a_mean_has_its_standard_error_and_its_count():
    # 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 = 14, variance 7, standard error √(7/3).
    claim = mean_claim("the mean", Relation.AT_LEAST, 3.2, [1.0, math.nan, 2.0, 6.0], COMMAND, tolerance=0.25)
    assert (claim.measured, claim.n, claim.expected, claim.tolerance) == (3.0, 3, 3.2, 0.25)
    assert claim.standard_error == pytest.approx(math.sqrt(7 / 3), rel=1e-15)
    assert claim.verdict is Verdict.HOLDS
    assert (claim.statement, claim.source, claim.command, claim.relation) == (
        "the mean", "ours", COMMAND, Relation.AT_LEAST,
    )  # fmt: skip
    assert mean_claim("s", Relation.AT_MOST, 0.0, [], COMMAND).verdict is Verdict.NOT_COMPARABLE
    assert mean_claim("s", Relation.AT_MOST, 0.0, [1.0], COMMAND, source="Figure 4").source == "Figure 4"
    assert mean_claim("s", Relation.AT_MOST, 2.9, [1.0, 2.0, 6.0], COMMAND).verdict is Verdict.FAILS


def test_a_claim_on_a_share_has_the_error_of_a_binomial_share():
    # 4 of 16: √(0.25·0.75/16) = √3/16.
    claim = share_claim("the share", Relation.AT_MOST, 0.25, [True] * 4 + [False] * 12, COMMAND)
    assert (claim.measured, claim.n, claim.expected, claim.tolerance) == (0.25, 16, 0.25, 0.0)
    assert claim.standard_error == pytest.approx(math.sqrt(3) / 16, rel=1e-15)
    assert claim.verdict is Verdict.HOLDS
    assert (claim.source, share_claim("s", Relation.AT_LEAST, 1.0, [True], COMMAND, source="ours, too").source) == (
        "ours", "ours, too",
    )  # fmt: skip
    assert claim.command == COMMAND
    none = share_claim("s", Relation.AT_LEAST, 1.0, [], COMMAND)
    assert (none.n, none.verdict) == (0, Verdict.NOT_COMPARABLE)
    assert math.isnan(none.measured)
    assert math.isnan(none.standard_error)
    assert share_claim("s", Relation.AT_LEAST, 0.26, [True] * 4 + [False] * 12, COMMAND).verdict is Verdict.FAILS


def test_what_a_claim_may_leave_out():
    claim = Claim(
        statement="s", source="ours", relation=Relation.EQUAL_WITHIN, expected=1.0, measured=1.0,
        standard_error=0.0, n=1, command=COMMAND,
    )  # fmt: skip
    assert (claim.tolerance, claim.unit, claim.comparable, claim.reason) == (0.0, "", True, "")
    plain = claim.to_dict()
    for name in ("tolerance", "unit", "comparable", "reason", "verdict"):
        assert Claim.from_dict({key: value for key, value in plain.items() if key != name}) == claim
    for name in ("statement", "source", "relation", "expected", "measured", "standard_error", "n", "command"):
        with pytest.raises(ValueError, match=f"missing keys: {name}$"):
            Claim.from_dict({key: value for key, value in plain.items() if key != name})


def test_an_interval_covers_95_percent_unless_another_share_is_asked_for():
    estimate = share_estimate([True] * 3 + [False] * 13)
    assert (estimate.low, estimate.high) == wilson_interval(3, 16) == wilson_interval(3, 16, confidence=0.95)
    half = share_estimate([True] * 3 + [False] * 13, confidence=0.5)
    assert (half.low, half.high) == wilson_interval(3, 16, confidence=0.5) != wilson_interval(3, 16)
    # By hand, with z = 1: (k + ½ ± √(k(n − k)/n + ¼))/(n + 1).
    z = math.erf(1 / math.sqrt(2))  # the confidence of one standard deviation
    root = math.sqrt(3 * 13 / 16 + 0.25)
    assert wilson_interval(3, 16, confidence=z) == pytest.approx(((3.5 - root) / 17, (3.5 + root) / 17), rel=1e-12)
    assert wilson_interval(0, 0, confidence=0.5) == (0.0, 1.0)
    for confidence in (1e-9, 1 - 1e-9):
        low, high = wilson_interval(3, 16, confidence=confidence)
        assert 0 < low <= 3 / 16 <= high < 1
    assert share_estimate([True]).share == 1
    assert share_estimate([False]).share == 0


def test_a_standard_error_needs_two_finite_values():
    assert mean_estimate([1.0, math.inf]).n == 1
    assert math.isnan(mean_estimate([1.0, math.inf]).standard_error)
    assert mean_estimate(np.array([[1.0, 3.0], [math.nan, -math.inf]])).standard_error == 1.0
    assert mean_estimate([1.0, 3.0, math.nan, -math.inf]).missing == 2

"""Claims: the verdict is computed, bad values are named, nothing is lost on the way through strict JSON."""

import json
import math
from typing import Any

import numpy as np
import pytest

from samirage.lab.results.claims import Claim, Relation, Verdict


def make(**changes: Any) -> Claim:
    values: dict[str, Any] = {
        "statement": "SAM alone collapses at rho = 10",
        "source": "Figure 4",
        "relation": Relation.AT_LEAST,
        "expected": 0.9,
        "measured": 0.95,
        "standard_error": 0.02,
        "n": 16,
        "command": "samirage reproduce mnist",
    }
    return Claim(**{**values, **changes})


@pytest.mark.parametrize(
    ("relation", "expected", "tolerance", "measured", "verdict"),
    [
        ("at least", 0.9, 0.0, 0.9, "holds"),
        ("at least", 0.9, 0.0, 0.89, "fails"),
        ("at least", 0.9, 0.05, 0.86, "holds"),
        ("at least", 0.9, 0.05, 0.84, "fails"),
        ("at least", 0.9, 0.0, math.inf, "holds"),
        ("at most", 0.2, 0.0, 0.2, "holds"),
        ("at most", 0.2, 0.0, 0.21, "fails"),
        ("at most", 0.2, 0.05, 0.24, "holds"),
        ("at most", 0.2, 0.05, -math.inf, "holds"),
        ("equal within", 77.05, 0.3, 77.3, "holds"),
        ("equal within", 77.05, 0.3, 76.8, "holds"),
        ("equal within", 77.05, 0.3, 77.4, "fails"),
        ("equal within", 77.05, 0.3, 76.7, "fails"),
        ("equal within", 77.05, 0.3, math.inf, "fails"),
        ("at least", 0.0, 0.0, math.nan, "fails"),
        ("at most", 0.0, 0.0, math.nan, "fails"),
        ("equal within", 0.0, 1.0, math.nan, "fails"),
    ],
)
def test_verdict_follows_the_relation(
    relation: str, expected: float, tolerance: float, measured: float, verdict: str
) -> None:
    claim = make(relation=Relation(relation), expected=expected, tolerance=tolerance, measured=measured)
    assert claim.verdict == verdict


def test_other_scale_or_nothing_measured_is_not_comparable() -> None:
    claim = make(comparable=False, reason="5,000 images, the paper uses 60,000")
    assert claim.verdict is Verdict.NOT_COMPARABLE
    assert make(n=0, measured=math.nan, standard_error=math.nan).verdict is Verdict.NOT_COMPARABLE


def test_standard_error_does_not_soften_the_verdict() -> None:
    assert make(measured=0.89, standard_error=10.0).verdict is Verdict.FAILS


@pytest.mark.parametrize("measured", [0.95, math.nan, math.inf, -math.inf])
def test_strict_json_keeps_everything(measured: float) -> None:
    claim = make(
        measured=measured,
        standard_error=math.nan,
        tolerance=0.5,
        unit="%",
        comparable=False,
        reason="<b>other</b>",
    )
    text = json.dumps(claim.to_dict(), allow_nan=False)
    again = Claim.from_dict(json.loads(text))
    assert repr(again) == repr(claim)  # by repr, because NaN is not equal to itself
    assert again.measured == pytest.approx(measured, nan_ok=True)


def test_a_tampered_verdict_is_recomputed() -> None:
    stored = make(measured=0.1).to_dict()
    assert stored["verdict"] == "fails"
    assert Claim.from_dict({**stored, "verdict": "holds"}).verdict is Verdict.FAILS


def test_numpy_scalars_become_plain_numbers() -> None:
    claim = make(measured=np.float32(0.5), n=np.int64(8), comparable=np.bool_(True))
    assert type(claim.measured) is float
    assert type(claim.n) is int
    assert type(claim.comparable) is bool


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statement": " "}, "statement must not be empty"),
        ({"source": ""}, "source must not be empty"),
        ({"command": ""}, "command must not be empty"),
        ({"relation": "about"}, "relation must be one of 'at least', 'at most', 'equal within'; got 'about'"),
        ({"expected": math.nan}, "expected must be finite; got nan"),
        ({"tolerance": -0.1}, "tolerance must be finite and at least 0; got -0.1"),
        ({"tolerance": math.inf}, "tolerance must be finite and at least 0; got inf"),
        ({"standard_error": -1.0}, "standard_error must be at least 0"),
        ({"n": -1}, "n must be an integer of at least 0; got -1"),
        ({"n": 1.5}, "n must be an integer of at least 0; got 1.5"),
        ({"n": True}, "n must be an integer of at least 0; got True"),
        ({"comparable": False}, "reason must say why"),
    ],
)
def test_values_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measured": "0.5"}, "measured must be a number; got '0.5'"),
        ({"expected": True}, "expected must be a number; got True"),
        ({"statement": 3}, "statement must be a string; got 3"),
    ],
)
def test_wrong_types_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(**changes)


def test_unknown_missing_and_unreadable_keys_are_named() -> None:
    plain = make().to_dict()
    with pytest.raises(ValueError, match="unknown keys: colour"):
        Claim.from_dict({**plain, "colour": "red"})
    del plain["measured"]
    with pytest.raises(ValueError, match="missing keys: measured"):
        Claim.from_dict(plain)
    with pytest.raises(ValueError, match="measured must be a number, null, 'inf' or '-inf'; got 'much'"):
        Claim.from_dict({**plain, "measured": "much"})

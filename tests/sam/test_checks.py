"""One wording for every argument that is out of its range, whichever object it belongs to."""

import re

import pytest

from samirage.sam import Constant, Decay, Guard, Policy, Ramp, Tail, WarmStart


@pytest.mark.parametrize("value", [True, False, 2.5, "3", None])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda v: WarmStart(steps=5, probes=v), "WarmStart probes"),
        (lambda v: WarmStart(until="slope", probe_every=v), "WarmStart probe_every"),
        (lambda v: Ramp(steps=v), "Ramp steps"),
        (lambda v: Decay(total_steps=v), "Decay total_steps"),
        (lambda v: Tail(fraction=0.5, total_steps=v), "Tail total_steps"),
        (lambda v: Policy(every=v), "every"),
    ],
)
def test_a_count_is_a_whole_number_and_no_bool(make, name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name} must be a whole number of at least 1; got {value!r}")):
        make(value)


def test_true_is_no_number_of_steps():
    with pytest.raises(ValueError, match="WarmStart steps must be a whole number of at least 0; got True"):
        WarmStart(steps=True)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "0.5", None])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda v: Guard(kappa=v), "Guard kappa must be above 0 and below 1"),
        (lambda v: Guard(growth=v), "Guard growth must be a finite number of at least 1"),
        (lambda v: Constant(v), "Constant factor must be a finite number of at least 0"),
        (lambda v: Tail(fraction=v, total_steps=9), "Tail fraction must be above 0 and at most 1"),
        (lambda v: WarmStart(steps=3, kappa=v), "WarmStart kappa must be above 0 and below 1"),
    ],
)
def test_a_number_is_finite_and_in_its_range(make, said, value):
    with pytest.raises(ValueError, match=re.escape(f"{said}; got {value!r}")):
        make(value)

"""Schedules of the radius: factors by hand, composition, copies, and sentences for what makes no sense."""

import copy
import functools
import math
import pickle

import numpy as np
import pytest

from samirage.sam import Constant, Decay, Product, Ramp, Tail, WarmStart, check_lengths, factor_at, radius_factor

STEPS = range(14)


def factors(schedule):
    return [factor_at(schedule, step) for step in STEPS]


def test_a_ramp_rises_linearly_and_stays():
    expected = np.interp(STEPS, [0, 4], [0.2, 1.0])
    np.testing.assert_allclose(factors(Ramp(steps=4, start=0.2)), expected, rtol=1e-15)
    assert Ramp(steps=4)(0) == 0
    assert Ramp(steps=4)(4) == 1


@pytest.mark.parametrize("to", [0.0, 0.3, 1.5])
def test_a_decay_keeps_the_radius_until_its_start_and_ends_at_its_end(to):
    linear, cosine = (Decay(total_steps=12, start=4, to=to, shape=shape) for shape in ("linear", "cosine"))
    np.testing.assert_allclose(factors(linear), np.interp(STEPS, [4, 12], [1.0, to]), rtol=1e-14)
    halfway = [1.0] * 4 + [to + (1 - to) * math.cos(math.pi * t / 16) ** 2 for t in range(9)] + [to]
    np.testing.assert_allclose(factors(cosine), halfway, rtol=1e-14, atol=1e-16)
    assert cosine(4) == linear(4) == 1
    assert cosine(12) == linear(12) == to


def test_a_tail_is_the_last_share_of_the_training():
    assert factors(Tail(fraction=0.25, total_steps=12)) == [0.0] * 9 + [1.0] * 5
    assert factors(Tail(fraction=1.0, total_steps=12)) == [1.0] * 14
    assert Tail(fraction=0.25, total_steps=12).start == 9


def test_a_product_is_the_product_and_a_sequence_and_takes_any_callable():
    schedule = Constant(0.5) * Ramp(steps=4) * Decay(total_steps=12, start=8)
    expected = 0.5 * np.interp(STEPS, [0, 4, 8, 12], [0.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(factors(schedule), expected, rtol=1e-14)
    assert schedule.total_steps == 12
    for mixed in (Ramp(steps=2) * math.sqrt, math.sqrt * Ramp(steps=2)):
        assert isinstance(mixed, Product)
        assert factors(mixed) == pytest.approx([min(t / 2, 1) * math.sqrt(t) for t in STEPS])
        assert mixed.total_steps is None
    assert repr(Constant(0.5) * Ramp(steps=4)) == "Constant(factor=0.5) * Ramp(steps=4, start=0.0)"
    with pytest.raises(TypeError, match="unsupported operand"):
        Ramp(steps=4) * 0.5
    with pytest.raises(TypeError, match="unsupported operand"):
        0.5 * Ramp(steps=4)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_are_equal_and_give_the_same_factors(duplicate):
    schedule = Ramp(steps=4) * Decay(total_steps=12, to=0.1, shape="cosine") * Tail(fraction=0.75, total_steps=12)
    again = duplicate(schedule)
    assert again == schedule
    assert factors(again) == factors(schedule)


def test_no_schedule_is_a_factor_of_1_and_numbers_of_any_kind_are_factors():
    assert factors(None) == [1.0] * 14
    assert factor_at(lambda step: np.float32(0.5), 3) == 0.5
    assert factor_at(lambda step: 2, 3) == 2.0


def test_a_warm_start_switches_off_and_the_schedule_counts_from_the_beginning():
    policy = functools.partial(radius_factor, warm_start=WarmStart(steps=3), schedule=Decay(total_steps=6))
    assert [policy(t) for t in range(7)] == pytest.approx([0, 0, 0, 1 / 2, 1 / 3, 1 / 6, 0])
    never = functools.partial(radius_factor, warm_start=WarmStart(steps=3), schedule=lambda step: math.nan)
    assert never(2) == 0  # the schedule is not asked during the warm start
    with pytest.raises(ValueError, match="for step 3 it returned nan"):
        never(3)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, -math.inf])
def test_a_factor_out_of_range_is_one_sentence_that_names_the_step(bad):
    with pytest.raises(ValueError, match=f"finite number of at least 0 for every step; for step 7 it returned {bad}"):
        factor_at(lambda step: bad, 7)
    with pytest.raises(ValueError, match="for step 7 it returned"):
        (Ramp(steps=4) * (lambda step: bad))(7)


@pytest.mark.parametrize("bad", [None, "0.5", True, [0.5]])
def test_a_factor_that_is_no_number_is_one_sentence_that_names_the_step(bad):
    with pytest.raises(TypeError, match=r"must return a number .*; for step 7 it returned .*, a \w+"):
        factor_at(lambda step: bad, 7)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Constant(-1.0), "Constant factor must be a finite number of at least 0; got -1.0"),
        (lambda: Constant("1"), "Constant factor must be a finite number of at least 0; got '1'"),
        (lambda: Ramp(steps=0), "Ramp steps must be a whole number of at least 1; got 0"),
        (lambda: Ramp(steps=2.5), "Ramp steps must be a whole number of at least 1; got 2.5"),
        (lambda: Ramp(steps=True), "Ramp steps must be a whole number of at least 1; got True"),
        (lambda: Ramp(steps=2, start=math.nan), "Ramp start must be a finite number of at least 0; got nan"),
        (lambda: Decay(total_steps=0), "Decay total_steps must be a whole number of at least 1; got 0"),
        (lambda: Decay(total_steps=9, start=-1), "Decay start must be a whole number of at least 0; got -1"),
        (lambda: Decay(total_steps=9, start=9), "Decay starts at step 9, beyond the last of 9 steps: it would never"),
        (lambda: Decay(total_steps=9, start=20), "Decay starts at step 20, beyond the last of 9 steps"),
        (lambda: Decay(total_steps=9, to=math.inf), "Decay to must be a finite number of at least 0; got inf"),
        (lambda: Decay(total_steps=9, shape="step"), "Decay shape must be one of 'linear', 'cosine'; got 'step'"),
        (lambda: Tail(fraction=0.0, total_steps=9), "Tail fraction must be above 0 and at most 1; got 0.0"),
        (lambda: Tail(fraction=1.1, total_steps=9), "Tail fraction must be above 0 and at most 1; got 1.1"),
        (lambda: Tail(fraction=math.nan, total_steps=9), "Tail fraction must be above 0 and at most 1; got nan"),
        (lambda: Tail(fraction=0.01, total_steps=9), "Tail starts at step 9, beyond the last of 9 steps"),
        (lambda: Tail(fraction=0.5, total_steps=-3), "Tail total_steps must be a whole number of at least 1; got -3"),
        (lambda: WarmStart(steps=10, total_steps=9), "WarmStart steps must be at most total_steps, here 9; got 10"),
        (
            lambda: WarmStart(steps=10, total_steps=0),
            "total_steps must be a whole number of at least 1; got 0",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_policies_of_one_training_agree_about_its_length():
    check_lengths(None, WarmStart(steps=9), Ramp(steps=20), Tail(fraction=0.5, total_steps=9), math.sqrt)
    check_lengths(WarmStart(fraction=0.5, total_steps=9), Decay(total_steps=9))
    with pytest.raises(ValueError, match=r"given as 9 by WarmStart\(.*\) and 8 by Decay\(.*\): make them agree"):
        check_lengths(WarmStart(fraction=0.5, total_steps=9), Decay(total_steps=8))
    with pytest.raises(ValueError, match=r"given as 9 by Tail\(.*\) and 8 by Decay\(.*\): make them agree"):
        Tail(fraction=0.5, total_steps=9) * Decay(total_steps=8)
    with pytest.raises(ValueError, match="warm start of 10 steps is longer than the training of 9 steps: shorten it"):
        check_lengths(WarmStart(steps=10), Ramp(steps=4) * Decay(total_steps=9))

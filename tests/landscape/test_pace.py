"""How many points go at once: found out by the work, every point of which is done once."""

import torch

from samirage.landscape import Quadratic
from samirage.landscape.pace import Pace


class Adjustable(Quadratic):
    def __init__(self, at_once=None):
        super().__init__([1.0, 1.0])
        self.at_once = at_once

    def points_at_once(self, most):
        return Adjustable(most)


def play(pace: Pace, count: int, seconds_per_point) -> list[int]:
    """Work off so many points, each at a price that depends on how many go at once; return the settings used."""
    used = []
    while count:
        f, width = pace.turn()
        width = min(width, count)
        used += [f.at_once] * width
        pace.took(width, width * seconds_per_point(f.at_once))
        count -= width
    return used


def test_the_fastest_number_wins_and_most_points_have_it():
    used = play(Pace(Adjustable(), 10**6, 1000, None), 1000, lambda n: {1: 4.0, 4: 2.0, 16: 1.0, 64: 1.2}.get(n, 9.0))
    assert len(used) == 1000
    assert used[-1] == 16
    assert used.count(16) > 750


def test_where_batching_loses_it_is_given_up_at_once():
    used = play(Pace(Adjustable(), 10**6, 1000, None), 1000, lambda n: float(n))
    assert used[-1] == 1
    assert sum(n != 1 for n in used) <= 4  # one trial of 4 points; larger batches are never tried


def test_a_number_beyond_the_memory_is_never_tried():
    used = play(Pace(Adjustable(), 5, 1000, None), 1000, lambda n: 1.0 / n)
    assert set(used) == {1, 4}


def test_a_number_that_is_given_is_kept_and_few_points_leave_the_choice_to_the_function():
    assert set(play(Pace(Adjustable(), 10**6, 100, 7), 100, lambda n: 1.0)) == {7}
    assert set(play(Pace(Adjustable(), 10**6, 20, None), 20, lambda n: 1.0)) == {None}


def test_a_function_without_a_choice_takes_all_that_fits():
    f, width = Pace(Quadratic([1.0]), 123, 1000, None).turn()
    assert width == 123
    assert float(f(torch.ones(1))) == 0.5

"""The guard's test and its counters, on figures that are set by hand."""

import math

import pytest
import torch

from samirage.sam import Guard, StepFigures


def figures(*, grad, grad_plus, slope):
    values = [torch.tensor(v, dtype=torch.float64) for v in (grad, grad_plus, slope)]
    nan = torch.full_like(values[0], torch.nan)
    return StepFigures(nan, nan, values[0], values[1], values[1] / values[0], nan, values[2], nan, nan)


def test_follows_where_the_slope_is_a_share_of_both_gradients():
    # ‖g‖, ‖g⁺‖, s: agreement; just enough; slope lost; g⁺ turned away while large; across a ridge; both.
    seen = figures(
        grad=[2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
        grad_plus=[2.5, 1.0, 1.0, 9.0, 3.0, 1e-9],
        slope=[2.4, 1.0, 0.9, 4.0, -2, 0.0],
    )
    assert Guard(kappa=0.5).accepts(seen).tolist() == [True, True, False, False, False, False]


def test_a_gradient_of_zero_is_nothing_to_reject():
    assert Guard().accepts(figures(grad=[0.0], grad_plus=[0.0], slope=[math.nan])).item()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_figures_that_are_not_finite_are_rejected(bad):
    for seen in (
        figures(grad=[1.0], grad_plus=[bad], slope=[1.0]),
        figures(grad=[1.0], grad_plus=[bad], slope=[bad]),
        figures(grad=[bad], grad_plus=[1.0], slope=[bad]),
    ):
        assert not Guard().accepts(seen).item()


def test_the_state_counts_every_member_on_its_own():
    guard = Guard(shrink=0.5, growth=1.25)
    state = guard.begin(torch.zeros(3))
    for accepted in ([True, False, False], [True, False, True], [True, False, True], [True, False, True]):
        state = guard.after(state, torch.tensor(accepted))
    assert state.factor.tolist() == [1.0, 0.5**4, 0.5 * 1.25**3]
    assert state.rejections.tolist() == [0, 4, 1]
    assert state.consecutive.tolist() == [0, 4, 0]


def test_the_radius_never_underflows():
    guard = Guard(shrink=1e-30)
    state = guard.begin(torch.zeros(()))
    for _ in range(9):
        state = guard.after(state, torch.tensor(False))
    assert 0 < state.factor.item() < 1e-9


@pytest.mark.parametrize(
    ("name", "value", "legal"),
    [
        ("kappa", 0.0, "above 0 and below 1"),
        ("kappa", 1.0, "above 0 and below 1"),
        ("kappa", math.nan, "above 0 and below 1"),
        ("shrink", 1.0, "above 0 and below 1"),
        ("growth", 0.9, "a finite number of at least 1"),
        ("growth", math.inf, "a finite number of at least 1"),
        ("kappa", True, "above 0 and below 1"),
    ],
)
def test_a_value_out_of_range_is_a_sentence(name, value, legal):
    with pytest.raises(ValueError, match=rf"Guard {name} must be {legal}; got {value}"):
        Guard(**{name: value})

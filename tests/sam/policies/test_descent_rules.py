"""Rules with a theorem: for every pair of gradients the step descends, and is no longer than its bound."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samirage.sam import Guard, Lift, Mix, follow, step_figures

RULES = {
    "mix 0.6": Mix(),
    "mix 0.51": Mix(share=0.51),
    "mix 1": Mix(share=1.0),
    "lift": Lift(),
    "lift 1 1.5": Lift(kappa=1.0, tau=1.5),
    "lift 0.1 4": Lift(kappa=0.1, tau=4.0),
    "guard with a cap": Guard(cap=2.0),
}
BOUNDS = {name: rule.bounds if hasattr(rule, "bounds") else (rule.kappa, rule.cap) for name, rule in RULES.items()}
# Sums of n products in float64 of entries that a dtype has rounded once: a few of its spacings, relative to ‖g‖².
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 0.03}


def followed(rule, grad, grad_plus):
    """Return `d`, computed in the dtype of the gradients, in float64."""
    figures = step_figures(
        loss=torch.tensor(0.0),
        loss_plus=torch.tensor(0.0),
        grad_norm=grad.double().norm(),
        predicted_gain=torch.tensor(1.0),
        displacement=[grad.double()],
        grads_plus=[grad_plus.double()],
    )
    out = [grad_plus.clone()]
    follow(rule.decide(figures), [grad], out)
    return out[0].double()


def pairs():
    """Pairs of gradients: at random, opposite, parallel, orthogonal, huge, tiny, and not finite."""
    entry = st.floats(-1, 1).filter(lambda v: abs(v) > 1e-3)
    vector = st.lists(entry, min_size=3, max_size=3)
    kind = st.sampled_from(["random", "opposite", "parallel", "zero", "infinite", "nan"])
    return st.tuples(vector, vector, kind, st.floats(-8, 8), st.floats(-8, 8))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", RULES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(pair=pairs())
def test_the_step_descends_and_is_bounded(name, dtype, pair):
    values, other, kind, size, size_plus = pair
    grad = (torch.tensor(values, dtype=torch.float64) * 10**size).to(dtype)
    grad_plus = (torch.tensor(other, dtype=torch.float64) * 10**size_plus).to(dtype)
    if kind in {"opposite", "parallel"}:
        grad_plus = (grad.double() * (10 ** (size_plus / 4)) * (-1 if kind == "opposite" else 1)).to(dtype)
    elif kind != "random":
        grad_plus[1] = {"zero": 0.0, "infinite": math.inf, "nan": math.nan}[kind]
    d, g = followed(RULES[name], grad, grad_plus), grad.double()
    a, b = BOUNDS[name]
    square, slack = (g @ g).item(), TOLERANCE[dtype]
    assert (d @ g).item() >= a * square - slack * b * square
    assert d.norm().item() <= b * math.sqrt(square) * (1 + slack)


def test_half_of_each_is_not_enough():
    """The bound of the share is sharp: at one half the step vanishes where `g⁺ = −g`."""
    g = torch.tensor([3.0, 4.0], dtype=torch.float64)
    rule = Mix(share=0.75)
    object.__setattr__(rule, "share", 0.5)
    assert followed(rule, g, -g).norm() == 0


def test_a_healthy_step_is_sams_own():
    g, g_plus = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.9, 0.7], dtype=torch.float64)
    assert torch.equal(followed(Lift(kappa=0.5, tau=1.5), g, g_plus), g_plus)
    assert torch.allclose(followed(Mix(share=0.6), g, g_plus), 0.4 * g_plus / g_plus.norm() + 0.6 * g, rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mix(share=0.5), "Mix share must be above 0.5 and at most 1; got 0.5: with half of g or less"),
        (lambda: Mix(share=1.01), "Mix share must be above 0.5 and at most 1; got 1.01"),
        (lambda: Mix(share=math.nan), "Mix share must be above 0.5 and at most 1; got nan"),
        (lambda: Lift(kappa=0.0), "Lift kappa must be above 0 and at most 1; got 0.0"),
        (lambda: Lift(kappa=1.1), "Lift kappa must be above 0 and at most 1; got 1.1"),
        (lambda: Lift(tau=0.9), "Lift tau must be a finite number of at least 1; got 0.9"),
        (lambda: Guard(cap=0.9), "Guard cap must be a finite number of at least 1; got 0.9"),
        (lambda: Guard(cap=math.inf), "Guard cap must be a finite number of at least 1; got inf"),
    ],
)
def test_what_has_no_theorem_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""The policy driver: the same decisions for a list of members as for each of them alone."""

import math

import pytest
import torch

from samirage.sam import Decision, Guard, Policy, StepFigures, WarmStart, follow

FIELDS = StepFigures.__dataclass_fields__


def figures(slope, grad_norm=2.0, grad_plus_norm=3.0):
    """Figures of steps whose agreement is `slope / 3`, one for each entry."""
    slope = torch.as_tensor(slope, dtype=torch.float64)
    values = {name: torch.full_like(slope, math.nan) for name in FIELDS}
    values |= {
        "slope_plus": slope,
        "grad_norm": torch.full_like(slope, grad_norm),
        "grad_plus_norm": torch.full_like(slope, grad_plus_norm),
    }
    return StepFigures(**values)


POLICIES = {
    "guard": Policy(guard=Guard(kappa=0.5, shrink=0.5, growth=1.25)),
    "criterion": Policy(warm_start=WarmStart(until="slope", probe_every=2, probes=2, kappa=0.5)),
    "both": Policy(
        warm_start=WarmStart(steps=9, until="slope", probe_every=2, probes=2, kappa=0.5),
        guard=Guard(kappa=0.5, shrink=0.5, growth=1.25),
    ),
}
# Members: always agrees; never; agrees in turn.
SLOPES = [[3.0, 0.0, 3.0 * (step % 2)] for step in range(12)]


@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_of_members_is_judged_as_each_of_them_alone(name):
    policy = POLICIES[name]
    together = policy.begin(torch.ones(3, dtype=torch.float64))
    alone = [policy.begin(torch.ones((), dtype=torch.float64)) for _ in range(3)]
    for step, slopes in enumerate(SLOPES):
        decision = policy.decide(step, together, figures(slopes))
        singles = [policy.decide(step, state, figures(s)) for state, s in zip(alone, slopes, strict=True)]
        assert decision.accepted.tolist() == [single.accepted.item() for single in singles]
        together = policy.after(step, together, figures(slopes))
        alone = [policy.after(step, state, figures(s)) for state, s in zip(alone, slopes, strict=True)]
    if policy.guard is not None:
        assert together.guard.factor.tolist() == [state.guard.factor.item() for state in alone]
        assert together.guard.rejections.tolist() == [state.guard.rejections.item() for state in alone]
    ends = [state.warm_end for state in alone if state.warm_end is not None]
    assert together.warm_end == (min(ends) if ends else None)


def test_the_criterion_ends_the_warm_start_in_the_step_after_the_last_probe():
    policy, state = POLICIES["criterion"], POLICIES["criterion"].begin(torch.tensor(1.0))
    plans, followed = [], []
    for step in range(6):
        plan = policy.plan(step, state)
        plans.append((plan.factor, plan.due, plan.probe))
        if plan.factor:
            followed.append((step, policy.decide(step, state, figures(3.0)).accepted.item()))
            state = policy.after(step, state, figures(3.0))
    assert [factor for factor, _, _ in plans] == [0.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert followed == [(1, False), (3, False), (4, True), (5, True)]
    assert state.warm_end == 4


def test_the_period_counts_from_the_end_of_the_warm_start():
    policy = Policy(warm_start=WarmStart(steps=2), every=3)
    state = policy.begin(torch.tensor(1.0))
    assert [policy.plan(t, state).factor > 0 and policy.plan(t, state).due for t in range(9)] == [
        False, False, True, False, False, True, False, False, True,
    ]  # fmt: skip


def test_what_is_saved_is_loaded():
    policy = POLICIES["both"]
    state = policy.begin(torch.ones((), dtype=torch.float64))
    for step, slopes in enumerate(SLOPES[:7]):
        state = policy.after(step, state, figures(slopes[2]))
    loaded = policy.load(policy.save(state), torch.ones((), dtype=torch.float64))
    assert loaded.guard.factor.item() == 1.25**3 * 0.5**4
    assert (loaded.guard.rejections.item(), loaded.guard.consecutive.item()) == (4, 1)
    assert loaded == state
    assert policy.load({}, torch.ones(())).warm_end == 9


def test_members_follow_their_own_mixture():
    g = [torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])]
    g_plus = [torch.tensor([[3.0, 4.0], [3.0, 4.0], [math.inf, math.nan]])]
    weights = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.5, 0.0])
    follow(Decision(torch.tensor([True, False, False]), *weights), g, g_plus)
    assert g_plus[0].tolist() == [[3.0, 4.0], [2.0, 3.0], [1.0, 2.0]]

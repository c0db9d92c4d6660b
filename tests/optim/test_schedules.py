"""Schedules in the optimizer: radii by hand, one pass where they are 0, saved mid-way, sentences for bad factors."""

import copy
import io
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from samirage import SAM, WarmStart
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.models import MLP, softmax_squared
from samirage.lab.engine.stacked import stack
from samirage.sam import Constant, Decay, Ramp, Tail
from tests.optim.problems import BASES, Cubic, every_style, take

TRAPEZE = Ramp(steps=3) * Decay(total_steps=8, start=5, to=0.2, shape="cosine")


def by_hand(problem, twin, base, radii):
    """Let the base optimizer step on SAM's gradient, in NumPy; on the plain one where all radii are 0."""
    x, a = twin.flat(), problem.coefficients()
    g = a * x**2
    d = a * (x + radii * g / np.linalg.norm(g)) ** 2
    parts = np.split(d, np.cumsum([p.numel() for p in twin.params])[:-1])
    for p, part in zip(twin.params, parts, strict=True):
        p.grad = torch.from_numpy(part.reshape(p.shape))
    base.step()


@every_style
@pytest.mark.parametrize("schedule", [TRAPEZE, Constant(0.5) * TRAPEZE, lambda step: 1 / (1 + step)])
def test_the_radius_of_every_group_is_multiplied_by_the_factor(style, schedule):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES["adam"](problem.groups(rho=0.2)), rho=0.7, schedule=schedule)
    base = BASES["adam"](twin.groups())
    for step in range(10):
        radii = schedule(step) * np.repeat([0.7, 0.2], [7, 4])
        by_hand(problem, twin, base, radii)
        g = problem.coefficients() * problem.flat() ** 2
        take(style, optimizer, problem)
        np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-12)
        if schedule(step):
            expected = np.linalg.norm(radii * g) / np.linalg.norm(g)
            assert optimizer.record.radius.item() == pytest.approx(expected, rel=1e-13)
        assert optimizer.record.perturbed == (schedule(step) > 0)


@pytest.mark.parametrize("base", BASES)
def test_a_step_of_factor_0_is_the_base_optimizers_in_one_pass(base):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES[base](problem.groups()), rho=0.7, schedule=Tail(fraction=0.25, total_steps=8))
    plain = BASES[base](twin.groups())
    for step in range(6):
        assert not optimizer.two_pass
        take("closure", optimizer, problem)
        assert problem.calls == step + 1
        plain.step(twin.closure(plain))
        np.testing.assert_array_equal(problem.flat(), twin.flat())
    take("closure", optimizer, problem)
    assert problem.calls == 6 + 2
    assert optimizer.record.perturbed


def test_every_warm_start_and_schedule_compose():
    problem = Cubic()
    optimizer = SAM(
        BASES["sgd"](problem.groups()),
        rho=0.7,
        warm_start=WarmStart(steps=2),
        schedule=Decay(total_steps=10),
        every=3,
    )
    radii = []
    for _ in range(12):
        take("closure", optimizer, problem)
        radii.append(optimizer.record.radius.item() if optimizer.record.perturbed else 0.0)
    # The period begins with the first step after the warm start, the schedule with the first of all.
    expected = [0.7 * (1 - t / 10) if t in {2, 5, 8} else 0.0 for t in range(12)]
    np.testing.assert_allclose(radii, expected, rtol=1e-13)


def test_a_tail_counts_every_from_step_0():
    problem = Cubic()
    schedule = Tail(fraction=0.5, total_steps=8)  # from step 4 on
    optimizer = SAM(BASES["sgd"](problem.groups()), rho=0.7, schedule=schedule, every=3)
    perturbed = []
    for _ in range(10):
        take("closure", optimizer, problem)
        perturbed.append(optimizer.record.perturbed)
    assert [t for t, two in enumerate(perturbed) if two] == [6, 9]


def test_a_radius_that_the_loop_changes_is_multiplied_too():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.0), rho=0.7, schedule=lambda step: 0.5)
    for rho in (0.7, 1.4, 0.1):
        for group in optimizer.param_groups:
            group["rho"] = rho
        take("closure", optimizer, problem)
        assert optimizer.record.radius.item() == pytest.approx(rho / 2, rel=1e-13)


def through_torch_save(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_state_dict(optimizer, problem):
    twin = Cubic()
    other = SAM(BASES["adam"](twin.groups()), rho=7.0, schedule=pickle.loads(pickle.dumps(optimizer.schedule)))
    other.load_state_dict(through_torch_save(optimizer.state_dict()))
    with torch.no_grad():
        for p, q in zip(twin.params, problem.params, strict=True):
            p.copy_(q)
    return other, twin


def through_copy(duplicate):
    def copied(optimizer, problem):
        twin, other = Cubic(), duplicate(optimizer)
        twin.params = [p for group in other.param_groups for p in group["params"]][:3]
        return other, twin

    return copied


@every_style
@pytest.mark.parametrize(
    "again",
    [through_state_dict, through_copy(copy.deepcopy), through_copy(lambda o: pickle.loads(pickle.dumps(o)))],
    ids=["state_dict", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("at", [1, 2, 5, 6])  # in the ramp, at its end, in the decay
def test_a_run_that_is_saved_within_its_schedule_continues_bit_for_bit(style, again, at):
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, schedule=TRAPEZE)
    for _ in range(at):
        take(style, optimizer, problem)
    other, twin = again(optimizer, problem)
    for _ in range(4):
        take(style, optimizer, problem)
        take(style, other, twin)
        np.testing.assert_array_equal(problem.flat(), twin.flat())
        assert optimizer.record.step == other.record.step
    assert optimizer.record.radius.item() == other.record.radius.item() == pytest.approx(0.7 * TRAPEZE(at + 3))


@every_style
def test_a_state_saved_while_a_perturbed_pass_waits_for_its_step(style):
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, schedule=TRAPEZE)
    for _ in range(2):
        take(style, optimizer, problem)
    optimizer.zero_grad()
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
    other, twin = through_state_dict(optimizer, problem)
    optimizer.step()
    take(style, other, twin)  # makes that step as a whole
    np.testing.assert_array_equal(problem.flat(), twin.flat())


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        ({"schedule": Decay(total_steps=8)}, {"schedule": Decay(total_steps=9)}),
        ({"schedule": Decay(total_steps=8)}, {}),
        ({}, {"schedule": Ramp(steps=3)}),
        ({"warm_start": WarmStart(steps=5)}, {"warm_start": WarmStart(steps=6)}),
        ({"every": 2}, {"every": 3}),
        ({"variant": "asam"}, {"variant": "sam"}),
    ],
)
def test_a_state_of_another_plan_is_loaded_with_a_warning(saved, loaded):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, **saved)
    take("closure", optimizer, problem)
    other = SAM(BASES["adam"](twin.groups()), rho=0.7, **loaded)
    with pytest.warns(UserWarning, match=r"the loaded run had variant=.*; this optimizer goes on from step 1 with"):
        other.load_state_dict(optimizer.state_dict())
    take("closure", other, twin)
    assert other.record.step == 1


def half(step):
    return 0.5


@dataclass(frozen=True)
class OfNoFields:
    def __call__(self, step):
        return 0.5


class WithoutRepr:
    def __call__(self, step):
        return 0.5


@pytest.mark.parametrize("make", [lambda: half, lambda: lambda step: 0.5, OfNoFields, WithoutRepr])
def test_a_state_of_the_same_plan_is_loaded_without_one(make, recwarn):
    states = []
    for _ in range(2):
        problem = Cubic()
        optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, schedule=Ramp(steps=2) * make())
        take("closure", optimizer, problem)
        for state in states:
            optimizer.load_state_dict(state)
        states.append(optimizer.state_dict())
    assert not recwarn.list


def test_a_checkpoint_of_the_base_optimizer_loads_without_a_warning():
    problem, twin = Cubic(), Cubic()
    plain = BASES["adam"](problem.groups())
    plain.step(problem.closure(plain))
    optimizer = SAM(BASES["adam"](twin.groups()), rho=0.7, schedule=Ramp(steps=3))
    optimizer.load_state_dict(plain.state_dict())
    take("closure", optimizer, twin)
    assert optimizer.record.step == 0


@every_style
@pytest.mark.parametrize(
    ("bad", "error"), [(-1.0, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("1", TypeError)]
)
def test_a_bad_factor_is_a_sentence_that_names_the_step_and_leaves_the_weights(style, bad, error):
    problem = Cubic()
    schedule = Ramp(steps=9, start=1.0) * (lambda step: bad if step == 2 else 1)
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, schedule=schedule)
    for _ in range(2):
        take(style, optimizer, problem)
    home = problem.flat()
    with pytest.raises(error, match=r"the schedule must return .* for every step; for step 2 it returned"):
        take(style, optimizer, problem)
    np.testing.assert_array_equal(problem.flat(), home)
    assert optimizer.record.step == 1
    optimizer.schedule = None
    optimizer.zero_grad()
    take(style, optimizer, problem)
    assert optimizer.record.step == 2


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"schedule": 0.5}, TypeError, "schedule must be a callable from the number of a step to a factor .*; got 0.5"),
        (
            {"schedule": Ramp},
            TypeError,
            r"schedule must be a callable .*; got <class .*Ramp'>: write for example",
        ),
        (
            {"schedule": Decay(total_steps=8), "warm_start": WarmStart(fraction=0.1, total_steps=9)},
            ValueError,
            "the length of the training was given as 9 by WarmStart.* and 8 by Decay",
        ),
        (
            {"schedule": Ramp(steps=2) * Decay(total_steps=8), "warm_start": WarmStart(steps=9)},
            ValueError,
            "the warm start of 9 steps is longer than the training of 8 steps: shorten it",
        ),
    ],
)
def test_schedules_that_make_no_sense(options, error, complaint):
    with pytest.raises(error, match=complaint):
        SAM(torch.optim.SGD(Cubic().groups(), lr=0.1), **options)


def test_the_ensemble_engine_takes_the_same_schedule_to_the_same_weights():
    torch.manual_seed(0)
    model = MLP([4, 3, 2]).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    policies = {"warm_start": WarmStart(steps=2), "schedule": TRAPEZE}
    members = stack([copy.deepcopy(model)], softmax_squared, x, y)
    course = train(members, Recipe(steps=8, lr=0.3, rho=0.7, **policies))
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.3), rho=0.7, **policies)
    for step in range(8):

        def closure():
            optimizer.zero_grad()
            loss = softmax_squared(model(x), y).mean()
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        assert loss.item() == pytest.approx(course["loss"][step, 0].item(), rel=1e-12)
        if optimizer.record.perturbed:
            assert course["radius"][step, 0].item() == pytest.approx(0.7 * TRAPEZE(step), rel=1e-12)


def test_the_engine_refuses_a_warm_start_beyond_its_last_step():
    Recipe(steps=8, lr=0.1, rho=0.7, warm_start=WarmStart(steps=8), schedule=Decay(total_steps=9))
    with pytest.raises(ValueError, match="the warm start of 9 steps is longer than the training of 8 steps: shorten"):
        Recipe(steps=8, lr=0.1, rho=0.7, warm_start=WarmStart(steps=9))

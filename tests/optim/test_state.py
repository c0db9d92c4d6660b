"""What is saved, copied and shared: state, groups, schedulers, hooks."""

import copy
import inspect
import io
import pickle
import warnings

import numpy as np
import pytest
import torch

from samirage import SAM, WarmStart
from samirage.sam import Decay, Ramp
from tests.optim.problems import BASES, STYLES, Cubic, every_style, take


def through_torch_save(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def twin_of(problem):
    twin = Cubic()
    with torch.no_grad():
        for p, q in zip(twin.params, problem.params, strict=True):
            p.copy_(q)
    return twin


def assert_same(problem, twin):
    np.testing.assert_array_equal(problem.flat(), twin.flat())


@every_style
@pytest.mark.parametrize("base", BASES)
def test_a_saved_and_loaded_run_continues_bit_for_bit(style, base):
    problem = Cubic()
    settings = {"rho": 0.7, "warm_start": WarmStart(steps=6)}
    optimizer = SAM(BASES[base](problem.groups(rho=0.2)), **settings)
    for _ in range(4):  # in the middle of the warm start
        take(style, optimizer, problem)
    for _ in range(2):  # and again after it
        twin = twin_of(problem)
        other = SAM(BASES[base](twin.groups()), **settings)
        other.load_state_dict(through_torch_save(optimizer.state_dict()))
        for _ in range(4):
            take(style, optimizer, problem)
            take(style, other, twin)
            assert_same(problem, twin)
            assert optimizer.record.perturbed == other.record.perturbed
            assert optimizer.record.step == other.record.step
        assert optimizer.record.perturbed
        assert [g["rho"] for g in other.param_groups] == [0.7, 0.2]


def test_saving_between_the_perturbed_pass_and_the_step():
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7)
    take("perturbed", optimizer, problem)
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
    state, weights = copy.deepcopy(optimizer.state_dict()), problem.flat()
    optimizer.step()
    other = SAM(BASES["adam"](twin.groups()), rho=0.7)
    take("perturbed", other, twin)
    np.testing.assert_array_equal(twin.flat(), weights)
    assert str(other.state_dict()) == str(state)


def test_the_state_holds_the_bases_and_a_count_and_no_temporaries():
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7)
    for style in STYLES:
        take(style, optimizer, problem)
    state = optimizer.state_dict()
    expected = optimizer.base.state_dict()
    plan = state["param_groups"][0]["sam_plan"]
    assert plan.startswith("variant='sam', warm_start=None, schedule=None, ")
    for group in expected["param_groups"]:
        group["sam_step"] = 3
        group["sam_plan"] = plan
    assert str(state) == str(expected)
    assert "sam_step" not in optimizer.param_groups[0]


def test_a_checkpoint_of_the_base_optimizer_loads_into_sam_and_back():
    problem = Cubic()
    plain = BASES["adam"](problem.groups())
    plain.step(problem.closure(plain))
    twin = twin_of(problem)
    optimizer = SAM(BASES["adam"](twin.groups(rho=0.2)), rho=0.7)
    optimizer.load_state_dict(through_torch_save(plain.state_dict()))
    assert [g["rho"] for g in optimizer.param_groups] == [0.7, 0.2]
    take("closure", optimizer, twin)
    assert optimizer.record.step == 0
    third = twin_of(twin)
    back = BASES["adam"](third.groups())
    back.load_state_dict(through_torch_save(optimizer.state_dict()))
    back.step(third.closure(back))
    optimizer.base.step(twin.closure(optimizer))
    assert_same(third, twin)


def test_loading_into_the_base_object_keeps_the_two_in_step():
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7)
    take("closure", optimizer, problem)
    optimizer.base.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    take("closure", optimizer, problem)
    for p in problem.params:
        assert optimizer.state[p]["step"].item() == 2


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_continue_bit_for_bit_and_apart(duplicate):
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7, variant="asam", warm_start=WarmStart(steps=2))
    for _ in range(3):
        take("closure", optimizer, problem)
    other = duplicate(optimizer)
    twin = Cubic()
    twin.params = [p for group in other.param_groups for p in group["params"]][:3]
    assert_same(problem, twin)
    assert other.record.step == optimizer.record.step == 2
    for style in STYLES:
        take(style, optimizer, problem)
        take(style, other, twin)
        assert_same(problem, twin)
        assert other.record.shift_ratio == optimizer.record.shift_ratio
    before = twin.flat()
    take("closure", optimizer, problem)
    np.testing.assert_array_equal(twin.flat(), before)
    assert repr(other) == repr(optimizer)


@pytest.mark.parametrize("through", ["sam", "base"])
def test_a_group_added_later_takes_part(through):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD([problem.params[0]], lr=0.0), rho=0.7)
    (optimizer if through == "sam" else optimizer.base).add_param_group({"params": problem.params[1:]})
    assert [g["rho"] for g in optimizer.param_groups] == [0.7, 0.7]
    optimizer.add_param_group({"params": [problem.unused], "rho": 0.1})
    assert optimizer.param_groups[2]["rho"] == 0.1
    take("closure", optimizer, problem)
    expected = np.linalg.norm(problem.coefficients() * problem.flat() ** 2)
    assert optimizer.record.grad_norm.item() == pytest.approx(expected, rel=1e-14)
    assert optimizer.record.radius.item() == pytest.approx(0.7)


def test_the_two_objects_share_everything():
    problem = Cubic()
    base = BASES["sgd"](problem.groups())
    optimizer = SAM(base, rho=0.7)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is base.param_groups
    assert optimizer.state is base.state
    assert optimizer.defaults is base.defaults
    optimizer.param_groups = base.param_groups[:1]
    assert len(base.param_groups) == 1
    optimizer.state = type(base.state)(dict)
    assert base.state is optimizer.state
    optimizer.defaults = {**base.defaults, "lr": 7.0}
    assert base.defaults["lr"] == 7.0


def test_wrapping_the_same_base_again_takes_the_new_radius_and_keeps_the_groups_own():
    problem = Cubic()
    base = torch.optim.SGD(problem.groups(rho=0.2), lr=0.1)
    SAM(base, rho=0.7)
    optimizer = SAM(base, rho=0.9)
    assert [g["rho"] for g in optimizer.param_groups] == [0.9, 0.2]


@every_style
@pytest.mark.parametrize("on", ["sam", "base"])
@pytest.mark.parametrize("bad", [False, True], ids=["all finite", "first step skipped"])
def test_a_scheduler_on_either_object_works_without_a_warning(style, on, bad):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.8), rho=0.7)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer if on == "sam" else optimizer.base, step_size=1, gamma=0.5)
    x = problem.flat()
    if bad:
        good, problem.weights = problem.weights, [a * np.inf for a in problem.weights]
        take(style, optimizer, problem)
        problem.weights = good
        scheduler.step()
        lr = 0.4
    else:
        lr = 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            a, x = problem.coefficients(), problem.flat()
            g = a * x**2
            take(style, optimizer, problem)
            np.testing.assert_allclose(problem.flat(), x - lr * a * (x + 0.7 * g / np.linalg.norm(g)) ** 2, rtol=1e-13)
            scheduler.step()
            lr /= 2
    assert optimizer.param_groups[1]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=10),
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    ],
)
def test_other_schedulers_accept_it(make):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1, momentum=0.9), rho=0.7)
    scheduler = make(optimizer)
    for style in STYLES:
        take(style, optimizer, problem)
        scheduler.step(*[1.0] * isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau))
    assert scheduler.last_epoch == optimizer.record.step + 1 == len(STYLES)


@every_style
def test_step_hooks_fire_once_per_step_on_each_object(style):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
    events = []
    optimizer.register_step_pre_hook(lambda *_: events.append("sam pre"))
    optimizer.register_step_post_hook(lambda *_: events.append("sam post"))
    optimizer.base.register_step_pre_hook(lambda *_: events.append("base pre"))
    optimizer.base.register_step_post_hook(lambda *_: events.append("base post"))
    take(style, optimizer, problem)
    assert events == ["sam pre", "base pre", "base post", "sam post"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_keeps_every_option(duplicate):
    options = {
        "variant": "asam",
        "warm_start": WarmStart(steps=3),
        "schedule": Ramp(steps=9) * Decay(total_steps=20),
        "scope": "local",
        "shards": 4,
        "every": 5,
        "replay_rng": False,
    }
    optimizer = SAM(torch.optim.SGD(Cubic().groups(), lr=0.1), rho=0.7, **options)
    again = duplicate(optimizer)
    assert {name: getattr(again, name) for name in options} == options
    # Every argument of the constructor is an option that a copy must keep; the model and the scaler are copied, too.
    # A guard does not fit shards; test_guarded_steps.py copies one.
    assert set(options) | {"model", "scaler", "guard", "rho", "base", "self"} == set(
        inspect.signature(SAM.__init__).parameters
    )


def test_state_dict_hooks_fire():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
    events = []
    optimizer.register_state_dict_pre_hook(lambda o: events.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "extra": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: events.append(state.pop("extra")))
    optimizer.register_load_state_dict_post_hook(lambda o: events.append("after loading"))
    state = optimizer.state_dict()
    assert state["extra"] == 1
    optimizer.load_state_dict(state)
    assert events == ["before saving", 1, "after loading"]


def test_a_dropped_or_unfrozen_group_is_seen_at_the_next_step():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.0), rho=0.7)
    take("closure", optimizer, problem)
    whole = optimizer.record.grad_norm.item()
    problem.params[0].requires_grad_(False)
    take("closure", optimizer, problem)
    assert optimizer.record.grad_norm.item() < whole
    problem.params[0].requires_grad_(True)
    take("closure", optimizer, problem)
    assert optimizer.record.grad_norm.item() == whole


@pytest.mark.parametrize("base", BASES)
def test_a_distributed_checkpoint_continues_bit_for_bit(base, tmp_path):
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    def run(seed):
        torch.manual_seed(seed)
        model = torch.nn.Linear(4, 3).double()
        groups = [{"params": [model.weight]}, {"params": [model.bias], "rho": 0.1}]
        return model, SAM(BASES[base](groups), rho=0.7, warm_start=WarmStart(steps=3))

    def step(model, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    x = torch.randn(5, 4, dtype=torch.float64)
    model, optimizer = run(1)
    for _ in range(2):
        step(model, optimizer)
    optimizer.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about running without a process group
        state = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer)}
        checkpoint.save(state, checkpoint_id=tmp_path, no_dist=True)
        other_model, other = run(2)
        state = {"model": other_model.state_dict(), "optimizer": get_optimizer_state_dict(other_model, other)}
        checkpoint.load(state, checkpoint_id=tmp_path, no_dist=True)
        other_model.load_state_dict(state["model"])
        set_optimizer_state_dict(other_model, other, state["optimizer"])
    for _ in range(3):
        step(model, optimizer)
        step(other_model, other)
        assert torch.equal(model.weight, other_model.weight)
        assert (optimizer.record.step, optimizer.record.perturbed) == (other.record.step, other.record.perturbed)
    assert optimizer.record.step == 4
    assert [g["rho"] for g in other.param_groups] == [0.7, 0.1]

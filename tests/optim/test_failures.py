"""What fails leaves the weights at x, bit for bit and in their storage; what is misused says so in a sentence."""

import copy
import gc
import math
import pickle
import re

import numpy as np
import pytest
import torch
from problems import BASES, Cubic, every_style, take

from samirage import SAM, WarmStart


class Interrupted(Exception):
    pass


@every_style
@pytest.mark.parametrize("failure", [Interrupted, KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_exception_in_the_second_pass_brings_everything_back(style, failure, dtype):
    problem = Cubic(dtype)
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7)
    take(style, optimizer, problem)
    home = [p.detach().clone() for p in problem.params]
    state = copy.deepcopy(optimizer.state_dict())
    pointers = [p.data_ptr() for p in problem.params]
    views = [p.detach()[...] for p in problem.params]
    backward, calls = problem.backward, []

    def failing():
        calls.append(None)
        if len(calls) == 2:
            assert not torch.equal(problem.params[0], home[0])
            backward()  # gradients at x⁺ exist already when it fails
            raise failure("on purpose")
        return backward()

    problem.backward = failing
    with pytest.raises(failure, match="on purpose"):
        take(style, optimizer, problem)
    if style == "first_second":  # between two calls only the caller can catch
        optimizer.restore()
    problem.backward = backward
    for p, value, pointer, view in zip(problem.params, home, pointers, views, strict=True):
        assert torch.equal(p, value)
        assert p.data_ptr() == pointer
        assert torch.equal(view, value)
        assert p.grad is None  # a gradient from x⁺ must not leak into the next step
    assert str(optimizer.state_dict()) == str(state)
    assert optimizer.record.step == 0
    take(style, optimizer, problem)
    assert optimizer.record.step == 1


def test_a_failure_while_the_weights_move_brings_them_back(monkeypatch):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
    home = problem.flat()
    add, calls = torch.Tensor.add_, []

    def failing(self, *arguments, **keywords):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return add(self, *arguments, **keywords)

    for enter in (lambda: optimizer.perturbed().__enter__(), optimizer.first_step):
        problem.backward()
        calls.clear()
        monkeypatch.setattr(torch.Tensor, "add_", failing)
        with pytest.raises(KeyboardInterrupt):
            enter()
        monkeypatch.undo()
        assert len(calls) == 2
        np.testing.assert_array_equal(problem.flat(), home)


def test_a_failure_in_the_figures_brings_the_weights_back(monkeypatch):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
    home = problem.flat()
    problem.backward()
    optimizer.first_step(zero_grad=True)
    problem.backward()

    def failing(**_):
        raise MemoryError("no room")

    monkeypatch.setattr("samirage.optim.excursion.step_figures", failing)
    with pytest.raises(MemoryError, match="no room"):
        optimizer.second_step()
    np.testing.assert_array_equal(problem.flat(), home)


@every_style
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_drift_at_learning_rate_zero(style, dtype):
    problem = Cubic(dtype)
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.0), rho=0.7)
    home = [p.detach().clone() for p in problem.params]
    for _ in range(300):
        take(style, optimizer, problem)
    for p, value in zip(problem.params, home, strict=True):
        assert torch.equal(p, value)


def test_parameters_that_share_storage_come_back():
    whole = torch.tensor([1.0, 2.0, 3.0])
    a, b = torch.nn.Parameter(whole[:2]), torch.nn.Parameter(whole[1:])
    optimizer = SAM(torch.optim.SGD([a, b], lr=0.0), rho=0.7)

    def closure():
        optimizer.zero_grad()
        loss = a.square().sum() + b.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert whole.tolist() == [1.0, 2.0, 3.0]


def test_gradients_are_never_written_to():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7, variant="asam")
    problem.backward()
    grads = [p.grad for p in problem.params]
    values = [g.clone() for g in grads]
    with optimizer.perturbed():
        problem.backward()
        grads += [p.grad for p in problem.params]
        values += [g.clone() for g in grads[3:]]
    optimizer.step()
    assert all(torch.equal(g, v) for g, v in zip(grads, values, strict=True))


def test_one_copy_of_the_weights_during_the_second_pass_and_none_between_steps():
    size = 4099
    w = torch.nn.Parameter(torch.rand(size))

    def alive():
        gc.collect()
        _ = w.grad  # gives the gradient its Python object, which is what is counted
        return sum(issubclass(type(o), torch.Tensor) and o.numel() == size for o in gc.get_objects())

    for rho_of_second in (0.7, 0.1):  # equal radii, and such as differ
        optimizer = SAM(
            torch.optim.SGD([{"params": [w]}, {"params": [torch.nn.Parameter(torch.ones(2))], "rho": rho_of_second}]),
            rho=0.7,
        )
        (w**3).sum().backward()
        assert alive() == 2  # w and its gradient
        with optimizer.perturbed():
            assert alive() == 2  # w and the copy
            (w**3).sum().backward()
            assert alive() == 3
        assert alive() == 2
        optimizer.step()
        optimizer.zero_grad()
        assert alive() == 1


def ready():
    problem = Cubic()
    return problem, SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)


def within_the_perturbed_pass(problem, optimizer, act):
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
        act()


def enter(optimizer, call):
    if call == "first_step()":
        optimizer.first_step()
    else:
        optimizer.perturbed().__enter__()


def test_step_without_a_perturbed_pass():
    problem, optimizer = ready()
    problem.backward()
    with pytest.raises(RuntimeError, match=r"step\(\) has no gradient of a perturbed pass: give it a closure"):
        optimizer.step()


def test_step_twice():
    problem, optimizer = ready()
    take("perturbed", optimizer, problem)
    with pytest.raises(RuntimeError, match=r"run a second forward and backward within `with optimizer.perturbed\(\):`"):
        optimizer.step()


@pytest.mark.parametrize("with_closure", [False, True])
def test_step_within_the_perturbed_pass(with_closure):
    problem, optimizer = ready()
    home = problem.flat()
    closure = problem.backward if with_closure else None
    with pytest.raises(RuntimeError, match=r"step\(\) is not possible .* wait for the end of `with perturbed\(\):`"):
        within_the_perturbed_pass(problem, optimizer, lambda: optimizer.step(closure))
    np.testing.assert_array_equal(problem.flat(), home)
    problem.backward()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match=r"step\(\) is not possible .* wait for second_step\(\) or restore\(\)"):
        optimizer.step(closure)


def test_step_with_a_closure_after_a_perturbed_pass():
    problem, optimizer = ready()
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
    with pytest.raises(RuntimeError, match=r"step\(closure\) would lose the gradient of the perturbed pass"):
        optimizer.step(problem.closure(optimizer))
    optimizer.step()


every_entry = pytest.mark.parametrize("call", ["perturbed()", "first_step()"])


@every_entry
def test_a_pass_within_the_perturbed_pass(call):
    problem, optimizer = ready()
    home = problem.flat()
    with pytest.raises(RuntimeError, match=re.escape(call) + " is not possible while the weights are at x⁺"):
        within_the_perturbed_pass(problem, optimizer, lambda: enter(optimizer, call))
    np.testing.assert_array_equal(problem.flat(), home)


@every_entry
def test_a_pass_before_the_last_one_was_used(call):
    problem, optimizer = ready()
    within_the_perturbed_pass(problem, optimizer, lambda: None)
    complaint = re.escape(call) + r" came before the last perturbed pass was used: .* or zero_grad\(\) to drop it"
    with pytest.raises(RuntimeError, match=complaint):
        enter(optimizer, call)
    optimizer.zero_grad()
    take("perturbed", optimizer, problem)
    assert optimizer.record.step == 0


@every_entry
def test_a_pass_without_a_gradient(call):
    _, optimizer = ready()
    complaint = re.escape(call) + r" found no gradient in any parameter: call backward\(\) before it"
    with pytest.raises(RuntimeError, match=complaint):
        enter(optimizer, call)


@pytest.mark.parametrize("style", ["perturbed", "first_second"])
def test_a_perturbed_pass_without_a_gradient(style):
    problem, optimizer = ready()
    home = problem.flat()
    backward, calls = problem.backward, []

    def once():
        calls.append(None)
        return backward() if len(calls) == 1 else None

    problem.backward = once
    with pytest.raises(RuntimeError, match=r"step\(\) found no gradient from the perturbed pass: call backward\(\)"):
        take(style, optimizer, problem)
    np.testing.assert_array_equal(problem.flat(), home)
    problem.backward = backward
    take(style, optimizer, problem)


def test_second_step_without_first_step():
    problem, optimizer = ready()
    home = problem.flat()
    problem.backward()
    with pytest.raises(RuntimeError, match=r"second_step\(\) needs a first_step\(\) before it"):
        optimizer.second_step()
    with pytest.raises(RuntimeError, match=r"after `with perturbed\(\):` call step\(\)"):
        within_the_perturbed_pass(problem, optimizer, optimizer.second_step)
    np.testing.assert_array_equal(problem.flat(), home)


@pytest.mark.parametrize(
    ("call", "act"),
    [
        (r"state_dict\(\)", lambda optimizer: optimizer.state_dict()),
        (r"load_state_dict\(\)", lambda optimizer: optimizer.load_state_dict({"state": {}, "param_groups": []})),
        ("pickling or copying", copy.deepcopy),
        ("pickling or copying", pickle.dumps),
    ],
)
def test_no_saving_and_loading_in_the_perturbed_pass(call, act):
    problem, optimizer = ready()
    problem.backward()
    with optimizer.perturbed():
        with pytest.raises(RuntimeError, match=call + " is not possible while the weights are at x⁺"):
            act(optimizer)
        problem.backward()
    optimizer.step()

    def closure():
        if len(calls) == 1:
            optimizer.state_dict()
        calls.append(None)
        return problem.closure(optimizer)()

    calls = []
    with pytest.raises(RuntimeError, match=r"state_dict\(\) is not possible while the weights are at x⁺"):
        optimizer.step(closure)


def test_restore_at_home_does_nothing():
    problem, optimizer = ready()
    problem.backward()
    optimizer.restore()
    assert problem.params[0].grad is not None


def test_restore_after_a_perturbed_pass_drops_its_gradient():
    problem, optimizer = ready()
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
    optimizer.restore()
    assert problem.params[0].grad is None
    take("perturbed", optimizer, problem)


def base():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)


@pytest.mark.parametrize(
    ("make", "error", "complaint"),
    [
        (
            lambda: SAM(torch.optim.SGD),
            TypeError,
            "base must be an optimizer instance, not the class SGD: construct",
        ),
        (
            lambda: SAM([torch.ones(2)]),
            TypeError,
            "base must be an instance of a torch.optim.Optimizer; got list:",
        ),
        (lambda: SAM(SAM(base())), TypeError, "base must not be a SAM itself: give it the optimizer inside"),
        (
            lambda: SAM(torch.optim.LBFGS([torch.nn.Parameter(torch.ones(2))])),
            TypeError,
            "base must be able to step without a closure, and LBFGS is not",
        ),
        (
            lambda: SAM(torch.optim.Adadelta([torch.nn.Parameter(torch.ones(2))])),
            ValueError,
            "base Adadelta has a hyperparameter rho of its own",
        ),
        (
            lambda: SAM(base(), rho=-0.1),
            ValueError,
            r"finite and at least 0 \(0 switches SAM off\); got -0.1",
        ),
        (lambda: SAM(base(), rho=math.nan), ValueError, "rho must be finite and at least 0 .* got nan"),
        (lambda: SAM(base(), rho=math.inf), ValueError, "rho must be finite and at least 0 .* got inf"),
        (lambda: SAM(base(), rho="0.1"), TypeError, "rho must be a number of at least 0; got '0.1' of type str"),
        (lambda: SAM(base(), rho=True), TypeError, "rho must be a number of at least 0; got True of type bool"),
        (lambda: SAM(base(), rho=None), TypeError, "rho must be a number of at least 0; got None"),
        (
            lambda: SAM(base(), variant="ASAM"),
            ValueError,
            "variant must be one of 'sam', 'asam', 'unnormalized'; got 'ASAM'",
        ),
        (
            lambda: SAM(base(), warm_start=5),
            TypeError,
            "warm_start must be a WarmStart or None; got 5: write",
        ),
    ],
)
def test_bad_arguments(make, error, complaint):
    with pytest.raises(error, match=complaint):
        make()


def test_a_bad_radius_in_a_group():
    problem = Cubic()
    with pytest.raises(ValueError, match=r'param_groups\[1\]\["rho"\] must be finite and at least 0 .* got -1'):
        SAM(torch.optim.SGD(problem.groups(rho=-1), lr=0.1))
    problem, optimizer = ready()
    with pytest.raises(ValueError, match=r'param_group\["rho"\] must be finite and at least 0 .* got -2'):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "rho": -2})
    assert len(optimizer.param_groups) == 2
    optimizer.param_groups[1]["rho"] = math.nan
    home = problem.flat()
    with pytest.raises(ValueError, match=r'param_groups\[1\]\["rho"\] must be finite .* got nan'):
        optimizer.step(problem.closure(optimizer))
    np.testing.assert_array_equal(problem.flat(), home)


@pytest.mark.parametrize("state", [None, {}, {"state": {}}, [1]])
def test_loading_something_else_than_a_state(state):
    _, optimizer = ready()
    with pytest.raises(ValueError, match=r"load_state_dict\(\) needs what state_dict\(\) of SAM or of its base"):
        optimizer.load_state_dict(state)


def test_loading_a_state_that_does_not_fit_changes_nothing():
    problem, optimizer = ready()
    take("closure", optimizer, problem)
    state = optimizer.state_dict()
    state["param_groups"].pop()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(state)
    state = optimizer.state_dict()
    state["param_groups"][0]["rho"] = -3
    with pytest.raises(ValueError, match=r'the saved param_groups\[0\]\["rho"\] must be finite .* got -3'):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["rho"] == 0.7
    take("closure", optimizer, problem)
    assert optimizer.record.step == 1


def test_a_warm_start_is_checked_where_it_is_made():
    with pytest.raises(ValueError, match="steps must be a whole number"):
        WarmStart(steps=-1)

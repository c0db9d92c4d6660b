"""What is misused says so in a sentence: the order of calls, the arguments, what is loaded."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch

from samirage import SAM, WarmStart
from tests.optim.problems import Cubic, take


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
            "variant must be one of 'sam', 'asam', 'unnormalized', or an instance of an Abstract.* got 'ASAM'",
        ),
        (
            lambda: SAM(base(), warm_start=5),
            TypeError,
            "warm_start must be a WarmStart or None; got 5: write",
        ),
        (
            lambda: SAM(base(), model=5),
            TypeError,
            "model must be a Module, the module .* or None; got int",
        ),
        (lambda: SAM(base(), scaler=5), TypeError, "scaler must be a GradScaler, such as torch.amp.GradScaler"),
        (lambda: SAM(base(), every=0), ValueError, "every must be a whole number of at least 1; got 0"),
        (lambda: SAM(base(), every=True), ValueError, "every must be a whole number of at least 1; got True"),
        (lambda: SAM(base(), shards=0), ValueError, "shards must be a whole number of at least 1; got 0"),
        (lambda: SAM(base(), shards=2), ValueError, "scope='local'; got shards=2, scope='global'"),
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

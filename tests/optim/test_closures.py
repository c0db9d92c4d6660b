"""Closures as trainers write them, with the perturbed pass inside or without zeroing; Lightning's look-alike of SAM."""

import math
import types

import numpy as np
import pytest
import torch
from torch import nn

from samirage import SAM, WarmStart
from tests.optim.problems import Cubic, take


def sam(problem, **options):
    return SAM(torch.optim.SGD(problem.groups(), lr=0.1, momentum=0.9), **{"rho": 0.7} | options)


@pytest.mark.parametrize("rho", [0.7, 0.0])
def test_a_closure_may_make_the_perturbed_pass_itself(rho):
    ours, theirs = Cubic(), Cubic()
    optimizer, other = sam(ours, rho=rho), sam(theirs, rho=rho)

    def closure():
        optimizer.zero_grad()
        loss = ours.backward()
        with optimizer.perturbed():
            ours.backward()
        return loss

    for _ in range(5):
        loss = optimizer.step(closure)
        assert loss.item() == pytest.approx(take("closure", other, theirs).item(), rel=1e-12)
        np.testing.assert_allclose(ours.flat(), theirs.flat(), rtol=1e-12)
        assert optimizer.record.perturbed == (rho > 0)
        expected = pytest.approx(other.record.grad_plus_norm.item(), rel=1e-12, nan_ok=True)  # NaN in one pass
        assert optimizer.record.grad_plus_norm.item() == expected
    assert ours.calls == 10


@pytest.mark.parametrize("bad", [1, 2])
def test_a_gradient_that_is_not_finite_in_such_a_closure_skips_the_step(bad):
    problem = Cubic()
    optimizer = sam(problem)
    home, calls = problem.flat(), []

    def backward():
        calls.append(None)
        problem.backward()
        if len(calls) == bad:
            problem.params[0].grad[0, 0] = math.inf

    def closure():
        optimizer.zero_grad()
        backward()
        with optimizer.perturbed():
            backward()

    optimizer.step(closure)
    assert optimizer.record.skipped
    np.testing.assert_array_equal(problem.flat(), home)
    optimizer.step(closure)
    assert not optimizer.record.skipped
    assert not np.array_equal(problem.flat(), home)


def test_an_overflow_in_such_a_closure_lowers_the_scale_once():
    problem = Cubic(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    optimizer = sam(problem, scaler=scaler)
    home = problem.flat()

    def closure():
        optimizer.zero_grad()
        for p in problem.params:
            p.grad = torch.full_like(p, math.inf)
        with optimizer.perturbed():
            for p in problem.params:
                p.grad = torch.ones_like(p)

    scaler.step(optimizer, closure)
    scaler.update()
    assert scaler.get_scale() == 2.0**7
    assert optimizer.record.skipped
    np.testing.assert_array_equal(problem.flat(), home)


def test_dropout_and_batch_norm_in_such_a_closure_are_those_of_one_pass():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    masks = []
    model[2].register_forward_hook(lambda module, args, out: masks.append(out == 0))
    x = torch.randn(6, 5)

    def backward():
        model(x).square().mean().backward()

    def closure():
        optimizer.zero_grad()
        backward()
        with optimizer.perturbed():
            backward()

    torch.manual_seed(2)
    optimizer.step(closure)
    after = torch.rand(3)
    torch.manual_seed(2)
    nn.functional.dropout(torch.ones(6, 8), 0.5)
    assert torch.equal(after, torch.rand(3))
    assert len(masks) == 2
    assert torch.equal(*masks)
    assert model[1].num_batches_tracked == 1


def test_a_gradient_that_is_not_finite_in_such_a_closure_leaves_batch_norm_as_after_one_pass():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    home = [p.detach().clone() for p in model.parameters()]
    x = torch.randn(6, 5)

    def closure():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        model[0].weight.grad[0, 0] = math.inf
        with optimizer.perturbed():
            model(x).square().mean().backward()

    optimizer.step(closure)
    assert optimizer.record.skipped
    assert model[1].num_batches_tracked == 1
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), home, strict=True))


def test_a_failure_in_such_a_closure_brings_the_weights_back():
    problem = Cubic()
    optimizer = sam(problem)
    home = problem.flat()

    def closure():
        optimizer.zero_grad()
        problem.backward()
        with optimizer.perturbed():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    np.testing.assert_array_equal(problem.flat(), home)
    take("closure", optimizer, problem)
    assert optimizer.record.step == 0


def test_a_closure_must_not_end_at_the_perturbed_point():
    problem = Cubic()
    optimizer = sam(problem)
    home = problem.flat()

    def closure():
        problem.backward()
        optimizer.first_step(zero_grad=True)

    with pytest.raises(RuntimeError, match=r"the end of the closure is not possible while the weights are at x⁺"):
        optimizer.step(closure)
    np.testing.assert_array_equal(problem.flat(), home)


def test_a_closure_that_adds_to_earlier_gradients_is_refused():
    problem = Cubic()
    optimizer = sam(problem)
    home = problem.flat()
    problem.backward()  # the first micro-batch, outside of the closure: pass 2 would not see it
    with pytest.raises(RuntimeError, match=r"the closure added to gradients from before it.*samirage\.optim\.accumul"):
        optimizer.step(problem.backward)
    np.testing.assert_array_equal(problem.flat(), home)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("by_model", [False, True])
def test_earlier_gradients_do_not_matter_where_the_closure_zeroes_them(set_to_none, by_model):
    ours, theirs = Cubic(), Cubic()
    optimizer, other = sam(ours), sam(theirs)
    if not (by_model and not set_to_none):  # zeroed in place behind the optimizer's back, they cannot be told apart
        ours.backward()
    model = nn.ParameterList(ours.params)

    def closure():
        (model if by_model else optimizer).zero_grad(set_to_none=set_to_none)
        return ours.backward()

    for _ in range(3):
        optimizer.step(closure)
        take("closure", other, theirs)
        np.testing.assert_allclose(ours.flat(), theirs.flat(), rtol=1e-12)


def test_gradients_that_a_captured_graph_writes_over_are_not_taken_for_a_sum():
    ours, theirs = Cubic(), Cubic()
    optimizer, other = sam(ours), sam(theirs)
    static = [torch.ones_like(p) for p in ours.params]

    def closure():  # a replayed CUDA graph writes to the same tensors, and autograd does not know
        for p, a, g in zip(ours.params, ours.weights, static, strict=True):
            g.data.copy_(a * p.detach().square())
            p.grad = g

    closure()
    for _ in range(3):
        optimizer.step(closure)
        take("closure", other, theirs)
        np.testing.assert_allclose(ours.flat(), theirs.flat(), rtol=1e-13)


def test_a_step_of_one_pass_may_add_to_earlier_gradients():
    problem = Cubic()
    optimizer = sam(problem, rho=0.0)
    problem.backward()
    optimizer.step(problem.backward)
    expected = 2 * np.linalg.norm(problem.coefficients() * Cubic().flat() ** 2)
    assert optimizer.record.grad_norm.item() == pytest.approx(expected, rel=1e-12)


class LightningOptimizer:
    """As Lightning does it: the class inherits from the optimizer's, the object has nothing of it."""

    def __init__(self, optimizer):
        self.inner = optimizer
        self.__class__ = type("LightningSAM", (LightningOptimizer, type(optimizer)), {})

    def step(self, closure=None):
        return self.inner.step(closure)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize("style", ["closure", "perturbed", "first_second"])
def test_a_look_alike_of_the_optimizer_works_on_the_optimizer_inside(style):
    ours, theirs = Cubic(), Cubic()
    inner, other = sam(ours, warm_start=WarmStart(steps=2)), sam(theirs, warm_start=WarmStart(steps=2))
    wrapped = LightningOptimizer(inner)
    assert isinstance(wrapped, SAM)
    seen = []
    observer = types.SimpleNamespace(
        saw_gradient=lambda scale: None, saw_step=lambda record, scale: seen.append(record)
    )
    wrapped.register_observer(observer)
    for _ in range(4):
        assert wrapped.two_pass == other.two_pass
        take(style, wrapped, ours)
        take("closure", other, theirs)
        np.testing.assert_allclose(ours.flat(), theirs.flat(), rtol=1e-12)
        assert wrapped.record is inner.record
    assert wrapped.record.perturbed
    assert len(inner.history.last) == len(wrapped.history.last) == len(seen) == 4
    assert wrapped.state_dict()["param_groups"] == other.state_dict()["param_groups"]

"""A step whose gradient is not finite, on an accelerator: dropped there, while nobody waits for the answer."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from samirage import SAM
from samirage.optim.skip import drops_by_itself, masked, step_unless
from tests.optim.problems import Cubic, CubicOnDevice, every_style, take
from tests.support.accelerator import DEVICE, Accelerator, OnDevice, deterministic, introduce, on_host

MAKERS = {
    "sgd": lambda groups, **way: torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=0.01, **way),
    "adam": lambda groups, **way: torch.optim.Adam(groups, lr=0.05, **way),
    "adamw": lambda groups, **way: torch.optim.AdamW(groups, lr=0.05, weight_decay=0.1, **way),
}
every_base = pytest.mark.parametrize("base", MAKERS)
either_pass = pytest.mark.parametrize("bad_pass", [1, 2])


@pytest.fixture(autouse=True)
def _device(monkeypatch):
    introduce(monkeypatch)
    with deterministic():
        yield


def spoil(problem, bad_pass, bad=math.inf):
    """Spoil one entry of the gradient in a pass of the coming step."""
    backward, calls = problem.backward, []

    def spoiled():
        loss = backward()
        calls.append(None)
        if len(calls) == bad_pass:
            problem.params[0].grad[0, 1].fill_(bad)  # an assignment would copy from the host, and wait
        return loss

    problem.backward = spoiled


def mend(problem):
    del problem.backward  # the class's own appears again


def numbers(optimizer):
    """The numbers in the base optimizer's state."""
    states = [{k: v for k, v in s.items() if isinstance(v, torch.Tensor)} for s in optimizer.state.values()]
    return str([{k: on_host(v) if isinstance(v, OnDevice) else v for k, v in s.items()} for s in states])


@every_style
@every_base
@either_pass
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_fused_optimizer_drops_the_step_and_goes_on(style, base, bad_pass, bad):
    problem, twin = CubicOnDevice(torch.float32), CubicOnDevice(torch.float32)
    with Accelerator():
        optimizer, other = (SAM(MAKERS[base](p.groups(), fused=True), rho=0.7) for p in (problem, twin))
        take(style, optimizer, problem)
        take(style, other, twin)
        home, state = problem.flat(), numbers(optimizer)
        spoil(problem, bad_pass, bad)
        take(style, optimizer, problem)
    np.testing.assert_array_equal(problem.flat(), home)
    assert numbers(optimizer) == state
    assert optimizer.record.skipped
    assert not hasattr(optimizer.base, "found_inf")
    mend(problem)
    with Accelerator():
        take(style, optimizer, problem)
        take(style, other, twin)
    np.testing.assert_array_equal(problem.flat(), twin.flat())
    assert not optimizer.record.skipped
    assert optimizer.record.step == 2


@every_base
@either_pass
def test_a_fused_optimizer_may_begin_with_a_dropped_step(base, bad_pass):
    # torch's fused SGD then leaves its momentum uninitialised; fill the memory, so that it does not look like zeros.
    problem, twin = CubicOnDevice(torch.float32), CubicOnDevice(torch.float32)
    with Accelerator():
        optimizer, other = (SAM(MAKERS[base](p.groups(), fused=True), rho=0.7) for p in (problem, twin))
        home = problem.flat()
        spoil(problem, bad_pass)
        garbage = [torch.full(p.shape, 7e7) for p in problem.params for _ in range(100)]
        del garbage
        take("closure", optimizer, problem)
        np.testing.assert_array_equal(problem.flat(), home)
        mend(problem)
        take("closure", optimizer, problem)
        take("closure", other, twin)
    np.testing.assert_array_equal(problem.flat(), twin.flat())


@every_style
@every_base
@either_pass
@pytest.mark.parametrize("foreach", [False, True])
def test_any_other_optimizer_steps_on_a_zero_gradient(style, base, bad_pass, foreach):
    problem, twin = CubicOnDevice(), Cubic()
    with Accelerator():
        optimizer = SAM(MAKERS[base](problem.groups(), foreach=foreach), rho=0.7)
        take(style, optimizer, problem)
        spoil(problem, bad_pass)
        take(style, optimizer, problem)
    other = SAM(MAKERS[base](twin.groups(), foreach=foreach), rho=0.7)
    take(style, other, twin)
    for p in twin.params:
        p.grad = torch.zeros_like(p)
    other.base.step()
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)
    assert optimizer.record.skipped
    mend(problem)
    with Accelerator():
        take(style, optimizer, problem)
    take(style, other, twin)
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)
    assert not optimizer.record.skipped


def test_the_second_pass_after_a_bad_one_runs_at_x():
    # Or batch-norm statistics of a model that SAM was not given would become NaN for good.
    problem = CubicOnDevice()
    home = problem.flat()
    with Accelerator():
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
        spoil(problem, 1)
        problem.backward()
        with optimizer.perturbed():
            np.testing.assert_array_equal(problem.flat(), home)


@pytest.mark.parametrize("fused", [False, True])
def test_a_plain_step_is_dropped_too(fused):
    problem = CubicOnDevice()
    home = problem.flat()
    with Accelerator():
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1, fused=fused), rho=0.0)
        spoil(problem, 1)
        take("closure", optimizer, problem)
    np.testing.assert_array_equal(problem.flat(), home)
    assert optimizer.record.skipped


@either_pass
def test_a_bad_shard_drops_the_step(bad_pass):
    problem = CubicOnDevice()
    home = problem.flat()
    with Accelerator():
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1, fused=True), rho=0.7, scope="local", shards=2)
        spoil(problem, bad_pass)

        def closure(shard):
            optimizer.zero_grad()
            return problem.backward()

        optimizer.step(closure)
    np.testing.assert_array_equal(problem.flat(), home)
    assert optimizer.record.skipped


def scaled(problem, scaler):
    def backward():
        terms = zip(problem.weights, problem.params, strict=True)
        loss = sum((a * p.pow(3)).sum() / 3 for a, p in terms)
        scaler.scale(loss).backward()
        return loss

    problem.backward = backward
    return problem


def around(optimizer, scaler, problem):
    optimizer.zero_grad()
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
    scaler.step(optimizer)


def with_closure(optimizer, scaler, problem):
    optimizer.step(problem.closure(optimizer))


@pytest.mark.parametrize(("way", "given"), [(around, False), (around, True), (with_closure, True)])
@pytest.mark.parametrize(("fused", "waits"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("bad_pass", [None, 1, 2])
def test_a_scaler_costs_its_own_read_at_most_and_skips_the_whole_step(way, given, fused, waits, bad_pass):
    problem, twin = CubicOnDevice(), Cubic()
    ends = []
    for p, device, mode in ((problem, DEVICE.type, Accelerator(may_wait=True)), (twin, "cpu", Accelerator())):
        with mode:
            scaler = torch.amp.GradScaler(device, init_scale=2.0**12)
            scaled(p, scaler)
            base = torch.optim.SGD(p.groups(), lr=0.1, momentum=0.9, fused=fused)
            optimizer = SAM(base, rho=0.7, scaler=scaler if given else None)
            way(optimizer, scaler, p)
            scaler.update()
            before = mode.waits
            home, state = p.flat(), numbers(optimizer)
            good = p.backward
            spoil(p, bad_pass)
            way(optimizer, scaler, p)
            assert mode.waits - before == (waits if p is problem else 0)
            scaler.update()
        if bad_pass:
            np.testing.assert_array_equal(p.flat(), home)
            assert numbers(optimizer) == state
        assert bool(optimizer.record.skipped) == bool(bad_pass)
        with mode:
            p.backward = good
            way(optimizer, scaler, p)
            scaler.update()
        ends.append(scaler.get_scale())
    assert ends == [2.0**11 if bad_pass else 2.0**12] * 2
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)


def test_on_a_cpu_the_base_optimizer_is_not_called():
    problem = Cubic()
    base = torch.optim.SGD(problem.groups(), lr=0.1, fused=True)
    calls = []
    base.register_step_pre_hook(lambda *_: calls.append(None))
    problem.backward()
    assert not step_unless(torch.tensor(True), base, may_wait=False)
    assert not calls
    assert step_unless(torch.tensor(False), base, may_wait=False)
    assert len(calls) == 1


def test_the_attribute_goes_away_when_the_step_fails():
    problem = CubicOnDevice()
    base = torch.optim.SGD(problem.groups(), lr=0.1, fused=True)

    def fail(*_):
        raise MemoryError("no room")

    base.register_step_pre_hook(fail)
    with Accelerator():
        problem.backward()
        with pytest.raises(MemoryError, match="no room"):
            step_unless(torch.zeros((), dtype=torch.bool, device=DEVICE), base, may_wait=False)
    assert not hasattr(base, "found_inf")


def test_an_optimizer_with_a_group_that_is_not_fused_cannot_drop_a_step():
    groups = [{"params": [nn.Parameter(torch.ones(2))]}, {"params": [nn.Parameter(torch.ones(2))], "fused": False}]
    assert not drops_by_itself(torch.optim.AdamW(groups, fused=True))


def test_a_masked_gradient_is_a_copy_of_the_same_kind():
    dense = torch.tensor([1.0, torch.nan])
    sparse = torch.sparse_coo_tensor([[2, 0, 2]], [1.0, torch.inf, 3.0], (4,), check_invariants=True)
    for bad, expected in ((False, [torch.inf, 0, 4, 0]), (True, [0, 0, 0, 0])):
        result = masked(sparse, torch.tensor(bad), 0.0)
        assert result.is_sparse
        assert result.to_dense().tolist() == expected
        assert masked(dense, torch.tensor(bad), 0.0).tolist()[0] == (not bad)
    assert dense.isnan().tolist() == [False, True]
    pair = torch.tensor([1 + 2j])
    assert masked(pair, torch.tensor(True), 0.0).tolist() == [0]

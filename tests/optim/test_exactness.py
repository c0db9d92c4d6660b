"""Bit for bit: the base optimizer at radius zero, and no drift at learning rate zero."""

import pytest
import torch
from problems import BASES, Cubic, every_style, take

from samirage import SAM


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("base", BASES)
def test_radius_zero_is_the_base_optimizer_bit_for_bit_in_one_pass(base, foreach):
    problem, twin = Cubic(torch.float32), Cubic(torch.float32)
    optimizer = SAM(BASES[base](problem.groups(), foreach=foreach), rho=0.0)
    plain = BASES[base](twin.groups(), foreach=foreach)
    for t in range(20):
        loss = optimizer.step(problem.closure(optimizer))
        assert loss == plain.step(twin.closure(plain))
        assert problem.calls == t + 1
        for p, q in zip(problem.params, twin.params, strict=True):
            assert torch.equal(p, q)
    record = optimizer.record
    assert (record.step, record.perturbed, record.skipped) == (19, False, False)
    assert record.loss == loss
    assert record.grad_norm > 0
    assert record.grad_plus_norm.isnan()


@pytest.mark.parametrize("style", ["perturbed", "first_second"])
def test_radius_zero_in_an_explicit_loop_is_the_base_optimizer(style):
    problem, twin = Cubic(torch.float32), Cubic(torch.float32)
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.0)
    plain = BASES["adam"](twin.groups())
    assert not optimizer.two_pass
    for _ in range(5):
        take(style, optimizer, problem)
        plain.step(twin.closure(plain))
    optimizer.zero_grad()
    problem.backward()
    optimizer.step()  # the second pass may as well be left out
    plain.step(twin.closure(plain))
    for p, q in zip(problem.params, twin.params, strict=True):
        assert torch.equal(p, q)
    assert not optimizer.record.perturbed


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

"""Bit for bit: the base optimizer at radius zero, and no drift at learning rate zero."""

import pytest
import torch

from samirage import SAM
from tests.optim.problems import BASES, STYLES, Cubic, every_style, take


@pytest.mark.parametrize(
    "way", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=["for loop", "foreach", "fused"]
)
@pytest.mark.parametrize("base", BASES)
def test_radius_zero_is_the_base_optimizer_bit_for_bit_in_one_pass(base, way):
    problem, twin = Cubic(torch.float32), Cubic(torch.float32)
    optimizer = SAM(BASES[base](problem.groups(), **way), rho=0.0)
    plain = BASES[base](twin.groups(), **way)
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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", ["sam", "asam"])
def test_no_drift_in_2000_steps_at_learning_rate_zero(dtype, variant):
    problem = Cubic(dtype)
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.0, momentum=0.9), rho=0.7, variant=variant)
    home = [p.detach().clone() for p in problem.params]
    for t in range(2000):
        take(STYLES[t % 3], optimizer, problem)
    assert optimizer.record.step == 1999
    for p, value in zip(problem.params, home, strict=True):
        assert torch.equal(p, value)


@every_style
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", BASES)
def test_storage_and_views_stay(style, dtype, base):
    problem = Cubic(dtype)
    optimizer = SAM(BASES[base](problem.groups(rho=0.2)), rho=0.7)
    pointers = [p.data_ptr() for p in problem.params]
    views = [p.detach().view(-1) for p in problem.params]
    home = [view.clone() for view in views]
    seen = []
    backward = problem.backward

    def watched():
        seen.append([view.clone() for view in views])
        return backward()

    problem.backward = watched
    for _ in range(3):
        take(style, optimizer, problem)
    assert [p.data_ptr() for p in problem.params] == pointers
    for p, view, at_x, at_x_plus in zip(problem.params, views, *seen[:2], strict=True):
        assert torch.equal(view, p.detach().view(-1))
        assert not torch.equal(at_x, at_x_plus)  # a view moves along to x⁺
    assert all(torch.equal(a, b) for a, b in zip(seen[0], home, strict=True))

"""The plain lines and the optimizer are the same step, so that whoever has read the ones knows the other."""

import pytest
import torch
from torch import nn

from samirage import SAM
from samirage.optim.plain_sam import plain_sam_step

BASES = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2),
}


def problem(seed, dtype):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
    return model, torch.randn(40, 6, dtype=dtype), torch.randint(0, 3, (40,))


def losses_and_weights(seed, dtype, base, rho, step_of):
    model, x, labels = problem(seed, dtype)
    optimizer = BASES[base](model.parameters())
    step = step_of(optimizer, rho)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        return loss

    losses = [step(closure).item() for _ in range(60)]
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()])


def plain(optimizer, rho):
    return lambda closure: plain_sam_step(optimizer, closure, rho)


def ours(optimizer, rho):
    return SAM(optimizer, rho=rho).step


# Rounding of one product and one norm a step, which training amplifies by no more than a hundred in 60 steps.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("rho", [0.05, 2.0])
def test_the_plain_lines_are_the_optimizers_step(dtype, base, rho):
    for seed in range(2):
        expected, there = losses_and_weights(seed, dtype, base, rho, plain)
        losses, here = losses_and_weights(seed, dtype, base, rho, ours)
        assert losses == pytest.approx(expected, rel=TOLERANCE[dtype])
        assert torch.allclose(here, there, rtol=0, atol=TOLERANCE[dtype])
        _, plain_descent = losses_and_weights(seed, dtype, base, 0.0, plain)
        assert (plain_descent - there).abs().max() > 100 * TOLERANCE[dtype]  # the radius matters


def test_the_weights_come_back_from_a_pass_that_fails():
    w = torch.tensor([2.0], requires_grad=True)
    base = torch.optim.SGD([w], lr=0.5)
    calls = []

    def closure():
        calls.append(w.item())
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        loss = w.square().sum()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="out of memory"):
        plain_sam_step(base, closure, rho=1.0)
    assert calls == [2.0, 3.0]
    assert w.item() == 2.0


def test_a_gradient_that_is_not_finite_moves_nothing():
    w = torch.tensor([2.0], requires_grad=True)
    base = torch.optim.SGD([w], lr=0.5)

    def closure():
        loss = (w * torch.inf).sum()
        loss.backward()
        return loss

    plain_sam_step(base, closure, rho=1.0)
    assert w.item() == 2.0

"""A small problem with a gradient known by hand, base optimizers, and a step in each of the three calling styles."""

import numpy as np
import pytest
import torch

from tests.support.accelerator import OnDevice, on_host

BASES = {
    "sgd": lambda groups, **kw: torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=0.01, **kw),
    "adam": lambda groups, **kw: torch.optim.Adam(groups, lr=0.05, **kw),
    "adamw": lambda groups, **kw: torch.optim.AdamW(groups, lr=0.05, weight_decay=0.1, **kw),
}
STYLES = ["closure", "perturbed", "first_second"]
every_style = pytest.mark.parametrize("style", STYLES)


def displacement_by_hand(variant, x, g, rho):
    if variant == "sam":
        return rho * g / np.sqrt(np.sum(g * g))
    if variant == "asam":
        return rho * x * x * g / np.sqrt(np.sum((x * g) ** 2))
    return rho * g


class Cubic:
    """f = sum of a_i·x_i³/3 over parameters of several shapes in two groups; its gradient is a_i·x_i²."""

    def __init__(self, dtype=torch.float64):
        generator = torch.Generator().manual_seed(2)
        shapes = [(3, 2), (), (4,)]
        self.params = [(0.5 + torch.rand(s, generator=generator, dtype=torch.float64)).to(dtype) for s in shapes]
        self.params = [torch.nn.Parameter(p) for p in self.params]
        self.unused = torch.nn.Parameter(torch.ones(2, dtype=dtype))
        self.weights = [torch.rand(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]
        self.calls = 0

    def groups(self, **second):
        return [{"params": self.params[:2]}, {"params": [*self.params[2:], self.unused], **second}]

    def backward(self):
        self.calls += 1
        loss = sum((a * p.pow(3)).sum() / 3 for a, p in zip(self.weights, self.params, strict=True))
        loss.backward()
        return loss

    def closure(self, optimizer):
        def closure():
            optimizer.zero_grad()
            return self.backward()

        return closure

    def flat(self):
        return np.concatenate([p.detach().double().numpy().ravel() for p in self.params])

    def coefficients(self):
        return np.concatenate([a.double().numpy().ravel() for a in self.weights])


class CubicOnDevice(Cubic):
    """The same on the pretended accelerator."""

    def __init__(self, dtype=torch.float64):
        super().__init__(dtype)
        self.params = [torch.nn.Parameter(OnDevice(p.detach())) for p in self.params]
        self.unused = torch.nn.Parameter(OnDevice(self.unused.detach()))
        self.weights = [OnDevice(a) for a in self.weights]

    def flat(self):
        return np.concatenate([on_host(p).double().numpy().ravel() for p in self.params])


def take(style, optimizer, problem):
    """One step in one of the calling styles."""
    if style == "closure":
        return optimizer.step(problem.closure(optimizer))
    optimizer.zero_grad()
    problem.backward()
    if style == "perturbed":
        with optimizer.perturbed():
            problem.backward()
        return optimizer.step()
    optimizer.first_step(zero_grad=True)
    problem.backward()
    return optimizer.second_step(zero_grad=True)

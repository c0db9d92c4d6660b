"""The optimizer against the NumPy reference: 100 steps, each calling style, each perturbation rule."""

import itertools

import numpy as np
import pytest
import torch

from samirage import SAM
from samirage.sam import ASAM, GSAM, Decay, LookSAM
from tests import reference

IN, HIDDEN, CLASSES, IMAGES = 7, 5, 4, 12


def problem(seed):
    rng = np.random.default_rng(seed)
    shapes = [(HIDDEN, IN), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
    params = [rng.normal(0, 0.6, shape) for shape in shapes]
    return params, rng.normal(0, 1, (IMAGES, IN)), np.eye(CLASSES)[rng.integers(0, CLASSES, IMAGES)]


class Network:
    """The same network in torch, with two parameter groups."""

    def __init__(self, params, x, onehot):
        self.model = torch.nn.Sequential(
            torch.nn.Linear(IN, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, CLASSES), torch.nn.Softmax(1)
        ).double()
        with torch.no_grad():
            for p, value in zip(self.model.parameters(), params, strict=True):
                p.copy_(torch.from_numpy(value))
        self.x, self.onehot = torch.from_numpy(x), torch.from_numpy(onehot)

    def backward(self):
        loss = (self.model(self.x) - self.onehot).square().sum(1).mean()
        loss.backward()
        return loss

    def groups(self):
        return [{"params": self.model[0].parameters()}, {"params": self.model[2].parameters()}]


def closure_step(optimizer, network):
    def closure():
        optimizer.zero_grad()
        return network.backward()

    return optimizer.step(closure)


def perturbed_step(optimizer, network):
    optimizer.zero_grad()
    loss = network.backward()
    with optimizer.perturbed():
        network.backward()
    optimizer.step()
    return loss


def first_second_step(optimizer, network):
    loss = network.backward()
    optimizer.first_step(zero_grad=True)
    network.backward()
    optimizer.second_step(zero_grad=True)
    return loss


STYLES = [closure_step, perturbed_step, first_second_step]
RULES = [
    ("plain", 0.0, {}),
    ("sam", 0.05, {}),
    ("sam", 2.5, {}),
    ("asam", 0.3, {}),
    ("asam", 1.7, {}),
    ("asam", 0.3, {"eta": 0.2, "biases": True}),
    ("asam", 0.3, {"eta": 0.2, "biases": False}),
    ("unnormalized", 0.4, {}),
    ("gsam", 0.3, {"alpha": 0.4}),
    ("looksam", 0.3, {"alpha": 0.7, "k": 3}),
    ("sam", 2.5, {"schedule": Decay(total_steps=90, start=20, to=0.1, shape="cosine")}),
]


def variant(rule, options):
    options = {name: value for name, value in options.items() if name != "schedule"}
    kinds = {"asam": ASAM, "gsam": GSAM, "looksam": LookSAM}
    return kinds[rule](**options) if options else {"plain": "sam"}.get(rule, rule)


@pytest.mark.parametrize(("rule", "rho", "options"), RULES)
@pytest.mark.parametrize("style", STYLES)
def test_agrees_with_the_reference_over_100_steps(style, rule, rho, options):
    for seed in range(4):
        params, x, onehot = problem(seed)
        expected, losses = reference.train(params, x, onehot, rule=rule, rho=rho, lr=0.2, steps=100, **options)
        network = Network(params, x, onehot)
        optimizer = SAM(
            torch.optim.SGD(network.groups(), lr=0.2),
            rho=rho,
            variant=variant(rule, options),
            model=network.model,
            schedule=options.get("schedule"),
        )
        measured = [style(optimizer, network).item() for _ in range(100)]
        # At this learning rate the trajectories do not amplify the rounding of 1e-16 per step by more than about 1e2.
        np.testing.assert_allclose(measured, losses, rtol=0, atol=1e-12)
        for p, value in zip(network.model.parameters(), expected, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), value, rtol=0, atol=1e-12)


def test_the_rules_differ_from_each_other():
    # Otherwise the test above could pass for an optimizer that ignores its rule.
    ends = [
        np.concatenate(
            [w.ravel() for w in reference.train(*problem(0), rule=rule, rho=rho, lr=0.2, steps=100, **options)[0]]
        )
        for rule, rho, options in RULES
    ]
    for a, b in itertools.combinations(ends, 2):
        assert np.abs(a - b).max() > 1e-3


def test_the_gradient_of_the_reference_is_a_finite_difference_and_autograds():
    params, x, onehot = problem(5)
    _, grads = reference.loss_and_grads(params, x, onehot)
    network = Network(params, x, onehot)
    network.backward()
    for p, g in zip(network.model.parameters(), grads, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=0, atol=1e-15)
    h = 1e-6
    for w, g in zip(params, grads, strict=True):
        index = (0,) * w.ndim
        w[index] += h
        up, _ = reference.loss_and_grads(params, x, onehot)
        w[index] -= 2 * h
        down, _ = reference.loss_and_grads(params, x, onehot)
        w[index] += h
        assert (up - down) / (2 * h) == pytest.approx(g[index], abs=1e-9)

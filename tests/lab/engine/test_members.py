"""What the ensemble engine shows to a watch, points as its members, and members as modules again."""

import pytest
import torch

from samirage import SAM, Guard, Monitor, WarmStart
from samirage.diagnosis.figures import values_of
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.functions import Particles
from samirage.lab.engine.models import MLP, cross_entropy, softmax_squared
from samirage.lab.engine.stacked import ModuleStack, stack
from samirage.landscape import DoubleWell, Quadratic, Ring
from samirage.monitor import Watch


def networks(count, *, seed=0):
    torch.manual_seed(seed)
    x = torch.rand(40, 6) * (torch.arange(6) != 2)  # an input that is never there
    return [MLP([6, 5, 3]) for _ in range(count)], x, torch.randint(0, 3, (40,))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(steps=40, lr=0.1, rho=0.5),
        Recipe(steps=40, lr=0.1, rho=0.5, guard=Guard(), batch_size=16),
        Recipe(steps=40, lr=0.1, rho=0.5, warm_start=WarmStart(steps=10), momentum=0.9),
        Recipe(steps=40, lr=0.1, rho=0.5, variant="asam"),
    ],
)
def test_a_watched_training_is_the_same_bit_for_bit(recipe):
    modules, x, labels = networks(4)
    ends = []
    for watch in (None, Watch(window=16, batched=True, sample=20)):
        members = stack(modules, cross_entropy, x, labels)
        course = train(members, recipe, watch=watch)
        ends.append([*members.params, *course.values()])
    assert len(watch.windows) == 5
    for without, with_it in zip(*ends, strict=True):
        torch.testing.assert_close(with_it, without, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("function", "recipe"),
    [
        (Ring(), Recipe(steps=96, lr=0.05, rho=1.5)),
        (DoubleWell(), Recipe(steps=96, lr=0.05, rho=1.5, guard=Guard())),
        (Quadratic([4.0, 1.0]), Recipe(steps=96, lr=0.02, rho=0.3, momentum=0.9)),
        (Quadratic([4.0, 1.0]), Recipe(steps=96, lr=0.02, rho=0.3, warm_start=WarmStart(steps=60))),
    ],
)
def test_every_member_has_the_figures_of_an_optimizer_of_its_own(function, recipe):
    starts = torch.tensor([[0.97, -0.16], [0.4, 0.3], [-0.2, 0.9]], dtype=torch.float64)
    watch = Watch(window=64, batched=True)
    points = Particles(function, starts)
    train(points, recipe, watch=watch)
    together = [values_of(window) for window in watch.windows]
    for i, start in enumerate(starts):
        x = start.clone().requires_grad_()
        base = torch.optim.SGD([x], lr=recipe.lr, momentum=recipe.momentum)
        optimizer = SAM(base, rho=recipe.rho, guard=recipe.guard, warm_start=recipe.warm_start)
        monitor = Monitor(optimizer, window=64)

        def closure(x=x, optimizer=optimizer):
            optimizer.zero_grad()
            loss = function(x)
            loss.backward()
            return loss

        for _ in range(recipe.steps):
            optimizer.step(closure)
        torch.testing.assert_close(points.params[0][i], x.detach(), rtol=1e-9, atol=1e-12)
        for window, diagnosis in zip(together, monitor.diagnoses, strict=True):
            alone = {name: figure.value for name, figure in diagnosis.figures.items()}
            for name in set(alone) - {"radius_fraction", "transverse_cosine"}:  # the last may be rounding alone
                assert window[i][name] == pytest.approx(alone[name], rel=1e-6, abs=1e-9, nan_ok=True), name


def test_noise_of_points_is_that_of_examples_which_add_up_to_none():
    function = Quadratic([2.0, 1.0])
    x = torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
    points = Particles(function, x, noise=0.5, examples=64, seed=3)
    clean, some, every = (torch.empty_like(x) for _ in range(3))
    loss = points.loss_and_grads([x], [clean])
    torch.testing.assert_close(loss, function(x))
    torch.testing.assert_close(clean, function.grad(x))
    noisy = points.loss_and_grads([x], [some], torch.arange(16))
    xi = some[0] - clean[0]
    torch.testing.assert_close(some - clean, xi.expand(2, 2))  # the same example for every point
    torch.testing.assert_close(noisy - loss, x @ xi)  # and a loss whose gradient it is
    assert 0.01 < xi.norm() < 0.5
    points.loss_and_grads([x], [every], torch.arange(64))
    torch.testing.assert_close(every, clean)


@pytest.mark.parametrize("path", [stack, ModuleStack])
def test_members_as_modules_have_the_outputs_of_the_stack(path):
    modules, x, labels = networks(3)
    members = path(modules, softmax_squared, x, labels)
    train(members, Recipe(steps=20, lr=0.5, rho=0.1))
    new = torch.rand(7, 6)  # with the input that was never there
    found = members.modules()
    assert all(type(module) is MLP for module in found)
    torch.testing.assert_close(torch.stack([module(new).detach() for module in found]), members.logits(new))
    assert not torch.allclose(found[0](new), modules[0](new))
    with torch.no_grad():
        next(found[0].parameters()).zero_()
    torch.testing.assert_close(members.modules()[1](new), found[1](new))  # copies
    assert members.params[0].abs().sum() > 0

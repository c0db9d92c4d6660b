"""The guard in the optimizer, against a loop written out in NumPy; and the warm start that ends by criterion."""

import copy
import io

import numpy as np
import pytest
import torch

from samirage import SAM, Guard, WarmStart
from samirage.sam import GSAM, Decay
from tests import reference

IN, HIDDEN, CLASSES, IMAGES, LR = 6, 5, 3, 10, 0.3
RNG = np.random.default_rng(5)
X, LABELS = RNG.normal(0, 1, (IMAGES, IN)), RNG.integers(0, CLASSES, IMAGES)
ONEHOT = np.eye(CLASSES)[LABELS]
START = [RNG.normal(0, 0.7, shape) for shape in [(HIDDEN, IN), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]]
KAPPA, SHRINK, GROWTH, RHO = 0.5, 0.6, 1.15, 3.0


def written_out(steps, *, momentum=0.0, kappa=KAPPA, rhos=(RHO,) * 4, decay_over=None):
    """Losses, realised radii and rejections of SGD with SAM and guard; `rhos`: the radius of each tensor."""
    params, velocity = [p.copy() for p in START], [np.zeros_like(p) for p in START]
    factor, course = 1.0, []
    for step in range(steps):
        loss, grads = reference.loss_and_grads(params, X, ONEHOT)
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        scale = factor * (1.0 if decay_over is None else 1 - step / decay_over)
        e = [scale * rho * g / norm for rho, g in zip(rhos, grads, strict=True)]
        _, shifted = reference.loss_and_grads([p + d for p, d in zip(params, e, strict=True)], X, ONEHOT)
        norm_plus = np.sqrt(sum((g**2).sum() for g in shifted))
        slope = sum((g * s).sum() for g, s in zip(grads, shifted, strict=True)) / norm
        rejected = slope < kappa * max(norm, norm_plus)
        course.append((loss, np.sqrt(sum((d**2).sum() for d in e)), rejected))
        factor = factor * SHRINK if rejected else min(1.0, factor * GROWTH)
        velocity = [momentum * v + d for v, d in zip(velocity, grads if rejected else shifted, strict=True)]
        params = [p - LR * v for p, v in zip(params, velocity, strict=True)]
    losses, radii, rejections = (np.array(column) for column in zip(*course, strict=True))
    return losses, radii, rejections.astype(bool), params


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(IN, HIDDEN).double(), torch.nn.Linear(HIDDEN, CLASSES).double()
        with torch.no_grad():
            for p, value in zip(self.parameters(), START, strict=True):
                p.copy_(torch.from_numpy(value))

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def loss_of(model):
    return (model(torch.from_numpy(X)).softmax(1) - torch.from_numpy(ONEHOT)).square().sum(1).mean()


def take_step(optimizer, model, style="closure"):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    if style == "closure":
        return optimizer.step(closure)
    closure()
    if optimizer.two_pass:
        with optimizer.perturbed():
            loss_of(model).backward()
    return optimizer.step()


def guard():
    return Guard(kappa=KAPPA, shrink=SHRINK, growth=GROWTH)


@pytest.mark.parametrize("style", ["closure", "perturbed"])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_guarded_steps_are_those_written_out(style, momentum):
    losses, radii, rejections, params = written_out(60, momentum=momentum)
    assert 2 < rejections.sum() < 58
    model = Network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=LR, momentum=momentum), rho=RHO, guard=guard())
    for step in range(60):
        assert loss_of(model).item() == pytest.approx(losses[step], rel=1e-9)
        take_step(optimizer, model, style)
        record = optimizer.record
        assert record.followed.item() != rejections[step]
        assert record.radius.item() == pytest.approx(radii[step], rel=1e-9)
        assert record.rejections.item() == rejections[: step + 1].sum()
        assert record.radius_factor.item() == pytest.approx(radii[step] / RHO, rel=1e-9)
    for p, expected in zip(model.parameters(), params, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=0, atol=1e-9)


def test_a_radius_for_each_group_and_a_schedule():
    losses, radii, rejections, _ = written_out(40, rhos=(RHO, RHO, 0.5, 0.5), decay_over=50)
    assert 0 < rejections.sum() < 40
    model = Network()
    groups = [{"params": model.first.parameters(), "rho": RHO}, {"params": model.second.parameters(), "rho": 0.5}]
    optimizer = SAM(torch.optim.SGD(groups, lr=LR), guard=guard(), schedule=Decay(total_steps=50))
    for step in range(40):
        loss = take_step(optimizer, model)
        assert loss.item() == pytest.approx(losses[step], rel=1e-9)
        assert optimizer.record.radius.item() == pytest.approx(radii[step], rel=1e-9)


@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized", GSAM(alpha=0.4)])
def test_a_rejected_step_is_the_base_optimizers_on_g_bit_for_bit(variant):
    model, twin = Network(), Network()
    optimizer = SAM(torch.optim.Adam(model.parameters(), lr=LR), rho=2e3, variant=variant, guard=Guard())
    plain = torch.optim.Adam(twin.parameters(), lr=LR)
    take_step(optimizer, model)
    loss_of(twin).backward()
    plain.step()
    assert not optimizer.record.followed
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("variant", ["sam", "asam", GSAM(alpha=0.4)])
def test_a_guard_that_never_speaks_changes_nothing(variant):
    models = Network(), Network()
    optimizers = [
        SAM(torch.optim.SGD(m.parameters(), lr=LR, momentum=0.9), rho=0.02, variant=variant, guard=g)
        for m, g in zip(models, (None, Guard(kappa=0.01)), strict=True)
    ]
    for _ in range(20):
        for optimizer, model in zip(optimizers, models, strict=True):
            take_step(optimizer, model)
        assert optimizers[1].record.followed
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("copied", ["state_dict", "deepcopy"])
def test_a_guarded_run_continues_bit_for_bit(copied):
    model = Network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=LR, momentum=0.8), rho=RHO, guard=guard())
    for _ in range(25):
        take_step(optimizer, model)
    assert optimizer.record.rejections > 0
    if copied == "deepcopy":
        again, other = copy.deepcopy((optimizer, model))
    else:
        file = io.BytesIO()
        torch.save((optimizer.state_dict(), model.state_dict()), file)
        file.seek(0)
        state, weights = torch.load(file, weights_only=True)
        other = Network()
        other.load_state_dict(weights)
        again = SAM(torch.optim.SGD(other.parameters(), lr=LR, momentum=0.8), rho=RHO, guard=guard())
        again.load_state_dict(state)
    for _ in range(25):
        take_step(optimizer, model)
        take_step(again, other)
        assert torch.equal(optimizer.record.radius, again.record.radius)
        assert torch.equal(optimizer.record.rejections, again.record.rejections)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_an_overflow_at_the_perturbed_point_skips_the_step_and_looks_less_far():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=100.0, guard=Guard(shrink=0.01))

    def closure():
        optimizer.zero_grad()
        loss = w.exp().sum()  # infinite in float32 at 101, finite at 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (optimizer.record.skipped.item(), w.item()) == (True, 1.0)
    optimizer.step(closure)
    assert not optimizer.record.skipped
    assert optimizer.record.radius.item() == pytest.approx(1.0)
    assert w.item() < 1.0


@pytest.mark.parametrize("style", ["closure", "perturbed"])
def test_a_warm_start_by_criterion_follows_g_until_its_probes_agree(style):
    model, rho, end, agreed = Network(), 1.0, None, 0
    warm_start = WarmStart(until="slope", probe_every=4, probes=2, kappa=0.6)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=LR), rho=rho, warm_start=warm_start)
    params = [p.copy() for p in START]
    for step in range(60):
        loss, grads = reference.loss_and_grads(params, X, ONEHOT)
        assert loss_of(model).item() == pytest.approx(loss, rel=1e-9)
        probe = end is None and step % 4 == 3
        assert optimizer.two_pass == (probe or end is not None)
        take_step(optimizer, model, style)
        assert optimizer.record.followed.item() == (end is not None)
        _, shifted = reference.loss_and_grads(reference.perturbed(params, grads, "sam", rho), X, ONEHOT)
        direction = grads if end is None else shifted
        if probe:
            g, g_plus = (np.concatenate([a.ravel() for a in arrays]) for arrays in (grads, shifted))
            sizes = np.linalg.norm(g), np.linalg.norm(g_plus)
            agreed = agreed + 1 if g @ g_plus / sizes[0] >= 0.6 * max(sizes) else 0
            end = step if agreed == 2 else None
        params = [p - LR * d for p, d in zip(params, direction, strict=True)]
        if step in {25, 40}:  # a checkpoint knows how many probes agreed, and when the warm start ended
            again = SAM(torch.optim.SGD(model.parameters(), lr=LR), rho=rho, warm_start=warm_start)
            again.load_state_dict(optimizer.state_dict())
            optimizer = again
    assert end == 27


def test_a_guard_does_not_fit_a_perturbation_of_each_shard():
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match=r"a guard follows either g or g⁺ of the whole batch.*use scope='global'"):
        SAM(torch.optim.SGD([w], lr=0.1), scope="local", shards=2, guard=Guard())
    with pytest.raises(TypeError, match=r"guard must be a Guard or None; got 0.3: write Guard\(\)"):
        SAM(torch.optim.SGD([w], lr=0.1), guard=0.3)

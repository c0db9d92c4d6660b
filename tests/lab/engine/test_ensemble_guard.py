"""Guard, momentum and schedule in the ensemble engine, against a plain loop in NumPy that trains each seed alone."""

import numpy as np
import pytest
import torch

from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.stacked import MLPStack, ModuleStack
from samirage.sam import Decay, Guard, WarmStart
from tests import reference
from tests.lab.engine.test_ensemble import CLASSES, SEEDS, members, problem

KAPPA, SHRINK, GROWTH, RHO, LR, STEPS = 0.4, 0.6, 1.1, 4.0, 0.2, 80


def guarded_loop(seed, *, rule="sam", momentum=0.0, plain_steps=0, decay_over=None, kappa=KAPPA):
    """One network, one step after the other, the guard's rule written out: losses, radii, rejections."""
    params, x, labels = problem(seed)
    onehot = np.eye(CLASSES)[labels]
    velocity = [np.zeros_like(p) for p in params]
    factor, course = 1.0, []
    for step in range(STEPS):
        loss, grads = reference.loss_and_grads(params, x, onehot)
        direction, radius, rejected = grads, np.nan, False
        if step >= plain_steps:
            radius = RHO * factor * (1.0 if decay_over is None else 1 - step / decay_over)
            _, shifted = reference.loss_and_grads(reference.perturbed(params, grads, rule, radius), x, onehot)
            g, g_plus = (np.concatenate([a.ravel() for a in arrays]) for arrays in (grads, shifted))
            slope = g @ g_plus / np.linalg.norm(g)
            rejected = slope < kappa * np.linalg.norm(g) or slope < kappa * np.linalg.norm(g_plus)
            direction = grads if rejected else shifted
            factor = factor * SHRINK if rejected else min(1.0, factor * GROWTH)
        velocity = [momentum * v + d for v, d in zip(velocity, direction, strict=True)]
        params = [p - LR * v for p, v in zip(params, velocity, strict=True)]
        course.append((loss, radius, rejected))
    losses, radii, rejections = (np.array(column) for column in zip(*course, strict=True))
    return losses, radii, rejections.astype(bool)


CASES = {
    "guard": ({}, {}),
    "momentum": ({"momentum": 0.7}, {"momentum": 0.7}),
    "warm start": ({"warm_start": WarmStart(steps=11)}, {"plain_steps": 11}),
    "decay": ({"schedule": Decay(total_steps=100)}, {"decay_over": 100}),
    "asam": ({"variant": "asam"}, {"rule": "asam"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("path", [MLPStack, ModuleStack])
def test_every_member_is_guarded_as_on_its_own(path, name):
    settings, written_out = CASES[name]
    guard = Guard(kappa=KAPPA, shrink=SHRINK, growth=GROWTH)
    course = train(members(path), Recipe(steps=STEPS, lr=LR, rho=RHO, guard=guard, **settings))
    rejected = (course["radius"].isfinite() & ~course["followed"]).numpy()
    for seed in range(SEEDS):
        losses, radii, rejections = guarded_loop(seed, **written_out)
        # Rounding of 1e-16 a step, amplified by no more than 1e4.
        np.testing.assert_allclose(course["loss"][:, seed].numpy(), losses, rtol=0, atol=1e-11)
        if name != "asam":
            np.testing.assert_allclose(course["radius"][:, seed].numpy(), radii, rtol=1e-11)
        np.testing.assert_array_equal(rejected[:, seed], rejections)
    # The case says something only if the guard spoke, and not for all members at once.
    assert 0 < rejected.sum() < rejected.size
    assert any(0 < row.sum() < SEEDS for row in rejected)


@pytest.mark.parametrize("path", [MLPStack, ModuleStack])
def test_no_step_that_is_followed_has_a_vanishing_shifted_gradient(path):
    course = train(members(path), Recipe(steps=200, lr=LR, rho=30.0, guard=Guard()))
    followed = course["followed"]
    assert followed.any()
    assert (course["shift_ratio"][followed] >= 0.5).all()
    assert (course["cosine"][followed] >= 0.5).all()


def test_a_guard_that_never_speaks_changes_nothing():
    plain = train(members(MLPStack), Recipe(steps=30, lr=LR, rho=0.02))
    guarded = train(members(MLPStack), Recipe(steps=30, lr=LR, rho=0.02, guard=Guard()))
    assert guarded["followed"].all()
    for name, values in plain.items():
        assert torch.equal(values, guarded[name]), name


def test_a_warm_start_by_criterion_ends_for_every_member_after_its_own_probes():
    warm_start = WarmStart(until="slope", probe_every=4, probes=2, kappa=0.8)
    course = train(members(MLPStack), Recipe(steps=STEPS, lr=LR, rho=1.0, warm_start=warm_start))
    ends = []
    for seed in range(SEEDS):
        params, x, labels = problem(seed)
        onehot = np.eye(CLASSES)[labels]
        agreed, end = 0, None
        for step in range(STEPS):
            loss, grads = reference.loss_and_grads(params, x, onehot)
            assert course["loss"][step, seed].item() == pytest.approx(loss, rel=1e-9)
            _, shifted = reference.loss_and_grads(reference.perturbed(params, grads, "sam", 1.0), x, onehot)
            assert course["followed"][step, seed].item() == (end is not None)
            direction = grads if end is None else shifted
            if end is None and step % 4 == 3:
                g, g_plus = (np.concatenate([a.ravel() for a in arrays]) for arrays in (grads, shifted))
                sizes = np.linalg.norm(g), np.linalg.norm(g_plus)
                agreed = agreed + 1 if g @ g_plus / sizes[0] >= 0.8 * max(sizes) else 0
                end = step if agreed == 2 else None
            params = [p - LR * d for p, d in zip(params, direction, strict=True)]
        ends.append(end)
    assert ends == [79, 7, 19]  # not all at once, or nothing was tested


def test_a_warm_start_by_criterion_takes_two_passes_only_for_probes_until_it_is_over():
    passes = []
    warm_start = WarmStart(steps=20, until="slope", probe_every=5, probes=99)
    recipe = Recipe(steps=25, lr=LR, rho=2.0, warm_start=warm_start)
    train(members(MLPStack), recipe, lambda step, taken: passes.append(taken))
    assert passes == [1, 1, 1, 1, 2] * 4 + [2] * 5


def test_momentum_out_of_range_is_a_sentence():
    with pytest.raises(ValueError, match=r"momentum must be at least 0 and below 1; got 1\.0"):
        Recipe(steps=1, lr=0.1, momentum=1.0)

"""A gradient scaler, given to the constructor or around the step, in each calling style."""

import math

import numpy as np
import pytest
import torch

from samirage import SAM, WarmStart
from tests.optim.problems import Cubic, take


def scaled(problem, scaler):
    """The problem with its loss scaled before backward()."""

    def backward():
        problem.calls += 1
        loss = sum((a * p.pow(3)).sum() / 3 for a, p in zip(problem.weights, problem.params, strict=True))
        scaler.scale(loss).backward()
        return loss

    problem.backward = backward
    return problem


def step_closure(optimizer, scaler, problem):
    return optimizer.step(problem.closure(optimizer))


def scaler_step_closure(optimizer, scaler, problem):
    return scaler.step(optimizer, problem.closure(optimizer))


def scaler_step_closure_after_a_gradient(optimizer, scaler, problem):
    optimizer.zero_grad()
    problem.backward()
    return scaler.step(optimizer, problem.closure(optimizer))


def perturbed_then_scaler_step(optimizer, scaler, problem):
    optimizer.zero_grad()
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
    scaler.step(optimizer)


def perturbed_then_unscale(optimizer, scaler, problem):
    optimizer.zero_grad()
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(problem.params, 1e6)
    scaler.step(optimizer)


def unscale_while_perturbed(optimizer, scaler, problem):
    optimizer.zero_grad()
    problem.backward()
    with optimizer.perturbed():
        problem.backward()
        scaler.unscale_(optimizer)
    scaler.step(optimizer)


def perturbed_then_step(optimizer, scaler, problem):
    take("perturbed", optimizer, problem)


def first_and_second_step(optimizer, scaler, problem):
    take("first_second", optimizer, problem)


GIVEN = [
    step_closure,
    scaler_step_closure,
    scaler_step_closure_after_a_gradient,
    perturbed_then_scaler_step,
    perturbed_then_unscale,
    unscale_while_perturbed,
    perturbed_then_step,
    first_and_second_step,
]
AROUND = [scaler_step_closure_after_a_gradient, perturbed_then_scaler_step, perturbed_then_unscale]
WAYS = [(way, True) for way in GIVEN] + [(way, False) for way in AROUND]
every_way = pytest.mark.parametrize(
    ("way", "given"), WAYS, ids=[f"{way.__name__}-{'given' if given else 'around'}" for way, given in WAYS]
)


@pytest.mark.parametrize(
    ("way", "given", "variant"),
    [
        (*way, variant)
        for way in WAYS
        for variant in ("sam", "asam", "unnormalized")
        if way[1] or variant != "unnormalized"
    ],
)
@pytest.mark.parametrize("second", [{}, {"rho": 0.0}, {"rho": 0.3}], ids=["one radius", "second radius 0", "two radii"])
def test_a_loss_scale_changes_nothing(way, given, variant, second):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=2)
    problem, twin = scaled(Cubic(), scaler), Cubic()
    options = {"rho": 0.2, "variant": variant}
    base = {"lr": 0.05, "momentum": 0.9}
    optimizer = SAM(torch.optim.SGD(problem.groups(**second), **base), scaler=scaler if given else None, **options)
    plain = SAM(torch.optim.SGD(twin.groups(**second), **base), **options)
    for _ in range(6):  # the scale grows from 2^12 to 2^15 meanwhile
        loss = way(optimizer, scaler, problem)
        scaler.update()
        expected = take("closure", plain, twin)
        # A scale that is a power of 2 is exact; only sums of float64 in other orders differ.
        np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)
        assert loss is None or loss.item() == pytest.approx(expected.item(), rel=1e-14)
        for name in ("grad_norm", "grad_plus_norm", "shift_ratio", "slope_plus", "cosine", "radius"):
            if not given and way is perturbed_then_unscale and name in ("grad_norm", "grad_plus_norm", "slope_plus"):
                continue  # in the units of the scaled loss, as documented
            value = getattr(plain.record, name).item()
            assert getattr(optimizer.record, name).item() == pytest.approx(value, rel=1e-12), name
        if loss is not None:
            gain = plain.record.ascent_gain.item()  # a difference of nearby losses
            assert optimizer.record.ascent_gain.item() == pytest.approx(gain, rel=1e-9)
    assert scaler.get_scale() == 2.0**15


@every_way
@pytest.mark.parametrize("bad_pass", [1, 2])
def test_an_overflow_in_either_pass_skips_the_step_and_lowers_the_scale_once(way, given, bad_pass):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=1000)
    problem = scaled(Cubic(), scaler)
    optimizer = SAM(torch.optim.Adam(problem.groups(), lr=0.05), rho=0.2, scaler=scaler if given else None)
    way(optimizer, scaler, problem)
    scaler.update()
    home, state = problem.flat(), str(optimizer.state_dict()["state"])
    backward, calls = problem.backward, []
    first = 1 if way is scaler_step_closure_after_a_gradient else 0  # a gradient that the closure makes again

    def overflowing():
        loss = backward()
        calls.append(None)
        if len(calls) == bad_pass + first:
            problem.params[0].grad[0, 1] = math.inf
        return loss

    problem.backward = overflowing
    way(optimizer, scaler, problem)
    scaler.update()
    np.testing.assert_array_equal(problem.flat(), home)
    assert str(optimizer.state_dict()["state"]) == state
    assert optimizer.record.skipped
    if given or way is not scaler_step_closure_after_a_gradient:
        assert scaler.get_scale() == 2.0**11
    problem.backward = backward
    way(optimizer, scaler, problem)
    scaler.update()
    assert not optimizer.record.skipped
    assert np.abs(problem.flat() - home).min() > 0
    assert optimizer.record.step == 2


def test_an_overflow_before_the_closure_skips_the_step():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    problem = scaled(Cubic(), scaler)
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.05), rho=0.2)
    home = problem.flat()
    problem.backward()
    problem.params[0].grad[0, 1] = math.inf
    scaler.step(optimizer, problem.closure(optimizer))
    scaler.update()
    np.testing.assert_array_equal(problem.flat(), home)
    assert optimizer.record.skipped
    assert scaler.get_scale() == 2.0**11


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("bad", [False, True])
def test_a_plain_step_under_a_scaler(given, bad):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    problem, twin = scaled(Cubic(), scaler), Cubic()
    optimizer = SAM(
        torch.optim.SGD(problem.groups(), lr=0.05),
        warm_start=WarmStart(steps=1),
        scaler=scaler if given else None,
    )
    home = problem.flat()
    problem.backward()
    if bad:
        problem.params[0].grad[0, 0] = math.nan
    scaler.step(optimizer)
    scaler.update()
    plain = torch.optim.SGD(twin.groups(), lr=0.05)
    twin.backward()
    norm = torch.cat([p.grad.flatten() for p in twin.params]).norm().item()
    plain.step()
    np.testing.assert_allclose(problem.flat(), home if bad else twin.flat(), rtol=1e-15)
    assert scaler.get_scale() == (2.0**11 if bad else 2.0**12)
    if not bad:
        assert optimizer.record.grad_norm.item() == pytest.approx(norm, rel=1e-14)


def test_a_scaler_that_is_switched_off_changes_nothing():
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    problem, twin = scaled(Cubic(), scaler), Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.05), rho=0.2, scaler=scaler)
    plain = SAM(torch.optim.SGD(twin.groups(), lr=0.05), rho=0.2)
    for way in (step_closure, scaler_step_closure, perturbed_then_scaler_step, perturbed_then_step):
        way(optimizer, scaler, problem)
        scaler.update()
        take("closure", plain, twin)
    np.testing.assert_array_equal(problem.flat(), twin.flat())


def ready(given, **options):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    problem = scaled(Cubic(), scaler)
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.05), scaler=scaler if given else None, **options)
    return scaler, problem, optimizer


def test_a_closure_without_a_gradient_before_it_needs_the_scaler():
    scaler, problem, optimizer = ready(given=False)
    scaler.scale(torch.ones(()))
    with pytest.raises(RuntimeError, match=r"without a gradient before it needs SAM\(..., scaler=scaler\)"):
        scaler.step(optimizer, problem.closure(optimizer))
    assert not hasattr(optimizer, "found_inf")
    assert problem.calls == 0


def test_the_unnormalized_variant_needs_the_scaler():
    scaler, problem, optimizer = ready(given=False, variant="unnormalized")
    home = problem.flat()
    with pytest.raises(RuntimeError, match="the variant Unnormalized depends on the scale of the gradients: give"):
        perturbed_then_scaler_step(optimizer, scaler, problem)
    np.testing.assert_array_equal(problem.flat(), home)


@pytest.mark.parametrize("way", [step_closure, perturbed_then_step])
def test_a_scaler_that_is_never_updated(way):
    scaler, problem, optimizer = ready(given=True)
    way(optimizer, scaler, problem)
    with pytest.raises(RuntimeError, match=r"call scaler.update\(\) after each step"):
        way(optimizer, scaler, problem)


@pytest.mark.parametrize(
    ("way", "given"),
    [(step_closure, True), (scaler_step_closure, True), (perturbed_then_step, True), (scaler_step_closure, False)],
)
def test_gradients_that_were_unscaled_before_the_perturbed_pass(way, given):
    scaler, problem, optimizer = ready(given)
    problem.backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"scaler.unscale_\(optimizer\) came too early: the perturbed pass makes"):
        way(optimizer, scaler, problem)

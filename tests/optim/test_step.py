"""The step: the perturbation and the gradient it takes, by hand; losses, records, warm start."""

import math

import numpy as np
import pytest
import torch

from samirage import SAM, WarmStart
from tests.optim.problems import BASES, STYLES, Cubic, displacement_by_hand, every_style, take


@every_style
@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized"])
@pytest.mark.parametrize("second", [{}, {"rho": 2.5}, {"rho": 0.0}], ids=["one radius", "two radii", "second radius 0"])
def test_a_step_uses_the_hand_computed_sam_gradient(style, variant, second):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(**second), lr=0.2), rho=0.7, variant=variant)
    x, a = problem.flat(), problem.coefficients()
    rho = np.where(np.arange(len(x)) < 7, 0.7, second.get("rho", 0.7))
    g = a * x**2
    e = displacement_by_hand(variant, x, g, rho)
    g_plus = a * (x + e) ** 2
    take(style, optimizer, problem)
    np.testing.assert_allclose(problem.flat(), x - 0.2 * g_plus, rtol=1e-14)
    assert np.abs(g_plus - g).max() > 0.1  # so a plain step would fail above
    assert problem.unused.detach().tolist() == [1.0, 1.0]

    record = optimizer.record
    cosine = g @ g_plus / np.linalg.norm(g) / np.linalg.norm(g_plus)
    expected = {
        "grad_norm": np.linalg.norm(g),
        "grad_plus_norm": np.linalg.norm(g_plus),
        "shift_ratio": np.linalg.norm(g_plus) / np.linalg.norm(g),
        "slope_plus": cosine * np.linalg.norm(g_plus),
        "cosine": cosine,
        "radius": np.linalg.norm(e),
        "loss": a @ x**3 / 3 if style == "closure" else math.nan,
        "loss_plus": a @ (x + e) ** 3 / 3 if style == "closure" else math.nan,
        "ascent_gain": (a @ ((x + e) ** 3 - x**3) / 3) / (g @ e) if style == "closure" else math.nan,
    }
    for name, value in expected.items():
        assert getattr(record, name).item() == pytest.approx(value, rel=1e-12, nan_ok=True), name
        assert getattr(record, name).shape == ()
    assert (record.step, record.perturbed, record.skipped) == (0, True, False)


def test_the_closure_is_called_twice_and_the_loss_at_x_comes_back():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.2), rho=0.7)
    x, a = problem.flat(), problem.coefficients()
    seen = []

    def closure():
        seen.append(problem.flat())
        return problem.closure(optimizer)()

    assert optimizer.step(closure).item() == pytest.approx(a @ x**3 / 3, rel=1e-14)
    assert len(seen) == 2
    np.testing.assert_array_equal(seen[0], x)
    assert np.linalg.norm(seen[1] - x) == pytest.approx(0.7, rel=1e-14)


def test_a_closure_that_forgets_to_zero_the_gradients_still_gets_the_perturbed_one_alone():
    problem, twin = Cubic(), Cubic()
    SAM(torch.optim.SGD(problem.groups(), lr=0.2), rho=0.7).step(problem.backward)
    take("closure", SAM(torch.optim.SGD(twin.groups(), lr=0.2), rho=0.7), twin)
    np.testing.assert_array_equal(problem.flat(), twin.flat())


def test_first_step_can_leave_the_gradients_to_the_caller():
    problem, twin = Cubic(), Cubic()
    asam = {"rho": 0.7, "variant": "asam"}  # which keeps g during the second pass
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.2), **asam)
    problem.backward()
    optimizer.first_step()
    assert problem.params[0].grad is not None
    optimizer.zero_grad(set_to_none=False)
    problem.backward()
    optimizer.second_step()
    assert problem.params[0].grad is not None
    other = SAM(torch.optim.SGD(twin.groups(), lr=0.2), **asam)
    take("first_second", other, twin)
    assert twin.params[0].grad is None
    np.testing.assert_array_equal(problem.flat(), twin.flat())
    assert optimizer.record.cosine == other.record.cosine


@every_style
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("base", BASES)
def test_the_base_optimizer_steps_on_the_perturbed_gradient_bit_for_bit(style, base, foreach):
    problem, twin = Cubic(torch.float32), Cubic(torch.float32)
    optimizer = SAM(BASES[base](problem.groups(), foreach=foreach), rho=0.7)
    plain = BASES[base](twin.groups(), foreach=foreach)
    for _ in range(20):
        take(style, optimizer, problem)
        home = [p.detach().clone() for p in twin.params]
        plain.zero_grad()
        twin.backward()
        total = torch.cat([p.grad.double().flatten() for p in twin.params]).norm()
        with torch.no_grad():
            for p in twin.params:
                p += p.grad * (0.7 / total).float()
        plain.zero_grad()
        twin.backward()
        with torch.no_grad():
            for p, value in zip(twin.params, home, strict=True):
                p.copy_(value)
        plain.step()
        for p, q in zip(problem.params, twin.params, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert len(optimizer.state) == len(plain.state)


@every_style
def test_the_weights_are_at_distance_rho_during_the_second_pass_and_at_home_before_and_after(style):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.0), rho=2.5)
    home, seen = problem.flat(), []
    backward = problem.backward

    def watched():
        seen.append(problem.flat())
        return backward()

    problem.backward = watched
    take(style, optimizer, problem)
    np.testing.assert_array_equal(seen[0], home)
    assert np.linalg.norm(seen[1] - home) == pytest.approx(2.5, rel=1e-14)
    np.testing.assert_array_equal(problem.flat(), home)


def test_a_closure_without_any_gradient_is_a_step_that_changes_nothing_as_in_torch():
    problem = Cubic()
    optimizer = SAM(BASES["adamw"](problem.groups()), rho=0.7)
    home = problem.flat()
    assert optimizer.step(lambda: 1.5) == 1.5
    np.testing.assert_array_equal(problem.flat(), home)
    record = optimizer.record
    assert (record.loss, record.grad_norm, record.perturbed) == (1.5, 0, False)


def test_losses_of_zero_of_no_kind_and_of_odd_shapes():
    for loss, recorded in [(0.0, 0.0), (None, math.nan), (torch.zeros(()), 0.0), (torch.ones(1, 1), 1.0)]:
        problem = Cubic()
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.3), rho=0.7)
        home = problem.flat()

        def closure(problem=problem, optimizer=optimizer, loss=loss):
            problem.closure(optimizer)()
            return loss

        returned = optimizer.step(closure)
        assert returned is loss or torch.equal(returned, loss)
        assert np.abs(problem.flat() - home).min() > 0
        assert optimizer.record.loss.item() == pytest.approx(recorded, nan_ok=True)
        assert optimizer.record.loss.shape == ()


def test_the_record_keeps_the_loss_when_the_closure_reuses_its_storage():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.3), rho=0.7)
    a, x = problem.coefficients(), problem.flat()
    static = torch.zeros((), dtype=torch.float64)

    def closure():
        return static.copy_(problem.closure(optimizer)().detach())

    assert optimizer.step(closure).item() == pytest.approx(a @ x**3 / 3, rel=1e-14)
    assert optimizer.record.loss.item() == pytest.approx(a @ x**3 / 3, rel=1e-14)
    assert optimizer.record.loss_plus > optimizer.record.loss


def test_records_count_the_steps_and_are_none_before_the_first():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.01), rho=0.7)
    assert optimizer.record is None
    for t in range(3):
        take(STYLES[t], optimizer, problem)  # the styles may be mixed
        assert optimizer.record.step == t


@pytest.mark.parametrize("warm_start", [WarmStart(steps=3), WarmStart(fraction=0.5, total_steps=6)])
def test_a_warm_start_is_the_base_optimizer_in_one_pass_and_then_sam(warm_start):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.01, momentum=0.9), rho=0.7, warm_start=warm_start)
    plain = torch.optim.SGD(twin.groups(), lr=0.01, momentum=0.9)
    for t in range(3):
        assert not optimizer.two_pass
        optimizer.step(problem.closure(optimizer))
        plain.step(twin.closure(plain))
        assert problem.calls == t + 1
        assert not optimizer.record.perturbed
    np.testing.assert_array_equal(problem.flat(), twin.flat())
    assert optimizer.two_pass
    optimizer.step(problem.closure(optimizer))
    assert problem.calls == 5
    assert optimizer.record.perturbed
    assert optimizer.record.radius.item() == pytest.approx(0.7)


@pytest.mark.parametrize("style", ["perturbed", "first_second"])
def test_an_explicit_warm_start_leaves_the_weights_at_x(style):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.01), rho=0.7, warm_start=WarmStart(steps=1))
    plain = torch.optim.SGD(twin.groups(), lr=0.01)
    home = problem.flat()
    problem.backward()
    if style == "perturbed":
        with optimizer.perturbed():
            np.testing.assert_array_equal(problem.flat(), home)
            problem.backward()
        optimizer.step()
    else:
        optimizer.first_step(zero_grad=True)
        np.testing.assert_array_equal(problem.flat(), home)
        problem.backward()
        optimizer.second_step(zero_grad=True)
    plain.step(twin.closure(plain))
    np.testing.assert_array_equal(problem.flat(), twin.flat())
    assert (optimizer.record.perturbed, optimizer.two_pass) == (False, True)


def test_the_fixed_point_under_coupled_weight_decay_balances_the_shifted_gradient():
    p = torch.tensor([0.5, 0.0], dtype=torch.float64, requires_grad=True)
    decay = 0.05
    optimizer = SAM(torch.optim.SGD([p], lr=0.1, weight_decay=decay), rho=1.5)

    def closure():
        optimizer.zero_grad()
        x, y = p
        loss = (x**2 - 1) ** 2 / 4 + 0.4 * y**2 + 0.15 * x * y
        loss.backward()
        return loss

    for _ in range(1500):
        optimizer.step(closure)
    grad_plus = p.grad
    assert (grad_plus + decay * p).norm() < 1e-12
    assert grad_plus.norm() > 1e-3
    assert optimizer.record.grad_norm > 0.1


def test_one_in_every_three_steps_takes_two_passes():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.01), rho=0.7, every=3, warm_start=WarmStart(steps=2))
    calls = []
    for _ in range(9):
        before = problem.calls
        optimizer.step(problem.closure(optimizer))
        calls.append(problem.calls - before)
        assert optimizer.record.perturbed == (calls[-1] == 2)
    assert calls == [1, 1, 2, 1, 1, 2, 1, 1, 2]

"""Gradients and parameters that are out of the ordinary: not finite, missing, extreme, complex, sparse, mixed."""

import math

import numpy as np
import pytest
import torch

from samirage import SAM
from tests.optim.problems import BASES, Cubic, displacement_by_hand, every_style, take


@every_style
@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized"])
def test_a_zero_gradient_perturbs_by_zero(style, variant):
    problem = Cubic()
    problem.weights = [torch.zeros_like(a) for a in problem.weights]
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.3), rho=0.7, variant=variant)
    home = problem.flat()
    take(style, optimizer, problem)
    np.testing.assert_array_equal(problem.flat(), home)
    assert (optimizer.record.radius, optimizer.record.grad_norm) == (0, 0)
    assert not optimizer.record.skipped


@every_style
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("bad_pass", [1, 2])
def test_a_gradient_that_is_not_finite_skips_the_whole_step(style, bad, bad_pass):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7)
    twin_optimizer = SAM(BASES["adam"](twin.groups()), rho=0.7)
    take(style, optimizer, problem)
    take(style, twin_optimizer, twin)
    backward, calls = problem.backward, []

    def broken():
        loss = backward()
        calls.append(None)
        if len(calls) == bad_pass:
            problem.params[0].grad[1, 1] = bad
        return loss

    problem.backward = broken
    take(style, optimizer, problem)
    problem.backward = backward
    record = optimizer.record
    assert (record.step, record.skipped, record.perturbed) == (1, True, bad_pass == 2)
    assert math.isfinite(record.grad_norm) == (bad_pass == 2)
    np.testing.assert_array_equal(problem.flat(), twin.flat())
    for p, q in zip(problem.params, twin.params, strict=True):
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, twin_optimizer.state[q][key])
    take(style, optimizer, problem)
    take(style, twin_optimizer, twin)
    np.testing.assert_array_equal(problem.flat(), twin.flat())
    assert not optimizer.record.skipped
    assert optimizer.record.step == 2  # a skipped step counts


def test_a_gradient_that_is_not_finite_skips_a_plain_step_too():
    problem = Cubic()
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.0)
    home = problem.flat()
    problem.backward()
    problem.params[0].grad[0, 0] = math.inf
    optimizer.step()
    np.testing.assert_array_equal(problem.flat(), home)
    assert not optimizer.state
    assert optimizer.record.skipped


@every_style
@pytest.mark.parametrize("only_in", [1, 2])
@pytest.mark.parametrize("variant", ["sam", "asam"])
def test_a_gradient_in_one_of_the_passes_only(style, only_in, variant):
    # The second parameter takes part in one pass; in the other one its gradient is None, and counts as 0.
    x, y = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (2.0, -3.0))
    passes = []

    class Problem:
        def backward(self):
            passes.append(None)
            loss = x**2 / 2 + (y**2 if len(passes) == only_in else 0)
            loss.backward()
            return loss

        def closure(self, optimizer):
            def closure():
                optimizer.zero_grad()
                return self.backward()

            return closure

    optimizer = SAM(torch.optim.SGD([x, y], lr=0.1), rho=0.7, variant=variant)
    take(style, optimizer, Problem())
    w = np.array([2.0, -3.0])
    g = np.array([2.0, -6.0]) if only_in == 1 else np.array([2.0, 0.0])
    e = displacement_by_hand(variant, w, g, 0.7)
    g_plus = np.array([2.0 + e[0], 0.0 if only_in == 1 else 2 * (-3.0 + e[1])])
    np.testing.assert_allclose([x.item(), y.item()], w - 0.1 * g_plus, rtol=1e-15)
    record = optimizer.record
    assert record.grad_norm.item() == pytest.approx(np.linalg.norm(g), rel=1e-14)
    assert record.grad_plus_norm.item() == pytest.approx(np.linalg.norm(g_plus), rel=1e-14)
    assert record.radius.item() == pytest.approx(np.linalg.norm(e), rel=1e-14)
    assert record.slope_plus.item() == pytest.approx(g @ g_plus / np.linalg.norm(g), rel=1e-14)


@every_style
def test_frozen_parameters_stay_where_they_are(style):
    problem = Cubic()
    problem.params[0].requires_grad_(False)
    optimizer = SAM(BASES["adamw"](problem.groups()), rho=0.7)
    home = problem.flat()
    take(style, optimizer, problem)
    np.testing.assert_array_equal(problem.flat()[:6], home[:6])
    assert np.abs(problem.flat()[6:] - home[6:]).min() > 0
    g = (problem.coefficients() * home**2)[6:]
    assert optimizer.record.grad_norm.item() == pytest.approx(np.linalg.norm(g), rel=1e-14)


@every_style
@pytest.mark.parametrize("variant", ["sam", "asam"])
@pytest.mark.parametrize("magnitude", [1e-25, 1e20])
def test_gradients_of_extreme_size_perturb_by_rho(style, variant, magnitude):
    problem = Cubic(torch.float32)
    x, a = problem.flat(), problem.coefficients()
    problem.weights = [a * magnitude for a in problem.weights]
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.0), rho=0.7, variant=variant)
    take(style, optimizer, problem)
    # The realised displacement is x⁺ − x after x⁺ was rounded: a few units of 6e-8 for weights of about 1.
    e = displacement_by_hand(variant, x, a * x**2, 0.7)
    assert optimizer.record.radius.item() == pytest.approx(np.linalg.norm(e), rel=1e-6)
    assert optimizer.record.grad_norm.item() == pytest.approx(magnitude * np.linalg.norm(a * x**2), rel=1e-6)


def test_complex_parameters_move_as_pairs_of_real_ones():
    z = torch.tensor([1.0 + 2.0j, -0.5 + 1.0j], dtype=torch.complex128, requires_grad=True)
    pairs = torch.view_as_real(z.detach()).clone().requires_grad_()
    optimizers = [
        SAM(torch.optim.SGD([p], lr=0.1), rho=0.7, variant=variant) for p in (z, pairs) for variant in ("sam", "asam")
    ]

    def loss_of(p):
        real, imaginary = (p.real, p.imag) if p is z else p.unbind(-1)
        return (real**3 + 2 * imaginary**3).sum()

    for optimizer in optimizers:
        p = optimizer.param_groups[0]["params"][0]

        def closure(optimizer=optimizer, p=p):
            optimizer.zero_grad()
            loss = loss_of(p)
            loss.backward()
            return loss

        optimizer.step(closure)
    torch.testing.assert_close(torch.view_as_real(z.detach()), pairs.detach(), rtol=1e-14, atol=0)
    assert optimizers[0].record.radius.item() == pytest.approx(0.7)
    assert optimizers[0].record.cosine.item() == pytest.approx(optimizers[2].record.cosine.item())


@every_style
@pytest.mark.parametrize("variant", ["sam", "asam"])
@pytest.mark.parametrize("second_rho", [0.7, 0.2])
def test_sparse_gradients_do_as_dense_ones(style, variant, second_rho):
    ends, records = [], []
    for sparse in (True, False):
        generator = torch.Generator().manual_seed(5)
        embedding = torch.nn.Embedding(6, 3, sparse=sparse, dtype=torch.float64)
        with torch.no_grad():
            embedding.weight.copy_(torch.randn(6, 3, generator=generator, dtype=torch.float64))
        scale = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        batches = iter([[0, 2, 2], [2, 4]])  # a row twice; another set of rows in the second pass

        class Problem:
            def backward(self, embedding=embedding, scale=scale, batches=batches):
                loss = (scale * embedding(torch.tensor(next(batches))).pow(2)).sum()
                loss.backward()
                return loss

            def closure(self, optimizer):
                def closure():
                    optimizer.zero_grad()
                    return self.backward()

                return closure

        groups = [{"params": embedding.parameters()}, {"params": [scale], "rho": second_rho}]
        optimizer = SAM(torch.optim.SGD(groups, lr=0.1), rho=0.7, variant=variant)
        take(style, optimizer, Problem())
        ends.append(torch.cat([embedding.weight.detach().flatten(), scale.detach().flatten()]))
        records.append(optimizer.record)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-14, atol=1e-15)
    for name in ("grad_norm", "grad_plus_norm", "slope_plus", "radius"):
        torch.testing.assert_close(getattr(records[0], name), getattr(records[1], name), rtol=1e-13, atol=0)


@pytest.mark.parametrize("variant", ["sam", "asam"])
def test_a_gradient_that_is_sparse_in_both_dimensions_is_taken_whole(variant):
    w = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64))
    x, g = w.detach().numpy().copy(), np.array([[0.0, 5.0], [-2.0, 0.0]])
    sparse = torch.from_numpy(g).to_sparse()
    optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.7, variant=variant)
    w.grad = sparse.clone()
    with optimizer.perturbed():
        e = displacement_by_hand(variant, x, g, 0.7)
        np.testing.assert_allclose(w.detach().numpy(), x + e, rtol=1e-15)
        w.grad = sparse.clone()
    optimizer.step()
    np.testing.assert_allclose(w.detach().numpy(), x - 0.1 * g, rtol=1e-15)
    assert optimizer.record.cosine.item() == pytest.approx(1, rel=1e-12)  # g⁺ = g


def test_parameters_of_several_dtypes_share_one_norm():
    a = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([4.0], dtype=torch.float32, requires_grad=True)
    optimizer = SAM(torch.optim.SGD([a, b], lr=0.1), rho=0.5)
    (a.double().square() / 2 + b.double().square() / 2).sum().backward()
    with optimizer.perturbed():
        assert (a.dtype, b.dtype) == (torch.float64, torch.float32)
        assert [a.item(), b.item()] == pytest.approx([3.3, 4.4])
        (a.double().square() / 2 + b.double().square() / 2).sum().backward()
    optimizer.step()
    assert [a.item(), b.item()] == pytest.approx([3 - 0.33, 4 - 0.44])

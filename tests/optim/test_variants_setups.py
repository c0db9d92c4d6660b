"""ASAM's options, GSAM and LookSAM in odd set-ups: scaled, half precision, complex, accumulated, sharded, misused."""

import copy
import math

import numpy as np
import pytest
import torch

from samirage import SAM
from samirage.optim import accumulated
from samirage.sam import ASAM, GSAM, LookSAM
from tests.optim.problems import STYLES, Cubic, CubicOnDevice, every_style, take
from tests.optim.test_variants import KEPT, VARIANTS, ByHand, K, named_groups
from tests.support.accelerator import Accelerator, introduce, on_host


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_gradient_scaler_changes_nothing(name, known, style):
    problem, twin = Cubic(torch.float32), Cubic(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)  # the scale changes within a period
    optimizer = SAM(
        torch.optim.SGD(named_groups(problem), lr=0.05),
        rho=0.7,
        variant=VARIANTS[name],
        scaler=scaler if known else None,
    )
    sam = SAM(torch.optim.SGD(named_groups(twin), lr=0.05), rho=0.7, variant=VARIANTS[name])

    def backward():
        loss = sum((a * p.pow(3)).sum() / 3 for a, p in zip(problem.weights, problem.params, strict=True))
        scaler.scale(loss).backward()
        return loss

    problem.backward = backward
    for _ in range(2 * K):
        take("closure", sam, twin)
        optimizer.zero_grad()
        backward()
        if style == "closure" and known:
            scaler.step(optimizer, problem.closure(optimizer))
        else:
            with optimizer.perturbed():
                backward()
            scaler.step(optimizer)
        scaler.update()
        np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-6)


@pytest.mark.parametrize("variant", KEPT)
def test_weights_of_half_precision_and_of_mixed_dtypes(variant):
    problem = Cubic(torch.float32)
    problem.params[0] = torch.nn.Parameter(problem.params[0].detach().bfloat16())
    problem.weights[0] = problem.weights[0].bfloat16()
    problem.params[2] = torch.nn.Parameter(problem.params[2].detach().double())
    problem.weights[2] = problem.weights[2].double()
    x, a = problem.flat(), problem.coefficients()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.0), rho=0.7, variant=variant)
    take("closure", optimizer, problem)
    grads = np.concatenate([p.grad.double().numpy().ravel() for p in problem.params])
    twin = ByHand(variant, problem, 0.7)
    expected = twin.direction(x)
    # bfloat16 holds 8 bits, and its weights are rounded at random on the way to x⁺.
    np.testing.assert_allclose(grads, expected, rtol=0, atol=2**-5 * np.linalg.norm(expected))
    np.testing.assert_array_equal(problem.flat(), x)
    if isinstance(variant, LookSAM):
        take("closure", optimizer, problem)
        grads = np.concatenate([p.grad.double().numpy().ravel() for p in problem.params])
        expected = twin.direction(x)
        tolerance = 2**-5 * np.linalg.norm(expected)
        np.testing.assert_allclose(grads, expected, rtol=0, atol=tolerance)
        assert np.abs(grads - a * x**2).max() > 4 * tolerance
        kept = [optimizer.state[p]["looksam_g_v"] for p in problem.params]
        assert [v.dtype for v in kept] == [torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("variant", KEPT)
def test_complex_weights_are_pairs_of_real_ones(variant):
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(4, dtype=torch.complex128, generator=generator).requires_grad_()
    pairs = torch.view_as_real(z.detach()).clone().requires_grad_()
    ends = []
    for x in (z, pairs):
        optimizer = SAM(torch.optim.SGD([x], lr=0.1), rho=0.4, variant=variant)
        for _ in range(4):

            def closure(x=x, optimizer=optimizer):
                optimizer.zero_grad()
                parts = torch.view_as_real(x) if x.is_complex() else x
                loss = (torch.tensor([1.0, 3.0]) * parts.pow(2)).sum() + parts.pow(4).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
        ends.append(torch.view_as_real(x.detach()) if x.is_complex() else x.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=0)


def test_a_parameter_that_has_a_gradient_in_one_pass_only():
    a, b, c = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.0, 2.0, 3.0))
    optimizer = SAM(torch.optim.SGD([a, b, c], lr=1.0), rho=0.5, variant=GSAM(alpha=0.6))
    calls = []

    def closure():
        optimizer.zero_grad()
        calls.append(None)
        loss = (a**2).sum() + (b**2 if len(calls) == 1 else c**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    g = np.array([2.0, 4.0, 0.0])
    g_plus = 2 * np.array([1 + 0.5 * g[0] / np.linalg.norm(g), 0.0, 3.0])
    d = g_plus - 0.6 * (g - (g @ g_plus) / (g_plus @ g_plus) * g_plus)
    np.testing.assert_allclose([a.item(), b.item(), c.item()], [1 - d[0], 2.0, 3 - d[2]], rtol=1e-13)


def test_looksam_takes_for_zero_what_it_does_not_keep():
    a, b, c = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.0, 2.0, 3.0))
    optimizer = SAM(torch.optim.SGD([a, b, c], lr=0.0), rho=0.5, variant=LookSAM(k=3, alpha=0.5))
    calls = []

    def closure():
        optimizer.zero_grad()
        calls.append(None)
        loss = (a**2).sum() + {1: b**2, 2: c**2}.get(len(calls), b**2 + c**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    g, g_plus = np.array([2.0, 4.0, 0.0]), np.array([2 + 2 * 0.5 / math.sqrt(5), 0.0, 6.0])
    g_v = g_plus - (g @ g_plus) / (g @ g) * g
    g_v[1] = 0  # without a gradient in the perturbed pass the parameter did not take part in the step
    optimizer.step(closure)
    g = np.array([2.0, 4.0, 6.0])
    expected = g + 0.5 * np.linalg.norm(g) / np.linalg.norm(g_v) * g_v
    np.testing.assert_allclose([p.grad.item() for p in (a, b, c)], expected, rtol=1e-13)


def test_looksam_after_a_first_step_that_was_skipped_has_nothing_to_reuse():
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(torch.optim.Adam(problem.groups(), lr=0.05), rho=0.7, variant=LookSAM(k=K))
    plain = torch.optim.Adam(twin.groups(), lr=0.05)
    good, problem.weights = problem.weights, [a * np.inf for a in problem.weights]
    take("closure", optimizer, problem)
    assert optimizer.record.skipped
    problem.weights = good
    for _ in range(K - 1):
        take("closure", optimizer, problem)
        plain.step(twin.closure(plain))
        np.testing.assert_array_equal(problem.flat(), twin.flat())
    take("closure", optimizer, problem)
    assert optimizer.record.perturbed


@pytest.mark.parametrize("variant", KEPT)
def test_accumulated_micro_batches_are_one_batch(variant):
    data = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ends = []
    for pieces in (1, 4):
        w = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
        optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.3, variant=variant)
        for _ in range(4):
            optimizer.step(accumulated(optimizer, lambda x, w=w: (x @ w).tanh().square().mean(), data.chunk(pieces)))
        ends.append(w.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=0)


def test_gsam_over_shards_is_the_mean_of_their_directions():
    data = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def loss_of(w, shard):
        return (data.chunk(2)[shard] @ w).tanh().square().mean()

    w = start.clone().requires_grad_()
    optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.3, variant=GSAM(alpha=0.6), scope="local", shards=2)

    def closure(shard):
        optimizer.zero_grad()
        loss = loss_of(w, shard)
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    directions = []
    for shard in range(2):
        x = start.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss_of(x, shard), x)
        (g_plus,) = torch.autograd.grad(loss_of(x + 0.3 * g / g.norm(), shard), x)
        directions.append(g_plus - 0.6 * (g - (g @ g_plus) / (g_plus @ g_plus) * g_plus))
    torch.testing.assert_close(w.detach(), start - 0.1 * sum(directions) / 2, rtol=1e-12, atol=0)


@every_style
@pytest.mark.parametrize("name", VARIANTS)
def test_no_step_waits_for_an_accelerator_and_each_is_that_of_a_cpu(name, style, monkeypatch):
    introduce(monkeypatch)
    problem, twin = CubicOnDevice(), Cubic()
    options = {"rho": 0.7, "variant": VARIANTS[name], "schedule": lambda step: 1 / (1 + step)}
    with Accelerator():
        optimizer = SAM(torch.optim.SGD(named_groups(problem, rho=0.2), lr=0.1), **options)
        for _ in range(2 * K):
            take(style, optimizer, problem)
    other = SAM(torch.optim.SGD(named_groups(twin, rho=0.2), lr=0.1), **options)
    for _ in range(2 * K):
        take(style, other, twin)
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)


@pytest.mark.parametrize("bad_pass", [1, 2])
@pytest.mark.parametrize("variant", KEPT)
def test_a_step_that_an_accelerator_skips_keeps_what_is_kept(variant, bad_pass, monkeypatch):
    introduce(monkeypatch)
    problem = CubicOnDevice()
    calls = []
    with Accelerator():
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7, variant=variant)
        for _ in range(K):
            take("closure", optimizer, problem)
        weights = problem.flat()
        kept = {p: v["looksam_g_v"].clone() for p, v in optimizer.state.items() if "looksam_g_v" in v}

        def closure():
            optimizer.zero_grad()
            calls.append(None)
            loss = problem.backward()
            if len(calls) == bad_pass:
                problem.params[2].grad.mul_(math.inf)
            return loss

        optimizer.step(closure)
        after = problem.flat()
        still = {p: optimizer.state[p]["looksam_g_v"].clone() for p in kept}
        skipped = optimizer.record.skipped
        take("closure", optimizer, problem)
    assert on_host(skipped)
    np.testing.assert_array_equal(after, weights)
    assert len(kept) == (3 if isinstance(variant, LookSAM) else 0)
    assert all(torch.equal(on_host(still[p]), on_host(v)) for p, v in kept.items())
    assert np.isfinite(problem.flat()).all()
    assert (problem.flat() != weights).all()


def test_the_direction_is_written_to_the_gradients_own_storage():
    for variant in KEPT:
        problem = Cubic()
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7, variant=variant)
        for _ in range(2):  # SAM's step, and one that reuses
            optimizer.zero_grad()
            problem.backward()
            held = None
            with optimizer.perturbed():
                problem.backward()
                held = problem.params[0].grad
            optimizer.step()
            assert problem.params[0].grad is held


def model_with_biases():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2)).double()


def displacement_of(optimizer, model, x):
    home = [p.detach().clone() for p in model.parameters()]
    optimizer.zero_grad()
    model(x).pow(2).mean().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    with optimizer.perturbed():
        moved = [(p - h).detach() for p, h in zip(model.parameters(), home, strict=True)]
    return home, grads, moved


@pytest.mark.parametrize("source", ["model", "names", "copied"])
def test_asam_knows_biases_by_their_names(source):
    model = model_with_biases()
    params = model.named_parameters() if source == "names" else model.parameters()
    optimizer = SAM(
        torch.optim.SGD(params, lr=0.1), rho=0.7, variant=ASAM(eta=0.2), model=None if source == "names" else model
    )
    if source == "copied":
        optimizer = copy.deepcopy(optimizer)
        model = optimizer.model
    home, grads, moved = displacement_of(optimizer, model, torch.randn(5, 3, dtype=torch.float64))
    scales = [
        torch.ones_like(h) if name.endswith("bias") else h.abs() + 0.2
        for (name, _), h in zip(model.named_parameters(), home, strict=True)
    ]
    norm = math.sqrt(sum((t * g).square().sum() for t, g in zip(scales, grads, strict=True)))
    for e, t, g in zip(moved, scales, grads, strict=True):
        torch.testing.assert_close(e, 0.7 * t**2 * g / norm, rtol=1e-10, atol=1e-14)


def test_asam_finds_the_names_of_groups_that_are_added_later():
    model = model_with_biases()
    optimizer = SAM(torch.optim.SGD(model[:2].parameters(), lr=0.1), rho=0.7, variant=ASAM(), model=model)
    optimizer.add_param_group({"params": model[2].parameters()})
    displacement_of(optimizer, model, torch.randn(5, 3, dtype=torch.float64))
    stranger = torch.nn.Parameter(torch.ones(2, 5))
    optimizer.zero_grad()
    optimizer.add_param_group({"params": [stranger]})
    stranger.sum().backward()
    with pytest.raises(ValueError, match=r"one of shape \(2, 5\) has no name: give SAM the model, or build"):
        optimizer.first_step()


@pytest.mark.parametrize("variant", KEPT)
def test_sparse_gradients_are_refused_in_a_sentence(variant):
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = SAM(torch.optim.SGD(embedding.parameters(), lr=0.1), rho=0.1, variant=variant)
    home = embedding.weight.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = embedding(torch.tensor([1, 3])).square().sum()
        loss.backward()
        return loss

    with pytest.raises(
        ValueError, match=r"SAM needs dense gradients, and one is sparse: build the embedding with sparse=False"
    ):
        optimizer.step(closure)
    assert torch.equal(embedding.weight, home)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"variant": LookSAM(k=4), "every": 2}, "LookSAM has a period of its own, k=4: leave every at 1"),
        (
            {"variant": LookSAM(), "scope": "local", "shards": 2},
            "LookSAM keeps g_v for the whole batch, and scope 'local'",
        ),
        ({"variant": GSAM(), "scope": "local"}, "GSAM compares the gradients of both passes, and with scope 'local'"),
        (
            {"variant": ASAM()},
            r"but one of shape \(3, 2\) has no name: give SAM the model, or build the base",
        ),
        ({"variant": GSAM}, "such as ASAM, GSAM or LookSAM; got the class GSAM"),
    ],
)
def test_variants_that_do_not_fit(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        SAM(torch.optim.SGD(Cubic().groups(), lr=0.1), **options)

"""The SAM map's Jacobian products against difference quotients of a network in NumPy, and stability by simulation."""

import numpy as np
import pytest
import torch

from samirage.sam import (
    VARIANTS,
    Jacobian,
    displacement,
    displacement_product,
    displacement_transpose_product,
    max_stable_lr,
    multipliers,
    sam_map,
    update_vector,
)
from tests.reference import loss_and_grads, perturbed

RHO, DECAY, LR, MOMENTUM = 0.7, 0.03, 0.4, 0.6
SHAPES = [(4, 3), (4,), (3, 4), (3,)]
SIZES = [int(np.prod(shape)) for shape in SHAPES]
DIM = sum(SIZES)
RNG = np.random.default_rng(5)
IMAGES, ONEHOT = RNG.normal(size=(7, 3)), np.eye(3)[RNG.integers(0, 3, 7)]
X, V, BEFORE = 1.5 * RNG.normal(size=(3, DIM))


def unflat(x):
    parts = np.split(x, np.cumsum(SIZES)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def flat(arrays):
    return np.concatenate([a.ravel() for a in arrays])


def loss(x):
    return loss_and_grads(unflat(x), IMAGES, ONEHOT)[0]


def grad(x):
    return flat(loss_and_grads(unflat(x), IMAGES, ONEHOT)[1])


def plus(x, variant):
    return flat(perturbed(unflat(x), unflat(grad(x)), variant, RHO))


def derivative(function, x, h=2e-3):
    """Six-point difference quotients along every coordinate, as the columns of a matrix; error about h⁶ + 1e-16/h."""
    columns = []
    for step in h * np.eye(len(x)):
        near, mid, far = (function(x + k * step) - function(x - k * step) for k in (1, 2, 3))
        columns.append((45 * near - 9 * mid + far) / (60 * h))
    return np.stack(columns, -1)


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def jacobian(variant):
    h, h_plus = derivative(grad, X), derivative(grad, plus(X, variant))
    return Jacobian(
        tensor(X), tensor(grad(X)), lambda v: tensor(h) @ v, lambda v: tensor(h_plus) @ v, RHO, variant, DECAY
    )


def dense(product, size=DIM):
    return torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)], 1).numpy()


def torch_grad(x):
    return tensor(np.apply_along_axis(grad, -1, x.numpy()))


# --- products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_perturbation_is_that_of_the_reference(variant):
    np.testing.assert_allclose(
        tensor(X) + displacement(tensor(X), tensor(grad(X)), RHO, variant=variant), plus(X, variant)
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_products_of_every_kind_are_the_dense_difference_quotients(variant):
    a = derivative(lambda x: plus(x, variant), X)
    m = derivative(lambda x: grad(plus(x, variant)) + DECAY * x, X)
    assert np.abs(m - m.T).max() > 1e-2  # not symmetric, so that a product cannot pass for its transpose
    own = jacobian(variant)
    eye = np.eye(DIM)
    exact = {"rtol": 0, "atol": 1e-8}
    np.testing.assert_allclose(dense(own.perturbed), a, **exact)
    np.testing.assert_allclose(dense(own.perturbed_transpose), a.T, **exact)
    np.testing.assert_allclose(dense(own.update), m, **exact)
    np.testing.assert_allclose(dense(own.update_transpose), m.T, **exact)
    np.testing.assert_allclose(dense(lambda v: own.map(v, lr=LR)), eye - LR * m, **exact)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_companion_product_is_the_derivative_of_the_step_with_momentum(variant):
    def step(state):
        now, before = np.split(state, 2)
        moved = now - LR * (grad(plus(now, variant)) + DECAY * now) + MOMENTUM * (now - before)
        return np.concatenate([moved, now])

    expected = derivative(step, np.concatenate([X, BEFORE]))
    own = jacobian(variant)
    products = dense(lambda v: own.companion(v, lr=LR, momentum=MOMENTUM), 2 * DIM)
    np.testing.assert_allclose(products, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_transpose_turns_the_shifted_gradient_into_the_surrogates_own(variant):
    expected = derivative(lambda x: loss(plus(x, variant)), X)
    own = jacobian(variant).perturbed_transpose(tensor(grad(plus(X, variant))))
    np.testing.assert_allclose(own.numpy(), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_points_of_a_batch_do_not_mix(variant):
    x, v = tensor(RNG.normal(size=(2, 3, DIM))), tensor(RNG.normal(size=(2, 3, DIM)))
    scale = torch.linspace(-1, 2, DIM, dtype=torch.float64)
    g = torch_grad(x)
    for product in (displacement_product, displacement_transpose_product):
        batch = product(x, g, lambda v: scale * v, v, RHO, variant=variant)
        for i, j in np.ndindex(2, 3):
            one = product(x[i, j], g[i, j], lambda v: scale * v, v[i, j], RHO, variant=variant)
            torch.testing.assert_close(batch[i, j], one, rtol=1e-13, atol=1e-13)
    moved = sam_map(torch_grad, x, rho=RHO, lr=LR, variant=variant, momentum=MOMENTUM, previous=v)
    one = sam_map(torch_grad, x[1, 2], rho=RHO, lr=LR, variant=variant, momentum=MOMENTUM, previous=v[1, 2])
    torch.testing.assert_close(moved[1, 2], one, rtol=1e-13, atol=1e-13)


def test_products_keep_the_dtype():
    x = torch.ones(3)
    for variant in VARIANTS:
        for product in (displacement_product, displacement_transpose_product):
            assert product(x, x, lambda v: v, x, RHO, variant=variant).dtype == torch.float32
        assert displacement(x, x, RHO, variant=variant).dtype == torch.float32


# --- the map -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_with_momentum_and_decay_are_those_of_torchs_sgd(variant):
    weights = torch.nn.Parameter(tensor(X))
    sgd = torch.optim.SGD([weights], lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    x, previous = tensor(X), None
    for _ in range(5):
        weights.grad = tensor(grad(plus(weights.detach().numpy(), variant)))
        sgd.step()
        settings = {"rho": RHO, "lr": LR, "variant": variant, "weight_decay": DECAY, "momentum": MOMENTUM}
        x, previous = sam_map(torch_grad, x, previous=previous, **settings), x
        torch.testing.assert_close(x, weights.detach(), rtol=1e-12, atol=1e-12)


def test_the_update_adds_the_decay_at_the_point_itself():
    own = update_vector(torch_grad, tensor(X), rho=RHO, weight_decay=DECAY)
    np.testing.assert_allclose(own.numpy(), grad(plus(X, "sam")) + DECAY * X, rtol=1e-13)


# --- stability ---------------------------------------------------------------------------------------

MU = torch.tensor([0.5, 3.0, 1 + 2j, 2 - 0.3j, 0.1 + 4j, -1.0, -0.2 + 1j, 0.0], dtype=torch.complex128)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_multipliers_are_the_eigenvalues_of_the_companion_matrix(momentum):
    found = multipliers(MU, lr=LR, momentum=momentum)
    for mu, roots in zip(MU.tolist(), found.tolist(), strict=True):
        companion = np.array([[1 + momentum - LR * mu, -momentum], [1, 0]])
        expected = np.linalg.eigvals(companion)
        for root in roots:
            assert np.abs(expected - root).min() < 1e-7  # a double root is only as exact as that


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_heavy_ball_shrinks_below_the_largest_stable_rate_and_grows_above(momentum):
    bounds = max_stable_lr(MU, momentum=momentum)
    assert (bounds > 0).tolist() == (MU.real > 0).tolist()
    for mu, bound in zip(MU[MU.real > 0].tolist(), bounds[MU.real > 0].tolist(), strict=True):
        for factor, shrinks in [(0.97, True), (1.03, False)]:
            now = before = 1.0 + 0j
            for _ in range(4000):
                now, before = now - factor * bound * mu * now + momentum * (now - before), now
                if abs(now) > 1e6:
                    break
            assert (abs(now) < 1) == shrinks, (mu, factor)


def test_real_eigenvalues_need_no_complex_numbers():
    bounds = max_stable_lr(torch.tensor([4.0, 1e-30, 0.0, -2.0]))
    torch.testing.assert_close(bounds, torch.tensor([0.5, 2e30, 0.0, 0.0]))
    assert max_stable_lr(torch.tensor([4.0]), momentum=0.5).item() == pytest.approx(2 * 1.5 / 4)

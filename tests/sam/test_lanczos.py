"""How the Lanczos iterations end: after how many products, at which residual, from which start."""

import numpy as np
import pytest
import torch

from samirage.sam import extreme_eigenvalues, top_eigenvector


class Counted:
    """Products with a symmetric matrix, counted."""

    def __init__(self, matrix):
        self.matrix, self.count = matrix, 0

    def __call__(self, v):
        self.count += 1
        return self.matrix @ v


def symmetric(dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return (matrix + matrix.mT) / 2


@pytest.mark.parametrize(
    ("dim", "options", "expected"), [(400, {}, 30), (400, {"steps": 7}, 7), (5, {}, 5), (1, {}, 1)]
)
def test_extreme_eigenvalues_take_no_more_products_than_were_allowed_or_are_needed(dim, options, expected):
    product = Counted(symmetric(dim))
    extreme_eigenvalues(product, torch.zeros(dim, dtype=torch.float64), **options)
    assert product.count == expected


def test_one_product_gives_the_rayleigh_quotient_of_a_seeded_normal_start():
    matrix = symmetric(9)
    for seed in (0, 5):
        start = torch.randn(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        quotient = (start @ matrix @ start / (start @ start)).item()
        low, high = extreme_eigenvalues(lambda v: matrix @ v, start, steps=1, seed=seed)
        assert (low, high) == pytest.approx((quotient, quotient), rel=1e-12)
    assert extreme_eigenvalues(lambda v: matrix @ v, matrix[0], steps=4) == extreme_eigenvalues(
        lambda v: matrix @ v, matrix[0], steps=4, seed=0
    )


@pytest.mark.parametrize("steps", [2, 5, 8])
def test_few_products_give_the_ends_of_the_matrix_on_its_krylov_space(steps):
    """By Rayleigh and Ritz, with a basis of the space from NumPy's QR of powers."""
    matrix = symmetric(30).numpy()
    start = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    powers = [start]
    for _ in range(steps - 1):
        powers.append(matrix @ powers[-1] / np.linalg.norm(powers[-1]))
    basis, _ = np.linalg.qr(np.stack(powers, 1))
    expected = np.linalg.eigvalsh(basis.T @ matrix @ basis)
    found = extreme_eigenvalues(lambda v: torch.tensor(matrix) @ v, torch.tensor(start), steps=steps)
    assert found == pytest.approx((expected[0], expected[-1]), rel=1e-7)


def test_it_ends_where_the_start_lies_in_few_eigenspaces():
    # Three different eigenvalues: three products span all that any start can reach.
    product = Counted(torch.diag(torch.tensor([1.0] * 20 + [-2.0] * 20 + [5.0] * 20, dtype=torch.float64)))
    low, high = extreme_eigenvalues(product, torch.zeros(60, dtype=torch.float64))
    assert product.count == 3
    assert (low, high) == pytest.approx((-2, 5), rel=1e-12)


def test_the_ends_stay_right_when_a_pair_has_long_converged():
    """Without orthogonalizing again, rounding would bring copies of the extreme vectors back in."""
    values = torch.cat([torch.linspace(0, 1, 198), torch.tensor([-1e6, 1e6])]).double()
    generator = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(200, 200, generator=generator, dtype=torch.float64))
    matrix = q @ torch.diag(values) @ q.mT
    low, high = extreme_eigenvalues(lambda v: matrix @ v, values, steps=150)
    assert (low, high) == pytest.approx((-1e6, 1e6), rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"tolerance": 1e-2}, {"tolerance": 1e-8}])
def test_a_top_eigenvector_has_the_residual_that_was_asked_for_and_not_a_product_more(options):
    matrix = symmetric(300) + torch.diag(torch.tensor([60.0] + [0.0] * 299, dtype=torch.float64))
    tolerance = options.get("tolerance", 1e-4)

    def residual(steps):
        value, vector = top_eigenvector(lambda v: matrix @ v, matrix[0], steps=steps, tolerance=0.0)
        assert torch.linalg.vector_norm(vector).item() == pytest.approx(1, rel=1e-12)
        return torch.linalg.vector_norm(matrix @ vector - value * vector).item() / abs(value)

    product = Counted(matrix)
    value, vector = top_eigenvector(product, matrix[0], **options)
    assert 2 < product.count < 60
    assert torch.linalg.vector_norm(matrix @ vector - value * vector).item() <= 1.001 * tolerance * abs(value)
    assert residual(product.count) <= 1.001 * tolerance < residual(product.count - 1)


def test_a_top_eigenvector_that_does_not_converge_ends_after_sixty_products():
    product = Counted(torch.diag(torch.linspace(0.999, 1, 4000, dtype=torch.float64)))
    top_eigenvector(product, torch.zeros(4000, dtype=torch.float64), tolerance=1e-14)
    assert product.count == 60


def test_vectors_keep_the_dtype_of_what_was_given():
    matrix = symmetric(12).float()
    value, vector = top_eigenvector(lambda v: matrix @ v, matrix[0])
    assert vector.dtype == torch.float32
    assert abs(value) == pytest.approx(torch.linalg.eigvalsh(matrix).abs().max().item(), rel=1e-4)

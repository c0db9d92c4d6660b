"""Eigenvalues from products alone: against dense solvers, with residuals that are true."""

import sys

import numpy as np
import pytest
import torch

from samirage.errors import UserError
from samirage.points.certificates.certify import dense_spectrum
from samirage.points.certificates.spectrum import arnoldi, leading_spectrum, random_start, symmetric_ends


def generator(seed):
    return torch.Generator().manual_seed(seed)


def symmetric(dim, seed=0):
    """Most eigenvalues in a cluster about 0, as a network has them, and a few outside."""
    q = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=generator(seed))).Q
    values = 1e-3 * torch.randn(dim, dtype=torch.float64, generator=generator(seed + 1))
    values[:3] = torch.tensor([9.0, 4.0, -0.5])
    return q * values @ q.T, values


def skewed(dim, seed=0):
    """Not symmetric, with complex pairs among its leading eigenvalues."""
    a = torch.randn(dim, dim, dtype=torch.float64, generator=generator(seed)) / dim**0.5
    a[0, 0] += 6
    return a


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("dim", [30, 400])
def test_the_ends_of_a_symmetric_operator_whose_other_eigenvalues_crowd_about_0(dim, dtype):
    matrix, values = symmetric(dim)
    product = matrix.to(dtype)
    tolerance = 1e-8 if dtype == torch.float64 else 1e-4
    found = symmetric_ends(lambda v: product @ v, random_start(product[0], seed=0), tolerance=tolerance)
    assert found.values.dtype == torch.float64
    # For a symmetric operator an eigenvalue lies within the residual.
    assert (found.residuals < tolerance * 9).all()
    np.testing.assert_allclose(found.values, [values.min(), values.max()], atol=tolerance * 9)
    assert found.products < 200


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_leading_and_leftmost_of_an_operator_that_is_not_symmetric(dtype):
    matrix = skewed(300)
    values = torch.linalg.eigvals(matrix)
    product = matrix.to(dtype)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    top, left = leading_spectrum(
        lambda v: product @ v, random_start(product[0], seed=0), leading=4, leftmost=2, tolerance=tolerance
    )
    by_size, by_real = values[values.abs().argsort(descending=True)], values[values.real.argsort()]
    for found, expected in ((top, by_size), (left, by_real)):
        assert (found.residuals < 6 * tolerance).all()
        for value in found.values:
            assert (value - expected[: len(found.values) + 1]).abs().min() < 100 * tolerance
        # The conjugate of a complex value is there too, or was cut off as the last.
        assert abs(found.values[0].imag) < tolerance or (found.values[1] - found.values[0].conj()).abs() < 1e-3
    assert top.values[0].real == pytest.approx(by_size[0].real.item(), abs=100 * tolerance)


def test_the_residuals_are_those_of_the_pairs():
    matrix = skewed(60)
    full = dense_spectrum(matrix)
    assert (full.residuals < 1e-12).all()
    assert (full.values.abs().diff() <= 1e-12).all()
    # A spectrum of another matrix is off by at least what its residuals say: perturb and compare by Bauer and Fike.
    symmetric_matrix, _ = symmetric(60)
    start = random_start(symmetric_matrix[0], seed=3)
    rough = arnoldi(lambda v: symmetric_matrix @ v, start, steps=6)
    exact = torch.linalg.eigvalsh(symmetric_matrix)
    assert rough.residuals.max() > 1e-3
    for value, residual in zip(rough.values, rough.residuals, strict=True):
        assert (value.real - exact).abs().min() <= residual + 1e-12


def test_arnoldi_over_the_whole_space_finds_every_eigenvalue():
    matrix = skewed(40)
    found = arnoldi(lambda v: matrix @ v, random_start(matrix[0], seed=0), steps=100)
    expected = torch.linalg.eigvals(matrix)
    assert len(found.values) == found.products == 40
    assert (found.values[:, None] - expected).abs().min(1).values.max() < 1e-10
    assert (expected[:, None] - found.values).abs().min(1).values.max() < 1e-10
    assert (found.residuals < 1e-12).all()


def test_arnoldi_keeps_its_vectors_orthogonal_where_a_single_pass_would_not():
    # A few huge eigenvalues converge at once, and then rounding brings them back: they must not appear twice.
    diagonal = torch.cat(
        [torch.tensor([1e8, 3e7], dtype=torch.float64), torch.linspace(0, 1, 198, dtype=torch.float64)]
    )
    found = arnoldi(lambda v: diagonal * v, random_start(diagonal, seed=0), steps=40)
    assert (found.values.abs() > 1e6).sum() == 2


def test_arnoldi_ends_where_the_start_is_invariant():
    diagonal = torch.tensor([5.0, 3.0, 1.0])
    found = arnoldi(lambda v: diagonal * v, torch.tensor([1.0, 1.0, 0.0]), steps=3)
    assert found.products == 2
    torch.testing.assert_close(found.values.real, torch.tensor([5.0, 3.0], dtype=torch.float64), rtol=1e-6, atol=0)
    nothing = arnoldi(lambda v: 0 * v, torch.ones(3), steps=3)
    assert (nothing.values.tolist(), nothing.residuals.tolist(), nothing.products) == ([0], [0], 1)


def test_what_does_not_converge_is_returned_with_its_residual():
    # Eigenvalues that crowd at both ends, and a tolerance beyond rounding.
    diagonal = torch.cos(torch.linspace(0, torch.pi, 3000, dtype=torch.float64))
    found = symmetric_ends(lambda v: diagonal * v, random_start(diagonal, seed=0), tolerance=1e-15)
    assert len(found.values) == 2
    assert found.residuals.max() > 1e-15
    top, left = leading_spectrum(
        lambda v: diagonal * v, random_start(diagonal, seed=0), leading=2, leftmost=1, tolerance=1e-15
    )
    assert len(top.values)
    assert len(left.values)


def test_the_same_seed_gives_the_same_bits():
    matrix = skewed(200)
    runs = [
        leading_spectrum(lambda v: matrix @ v, random_start(matrix[0], seed=1), leading=3, leftmost=2, tolerance=1e-6)
        for _ in range(2)
    ]
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first.values, second.values)
        assert torch.equal(first.residuals, second.residuals)


def test_a_missing_scipy_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    diagonal = torch.linspace(-1, 1, 100)
    with pytest.raises(UserError, match=r"pip install 'samirage\[lab\]'"):
        symmetric_ends(lambda v: diagonal * v, random_start(diagonal, seed=0), tolerance=1e-3)

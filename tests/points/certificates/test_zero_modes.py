"""Zero modes: what is followed, what is not, and where iteration stands in for matrices."""

import math

import pytest
import torch

from samirage.landscape import Ring, TorchFunction
from samirage.points.certificates.spectrum import Spectrum
from samirage.points.certificates.zero_modes import Course, follow, matrix_modes, product_modes, settled
from samirage.points.equation import at_rest, stationary

ORIGIN = torch.zeros(2, dtype=torch.float64)


def test_a_jordan_block_leads_away_although_one_mode_is_a_manifold():
    # F(x, y) = (y, 0): the derivative has two eigenvalues 0 and one vector that it annihilates.
    block = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    modes = matrix_modes(block, 1e-9)
    assert modes.count == 1
    f = TorchFunction(lambda x: x[1] ** 2, dim=2)
    assert follow(stationary(f), ORIGIN, modes, length=1.0, tolerance=1e-9, multiplicity=1).stays
    assert follow(stationary(f), ORIGIN, modes, length=1.0, tolerance=1e-9, multiplicity=2) == Course(False)


def test_where_there_is_no_mode_nothing_is_a_manifold():
    f = TorchFunction(lambda x: x @ x, dim=2)
    modes = matrix_modes(f.hessian(ORIGIN), 1e-9)
    assert modes.count == 0
    assert follow(stationary(f), ORIGIN, modes, length=1.0, tolerance=1e-9) == Course(False)


@pytest.mark.parametrize("radius", [1.0, 0.05])
def test_a_circle_is_followed_however_small_it_is_against_the_length(radius):
    ring, x = Ring(radius), torch.tensor([radius, 0.0], dtype=torch.float64)
    modes = matrix_modes(ring.hessian(x), 1e-9)
    assert follow(stationary(ring), x, modes, length=1.0, tolerance=1e-9).stays


def test_products_follow_what_matrices_follow():
    for fn, course in (
        (lambda x: (x @ x - 1) ** 2 / 4, Course(True)),
        (lambda x: (x[0] - 1) ** 2 + x[1] ** 3, Course(False, rises=True, falls=True)),
        (lambda x: (x[0] - 1) ** 2 + x[1] ** 4, Course(False, rises=True)),
        (lambda x: (x[0] - 1) ** 2 - x[1] ** 4, Course(False, falls=True)),
    ):
        f, x = TorchFunction(fn, dim=2), torch.tensor([1.0, 0.0], dtype=torch.float64)
        hvp = f.linearize(x).hvp
        along = torch.tensor([0.0, 1.0], dtype=torch.float64)
        known = Spectrum(torch.tensor([0.0, 2.0]), torch.zeros(2), 0, nearest_0=along)
        for modes in (product_modes(hvp, hvp, known), matrix_modes(f.hessian(x), 1e-6)):
            assert follow(stationary(f), x, modes, length=1.0, tolerance=1e-6) == course


def test_products_are_not_spent_without_end():
    spent = 0

    def product(v):
        nonlocal spent
        spent += 1
        return torch.arange(1.0, 101, dtype=torch.float64) * v

    along = torch.zeros(100, dtype=torch.float64)
    along[0] = 1.0
    modes = product_modes(product, product, Spectrum(torch.ones(1), torch.zeros(1), 0, nearest_0=along))
    rows = torch.ones(1, 100, dtype=torch.float64)
    solutions = [modes.solve(rows) for _ in range(40)]
    assert bool(solutions[0].isfinite().all())
    assert bool(solutions[-1].isnan().all())
    assert spent <= 2 * (300 + 21)  # with both products of each step


def test_settling_ends_at_the_nearest_point_of_rest():
    x = settled(at_rest(Ring(), 1.5), torch.tensor([0.31, 0.41], dtype=torch.float64))
    assert math.isclose(float(x.norm()), 0.5, rel_tol=1e-14)
    assert math.isclose(float(x[1] / x[0]), 41 / 31, rel_tol=1e-12)  # straight along the ray

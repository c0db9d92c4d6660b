"""How much a step of SAM's map contracts, on a parabola, where it is the same number everywhere."""

import numpy as np
import pytest

from samirage.landscape import Quadratic
from samirage.points.proofs.balls import matrix, precision
from samirage.points.proofs.contraction import _contracts
from samirage.points.proofs.enclosure import enclose


@pytest.mark.parametrize(("factor", "contracts"), [(0.901, True), (0.899, False), (0.85, False)])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_norm_shrinks_by_the_factor_and_its_square_by_the_square(factor, contracts, scale):
    # f = x² has M = 2, for u does not turn in one dimension; with lr = 0.05 a step multiplies distances by 0.9.
    with precision():
        centre, norm = matrix(np.array([1.0])), np.array([[scale]])
        assert _contracts(enclose(Quadratic([2.0])), centre, 0.5, 0.05, norm, factor, 1e-3) == contracts

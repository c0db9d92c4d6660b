"""Medians from sorting are those of torch, bit for bit, and need no algorithm that torch refuses on CUDA."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from samirage.sam.medians import median, nanmedian

PAIRS = [(median, torch.median), (nanmedian, torch.nanmedian)]
every_median = pytest.mark.parametrize(("mine", "of_torch"), PAIRS, ids=["median", "nanmedian"])


@every_median
@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: arrays(
            dtype,
            array_shapes(min_dims=1, max_dims=3, max_side=9),
            # Few different values, so that equal ones, NaN in all places and even numbers of them are met.
            elements=st.sampled_from([-np.inf, -2.5, 0.0, 1e-40, 1.0, 3.0, np.inf, np.nan])
            | st.floats(width=32, allow_nan=False),
        )
    )
)
@settings(deadline=None)
def test_the_values_are_those_of_torch(mine, of_torch, values):
    x = torch.from_numpy(values)
    found, expected = mine(x), of_torch(x, 0).values
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@every_median
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_values_in_half_precision_are_those_of_torch(mine, of_torch, dtype):
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[::7, 2:4] = torch.nan
    x[:, 4] = torch.nan
    torch.testing.assert_close(mine(x), of_torch(x, 0).values, rtol=0, atol=0, equal_nan=True)

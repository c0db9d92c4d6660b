"""Medians over steps that a GPU computes the same way each time.

`torch.median(x, dim)` and `torch.nanmedian(x, dim)` say where the median lies as well, and have no deterministic
algorithm for that on CUDA: under `torch.use_deterministic_algorithms(True)` they raise. Sorting has one. The values are
those of torch, the *lower* of the two middle ones where their number is even (`torch.quantile` and NumPy interpolate).
"""

import torch
from torch import Tensor


def median(x: Tensor) -> Tensor:
    """Return the lower median over the first dimension: the value at place `⌊(n − 1)/2⌋` of the sorted n values.

    Args:
        x: Floating point numbers, shape (n, …) with n at least 1.

    Returns:
        Shape (…), equal to `x.median(0).values`: NaN where any of the n values is NaN. Nothing is read by the host.

    Example:
        >>> median(torch.tensor([4.0, 1.0, 3.0, 2.0])).item()
        2.0
    """
    ordered = x.sort(0).values  # NaN comes last
    return ordered[(len(x) - 1) // 2].where(~ordered[-1].isnan(), torch.nan)


def nanmedian(x: Tensor) -> Tensor:
    """Return the lower median over the first dimension of the values that are not NaN.

    Args:
        x: Floating point numbers, shape (n, …) with n at least 1.

    Returns:
        Shape (…), equal to `x.nanmedian(0).values`: NaN where all n values are NaN. Nothing is read by the host.

    Example:
        >>> nanmedian(torch.tensor([4.0, torch.nan, 3.0, 5.0, 2.0])).item()
        3.0
    """
    known = (~x.isnan()).sum(0, keepdim=True)
    return x.sort(0).values.gather(0, (known - 1).clamp(min=0) // 2).squeeze(0)

"""Moving weights of half precision without bias: each is rounded up or down at random, so that the mean is exact.

A perturbation of radius 0.05 is spread over many weights, and each share of it is smaller than the spacing of bfloat16
around the weight: rounding to nearest would leave most weights where they are.
"""

import math
from typing import Final

import torch
from torch import Tensor

NARROW: Final = (torch.float16, torch.bfloat16)
_SMALLEST_SPACING: Final = -126  # as a power of 2; finer ones leave the normal range of float32, in which this computes


# People seed with small numbers, and often with 0. Weights that were initialised with the seed of the rounding would be
# rounded by the very numbers that made them, and no longer without bias.
_FAR_FROM_USERS_SEEDS: Final = 0x5A3D_91C7  # within 32 bits, which is all that the generator of a CPU takes


def generator_of_step(step: int, device: torch.device) -> torch.Generator:
    """Return the source of randomness of one step: the same on all ranks and in a resumed run.

    Args:
        step: Number of the step, at least 0.
        device: Where it is to be used.

    Returns:
        A fresh generator.
    """
    return torch.Generator(device).manual_seed(_FAR_FROM_USERS_SEEDS + step)


def round_at_random(exact: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Round to a neighbour in a narrower dtype, each with the probability that makes the expected value exact.

    Args:
        exact: Values in float32, within the range of `dtype`.
        dtype: float16 or bfloat16.
        generator: Source of the randomness, on the device of `exact`.

    Returns:
        Tensor of `dtype`; numbers that `dtype` holds are kept.

    Example:
        >>> x = torch.full((10_000,), 1.001)  # neighbours in bfloat16: 1 and 1.0078125
        >>> rounded = round_at_random(x, torch.bfloat16, torch.Generator().manual_seed(0))
        >>> sorted(set(rounded.tolist())), abs(rounded.double().mean().item() - 1.001) < 1e-4
        ([1.0, 1.0078125], True)
    """
    info = torch.finfo(dtype)
    digits = 1 - round(math.log2(info.eps))
    _, exponent = torch.frexp(exact)
    lowest = max(round(math.log2(info.tiny * info.eps)), _SMALLEST_SPACING)
    spacing = torch.ldexp(torch.ones_like(exact), (exponent - digits).clamp_(min=lowest))
    noise = torch.rand(exact.shape, generator=generator, device=exact.device)
    return (exact.div(spacing).add_(noise).floor_().mul_(spacing)).to(dtype)

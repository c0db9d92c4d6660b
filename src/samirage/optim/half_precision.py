"""Weights of half precision: they are rounded at random, so that the mean is exact, and a warning says when that fails.

A perturbation of radius 0.05 is spread over many weights, and each share of it is smaller than the spacing of bfloat16
around the weight: rounding to nearest would leave most weights where they are.
"""

import math
import warnings
from typing import Final

import torch
from torch import Tensor

NARROW: Final = (torch.float16, torch.bfloat16)
_SMALLEST_SPACING: Final = -126  # as a power of 2; finer ones leave the normal range of float32, in which this computes

# People seed with small numbers, and often with 0. Weights that were initialised with the seed of the rounding would be
# rounded by the very numbers that made them, and no longer without bias.
_FAR_FROM_USERS_SEEDS: Final = 0x5A3D_91C7  # within 32 bits, which is all that the generator of a CPU takes
_MIN_ALIGNMENT: Final = 0.5  # below it, rounding contributes more to the displacement than the gradient does


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 if it is of half precision, else itself."""
    return tensor.float() if tensor.dtype in NARROW else tensor


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


class AsyncScalars:
    """A copy of a few numbers on the host, which arrives when the device has come to it, and which nobody waits for.

    Args:
        numbers: Floating-point numbers on any device, shape (n,).

    Example:
        >>> AsyncScalars(torch.tensor([0.5, 2.0])).read()
        [0.5, 2.0]
    """

    def __init__(self, numbers: Tensor) -> None:
        # Only a copy to memory that the operating system cannot move goes on by itself.
        self._copy = torch.full(
            numbers.shape, torch.nan, dtype=numbers.dtype, device="cpu", pin_memory=numbers.device.type == "cuda"
        )
        self._copy.copy_(numbers, non_blocking=True)

    def read(self) -> list[float]:
        """Return the numbers, or NaN for those that have not arrived."""
        numbers: list[float] = self._copy.tolist()
        return numbers


class RoundingAlarm:
    """Warns, once for an optimizer, that rounding hides the perturbation; it never waits for a device."""

    def __init__(self) -> None:
        self._warned = False
        self._numbers: AsyncScalars | None = None

    def look(self, step: int, radius: Tensor, alignment: Tensor) -> None:
        """Look at a step whose displacement was rounded: at steps 0, 1, 3, 7, … only.

        What an accelerator has computed there arrives during the steps after it.

        Args:
            step: Number of the step.
            radius: Length of the displacement.
            alignment: Cosine between the displacement as realised and as intended.
        """
        if self._warned:
            return
        if step & (step + 1) == 0 or self._numbers is None:
            self._numbers = AsyncScalars(torch.stack([radius.to(alignment), alignment]))
        length, cosine = self._numbers.read()
        if cosine < _MIN_ALIGNMENT:
            self._warned = True
            warnings.warn(
                f"rounding the weights to half precision hides the perturbation: its length is {length:.3g}, "
                f"and its cosine with the intended direction {cosine:.2f}; use a larger rho, or weights in "
                "float32 with torch.autocast",
                stacklevel=5,
            )

"""Numbers that come from a device to the host while both work on."""

import torch
from torch import Tensor


class LateNumbers:
    """A copy of a few numbers on the host, which arrives when the device has come to it, and which nobody waits for.

    Args:
        numbers: Floating-point numbers on any device, shape (n,).

    Example:
        >>> LateNumbers(torch.tensor([0.5, 2.0])).read()
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

"""What the host may know of the numbers on a device without waiting for it."""

import torch
from torch import Tensor


def is_at_hand(tensor: Tensor) -> bool:
    """Tell whether a number can be read at no cost.

    On an accelerator it can not: the host would wait until the device has done all that was queued before, and the
    device would then wait for the host to queue more.

    Args:
        tensor: Any tensor.

    Returns:
        Whether it lies in the host's memory.

    Example:
        >>> is_at_hand(torch.ones(()))
        True
    """
    return tensor.device.type == "cpu"


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

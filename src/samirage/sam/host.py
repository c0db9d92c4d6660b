"""Which numbers the host may look at without waiting for a device."""

import torch
from torch import Tensor


def is_at_hand(tensor: Tensor) -> bool:
    """Tell whether a number can be read at no cost.

    On an accelerator it can not: the host would wait until the device has done all that was queued before, and the
    device would then wait for the host to queue more. In code that `torch.compile` traces there is no number to read.

    Args:
        tensor: Any tensor.

    Returns:
        Whether it lies in the host's memory, now.

    Example:
        >>> is_at_hand(torch.ones(()))
        True
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()

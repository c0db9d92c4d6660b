"""How a step calls a closure."""

from collections.abc import Callable
from typing import Any

import torch


def with_grad(closure: Callable[[], Any]) -> Any:
    """Call a closure from within a step, where gradients are off.

    Args:
        closure: The closure.

    Returns:
        What it returns.
    """
    torch.set_grad_enabled(True)  # a context manager would take longer
    try:
        return closure()
    finally:
        torch.set_grad_enabled(False)

"""What the passes leave behind besides gradients: buffers of the model, and the state of the random number generators.

Pass 2 shall leave nothing behind, and shall see the random numbers of pass 1 again, so that dropout masks are equal.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

RandomState = list[tuple[torch.device, Tensor]]


_CPU: Final = torch.device("cpu")


def random_state(devices: Iterable[torch.device]) -> RandomState:
    """Return the state of the CPU's default generator and of those of the other devices."""
    states = [(_CPU, torch.get_rng_state())]
    if set(devices) <= {_CPU}:
        return states
    others = sorted({d for d in devices if d.type != "cpu"}, key=str)
    return states + [(d, torch.get_device_module(d).get_rng_state(d)) for d in others]


def set_random_state(state: RandomState) -> None:
    """Set the generators to a state that `random_state` returned."""
    for device, value in state:
        if device.type == "cpu":
            torch.set_rng_state(value)
        else:
            torch.get_device_module(device).set_rng_state(value, device)


class Buffers:
    """A copy of all buffers of a model, such as batch-norm statistics, to be put back in place.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._saved = [
            (module._buffers, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def restore(self) -> None:
        """Put the buffers back: the same tensor objects, with the values they had."""
        for owner, name, buffer, value in self._saved:
            buffer.copy_(value)
            owner[name] = buffer


class ForwardWatcher:
    """A forward pre-hook that calls a method of the optimizer before each forward pass that trains.

    It does not keep the optimizer alive, and is not copied or pickled along with the model.

    Args:
        method: A bound method without arguments, or None for a hook that does nothing.
    """

    def __init__(self, method: Callable[[], None] | None = None) -> None:
        self._method = None if method is None else weakref.WeakMethod(method)

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Call the method, if there is still one and the module trains."""
        method = None if self._method is None else self._method()
        if method is not None and module.training and torch.is_grad_enabled():
            method()

    def __deepcopy__(self, memo: dict[int, Any]) -> "ForwardWatcher":
        return ForwardWatcher()

    def __reduce__(self) -> tuple[type["ForwardWatcher"], tuple[()]]:
        return ForwardWatcher, ()

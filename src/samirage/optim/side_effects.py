"""What the passes leave behind besides gradients: buffers of the model, and the state of the random number generators.

Pass 2 shall leave nothing behind, and shall see the random numbers of pass 1 again, so that dropout masks are equal.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

RandomState = list[tuple[torch.device, Tensor]]

_CPU: Final = torch.device("cpu")
_MAX_FORWARDS: Final = 4096  # per step, whose random numbers are remembered


def random_state(params: Iterable[Tensor]) -> RandomState:
    """Return the state of the CPU's default generator and of those of the other devices of these parameters."""
    states = [(_CPU, torch.get_rng_state())]
    devices = {p.device for p in params}
    devices.discard(_CPU)
    return states + [(d, torch.get_device_module(d).get_rng_state(d)) for d in sorted(devices, key=str)]


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


class SideEffects:
    """The buffers and random numbers of the step that is under way.

    Args:
        model: The model whose buffers pass 2 must leave alone, or None.
        replay_rng: Whether pass 2 sees the random numbers of pass 1.

    Attributes:
        in_use: Whether there is something to forget.
    """

    def __init__(self, model: nn.Module | None, replay_rng: bool) -> None:
        self._model, self._replay_rng = model, replay_rng
        self._buffers: Buffers | None = None
        self._before: RandomState | None = None  # of pass 1 of a closure
        self._after: RandomState | None = None  # pass 1
        self._forwards: deque[RandomState] = deque(maxlen=_MAX_FORWARDS)  # before each forward pass, without a closure
        self._replayed = False
        self.in_use = False

    def before_closure(self, params: Iterable[Tensor]) -> None:
        """Remember the random numbers before pass 1, which a closure replays as a whole."""
        if self._replay_rng:
            self._before, self.in_use = random_state(params), True

    def before_forward_at_x(self, params: Iterable[Tensor]) -> None:
        """Remember the random numbers before a forward pass at `x` that no closure makes."""
        if self._replay_rng:
            self._forwards.append(random_state(params))
            self.in_use = True

    def before_forward_at_x_plus(self) -> None:
        """Give the same forward pass at `x⁺` the same random numbers."""
        if self._forwards:
            set_random_state(self._forwards.popleft())
            self._replayed = True

    def before_pass_2(self, params: Iterable[Tensor]) -> None:
        """Remember what pass 1 has left behind, and give pass 2 its random numbers."""
        self.in_use = True
        if self._model is not None:
            self._buffers = Buffers(self._model)
        if self._replay_rng:
            self._after = random_state(params)
            if self._before is not None:
                set_random_state(self._before)
                self._replayed = True

    def undo_pass_2(self) -> None:
        """Bring back what pass 1 has left behind, and forget it."""
        if self._buffers is not None:
            self._buffers.restore()
        if self._replayed and self._after is not None:
            set_random_state(self._after)
        self.forget()

    def forget(self) -> None:
        """Forget the step, which has ended."""
        self._buffers = self._before = self._after = None
        self._forwards.clear()
        self._replayed = self.in_use = False


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

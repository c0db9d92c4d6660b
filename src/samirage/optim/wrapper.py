"""An optimizer around an optimizer: two objects, one set of parameter groups and one state."""

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import Any, Self

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from samirage.optim._validate import checked_base, checked_rho
from samirage.optim.observers import Observer
from samirage.optim.record import History, StepRecord
from samirage.optim.step_state import StepState


class Wrapper(Optimizer, ABC):
    """What an optimizer around a base optimizer shares with it, saves and loads; the step is the subclass's.

    Args:
        base: The optimizer inside, an instance.
        rho: Radius for the groups of `base` that have no entry `"rho"`, and for those that are added later.

    Raises:
        TypeError: If `base` is a wrapper already.
    """

    base: Optimizer
    _now: StepState

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        """Give every object its step state, also one that is being copied or unpickled."""
        self = super().__new__(cls)
        self._now = StepState()
        return self

    def __init__(self, base: Optimizer, rho: float) -> None:
        if isinstance(base, Wrapper):
            raise TypeError(
                f"base must not be a {type(base).__name__} itself: give it the optimizer inside, which is its `.base`"
            )
        self.base = checked_base(base)
        rho = checked_rho(rho)
        for i, group in enumerate(base.param_groups):
            # A radius that an earlier SAM around the same base has filled in is not the user's own.
            if "rho" not in group or group["rho"] == base.defaults.get("rho"):
                group["rho"] = rho
            checked_rho(group["rho"], f'param_groups[{i}]["rho"]')
        base.defaults["rho"] = rho  # groups added later get it, whichever of the two objects they are added to
        # Optimizer.__init__ would add the groups a second time; this sets up the hooks and the profiling of step().
        super().__setstate__({})

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return what to save besides the base optimizer's state: numbers and texts under keys that begin `sam_`."""

    @abstractmethod
    def _load_own_state(self, own: dict[str, Any]) -> None:
        """Take what `_own_state` returned, or an empty dictionary, and forget any step that has begun."""

    # Properties, because `base.load_state_dict` replaces these objects.

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's parameter groups, each with an entry `"rho"`."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:
        """The base optimizer's state."""
        return self.base.state

    @state.setter
    def state(self, state: defaultdict[Tensor, Any]) -> None:
        self.base.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's defaults, with `"rho"`."""
        return self.base.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.base.defaults = defaults

    @property
    def record(self) -> StepRecord | None:
        """The figures of the last step, or None before the first."""
        return self._now.record()

    @property
    def history(self) -> History:
        """The records of the first and of the last steps since the optimizer was made or loaded a state."""
        return self._now.history

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The registered observers, in order."""
        return tuple(self._now.observers.values())

    def register_observer(self, observer: Observer) -> RemovableHandle:
        """Let an observer look at every step from now on; observers are not saved or copied with the optimizer.

        Args:
            observer: The observer.

        Returns:
            A handle with a method `remove()`.
        """
        handle = RemovableHandle(self._now.observers)
        self._now.observers[handle.id] = observer
        return handle

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients.

        Args:
            set_to_none: Whether to set them to None, or to zero in place.
        """
        self.base.zero_grad(set_to_none=set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group to the base optimizer.

        Args:
            param_group: As for any torch optimizer; an entry `"rho"` gives the group a radius of its own.

        Raises:
            TypeError: If `"rho"` is not a number.
            ValueError: If `"rho"` is negative or not finite.
        """
        if isinstance(param_group, dict) and "rho" in param_group:
            checked_rho(param_group["rho"], 'param_group["rho"]')
        self.base.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state, with `"rho"`, SAM's step count `"sam_step"` and its plan in every group.

        The plan, `"sam_plan"`, says in words which steps perturb and how; a run that goes on with another one is
        warned when it loads the state.

        Returns:
            A dictionary that `load_state_dict` accepts, SAM's and the base optimizer's. (The count stands in the
            groups because torch.distributed.checkpoint keeps nothing else.)

        Raises:
            RuntimeError: If the weights are at `x⁺`.
        """
        self._now.require_unperturbed("state_dict()")
        for pre_hook in self._optimizer_state_dict_pre_hooks.values():
            pre_hook(self)
        state_dict = self.base.state_dict()
        for group in state_dict["param_groups"]:
            group.update(self._own_state())
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            state_dict = post_hook(self, state_dict) or state_dict
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that SAM or the base optimizer has saved.

        Args:
            state_dict: What `state_dict()` returned. From a base optimizer's checkpoint, which knows no radii and no
                step count, the groups keep their radii and the count starts at 0.

        Raises:
            RuntimeError: If the weights are at `x⁺`.
            ValueError: If this is not an optimizer's state, or does not fit the parameter groups.
        """
        self._now.require_unperturbed("load_state_dict()")
        if not (isinstance(state_dict, dict) and {"state", "param_groups"} <= state_dict.keys()):
            got = f"the keys {list(state_dict)}" if isinstance(state_dict, dict) else type(state_dict).__name__
            raise ValueError(
                "load_state_dict() needs what state_dict() of SAM or of its base optimizer returned, a dictionary with "
                f"the keys 'state' and 'param_groups'; got {got}"
            )
        state_dict = state_dict.copy()
        for pre_hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = pre_hook(self, state_dict) or state_dict
        radii = [group["rho"] for group in self.param_groups]
        saved = state_dict["param_groups"]
        for i, group in enumerate(saved):
            checked_rho(group.get("rho", 0.0), f'the saved param_groups[{i}]["rho"]')
        state_dict["param_groups"] = [{k: v for k, v in g.items() if not k.startswith("sam_")} for g in saved]
        self.base.load_state_dict(state_dict)
        for group, radius in zip(self.param_groups, radii, strict=True):
            group.setdefault("rho", radius)
        self._load_own_state({k: v for k, v in saved[0].items() if k.startswith("sam_")})
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__} around {self.base!r}"

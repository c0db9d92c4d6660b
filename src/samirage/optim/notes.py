"""What an optimizer notes down from one moment of a step to the next, in an object beside it.

While torch.compile traces, it takes an optimizer for something fixed: what a method assigns to an attribute of the
optimizer is lost at the end. (So it is in torch 2.13.) It does keep track of other objects. So all that a step assigns
is kept in one.
"""

from collections import OrderedDict, deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:  # the modules that note something down import this one
    from samirage.optim.excursion import Excursion
    from samirage.optim.observed import History, Observer
    from samirage.optim.plain import PlainExcursion
    from samirage.optim.record import StepRecord
    from samirage.optim.traces import Buffers, RandomState

_MAX_FORWARDS = 4096  # per step, whose random numbers are remembered


class Phase(Enum):
    """Where a step stands."""

    AT_REST = auto()  # no perturbed pass has begun
    PERTURBED = auto()  # the weights are at x⁺
    RETURNED = auto()  # the gradient of the perturbed pass waits for step()


class Notes:
    """All that a step assigns.

    Attributes:
        phase: Where the step stands.
        by_first_step: Whether `first_step()` began the perturbed pass.
        in_closure: Whether a closure is being run by `step()`.
        old_grads: Whether `.grad` is left over from a step that is complete.
        zeroed: Whether the closure has called `zero_grad()`.
        waiting: The record of a perturbed pass that waits for its `step()`.
        excursion: The weights' way to `x⁺` and back.
        bad_grad_norm: `‖g‖` of pass 1, if it was not finite on every rank.
        buffers: The model's buffers after pass 1.
        random_before: The random numbers before pass 1 of a closure.
        random_after: Those after pass 1.
        random_forwards: Those before each forward pass of pass 1, without a closure.
        replayed: Whether pass 2 has been given the random numbers of pass 1.
        retries: How often this step has taken pass 2 again.
        steps: Number of steps so far.
        record: The record of the last step.
        history: The records of the first and of the last steps.
        observer_table: The observers.
    """

    phase: Phase = Phase.AT_REST
    by_first_step: bool = False
    in_closure: bool = False
    old_grads: bool = False
    zeroed: bool = False
    waiting: "StepRecord | None" = None
    excursion: "Excursion | PlainExcursion | None" = None
    bad_grad_norm: Tensor | None = None
    buffers: "Buffers | None" = None
    random_before: "RandomState | None" = None
    random_after: "RandomState | None" = None
    replayed: bool = False
    retries: int = 0
    steps: int = 0
    record: "StepRecord | None" = None
    history: "History | None" = None
    observer_table: "OrderedDict[int, Observer] | None" = None

    def __init__(self) -> None:
        self.random_forwards: deque[RandomState] = deque(maxlen=_MAX_FORWARDS)

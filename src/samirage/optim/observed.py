"""An optimizer that remembers the records of its last steps, and lets observers look at every step."""

from collections import OrderedDict, deque
from typing import Final, Protocol

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from samirage.optim.record import StepRecord
from samirage.optim.two_pass import TwoPass

_KEPT: Final = 1000  # records of the last steps
_FIRST: Final = 20  # records of the first steps, which say what is large and what is small


class Observer(Protocol):
    """Looks at the steps of an optimizer, without altering them: it must leave parameters and gradients as they are.

    Both methods run under `torch.no_grad()`, and should not wait for the device.
    """

    def saw_gradient(self, inverse_scale: Tensor | None) -> None:
        """Look at `g`, which the parameters hold in `.grad`, after pass 1 of a step of two passes.

        With shards of the batch it is called for each of them.

        Args:
            inverse_scale: What to multiply the gradients by to undo a loss scale, or None.
        """

    def saw_step(self, record: StepRecord, inverse_scale: Tensor | None) -> None:
        """Look at the direction that the base optimizer is about to follow, which the parameters hold in `.grad`.

        Args:
            record: The record of the step.
            inverse_scale: What to multiply the gradients of pass 1 by to undo a loss scale that has only become
                known now, or None.
        """


class History:
    """The records of the first steps of a run, and of the last.

    Attributes:
        first: At most the first 20 records.
        last: At most the last 1,000.
    """

    def __init__(self) -> None:
        self.first: list[StepRecord] = []
        self.last: deque[StepRecord] = deque(maxlen=_KEPT)

    def add(self, record: StepRecord) -> None:
        """Add the record of a step; one that does not follow the last, as after a checkpoint, begins anew."""
        if self.last and record.step != self.last[-1].step + 1:
            self.first.clear()
            self.last.clear()
        if len(self.first) < _FIRST:
            self.first.append(record)
        self.last.append(record)


class Observed(TwoPass):
    """A two-pass optimizer with a memory and observers. Neither is saved or copied with it, but for the last record."""

    @property
    def record(self) -> StepRecord | None:
        """The figures of the last step, or None before the first."""
        return self._notes.record

    @property
    def history(self) -> History:
        """The records of the first and of the last steps since the optimizer was made or loaded a state."""
        if self._notes.history is None:
            self._notes.history = History()
        return self._notes.history

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The registered observers, in order."""
        return tuple(self._observers().values())

    def register_observer(self, observer: Observer) -> RemovableHandle:
        """Let an observer look at every step from now on.

        Args:
            observer: The observer.

        Returns:
            A handle with a method `remove()`.
        """
        observers = self._observers()
        handle = RemovableHandle(observers)
        observers[handle.id] = observer
        return handle

    def _observers(self) -> OrderedDict[int, Observer]:
        if self._notes.observer_table is None:
            self._notes.observer_table = OrderedDict()
        return self._notes.observer_table

    def _remember(self, record: StepRecord) -> None:
        self._notes.record = record
        self.history.add(record)

    def _show_gradient(self, inverse_scale: Tensor | None) -> None:
        if self._notes.observer_table:
            for observer in self.observers:
                observer.saw_gradient(inverse_scale)

    def _show_step(self, record: StepRecord, inverse_scale: Tensor | None) -> None:
        if self._notes.observer_table:
            for observer in self.observers:
                observer.saw_step(record, inverse_scale)

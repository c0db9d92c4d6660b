"""The interface of launchers: what runs the tasks of a sweep."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence

from samirage.lab.sweep.run_task import Task, TaskResult


class AbstractLauncher(ABC):
    """Runs tasks in processes of its choice. Each process stores its results in the run folder by itself."""

    @abstractmethod
    def run(self, tasks: Sequence[Task], advance: Callable[[int], None]) -> Generator[TaskResult, None, None]:
        """Run all tasks.

        When the generator is closed, or an exception passes through it, the tasks in progress are stopped.

        Args:
            tasks: The tasks, in the order in which they are to be started.
            advance: Called with the number of passes done since the last call.

        Yields:
            One result per task, in the order in which they end.

        Raises:
            UserError: If no task can be stored any more, such as on a full disk.
        """

    def close(self) -> None:  # noqa: B027  # most launchers hold nothing between sweeps
        """Release what the launcher holds between sweeps."""

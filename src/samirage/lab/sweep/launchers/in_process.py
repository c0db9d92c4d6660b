"""The launcher without other processes."""

from collections.abc import Callable, Generator, Sequence

from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.run_task import Task, TaskResult, run_task


class InProcess(AbstractLauncher):
    """Runs tasks in this process, one after another."""

    def run(self, tasks: Sequence[Task], advance: Callable[[int], None]) -> Generator[TaskResult, None, None]:
        """Run all tasks; see `AbstractLauncher`."""
        for task in tasks:
            yield run_task(task, advance)

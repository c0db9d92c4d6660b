"""One cell of a study as a task that any process can run: it carries no data, and its results go to the run folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Event
from time import perf_counter, process_time

from samirage.errors import UserError
from samirage.files import named_place
from samirage.lab.engine.compute import compute
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.base import AbstractStudy, Cell


@dataclass(frozen=True)
class Task:
    """A cell to be computed and stored. Its pickle is small, for a study is pickled without data; see `AbstractStudy`.

    Attributes:
        study: The study.
        cell: One of its cells.
        folder: The run folder, as `named_place` takes it; an absolute path, because a worker may have another working
            directory.
    """

    study: AbstractStudy
    cell: Cell
    folder: str

    @property
    def name(self) -> str:
        """Study and cell, as in `"mnist/sgd"`."""
        return f"{self.study.name}/{self.cell.name}"


@dataclass(frozen=True)
class TaskResult:
    """How a task ended. The data are in the run folder.

    Attributes:
        task: The task.
        error: The error message; None if the cell is stored.
    """

    task: Task
    error: str | None = None


def run_task(task: Task, advance: Callable[[int], None] = lambda passes: None) -> TaskResult:
    """Compute a cell and store it, unless another driver on the same folder has stored it meanwhile.

    Args:
        task: The task.
        advance: Called with the number of passes done since the last call.

    Returns:
        The result. An exception of the computation becomes its `error`.

    Raises:
        UserError: If the cell cannot be written: then no other could be either.
    """
    study, cell, folder = task.study, task.cell, _folder(task.folder)
    if folder.holds(study.name, cell.name):
        advance(cell.passes)
        return TaskResult(task)
    stop = Event()

    def advance_or_stop(passes: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        advance(passes)

    begun, busy = perf_counter(), process_time()
    try:
        results = compute(partial(study.run, cell, advance_or_stop), threads=study.threads, stop=stop)
    except Exception as error:  # a cell that fails does not stop the others
        return TaskResult(task, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
    took = {"wall_seconds": perf_counter() - begun, "cpu_seconds": process_time() - busy}
    folder.write_cell(study.name, cell.name, results.assign(took))
    return TaskResult(task)


@lru_cache(maxsize=1)
def _folder(name: str) -> RunFolder:
    return RunFolder(named_place(name))

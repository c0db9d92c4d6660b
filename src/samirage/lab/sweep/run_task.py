"""One cell as a piece of work that any process can do: what a launcher hands out, and what comes back."""

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
class Work:
    """A cell to be computed and stored. It is small when pickled, whatever the study holds; see `AbstractStudy`.

    Attributes:
        study: The study.
        cell: One of its cells.
        place: The run folder, as `named_place` takes it; a full path, for a worker may run elsewhere.
    """

    study: AbstractStudy
    cell: Cell
    place: str

    @property
    def name(self) -> str:
        """Names it for people."""
        return f"{self.study.name}/{self.cell.name}"


@dataclass(frozen=True)
class Outcome:
    """What became of a piece of work.

    Attributes:
        work: The work.
        error: What went wrong; None if the cell is stored.
    """

    work: Work
    error: str | None = None


def do(work: Work, advance: Callable[[int], None] = lambda passes: None) -> Outcome:
    """Compute a cell and store it, unless it has been stored meanwhile.

    Args:
        work: The work.
        advance: Called with the number of passes done since the last call.

    Returns:
        What became of it; whatever error the computation raises is in there.

    Raises:
        UserError: If the cell cannot be written: then no other could be either.
    """
    study, cell, folder = work.study, work.cell, _folder(work.place)
    if folder.holds(study.name, cell.name):  # another driver on the same folder was faster
        advance(cell.passes)
        return Outcome(work)
    stop = Event()

    def advance_or_stop(passes: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        advance(passes)

    begun, busy = perf_counter(), process_time()
    try:
        results = compute(partial(study.run, cell, advance_or_stop), threads=study.threads, stop=stop)
    except Exception as error:  # one cell, whatever its trouble, does not stop the others
        return Outcome(work, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
    took = {"wall_seconds": perf_counter() - begun, "cpu_seconds": process_time() - busy}
    folder.write_cell(study.name, cell.name, results.assign(took))
    return Outcome(work)


@lru_cache(maxsize=1)
def _folder(place: str) -> RunFolder:
    return RunFolder(named_place(place))

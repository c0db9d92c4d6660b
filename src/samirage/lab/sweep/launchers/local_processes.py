"""The launcher of processes on this machine. One that is killed loses the cell it was at, and nothing else."""

import contextlib
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from typing import Final

from samirage.errors import UserError
from samirage.lab.sweep.launchers.in_process import Here
from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.run_task import Outcome, Work, do

_TRIES: Final = 3  # a cell whose process is killed so many times is given up
_TOLD_EVERY_S: Final = 0.2
_PATIENCE_S: Final = 5.0  # for a process that was asked to end
_POOLS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # what libraries read when they load


@dataclass
class _Worker:
    process: SpawnProcess
    line: Connection
    work: Work | None = None

    def hand(self, work: Work) -> None:
        self.work = work
        with contextlib.suppress(OSError):  # it has been killed; that is noticed where its answer is due
            self.line.send(work)

    def dismiss(self) -> int | None:
        """End the process; return its exit code, negative for a signal."""
        self.line.close()
        self.process.join(0 if self.process.exitcode is None and self.work else _PATIENCE_S)
        for end in (self.process.terminate, self.process.kill):
            if self.process.exitcode is None:
                end()
                self.process.join(_PATIENCE_S)
        return self.process.exitcode


class Processes(AbstractLauncher):
    """Does the work in new processes on this machine.

    They are started as the `spawn` method does, so a script that uses this needs `if __name__ == "__main__":`. They end
    when this process ends, however that comes about.

    Args:
        workers: How many, at least 1.
        threads: CPU threads of each, at least 1.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self._workers, self._threads = workers, threads

    def outcomes(self, works: Sequence[Work], advance: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """Have all work done; see `AbstractLauncher`."""
        if min(self._workers, len(works)) <= 1:  # nothing would be done side by side
            yield from Here().outcomes(works, advance)
            return
        waiting, killed, crew = deque(works), Counter[str](), list[_Worker]()
        try:
            while waiting or any(worker.work for worker in crew):
                for worker in crew:
                    if worker.work is None and waiting:
                        worker.hand(waiting.popleft())
                while waiting and len(crew) < self._workers:
                    crew.append(self._hired())
                    crew[-1].hand(waiting.popleft())
                busy = {worker.line: worker for worker in crew if worker.work}
                for line in wait(list(busy)):
                    worker = busy[line]  # type: ignore[index]  # wait returns some of what it was given
                    work = worker.work
                    assert work is not None
                    try:
                        said = worker.line.recv()
                    except (EOFError, OSError):
                        crew.remove(worker)
                        code = worker.dismiss()
                        killed[work.name] += 1
                        if killed[work.name] < _TRIES:
                            waiting.appendleft(work)
                        else:
                            yield Outcome(work, f"its process ended {_TRIES} times ({_told(code)})")
                        continue
                    if isinstance(said, UserError):
                        raise said
                    if isinstance(said, Outcome):
                        worker.work = None
                        yield said
                    else:
                        advance(said)
        finally:
            for worker in crew:
                worker.dismiss()

    def _hired(self) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), name="samirage-worker", daemon=True)
        with _environment(dict.fromkeys(_POOLS, str(self._threads))):
            process.start()
        theirs.close()  # so that the end of the process ends the line
        return _Worker(process, ours)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _told(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "killed: perhaps the memory ran out"
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _serve(line: Connection) -> None:
    """Do what comes along the line until it ends; say what became of it, and now and then how many passes are done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first of them decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    done, told = 0, monotonic()

    def advance(passes: int) -> None:
        nonlocal done, told
        done += passes
        if monotonic() - told > _TOLD_EVERY_S:
            line.send(done)
            done, told = 0, monotonic()

    with contextlib.suppress(EOFError, OSError):  # nobody is at the other end any more
        while True:
            work = line.recv()
            try:
                said: Outcome | UserError = do(work, advance)
            except UserError as error:
                said = error
            line.send(done)
            done = 0
            line.send(said)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)

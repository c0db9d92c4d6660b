"""The launcher of worker processes on this machine. A worker that is killed loses its task, which is run again.

Why not an executor of `concurrent.futures` or `loky`: when one process of a pool is killed, such an executor fails all
tasks in flight and in the queue, and does not tell which of them ended its process. Running all of them again, three
times at most, gives up healthy cells together with the one that runs out of memory. Executors do not report progress
within a task either.
"""

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
from samirage.lab.sweep.launchers.in_process import InProcess
from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.run_task import Task, TaskResult, run_task

_MAX_ATTEMPTS: Final = 3  # at a task whose process is killed
_PROGRESS_INTERVAL_S: Final = 0.2
_JOIN_TIMEOUT_S: Final = 5.0  # for a process that was asked to end
_POOLS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # what libraries read when they load


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    task: Task | None = None

    def start(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # it has been killed, which is noticed when its result is received
            self.connection.send(task)

    def stop(self) -> int | None:
        """End the process; return its exit code, negative for a signal."""
        self.connection.close()
        self.process.join(0 if self.process.exitcode is None and self.task else _JOIN_TIMEOUT_S)
        for end in (self.process.terminate, self.process.kill):
            if self.process.exitcode is None:
                end()
                self.process.join(_JOIN_TIMEOUT_S)
        return self.process.exitcode


class Processes(AbstractLauncher):
    """Runs tasks in new processes on this machine.

    They are started by the `spawn` method, so a script that uses this needs `if __name__ == "__main__":`. They end when
    this process ends, also when it is killed. One worker, or one task, needs no new process.

    Args:
        workers: How many, at least 1.
        threads: CPU threads of each, at least 1.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self._count, self._threads = workers, threads

    def run(self, tasks: Sequence[Task], advance: Callable[[int], None]) -> Generator[TaskResult, None, None]:
        """Run all tasks; see `AbstractLauncher`."""
        if min(self._count, len(tasks)) <= 1:
            yield from InProcess().run(tasks, advance)
            return
        waiting, attempts, workers = deque(tasks), Counter[str](), list[_Worker]()
        try:
            while waiting or any(worker.task for worker in workers):
                for worker in workers:
                    if worker.task is None and waiting:
                        worker.start(waiting.popleft())
                while waiting and len(workers) < self._count:
                    workers.append(self._new_worker())
                    workers[-1].start(waiting.popleft())
                busy = {worker.connection: worker for worker in workers if worker.task}
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]  # wait returns some of its arguments
                    task = worker.task
                    assert task is not None
                    try:
                        message = worker.connection.recv()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        code = worker.stop()
                        attempts[task.name] += 1
                        if attempts[task.name] < _MAX_ATTEMPTS:
                            waiting.appendleft(task)
                        else:
                            yield TaskResult(task, f"its process ended {_MAX_ATTEMPTS} times ({_reason(code)})")
                        continue
                    if isinstance(message, UserError):
                        raise message
                    if isinstance(message, TaskResult):
                        worker.task = None
                        yield message
                    else:
                        advance(message)
        finally:
            for worker in workers:
                worker.stop()

    def _new_worker(self) -> _Worker:
        context = get_context("spawn")
        parent_end, child_end = context.Pipe()
        process = context.Process(target=_serve, args=(child_end,), name="samirage-worker", daemon=True)
        with _environment(dict.fromkeys(_POOLS, str(self._threads))):
            process.start()
        child_end.close()  # so that the connection is closed when the process ends
        return _Worker(process, parent_end)


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


def _reason(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "killed: perhaps the memory ran out"
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _serve(connection: Connection) -> None:
    """Run the tasks that are received; send the number of passes done, now and then, and each result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    passes_done, last_sent = 0, monotonic()

    def advance(passes: int) -> None:
        nonlocal passes_done, last_sent
        passes_done += passes
        if monotonic() - last_sent > _PROGRESS_INTERVAL_S:
            connection.send(passes_done)
            passes_done, last_sent = 0, monotonic()

    with contextlib.suppress(EOFError, OSError):  # the parent has closed the connection
        while True:
            task = connection.recv()
            try:
                result: TaskResult | UserError = run_task(task, advance)
            except UserError as error:
                result = error
            connection.send(passes_done)
            passes_done = 0
            connection.send(result)


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)

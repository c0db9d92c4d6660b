"""The launcher on a Ray cluster: an existing one, or one that is started on this machine."""

import os
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Final, NoReturn

from samirage.errors import UserError, require
from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.run_task import Task, TaskResult, run_task

_RETRIES: Final = 2  # of a task whose process or machine is lost
_CONNECT_TIMEOUT_S: Final = 10.0


class Ray(AbstractLauncher):
    """Runs every task as a remote function of Ray, on as many CPUs as its study has threads.

    All machines of the cluster must have samirage, and see the run folder under the same name.

    Args:
        address: Of the cluster, as `ray.init` takes it, such as `"10.0.0.1:6379"`; None takes the environment variable
            `RAY_ADDRESS`, or else starts a cluster on this machine, which ends with this process.
        cpus: CPUs of a cluster that is started here.

    Raises:
        UserError: If Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None, cpus: int) -> None:
        self._ray = require("ray", "ray")
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        if where not in {"local", "auto"}:
            _check_reachable(where)
        own = {"num_cpus": cpus, "include_dashboard": False} if where == "local" else {}
        try:
            self._ray.init(address=where, log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            _raise_unreachable(where, str(error).splitlines()[0])

    def run(self, tasks: Sequence[Task], advance: Callable[[int], None]) -> Generator[TaskResult, None, None]:
        """Run all tasks; see `AbstractLauncher`."""
        ray = self._ray
        remote = ray.remote(max_retries=_RETRIES)(_result_or_error)
        running = {remote.options(num_cpus=task.study.threads).remote(task): task for task in tasks}
        try:
            while running:
                for reference in ray.wait(list(running))[0]:
                    task = running.pop(reference)
                    try:
                        result = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        result = TaskResult(task, f"Ray lost it: {str(error).splitlines()[0]}")
                    if isinstance(result, UserError):
                        raise result
                    advance(task.cell.passes)
                    yield result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Disconnect from the cluster, and stop one that was started here."""
        self._ray.shutdown()


def _result_or_error(task: Task) -> TaskResult | UserError:
    try:
        return run_task(task)
    except UserError as error:  # returned, because Ray would wrap an exception in one of its own
        return error


def _check_reachable(address: str) -> None:
    # Ray itself would retry for minutes.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{address!r} is no address of a Ray cluster: use HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        _raise_unreachable(address, str(getattr(error, "strerror", None) or error))


def _raise_unreachable(address: str, why: str) -> NoReturn:
    raise UserError(
        f"no Ray cluster can be reached at {address} ({why}); start one with `ray start --head`, correct the "
        "address, or use --launcher local"
    )

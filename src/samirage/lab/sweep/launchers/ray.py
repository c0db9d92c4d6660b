"""The launcher of tasks on a Ray cluster, an existing one or one of this machine's own."""

import os
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NoReturn

from samirage.errors import UserError, require
from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.run_task import Outcome, Work, do

_RETRIES: Final = 2  # of a cell whose process or machine is lost
_REACHED_WITHIN_S: Final = 10.0


class OnRay(AbstractLauncher):
    """Does the work as tasks of Ray; each takes as many CPUs as its study takes threads.

    All machines of the cluster must have samirage, and see the run folder under the same name.

    Args:
        address: Of the cluster, as `ray.init` takes it, such as `"10.0.0.1:6379"`; None is the one that the environment
            variable `RAY_ADDRESS` names, or else one that is started on this machine, and ended with this process.
        cpus: CPUs of a cluster that is started here.

    Raises:
        UserError: If Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None, cpus: int) -> None:
        self._ray = require("ray", "ray")
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        if where not in {"local", "auto"}:
            _reach(where)
        own = {"num_cpus": cpus, "include_dashboard": False} if where == "local" else {}
        try:
            self._ray.init(address=where, log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            _say_unreachable(where, str(error).splitlines()[0])

    def outcomes(self, works: Sequence[Work], advance: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """Have all work done; see `AbstractLauncher`."""
        ray = self._ray
        task = ray.remote(max_retries=_RETRIES)(_done)
        running = {task.options(num_cpus=work.study.threads).remote(work): work for work in works}
        try:
            while running:
                for reference in ray.wait(list(running))[0]:
                    work = running.pop(reference)
                    try:
                        said = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        said = Outcome(work, f"Ray lost it: {str(error).splitlines()[0]}")
                    if isinstance(said, UserError):
                        raise said
                    advance(work.cell.passes)
                    yield said
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster, and end one that was started here."""
        self._ray.shutdown()


def _done(work: Work) -> Any:
    try:
        return do(work)
    except UserError as error:  # as a value, so that it comes back as what it is
        return error


def _reach(address: str) -> None:
    # Ray itself would try for minutes.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{address!r} is no address of a Ray cluster: use HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_REACHED_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        _say_unreachable(address, str(getattr(error, "strerror", None) or error))


def _say_unreachable(address: str, why: str) -> NoReturn:
    raise UserError(
        f"no Ray cluster can be reached at {address} ({why}); start one with `ray start --head`, correct the "
        "address, or use --launcher local"
    )

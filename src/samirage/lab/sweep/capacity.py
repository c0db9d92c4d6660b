"""How many worker processes fit on this machine."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from samirage.errors import UserError

_MEMORY_OF_WORKER: Final = 1 << 30  # bytes; one at the laptop scale takes about half of that
_CGROUP: Final = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores that this process may use: those of its affinity, within its container's CPU limit.

    Args:
        cgroup: Where Linux shows the limits of the container, in the layout of version 1 or 2.

    Returns:
        The number, at least 1; a limit such as 1.5 CPUs counts as 2 cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits: list[str] = []
    with suppress(OSError):  # version 2: "200000 100000", or "max 100000" without a limit
        limits = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
    if not limits:
        with suppress(OSError):  # version 1: quota −1 without a limit
            files = (cgroup / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            limits = [file.read_text(encoding="utf-8") for file in files]
    with suppress(ValueError):
        quota, period = map(int, limits)
        if quota > 0 and period > 0:
            cores = min(cores, math.ceil(quota / period))
    return cores


def workers_and_threads(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Return how many worker processes to start, and how many CPU threads each of them uses.

    Args:
        workers: The number asked for; None for as many as there are cores and memory for.
        threads: The number asked for; None for an equal share of the cores if `workers` is given, else 1.

    Returns:
        Workers and threads.

    Raises:
        UserError: If more cores are asked for than there are.

    Example:
        >>> workers_and_threads(1, 1)
        (1, 1)
    """
    cores = usable_cores()
    if workers is None:
        threads = threads or 1
        fitting = psutil.virtual_memory().available // _MEMORY_OF_WORKER
        return max(1, min(cores // threads, fitting)), threads
    threads = threads or max(1, cores // workers)
    if workers > 1 and workers * threads > cores:
        raise UserError(
            f"{workers} workers of {threads} threads need {workers * threads} cores, and there are {cores}: "
            "use fewer --workers or --threads"
        )
    return workers, threads

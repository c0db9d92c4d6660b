"""How many processes this machine can carry."""

from typing import Final

import psutil
from loky import cpu_count  # which knows of affinity and of the limits of containers

from samirage.errors import UserError

_MEMORY_OF_WORKER: Final = 1 << 30  # bytes; one at the laptop scale takes about half of that


def workers_and_threads(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Settle how many workers compute, with how many threads each.

    Args:
        workers: How many are asked for; None for as many as there are cores and memory for.
        threads: How many threads each is to use; None for an equal share of the cores if workers are given, else 1.

    Returns:
        Workers and threads.

    Raises:
        UserError: If more cores are asked for than there are.

    Example:
        >>> workers_and_threads(1, 1)
        (1, 1)
    """
    cores = cpu_count()
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

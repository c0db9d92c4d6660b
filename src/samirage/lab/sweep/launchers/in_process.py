"""The launcher that needs nobody else."""

from collections.abc import Callable, Generator, Sequence

from samirage.lab.sweep.launchers.launcher import AbstractLauncher
from samirage.lab.sweep.run_task import Outcome, Work, do


class Here(AbstractLauncher):
    """Does the work in this process, one piece after another."""

    def outcomes(self, works: Sequence[Work], advance: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """Do all work; see `AbstractLauncher`."""
        for work in works:
            yield do(work, advance)

"""What every launcher is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence

from samirage.lab.sweep.run_task import Outcome, Work


class AbstractLauncher(ABC):
    """Has work done, by whom and where it will. Whoever does it stores the results, so that they take no detour."""

    @abstractmethod
    def outcomes(self, works: Sequence[Work], advance: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """Have all work done.

        When the iterator is closed, or an error passes through it, whatever is still being done is stopped.

        Args:
            works: The work, in the order in which it is to be begun.
            advance: Called with the number of passes done since the last call.

        Returns:
            What became of each, in the order in which it was finished.

        Raises:
            UserError: If nothing more can be done, such as on a full disk.
        """

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Free what the launcher holds between sweeps."""

"""Every argument of the monitor and of the diagnosis, checked in one place."""

from collections.abc import Sequence
from typing import Any

from samirage.diagnosis.thresholds import Thresholds
from samirage.monitor.sinks import Sink
from samirage.optim import SAM


def checked_optimizer(optimizer: Any, who: str) -> SAM:
    """Return the optimizer if it is a SAM.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(optimizer, SAM):
        raise TypeError(
            f"{who} needs a samirage.SAM optimizer; got {type(optimizer).__name__}: wrap it, as in "
            "SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)"
        )
    return optimizer


def checked_whole(value: Any, name: str, *, least: int) -> int:
    """Return a whole number if it is large enough.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}")
    return value


def checked_thresholds(thresholds: Any) -> Thresholds:
    """Return the thresholds, or the default ones for None.

    Raises:
        TypeError: If it is neither.
    """
    if thresholds is None:
        return Thresholds()
    if not isinstance(thresholds, Thresholds):
        raise TypeError(f"thresholds must be Thresholds(...) or None; got {type(thresholds).__name__}")
    return thresholds


def checked_sinks(sinks: Any) -> tuple[Sink, ...]:
    """Return the sinks if they are.

    Raises:
        TypeError: If one cannot take a diagnosis.
    """
    kept = tuple(sinks) if isinstance(sinks, Sequence) else (sinks,)
    for sink in kept:
        if not callable(getattr(sink, "write", None)):
            raise TypeError(
                f"sinks must have a method write(diagnosis), as those of samirage.monitor.sinks; got "
                f"{type(sink).__name__}"
            )
    return kept

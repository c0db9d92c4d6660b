"""Diagnoses as numbers that can be stored: a code for every status."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samirage.diagnosis import Diagnosis, Thresholds, Watch, Window
from samirage.diagnosis.diagnosis import judge
from samirage.diagnosis.figures import values_of
from samirage.sam import Status

STATUSES: Final = tuple(Status)
SAMPLE: Final = 2048  # coordinates of each network in which a watch measures vectors

ATTRIBUTES: Final[Mapping[str, Any]] = {
    "statuses": [status.value for status in STATUSES],
    "alarms": [status.value for status in STATUSES if status.is_alarm],
}
"""What a data set must say to be read: the status of every code, and those that are alarms."""


def judged(values: Mapping[str, float], window: Window) -> Diagnosis:
    """Diagnose a run from the figures of a window.

    Args:
        values: The figures, by name.
        window: The window that they are from.

    Returns:
        The diagnosis.
    """
    return judge(values, last_step=window.last_step, steps=window.steps, thresholds=Thresholds())


def codes(diagnoses: Sequence[Diagnosis]) -> NDArray[np.int8]:
    """Return the code of each diagnosis: the place of its status in `STATUSES`.

    Args:
        diagnoses: The diagnoses.
    """
    return np.array([STATUSES.index(diagnosis.status) for diagnosis in diagnoses], dtype=np.int8)


def codes_at_end(watch: Watch) -> NDArray[np.int8]:
    """Return the code of every member's diagnosis at the end of a run.

    Args:
        watch: A batched watch that saw the run.
    """
    last = watch.windows[-1]
    return codes([judged(values, last) for values in values_of(last)])

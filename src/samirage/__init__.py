"""Sharpness-Aware Minimization that shows when it hallucinates.

The names below are loaded at first use, so that `samirage report` can rebuild a page without importing torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from samirage._version import __version__

if TYPE_CHECKING:
    from samirage.monitor import Diagnosis, Monitor, diagnose
    from samirage.optim import SAM, StepRecord
    from samirage.sam import Guard, Lift, Mix, Status, WarmStart

_HOME = {
    "SAM": "samirage.optim",
    "Diagnosis": "samirage.monitor",
    "Guard": "samirage.sam",
    "Lift": "samirage.sam",
    "Mix": "samirage.sam",
    "Monitor": "samirage.monitor",
    "Status": "samirage.sam",
    "StepRecord": "samirage.optim",
    "WarmStart": "samirage.sam",
    "diagnose": "samirage.monitor",
}

__all__ = [
    "SAM",
    "Diagnosis",
    "Guard",
    "Lift",
    "Mix",
    "Monitor",
    "Status",
    "StepRecord",
    "WarmStart",
    "__version__",
    "diagnose",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'samirage' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)

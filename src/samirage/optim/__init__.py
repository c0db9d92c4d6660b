"""The optimizer: `SAM` wraps any base optimizer and gives every step its two passes."""

from samirage.optim.accumulate import accumulated
from samirage.optim.record import StepRecord
from samirage.optim.sam import SAM

__all__ = ["SAM", "StepRecord", "accumulated"]

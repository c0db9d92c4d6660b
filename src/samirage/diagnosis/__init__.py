"""The diagnosis of a run: statistics of its steps, thresholds, rules and words. It needs no optimizer."""

from samirage.diagnosis.confirm import Confirmation
from samirage.diagnosis.diagnosis import Diagnosis
from samirage.diagnosis.figures import Figure
from samirage.diagnosis.thresholds import Thresholds
from samirage.diagnosis.window_statistics import Watch, Window

__all__ = ["Confirmation", "Diagnosis", "Figure", "Thresholds", "Watch", "Window"]

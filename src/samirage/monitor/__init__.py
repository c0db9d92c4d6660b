"""Observers of a run: they record, diagnose and report, and never alter a step."""

from samirage.diagnosis.confirm import Confirmation
from samirage.diagnosis.diagnosis import Diagnosis
from samirage.diagnosis.figures import Figure
from samirage.diagnosis.thresholds import Thresholds
from samirage.diagnosis.window_statistics import Watch, Window
from samirage.monitor.diagnose import diagnose
from samirage.monitor.monitor import Monitor
from samirage.monitor.sinks import (
    JSONLSink,
    LightningSink,
    MemorySink,
    MLflowSink,
    Sink,
    TensorBoardSink,
    TransformersSink,
    WandbSink,
)

__all__ = [
    "Confirmation",
    "Diagnosis",
    "Figure",
    "JSONLSink",
    "LightningSink",
    "MLflowSink",
    "MemorySink",
    "Monitor",
    "Sink",
    "TensorBoardSink",
    "Thresholds",
    "TransformersSink",
    "WandbSink",
    "Watch",
    "Window",
    "diagnose",
]

"""Observers of a run: they record, diagnose and report, and never alter a step."""

from samirage.monitor.confirm import Confirmation
from samirage.monitor.diagnose import diagnose
from samirage.monitor.diagnosis import Diagnosis
from samirage.monitor.figures import Figure
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
from samirage.monitor.thresholds import Thresholds
from samirage.monitor.watch import Watch, Window

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

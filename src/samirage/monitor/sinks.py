"""Where the diagnoses of a run go: memory, a file, a tracker.

A sink is any object with a method `write(diagnosis)`. Those for trackers are given the tracker's own object (a writer,
a run, a logger), so that none of these libraries is imported here. They log the figures under `sam/…` at the step of
the diagnosis, and the status as text where the tracker takes text, and as `sam/status_code`, its place in
`samirage.Status`.
"""

import json
import math
from pathlib import Path
from typing import Any, Protocol

from samirage.diagnosis.diagnosis import Diagnosis
from samirage.sam import Status

_CODES = {status: code for code, status in enumerate(Status)}


class Sink(Protocol):
    """Takes diagnoses."""

    def write(self, diagnosis: Diagnosis) -> None:
        """Take a diagnosis."""


def measured(diagnosis: Diagnosis, prefix: str = "sam/") -> dict[str, float]:
    """Return the figures of a diagnosis that were measured, and the code of its status.

    Args:
        diagnosis: The diagnosis.
        prefix: What the names begin with.

    Returns:
        Name -> finite value.
    """
    values = {prefix + name: f.value for name, f in diagnosis.figures.items() if math.isfinite(f.value)}
    return {**values, f"{prefix}status_code": float(_CODES[diagnosis.status])}


class MemorySink:
    """Keeps the diagnoses.

    Attributes:
        diagnoses: What was written.
    """

    def __init__(self) -> None:
        self.diagnoses: list[Diagnosis] = []

    def write(self, diagnosis: Diagnosis) -> None:
        """Keep a diagnosis."""
        self.diagnoses.append(diagnosis)


class JSONLSink:
    """Appends one line of JSON for each diagnosis: step, steps, status, advice, figures; NaN and infinities as null.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def write(self, diagnosis: Diagnosis) -> None:
        """Append a line."""
        values = {n: f.value if math.isfinite(f.value) else None for n, f in diagnosis.figures.items()}
        line = {
            "step": diagnosis.last_step,
            "steps": diagnosis.steps,
            "status": diagnosis.status.value,
            "advice": diagnosis.advice,
            "notes": list(diagnosis.notes),
            "figures": values,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


class TensorBoardSink:
    """Writes scalars, and the diagnosis as text, to TensorBoard.

    Args:
        writer: A `torch.utils.tensorboard.SummaryWriter`, or an object with its `add_scalar` and `add_text`. It stays
            the caller's to close.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, diagnosis: Diagnosis) -> None:
        """Write a diagnosis."""
        for name, value in measured(diagnosis).items():
            self._writer.add_scalar(name, value, diagnosis.last_step)
        self._writer.add_text("sam/status", diagnosis.line, diagnosis.last_step)


class WandbSink:
    """Logs to a run of Weights & Biases.

    It leaves the tracker's own step, which belongs to the training loop, alone, and logs the step as `sam/step`.

    Args:
        run: What `wandb.init` returned.
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, diagnosis: Diagnosis) -> None:
        """Log a diagnosis."""
        figures = measured(diagnosis)
        self._run.log({**figures, "sam/step": diagnosis.last_step, "sam/status": diagnosis.status.value})


class MLflowSink:
    """Logs metrics, and the status as a tag, to the active run of MLflow.

    Args:
        client: The module `mlflow`, or an object with its `log_metrics` and `set_tag`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def write(self, diagnosis: Diagnosis) -> None:
        """Log a diagnosis."""
        self._client.log_metrics(measured(diagnosis), step=diagnosis.last_step)
        self._client.set_tag("sam.status", diagnosis.status.value)


class LightningSink:
    """Logs to a logger of Lightning, or to all loggers of a trainer.

    Args:
        logger: A `Logger`, which has `log_metrics(metrics, step)`, or a `Trainer`, which has `loggers`.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def write(self, diagnosis: Diagnosis) -> None:
        """Log a diagnosis."""
        for logger in getattr(self._logger, "loggers", None) or [self._logger]:
            logger.log_metrics(measured(diagnosis), step=diagnosis.last_step)


class TransformersSink:
    """Logs through a `Trainer` of Transformers, and so to whatever it reports to.

    Args:
        trainer: The trainer, which has `log(logs)`.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def write(self, diagnosis: Diagnosis) -> None:
        """Log a diagnosis."""
        self._trainer.log({**measured(diagnosis, prefix="sam_"), "sam_step": diagnosis.last_step})

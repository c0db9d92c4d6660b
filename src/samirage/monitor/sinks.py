"""Where the diagnoses of a run go: a file, a tracker. Each library is imported only when its sink is made.

A sink is any object with a method `write(diagnosis)`. Those here log the figures under `sam/…` at the step of the
diagnosis, and the status as text and as `sam/status_code`, its place in `samirage.Status`.
"""

import json
import math
from pathlib import Path
from typing import Any, Protocol

from samirage.errors import UserError, require
from samirage.monitor.diagnosis import Diagnosis
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
    """Writes scalars, and the diagnosis as text, with torch's TensorBoard writer (package `tensorboard`).

    Args:
        writer: A `SummaryWriter`, or a folder for a new one.

    Raises:
        UserError: If tensorboard is not installed.
    """

    def __init__(self, writer: Any) -> None:
        if isinstance(writer, str | Path):
            require("trackers", "tensorboard")
            writer = require("trackers", "torch.utils.tensorboard").SummaryWriter(str(writer))
        self._writer = writer

    def write(self, diagnosis: Diagnosis) -> None:
        """Write a diagnosis."""
        for name, value in measured(diagnosis).items():
            self._writer.add_scalar(name, value, diagnosis.last_step)
        self._writer.add_text("sam/status", diagnosis.line, diagnosis.last_step)

    def close(self) -> None:
        """Flush and close the writer."""
        self._writer.close()


class WandbSink:
    """Logs to a Weights & Biases run (package `wandb`).

    It does not set the tracker's own step, which belongs to the training loop, but logs the step as `sam/step`.

    Args:
        run: The run; by default the one that `wandb.init` has begun.

    Raises:
        UserError: If wandb is not installed, or no run has begun.
    """

    def __init__(self, run: Any = None) -> None:
        if run is None:
            run = require("trackers", "wandb").run
            if run is None:
                raise UserError("there is no wandb run: begin one with wandb.init(project=…), or give it to WandbSink")
        self._run = run

    def write(self, diagnosis: Diagnosis) -> None:
        """Log a diagnosis."""
        figures = measured(diagnosis)
        self._run.log({**figures, "sam/step": diagnosis.last_step, "sam/status": diagnosis.status.value})


class MLflowSink:
    """Logs metrics, and the status as a tag, to the active MLflow run (package `mlflow`).

    Args:
        client: The module `mlflow`, or an object with its `log_metrics` and `set_tag`; by default the module.

    Raises:
        UserError: If mlflow is not installed.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = require("trackers", "mlflow") if client is None else client

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

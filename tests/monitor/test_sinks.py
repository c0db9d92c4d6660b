"""Sinks: with the real library where it is installed, otherwise with an object of its documented interface."""

import csv
import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch

from samirage import SAM, Monitor, Status, diagnose
from samirage.monitor import (
    JSONLSink,
    LightningSink,
    MemorySink,
    MLflowSink,
    TensorBoardSink,
    TransformersSink,
    WandbSink,
)
from tests.monitor.runs import bouncing, hallucinated


@pytest.fixture(scope="module")
def diagnosis():
    optimizer, _ = hallucinated(steps=100, window=64)
    return diagnose(optimizer)


def logged(diagnosis, prefix="sam/"):
    """What every tracker must get: the figures that are finite, and the place of the status."""
    figures = {prefix + name: f.value for name, f in diagnosis.figures.items() if math.isfinite(f.value)}
    return {**figures, f"{prefix}status_code": list(Status).index(diagnosis.status)}


def test_memory(diagnosis):
    sink = MemorySink()
    sink.write(diagnosis)
    assert sink.diagnoses == [diagnosis]


def test_jsonl_appends_one_line_of_strict_json_for_each_diagnosis(tmp_path):
    path = tmp_path / "run.jsonl"
    hallucinated(steps=64, window=32, sinks=[JSONLSink(path)])
    bouncing(steps=64, window=32, sinks=[JSONLSink(path)])
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [15, 31, 47, 63] * 2
    assert lines[-1]["status"] == "bouncing about a minimizer"
    assert lines[-1]["figures"]["slope_ratio"] > 1
    assert lines[-1]["figures"]["radius_fraction"] == pytest.approx(1)
    assert lines[-1]["figures"]["transverse_cosine"] is None or lines[-1]["figures"]["rejected_share"] is None


class Writer:
    def __init__(self):
        self.scalars, self.texts = {}, {}

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.scalars[tag, global_step] = scalar_value

    def add_text(self, tag, text_string, global_step=None):
        self.texts[tag, global_step] = text_string


def test_tensorboards_interface(diagnosis):
    writer = Writer()
    TensorBoardSink(writer).write(diagnosis)
    assert writer.scalars == {(name, 99): value for name, value in logged(diagnosis).items()}
    assert writer.texts == {("sam/status", 99): diagnosis.line}


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_itself(diagnosis, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    TensorBoardSink(writer).write(diagnosis)
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name, value in logged(diagnosis).items():
        (event,) = events.Scalars(name)
        assert event.step == 99
        assert event.value == pytest.approx(value, rel=1e-6)


class Run:
    def __init__(self):
        self.logged = []

    def log(self, data, step=None):
        self.logged.append((data, step))


def test_wandbs_interface(diagnosis):
    run = Run()
    WandbSink(run).write(diagnosis)
    expected = {**logged(diagnosis), "sam/step": 99, "sam/status": "hallucinated minimizer"}
    assert run.logged == [(expected, None)]


class MLflow:
    def __init__(self):
        self.metrics, self.tags = [], {}

    def log_metrics(self, metrics, step=None):
        self.metrics.append((metrics, step))

    def set_tag(self, key, value):
        self.tags[key] = value


def test_mlflows_interface(diagnosis):
    client = MLflow()
    MLflowSink(client).write(diagnosis)
    assert client.metrics == [(logged(diagnosis), 99)]
    assert client.tags == {"sam.status": "hallucinated minimizer"}


def test_a_lightning_logger_itself(diagnosis, tmp_path):
    loggers = pytest.importorskip("pytorch_lightning.loggers")
    first, second = (loggers.CSVLogger(str(tmp_path), name=name) for name in ("one", "two"))
    LightningSink(first).write(diagnosis)

    class Trainer:
        loggers = (first, second)

    LightningSink(Trainer()).write(diagnosis)
    for logger, times in ((first, 2), (second, 1)):
        logger.save()
        with (Path(logger.log_dir) / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == ["99"] * times
        for name, value in logged(diagnosis).items():
            assert float(rows[-1][name]) == pytest.approx(value)


def test_a_trainer_of_transformers_itself(diagnosis, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    trainer = transformers.Trainer(
        model=torch.nn.Linear(2, 2),
        args=transformers.TrainingArguments(str(tmp_path), report_to=[], use_cpu=True),
    )
    TransformersSink(trainer).write(diagnosis)
    entry = trainer.state.log_history[-1]
    for name, value in logged(diagnosis, prefix="sam_").items():
        assert entry[name] == pytest.approx(value)
    assert entry["sam_step"] == 99


def test_a_sink_that_fails_stops_the_training_with_its_own_error():
    class Full:
        def write(self, diagnosis):
            raise OSError("no space left")

    x = torch.ones(2, requires_grad=True)
    optimizer = SAM(torch.optim.SGD([x], lr=0.01), rho=0.1)
    Monitor(optimizer, window=16, sinks=[Full()])

    def closure():
        optimizer.zero_grad()
        loss = x.square().sum()
        loss.backward()
        return loss

    for _ in range(7):
        optimizer.step(closure)
    with pytest.raises(OSError, match="no space left"):
        optimizer.step(closure)

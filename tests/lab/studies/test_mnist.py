"""The study `mnist` and the sweep that runs it: plan, results, resumption, divergence, failure, claims."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from samirage.errors import UserError
from samirage.lab.engine.models import MLP
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.mnist import SCALES, MnistStudy
from samirage.lab.sweep.reproduce import begin, reproduce

TINY = replace(SCALES["smoke"], images=60, steps=20, seeds=3, rhos=(10.0,))


def without_durations(dataset):
    return dataset.drop_vars([name for name in dataset if "seconds" in name or "per_s" in name])


def results(folder):
    return {name: without_durations(folder.read_cell("mnist", name)) for name in folder.finished("mnist")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("tiny"))
    assert reproduce([MnistStudy(TINY)], folder, command="command") == []
    return folder


def test_the_plan_has_sgd_once_and_both_methods_at_every_radius_in_blocks_of_seeds():
    study = MnistStudy(replace(TINY, rhos=(0.5, 3.0), seeds=5, block=3, first_seed=7))
    names = [cell.name for cell in study.cells()]
    runs = ["sgd", "sam-rho0.5", "switch-rho0.5", "sam-rho3", "switch-rho3"]
    assert names == [f"{run}-seeds{block}" for run in runs for block in ("7-9", "10-11")]
    assert study.seeds == [7, 8, 9, 10, 11]
    passes = {cell.name: cell.passes for cell in study.cells()}
    assert (passes["sgd-seeds7-9"], passes["sam-rho3-seeds7-9"], passes["switch-rho3-seeds7-9"]) == (20, 40, 38)


def test_progress_counts_the_passes_of_the_plan():
    study, done = MnistStudy(TINY), []
    for cell in study.cells():
        study.run(cell, done.append)
        assert sum(done) == cell.passes
        done.clear()


def test_results_against_a_plain_loop_over_one_network(tiny):
    torch.manual_seed(1)
    network = MLP([784, 32, 10])
    digits = MnistStudy(TINY)._digits
    x, labels = digits.x, digits.labels
    losses = []
    for _ in range(TINY.steps):
        loss = (network(x).softmax(1) - torch.eye(10)[labels]).square().sum(1).mean()
        losses.append(loss.item())
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in network.parameters():
                p -= 1.0 * p.grad
    sgd = tiny.read_cell("mnist", "sgd").sel(seed=1)
    np.testing.assert_allclose(sgd.loss.values, losses, rtol=0, atol=1e-4)
    hits = (network(digits.test_x).argmax(1) == digits.test_labels).float().mean().item()
    assert sgd.final_test_accuracy.item() == pytest.approx(hits, abs=0.003)


def test_results_are_labelled_and_complete(tiny):
    cell = tiny.read_cell("mnist", "switch-rho10")
    assert cell.sizes == {"seed": 3, "step": 20, "eval_step": 21}
    assert cell.eval_step.values[[0, -1]].tolist() == [0, 20]
    assert cell.attrs == {
        "study": "mnist", "method": "switch", "rho": 10.0, "loss_name": "softmax-squared", "lr": 1.0, "switch_step": 2,
    }  # fmt: skip
    assert cell.shift_ratio.isnull().sum("step").values.tolist() == [2, 2, 2]
    assert (cell.final_test_accuracy == cell.test_accuracy.isel(eval_step=-1)).all()
    assert (cell.radius[:, 2:] == pytest.approx(10.0, rel=1e-5)).all()


def test_long_runs_are_thinned_but_the_end_is_taken_from_all_steps():
    study = MnistStudy(replace(TINY, steps=700, seeds=1))
    cell = study.run(study.cells()[1], lambda passes: None)
    assert cell.step.values.tolist() == list(range(0, 700, 3))
    # 35 last steps; the stored ones among them are a third, and their median is near but not the same.
    stored = cell.shift_ratio.where(cell.step >= 665, drop=True).median("step")
    assert cell.final_shift_ratio.item() == pytest.approx(stored.item(), rel=0.5)


def test_interrupted_runs_resume_to_the_same_numbers(tiny, tmp_path):
    folder, passes = RunFolder(tmp_path), 0

    def interrupts(count):
        nonlocal passes
        passes += count
        if passes > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce([MnistStudy(TINY)], folder, command="command", advance=interrupts)
    assert folder.finished("mnist") == ["sgd"]
    assert [cell.name for cell in begin(MnistStudy(TINY), folder, "command")] == ["sam-rho10", "switch-rho10"]
    written = (tmp_path / "cells/mnist/sgd.nc").stat().st_mtime_ns
    reproduce([MnistStudy(TINY)], folder, command="command")
    assert (tmp_path / "cells/mnist/sgd.nc").stat().st_mtime_ns == written
    for name, cell in results(folder).items():
        xr.testing.assert_identical(cell, results(tiny)[name])
    assert folder.claims("mnist") == tiny.claims("mnist")


@pytest.mark.slow
def test_a_killed_process_loses_only_the_cell_in_flight(tiny, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(out)]
    process = subprocess.run(command, check=False, timeout=120)
    assert process.returncode == -signal.SIGKILL
    folder = RunFolder(out)
    assert folder.finished("mnist") == ["sgd", "sam-rho10"]
    reproduce([MnistStudy(TINY)], folder, command="command")
    for name, cell in results(folder).items():
        xr.testing.assert_identical(cell, results(tiny)[name])


KILLED = f"""
import os, signal, sys
from pathlib import Path
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.mnist import SCALES, MnistConfig, MnistStudy
from samirage.lab.sweep.reproduce import reproduce
passes = 0
def advance(count):
    global passes
    passes += count
    if passes > 70:
        os.kill(os.getpid(), signal.SIGKILL)
reproduce([MnistStudy({TINY!r})], RunFolder(Path(sys.argv[1])), command="command", advance=advance)
"""


def test_a_diverging_run_is_recorded_and_the_sweep_goes_on(tmp_path):
    folder = RunFolder(tmp_path)
    assert reproduce([MnistStudy(replace(TINY, loss="cross-entropy", lr=1e38))], folder, command="c") == []
    assert len(folder.finished("mnist")) == 3
    for cell in results(folder).values():
        assert cell.diverged.all()
        assert not cell.hallucinated.any()


def test_healthy_runs_do_not_count_as_diverged(tiny):
    assert not any(cell.diverged.any() for cell in results(tiny).values())


def test_a_failing_cell_is_reported_and_the_sweep_goes_on(tmp_path, monkeypatch):
    study = MnistStudy(TINY)
    inner = study.run

    def run(cell, advance):
        if cell.name == "sam-rho10":
            raise RuntimeError("out of memory")
        return inner(cell, advance)

    monkeypatch.setattr(study, "run", run)
    folder = RunFolder(tmp_path)
    failures = reproduce([study], folder, command="command")
    assert [(f.task.name, f.error) for f in failures] == [("mnist/sam-rho10", "RuntimeError: out of memory")]
    assert folder.finished("mnist") == ["sgd", "switch-rho10"]


def test_another_configuration_in_the_folder_is_refused(tiny):
    other = MnistStudy(replace(TINY, steps=21, lr=0.5))
    with pytest.raises(
        UserError, match=r"holds study mnist with other settings: steps 20 \(now 21\), lr 1.0 \(now 0.5\)"
    ):
        reproduce([other], tiny, command="command")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge"}, "unknown loss 'hinge': use one of softmax-squared, cross-entropy, tanh-squared"),
        ({"images": 5001}, "5001 images were asked for, and mnist-mini has 5000: use at most so many"),
        ({"device": "tpu"}, "unknown device 'tpu': use cpu, cuda or cuda:N"),
        ({"data": "mnist-nano"}, "mnist-nano"),
    ],
)
def test_impossible_configurations_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        MnistStudy(replace(TINY, **settings)).prepare()


def test_the_manifest_says_how_the_numbers_came_about(tiny):
    manifest = tiny.manifest("mnist")
    assert manifest["config"]["steps"] == 20
    assert manifest["seeds"] == [0, 1, 2]
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["hardware"]["cores"] >= 1
    assert manifest["command"] == "command"


def cell(method, rho, accuracy, ratio=1.0, grad_norm=1.0, hallucinated=False):
    values = {
        "final_test_accuracy": accuracy,
        "final_shift_ratio": [ratio] * len(accuracy),
        "final_grad_norm": [grad_norm] * len(accuracy),
        "hallucinated": [hallucinated] * len(accuracy),
    }
    return xr.Dataset(
        {name: ("seed", np.array(v)) for name, v in values.items()},
        coords={"seed": np.arange(len(accuracy))},
        attrs={"method": method, "rho": rho},
    )


def test_claims_measure_what_they_say():
    measured = MnistStudy(TINY).claims(
        {
            "sgd": cell("sgd", 0.0, [0.9, 0.8]),
            "a": cell("sam", 0.5, [0.9, 0.9]),
            "b": cell("sam", 3.0, [0.1, 0.3], hallucinated=True),
            "c": cell("switch", 3.0, [0.5, 0.6]),
            "d": cell("switch", 10.0, [0.75, 0.6]),
            "e": cell("sam", 10.0, [0.1, 0.1], ratio=1e-3),
            "f": cell("sam", 10.0, [0.1, 0.25], ratio=1e-3),
        },
        "command",
    )
    collapse, gain, stable, practical = measured
    assert (collapse.measured, collapse.n, collapse.verdict) == (0.75, 4, "fails")
    # Paired differences 0.4 and 0.3; then 0.5 − 0.9 and 0.6 − 0.8 at the worst radius, 3.
    assert (gain.measured, gain.standard_error, gain.verdict) == (pytest.approx(0.35), pytest.approx(0.05), "holds")
    assert (stable.measured, stable.standard_error, stable.verdict) == (
        pytest.approx(-0.3),
        pytest.approx(0.1),
        "fails",
    )
    assert (practical.measured, practical.n, practical.verdict) == (0.0, 2, "holds")
    assert "rho = 3" in gain.statement


@pytest.mark.skipif("SAMIRAGE_DATA" not in os.environ, reason="needs the full MNIST: set SAMIRAGE_DATA to its folder")
def test_the_full_data_set_trains():
    study = MnistStudy(replace(TINY, data="mnist", images=60_000, steps=2))
    trained = study.run(study.cells()[1], lambda passes: None)
    assert trained.loss.notnull().all()

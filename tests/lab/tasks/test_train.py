"""Training in many processes under torchrun, and the command for it; the scenarios are in train_worker.py."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from samirage.lab.tasks import train
from tests.two_processes import needs_gloo, results_of

HERE = Path(__file__).parent
SHORT = ["--scale", "smoke", "--epochs", "1"]


@pytest.fixture(scope="module")
def results():
    return results_of(HERE / "train_worker.py")


@needs_gloo
@pytest.mark.parametrize("scenario", ["ddp sam", "fsdp sam", "ddp guard"])
def test_two_processes_train_as_one_with_the_joint_batch(results, scenario):
    result = results[scenario]
    assert result["loss"] < 1e-9  # float64, six steps of a training that multiplies roundings
    assert result["grad_norm"] < 1e-9
    assert result["test"] < 1e-9
    assert result["buffers"] < 1e-9
    assert result["fall"] > 0.05


@needs_gloo
@pytest.mark.parametrize("momentum", [0.3, None])
def test_batch_norm_over_all_ranks_is_batch_norm_over_the_joint_batch(results, momentum):
    assert results[f"joint batch norm {momentum}"]["difference"] < 1e-13


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@needs_gloo
def test_the_command_writes_what_one_process_writes(tmp_path, capsys):
    out, alone = tmp_path / "new" / "two.nc", tmp_path / "one.nc"
    options = [*SHORT, "--method", "sam", "--rho", "0.5", "--seed", "3"]
    done = torchrun("-m", "samirage.lab.tasks.train", *options, "--parallel", "fsdp", "--out", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[0].startswith("epoch 1 of 1: loss ")
    assert done.stdout.splitlines()[1] == f"The results: {out}"
    assert train.main([*options, "--out", str(alone)]) == 0
    assert str(alone) in capsys.readouterr().out
    with xr.open_dataset(out) as two, xr.open_dataset(alone) as one:
        # In float32, and so small a network multiplies roundings so much, that only the first steps can be compared.
        assert np.allclose(two.loss[:, :2], one.loss[:, :2], rtol=1e-4)
        assert two.seed.values.tolist() == [3]
        assert set(two.variables) == set(one.variables)
        assert (two.attrs["processes"], two.attrs["parallel"]) == (2, "fsdp")
        assert (one.attrs["processes"], one.attrs["parallel"]) == (1, "none")
        assert json.loads(two.attrs["config"]) == json.loads(one.attrs["config"])
        assert (one.attrs["method"], one.attrs["rho"]) == ("sam", 0.5)


@needs_gloo
def test_a_rank_that_fails_says_so_in_one_sentence(tmp_path):
    done = torchrun(str(HERE / "failing_rank.py"), *SHORT, "--out", str(tmp_path / "run.nc"))
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("samirage: ")]
    assert said == [
        "samirage: rank 1 of 2: failed (RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB); no result"
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rho", "0"], "--rho must be a finite radius above 0; got 0; plain SGD is --method sgd"),
        (["--rho", "nan"], "--rho must be a finite radius above 0; got nan"),
        (["--seed", "-1"], "--seed must be a whole number of at least 0; got -1"),
        (["--seed", "4294967296"], "--seed must be at most 4294967295; got 4294967296"),
        (["--epochs", "0"], "--epochs must be a whole number of at least 1; got 0"),
        (["--threads", "0"], "--threads must be a whole number of at least 1; got 0"),
        (["--method", "adam"], "argument --method: invalid choice: 'adam'"),
        (["--scale", "laptop", "--data-dir", "none"], "The data folder 'none' does not exist"),
        (["--surplus"], "unrecognized arguments: --surplus; see `python -m samirage.lab.tasks.train --help`"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(arguments, said, tmp_path, capsys):
    assert train.main([*arguments, "--out", str(tmp_path / "run.nc")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"samirage: {said}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_before_the_training(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(train.ImageTraining, "run", None)
    assert train.main([*SHORT, "--out", str(tmp_path / "file" / "run.nc")]) == 2
    assert "run.nc.trial (File exists); name a folder that is writable" in capsys.readouterr().err


def test_an_interruption_ends_the_training_and_leaves_no_file(tmp_path, capsys, monkeypatch):
    def interrupt(self):
        os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does
        return original(self)

    original = train.ImageTraining.test
    monkeypatch.setattr(train.ImageTraining, "test", interrupt)
    assert train.main(["--epochs", "1000", "--out", str(tmp_path / "run.nc")]) == 130
    assert capsys.readouterr().err == "samirage: stopped; no result\n"
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_cannot_be_shared_and_a_folder_are_refused(tmp_path, capsys, monkeypatch):
    assert train.main(["--out", str(tmp_path)]) == 2
    assert "is a folder: name a file, such as" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    assert train.main(["--out", str(tmp_path / "run.nc")]) == 2
    assert "3 processes cannot share a batch of 32 evenly: start a number of" in capsys.readouterr().err

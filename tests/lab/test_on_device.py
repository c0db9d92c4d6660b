"""The laboratory on a GPU that is pretended, with the rules of CUDA.

Here every study computes a few of its cells, and where they have many small steps fewer steps. Whole studies take
minutes: `python -m tests.support.every_study`.
"""

import numpy as np
import pytest
import torch
import xarray as xr

from samirage.lab.engine.compute import compute
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.models import MLP, softmax_squared
from samirage.lab.engine.stacked import stack
from samirage.lab.studies import STUDIES, create
from samirage.lab.tasks import train as one_network
from samirage.lab.tasks.cifar import network_of, pictures_of, recipe_of, settings
from samirage.lab.tasks.loop import ImageTraining
from samirage.monitor import Watch
from samirage.sam import Guard, Mix, WarmStart
from tests.support.accelerator import Accelerator, deterministic, introduce
from tests.support.every_study import compute_on_device, failures, pretended_gpu

SHORTER = {
    "wells": {"steps": 30},
    "toy": {"steps": 60, "grid": 9},
    "network": {"images": 20, "steps": 10, "grid": 5},
    "construction": {"grid": 13},
}
FEWER = {"doctor": 1}  # its cells are of one kind
CUDA = torch.device("cuda", 0)


def nothing(passes):
    pass


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_computes_on_a_gpu(name, monkeypatch):
    monkeypatch.setattr("samirage.lab.studies.toy._ROUND", 8)  # points of a circle, a Newton method for each
    options = {"threads": 1, **SHORTER.get(name, {})}
    (on_cpu,) = create([name], "smoke", options)
    cells = on_cpu.cells()
    chosen = {cell.name: cell for cell in (cells[len(cells) // 2], cells[-1])[: FEWER.get(name, 2)]}
    with pretended_gpu():
        (study,) = create([name], "smoke", options | {"device": "cuda"})
        assert study.device.type == "cuda"
        results = [compute_on_device(lambda cell=cell: study.run(cell, nothing), threads=1) for cell in chosen.values()]
    for cell, result in zip(chosen.values(), results, strict=True):
        expected = compute(lambda cell=cell: on_cpu.run(cell, nothing), threads=1)
        assert result.sizes == expected.sizes
        assert {name: v.dtype for name, v in result.items()} == {name: v.dtype for name, v in expected.items()}
        if "loss" in expected and "step" in expected.loss.dims:  # of the first step, before rounding has grown
            first = [one.loss.isel(step=0) for one in (result, expected)]
            xr.testing.assert_allclose(*first, rtol=1e-4)


def test_a_whole_study_is_stored_with_its_claims(tmp_path):
    assert failures("small-rho", tmp_path / "run") == []
    assert (tmp_path / "run" / "claims.json").exists()


def test_a_study_that_uses_a_median_with_indices_fails(monkeypatch):
    monkeypatch.setattr("samirage.lab.tasks.mnist.median", lambda x: x.median(0).values)
    with pretended_gpu():
        (study,) = create(["mnist"], "smoke", {"threads": 1, "device": "cuda"})
        with pytest.raises(RuntimeError, match="median CUDA with indices output does not have a deterministic"):
            compute_on_device(lambda: study.run(study.cells()[0], nothing), threads=1)


@pytest.mark.parametrize("method", ["sam", "guard"])
def test_one_network_trains_on_a_gpu(method, tmp_path, capsys):
    out = tmp_path / "run.nc"
    given = ["--scale", "smoke", "--method", method, "--epochs", "2", "--device", "cuda", "--out", str(out)]
    with pretended_gpu():
        code = one_network.main(given)
    assert code == 0, capsys.readouterr().err
    with xr.open_dataset(out) as results:
        assert np.isfinite(results.loss).all()
        assert "a pretended GPU" in results.attrs["hardware"]


@pytest.mark.parametrize("method", ["sam", "guard"])
def test_an_epoch_waits_for_the_device_only_at_its_end(method, monkeypatch):
    introduce(monkeypatch)
    config = settings("smoke", {"device": "cuda", "threads": 1})
    with Accelerator(may_wait=True) as mode:
        recipe = recipe_of(config, method, 0.3, 0)
        training = ImageTraining(
            network_of(config, 0, CUDA),
            pictures_of(config, CUDA, None),
            recipe,
            weight_decay=config.weight_decay,
            ways=config.ways,
        )
        before = mode.waits
        training.epoch()
        assert mode.waits == before + 1
        training.epoch()
        assert mode.waits == before + 2


POLICIES = {
    "sam": {},
    "minibatches": {"batch_size": 4},
    "guard": {"guard": Guard()},
    "mix": {"guard": Mix()},
    "switch": {"warm_start": WarmStart(steps=3)},
}


def waits_of(steps, policy):
    """How often the ensemble engine waits in a training with a watch on it."""
    torch.manual_seed(0)
    with Accelerator(may_wait=True) as mode, deterministic():
        modules = [MLP([6, 5, 3]).to(CUDA) for _ in range(4)]
        x, labels = torch.rand(16, 6).to(CUDA), torch.arange(16).to(CUDA) % 3
        members = stack(modules, softmax_squared, x, labels)
        recipe = Recipe(steps=steps, lr=0.1, rho=0.5, **POLICIES[policy])
        watch = Watch(window=16, batched=True)
        before = mode.waits
        course = train(members, recipe, watch=watch)
        assert len(watch.windows) == steps // 8
        assert course["loss"].device == CUDA
        return mode.waits - before


@pytest.mark.parametrize("policy", POLICIES)
def test_the_ensemble_engine_waits_for_no_step(policy, monkeypatch):
    introduce(monkeypatch)
    epochs = 4 if policy == "minibatches" else 0  # of the later half, each with an order that the host draws
    assert waits_of(32, policy) - waits_of(16, policy) == epochs

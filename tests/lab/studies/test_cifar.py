"""Study `cifar`: its training against one that is written out, its plan, and claims computed from the cells."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn import functional

from samirage.errors import UserError
from samirage.lab.engine.compute import compute
from samirage.lab.results.claims import Verdict
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import cifar as study_module
from samirage.lab.studies import create
from samirage.lab.sweep.reproduce import reproduce
from samirage.lab.tasks import cifar
from samirage.lab.tasks.cifar import METHODS, network_of, pictures_of, recipe_of, settings
from samirage.lab.tasks.diagnosis_codes import STATUSES
from samirage.lab.tasks.image_data import Pictures
from samirage.lab.tasks.loop import ImageTraining, Ways
from samirage.report.sections import comparison
from samirage.sam import Status

CPU = torch.device("cpu")
SMALL = {"images": 48, "batch_size": 20, "epochs": 8, "seeds": 1, "threads": 1}  # two batches, and 8 images left over


class Precise(Pictures):
    """Images in float64."""

    def _standardized(self, images):
        return super()._standardized(images).double()


def training(method="sam", rho=0.3, seed=0, ways=None, precise=False, **overrides):
    config = settings("smoke", {**SMALL, **overrides})
    network, pictures = network_of(config, seed, CPU), pictures_of(config, CPU, None)
    if precise:
        network.double()
        pictures.__class__ = Precise
    recipe = recipe_of(config, method, rho, seed)
    ways = ways or config.ways
    return ImageTraining(network, pictures, recipe, weight_decay=config.weight_decay, ways=ways)


def course(one, epochs=8):
    parts = [one.epoch() for _ in range(epochs)]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def written_out(rho, steps=16, lr=0.05, momentum=0.9, decay=5e-4):
    """The same training with nothing of samirage's optimizer or loop in it: losses before every step."""
    config = settings("smoke", SMALL)
    network, pictures = network_of(config, 0, CPU).double(), pictures_of(config, CPU, None)
    pictures.__class__ = Precise
    params, generator = list(network.parameters()), torch.Generator().manual_seed(0)
    speed = [torch.zeros_like(p) for p in params]
    losses = []
    for step in range(steps):
        if step % 2 == 0:
            order = torch.randperm(48, generator=generator)
        rows = order[20 * (step % 2) : 20 * (step % 2) + 20]
        x, y = pictures.augmented(rows, generator), pictures.labels[rows]
        loss = functional.cross_entropy(network(x), y)
        grads = torch.autograd.grad(loss, params)
        losses.append(loss.item())
        if rho:
            length = torch.sqrt(sum(g.square().sum() for g in grads))
            home = [p.detach().clone() for p in params]
            with torch.no_grad():
                for p, g in zip(params, grads, strict=True):
                    p += rho * g / length
            grads = torch.autograd.grad(functional.cross_entropy(network(x), y), params)
            with torch.no_grad():
                for p, value in zip(params, home, strict=True):
                    p.copy_(value)
        rate = lr * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.no_grad():
            for p, v, g in zip(params, speed, grads, strict=True):
                v.mul_(momentum).add_(g + decay * p)
                p -= rate * v
    return losses


@pytest.mark.parametrize(("method", "rho"), [("sgd", 0.0), ("sam", 0.1)])
def test_the_training_is_the_one_written_out(method, rho):
    ours, expected = course(training(method, rho, precise=True))["loss"], written_out(rho)
    # float64, and a training that multiplies roundings by about ten a step
    assert ours[:6] == pytest.approx(expected[:6], rel=1e-9)
    assert ours == pytest.approx(expected, rel=1e-3)
    assert expected[0] > 1.1 * expected[-1]


def test_it_repeats_bit_for_bit_and_differs_between_seeds():
    one, same, other = (training(seed=seed).run(7) for seed in (0, 0, 1))
    assert one.identical(same)
    assert not np.array_equal(one.loss, other.loss)
    assert one.seed.values.tolist() == [7]


@pytest.mark.parametrize("method", METHODS)
def test_the_passes_are_those_of_the_plan(method):
    one, passes = training(method), []
    result = one.run(0, passes.append)
    assert sum(passes) == one.gradients == recipe_of(settings("smoke", SMALL), method, 0.3, 0).passes
    plain = {"sgd": 16, "switch": 2}.get(method, 0)
    assert int(result.gradients[0]) == 32 - plain
    assert result.radius.isnull().sum() == plain
    assert result.eval_step.values.tolist() == list(range(0, 17, 2))
    assert float(result.test_accuracy[0, -1]) == float(result.final_test_accuracy[0])
    assert ("rejections" in result) == (method == "guard")


def test_the_radius_decays_and_is_constant_otherwise():
    radius = course(training("decay", 0.8))["radius"]
    assert radius == pytest.approx([0.8 * (1 - step / 16) for step in range(16)], rel=1e-5)
    assert course(training("sam", 0.8))["radius"] == pytest.approx([0.8] * 16, rel=1e-5)


def test_it_learns():
    result = training("sgd", images=128, batch_size=32, epochs=10).run(0)
    assert float(result.final_test_accuracy[0]) > 0.5  # of four classes
    assert float(result.test_accuracy[0, 0]) < 0.5


def test_compiled_and_in_half_precision_it_is_the_same_training(monkeypatch):
    plain = course(training(), 2)["loss"]
    compiled = []

    def compile_eagerly(self):
        compiled.append(self)
        self._compiled_call_impl = torch.compile(self._call_impl, backend="eager")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "compile", compile_eagerly)
        same = course(training(ways=Ways(compiled=True)), 2)["loss"]
    assert len(compiled) == 1
    assert same == pytest.approx(plain, rel=1e-3)
    rounded = course(training(ways=Ways(bfloat16=True)), 2)["loss"]
    assert rounded == pytest.approx(plain, rel=0.1)
    assert not np.array_equal(rounded, plain)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_is_compiled_in_half_precision_and_repeats():
    one = create(["cifar"], "smoke", {"threads": 1, "device": "cuda", "rhos": (0.3,), "seeds": 1})[0]
    assert one.config["bfloat16"]
    assert one.config["compiled"]
    cells = {cell.name: cell for cell in one.cells()}
    for name in ("rho0.3-sam-seed0", "rho0.3-guard-seed0"):
        first, again = (compute(lambda name=name: one.run(cells[name], lambda passes: None), threads=1) for _ in "12")
        assert first.identical(again)
        assert np.isfinite(first.loss).all()
        assert float(first.loss[0, -4:].mean()) < float(first.loss[0, :4].mean())


def test_a_run_too_short_for_a_diagnosis_has_none():
    assert "status" not in training(epochs=7).run(0)
    assert "status" in training(epochs=8).run(0)


# --- the study --------------------------------------------------------------------------------------


def study(scale="smoke", **overrides):
    return create(["cifar"], scale, {"threads": 1, **overrides})[0]


@pytest.fixture
def whole(monkeypatch):
    """The study at the paper's scale, without its images."""
    monkeypatch.setattr(study_module, "pictures_of", lambda config, device, data_dir: None)
    return lambda **overrides: study("paper", **{"rhos": (0.2, 0.3, 0.8), **overrides})


def test_the_plan_of_the_papers_scale(whole):
    names = [cell.name for cell in whole(rhos=settings("paper", {}).rhos).cells()]
    assert len(set(names)) == len(names) == 5 * (1 + 4 * 8)
    assert names[:6] == [*(f"sgd-seed{seed}" for seed in range(5)), "rho0.1-sam-seed0"]
    cells = {cell.name: cell.passes for cell in whole(rhos=(0.3,)).cells()}
    steps = 200 * 390
    assert cells["sgd-seed0"] == steps
    assert cells["rho0.3-sam-seed0"] == cells["rho0.3-guard-seed4"] == 2 * steps
    assert cells["rho0.3-switch-seed0"] == 2 * steps - steps // 10


def test_the_configuration_tells_settings_apart(whole):
    assert whole().config == whole().config != whole(rhos=(0.3,)).config
    assert whole().config["bfloat16"] is False  # on a CPU
    assert cifar.fast_ways(torch.device("cuda")) == Ways(bfloat16=True, compiled=True)


def test_what_cannot_be_used_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="study cifar has losses of its own: leave out --loss, or name other studies"):
        study(loss="cross-entropy")
    with pytest.raises(UserError, match="unknown device 'gpu': use cpu"):
        study(device="gpu")
    with pytest.raises(UserError, match=r"holds none of 'train.bin.gz', 'train.bin': put one there, or, to download"):
        create(["cifar"], "laptop", {}, data_dir=str(tmp_path))


def test_where_no_study_is_named_it_is_left_out_if_its_data_are_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("samirage.lab.studies._STUDIES", {"cifar": "cifar:CifarStudy"})
    assert create([], "laptop", {}, data_dir=str(tmp_path)) == []
    assert "samirage: study cifar is left out: The data folder" in capsys.readouterr().err


def test_a_run_is_stored_taken_up_and_drawn_by_the_page(tmp_path):
    one, folder = study(seeds=1, rhos=(0.8,)), RunFolder(tmp_path / "run")
    assert reproduce([one], folder, command="command") == []
    assert folder.finished("cifar") == [cell.name for cell in one.cells()]
    stored = folder.read_cell("cifar", "rho0.8-guard-seed0")
    (tmp_path / "run" / "cells" / "cifar" / "rho0.8-guard-seed0.nc").unlink()
    assert reproduce([one], folder, command="command") == []
    again = folder.read_cell("cifar", "rho0.8-guard-seed0")
    taken = ["wall_seconds", "cpu_seconds"]
    assert again.drop_vars(taken).identical(stored.drop_vars(taken))
    section = comparison.build(folder, "cifar")
    assert section.title == "Images and stochastic gradients"
    assert "SAM alone ended at a hallucinated point in" in section.headline[-1]
    caption = "ResNet-18 of width 4, artificial images, 6 epochs, batches of 32. ρ = 0 is plain SGD."
    assert any(caption in str(block.data) for block in section.opening)


def made(one, accuracy, hit=lambda method, rho: False):
    """A data set for every cell of a plan, whose accuracy is given by method and radius."""
    cells = {}
    for cell in one.cells():
        method, rho, seed = (cell.settings[name] for name in ("method", "rho", "seed"))
        data = {
            "final_test_accuracy": ("seed", [accuracy(method, rho) + 0.001 * (seed - 2)]),
            "hallucinated": ("seed", [hit(method, rho)]),
            "final_grad_norm": ("seed", [1.0]),
            "status": ("seed", np.array([STATUSES.index(Status.PROGRESSING)], dtype=np.int8)),
        }
        recipe = recipe_of(one._settings, method, rho, seed)
        attributes = cifar.attributes_of(one._settings, method, recipe)
        cells[cell.name] = xr.Dataset(data, {"seed": [seed]}, attributes)
    return cells


def as_the_paper(method, rho):
    return {"sam": 0.7705, "switch": 0.7749}.get(method, 0.77) - 0.02 * abs(rho - 0.3)


def verdicts(one, *found):
    return {claim.statement: claim.verdict for claim in one.claims(made(one, *found), "command")}


def test_claims_hold_where_the_runs_are_the_papers(whole):
    found = verdicts(whole(), as_the_paper)
    assert len(found) == 6
    assert set(found.values()) == {Verdict.HOLDS}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda m, r: as_the_paper(m, r) - 0.02 * (m == "sam"), "SAM alone reaches a test accuracy of 77.05 %"),
        (lambda m, r: as_the_paper(m, r) + 0.02 * (m == "switch"), "the switch to SAM reaches a test accuracy of 77.4"),
        (lambda m, r: as_the_paper(m, r) + 0.01 * (r == 0.2), "SAM alone is best at ρ = 0.3"),
        (lambda m, r: as_the_paper(m, r) - 0.005 * (m == "switch"), "The switch at its best radius is not below"),
        (lambda m, r: as_the_paper(m, r) - 0.02 * (m == "guard"), "At the largest radius, ρ = 0.8, the guard"),
    ],
)
def test_each_claim_fails_where_the_runs_contradict_it(whole, change, part):
    found = {statement: verdict for statement, verdict in verdicts(whole(), change).items() if part in statement}
    assert set(found.values()) == {Verdict.FAILS}


def test_a_guard_that_leaves_hallucinations_is_told(whole):
    found = verdicts(whole(), as_the_paper, lambda method, rho: method == "guard" and rho == 0.8)
    assert [s for s, verdict in found.items() if verdict is Verdict.FAILS] == [
        "With the guard no network ends at a hallucinated point, at any radius"
    ]


def test_other_scales_and_missing_cells_decide_nothing_about_the_paper(whole):
    claims = study().claims(made(study(), as_the_paper), "command")
    papers = [claim for claim in claims if claim.source == "Figure 5"]
    assert len(papers) == 4
    assert all(claim.verdict is Verdict.NOT_COMPARABLE and "use --scale paper" in claim.reason for claim in papers)
    cells = made(whole(), as_the_paper)
    first = {name: cells[name] for name in ("sgd-seed0", "rho0.2-sam-seed0")}
    assert all(claim.n in (0, 5) or claim.verdict for claim in whole().claims(first, "command"))
    assert whole().claims({}, "command")
    few = whole(rhos=(0.3, 0.8))  # where a peak at 0.3 would show nothing
    assert [c.n for c in few.claims(made(few, as_the_paper), "command")] == [5, 5, 0, 5, 5, 10]
    assert whole().reading({})


def test_the_findings_are_computed(whole):
    told = whole().reading(made(whole(), as_the_paper, lambda method, rho: method == "sam" and rho > 0.6)).findings
    assert "SAM alone 77.05 ± 0.16 % at ρ = 0.3; switch 77.49 ± 0.16 % at ρ = 0.3" in told[0]
    assert "plain SGD 76.40 ± 0.16 %;" in told[0]
    assert "guard 76.80 ± 0.16 (0.2), 77.00 ± 0.16 (0.3), 76.00 ± 0.16 (0.8)." in told[1]
    assert told[2] == "SAM alone ended at a hallucinated point in 5 of 15 networks, over all radii."

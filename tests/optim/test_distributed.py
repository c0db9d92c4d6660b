"""DistributedDataParallel and FSDP2 with two processes under torchrun; the scenarios are in distributed_worker.py."""

from pathlib import Path

import pytest
import torch

from samirage import SAM
from tests.two_processes import needs_gloo, results_of

STYLES = ["closure", "perturbed", "first_second"]
pytestmark = needs_gloo


@pytest.fixture(scope="module")
def results():
    return results_of(Path(__file__).with_name("distributed_worker.py"))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("settings", ["sam {} False", "sam {} True", "asam {'rho': 0.1} True"])
def test_ddp_equals_one_process_and_reduces_nothing_of_its_own(results, style, settings):
    result = results[f"ddp {style} {settings}"]
    assert result["difference"] < 1e-14  # float64, six steps
    assert result["same"]
    assert result["reductions"] == 0
    assert result["cosine"] < 1e-14


@pytest.mark.parametrize("style", STYLES)
def test_local_scope_is_m_sharpness_and_synchronises_the_perturbed_pass_only(results, style):
    result = results[f"local {style}"]
    assert result["difference"] < 1e-14
    assert result["from_global"] > 1e-3  # so that a synchronised first pass would fail
    assert result["same"]
    assert result["synchronised"] == 6  # one bucket in each of six steps
    assert result["sizes"].count(1) == 6  # one scalar per step, by which the ranks agree that all are finite
    assert sum(result["sizes"]) == 6 * (1 + 84)
    assert result["sync_is_on"]


@pytest.mark.parametrize("style", STYLES)
def test_a_warm_start_in_local_scope_synchronises_its_only_pass(results, style):
    result = results[f"local warm start {style}"]
    assert result["difference"] < 1e-14
    assert result["same"]


@pytest.mark.parametrize("style", STYLES)
def test_a_gradient_that_is_not_finite_on_one_rank_skips_the_step_on_all(results, style):
    assert results[f"local overflow {style}"] == {"skipped": True, "unchanged": True, "same": True}


@pytest.mark.parametrize("scope", ["global", "local"])
def test_batch_norm_statistics_are_those_of_plain_training(results, scope):
    assert results[f"batch norm {scope}"]["difference"] == 0


@pytest.mark.parametrize(("scope", "synchronised"), [("global", 12), ("local", 6)])
@pytest.mark.parametrize("style", ["closure", "perturbed"])
def test_micro_batches_synchronise_once_per_pass(results, scope, style, synchronised):
    result = results[f"accumulation {scope} {style}"]
    assert result["difference"] < 1e-14
    assert result["synchronised"] == [synchronised, synchronised]


FSDP = [
    f"closure {variant} {second}" for variant in ("sam", "asam", "unnormalized") for second in ("{}", "{'rho': 0.1}")
]


# How many numbers are summed up over the ranks at a time: the norm that divides, and with ASAM then `‖g‖` and `<g, e>`;
# three norms or inner products of pass 2, four where the displacement is not parallel to the gradient.
PLAIN_SUMS = {False: [1, 3], True: [1, 1, 4]}  # with radii that differ, `<g, e>` needs a sum of its own
ASAM_SUMS = [1, 2, 4]


@pytest.mark.parametrize(
    "scenario", [*(f"{style} sam" for style in STYLES), *FSDP, "closure asam {'rho': 0.0}", "gathered"]
)
def test_fsdp_equals_one_process(results, scenario):
    result = results[f"fsdp {scenario}"]
    assert result["difference"] < 1e-14
    assert result["figures"] < 1e-13
    assert result["sizes"] == (ASAM_SUMS if "asam" in scenario else PLAIN_SUMS["rho" in scenario]) * 6


# Numbers that are summed up over the ranks: the norms of pass 1, the figures of pass 2, then what the variant asks for;
# LookSAM's steps of one pass need the norm of the gradient, and then that of what is kept too.
SUMS = {"ASAM": ASAM_SUMS * 6, "GSAM": [1, 4, 2] * 6, "LookSAM": [1, 4, 3, 1, 1, 2, 1, 2] * 2}


@pytest.mark.parametrize("variant", SUMS)
def test_variants_with_options_equal_one_process(results, variant):
    for scenario in (f"ddp closure {variant} {{}} True", f"ddp perturbed {variant} {{}} False"):
        result = results[scenario]
        assert result["difference"] < 1e-14
        assert result["same"]
        assert result["reductions"] == 0
    for scenario in (f"fsdp closure {variant} {{}}", f"fsdp first_second {variant} {{}}"):
        result = results[scenario]
        assert result["difference"] < 1e-14
        assert result["figures"] < 1e-13
        if "closure" in scenario:
            assert result["sizes"] == SUMS[variant]


def test_fsdp_in_float32_equals_one_process(results):
    result = results["fsdp float32"]
    assert result["difference"] < 1e-6
    assert result["figures"] < 1e-5


@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_a_guard_decides_on_every_rank_as_in_one_process(results, wrap):
    result = results[f"guarded {wrap}"]
    assert result["difference"] < 1e-14
    ours, expected = result["rejections"]
    assert ours == expected
    assert ours[-1] > 0
    assert result["factors"][0] == result["factors"][1] < 1
    assert result["agreed"]


def test_fsdp_restores_its_shards_and_skips_on_all_ranks(results):
    result = results["fsdp failures"]
    assert result["failed"]
    assert result["moved"] > 0.01
    assert result["back"] == 0
    assert result["skipped"]
    assert result["unchanged"] == 0


def test_scopes_that_make_no_sense():
    model = torch.nn.Linear(2, 2)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="scope must be one of 'global', 'local'; got 'rank'"):
        SAM(base, scope="rank")
    with pytest.raises(
        ValueError, match=r"scope 'local' needs the DistributedDataParallel .* got a model of type Linear"
    ):
        SAM(base, model=model, scope="local")

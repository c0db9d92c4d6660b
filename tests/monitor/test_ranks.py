"""The monitor under DistributedDataParallel and FSDP2, two processes; the scenarios are in ranks_worker.py."""

from pathlib import Path

import pytest

from tests.two_processes import needs_gloo, results_of

pytestmark = needs_gloo


@pytest.fixture(scope="module")
def results():
    return results_of(Path(__file__).with_name("ranks_worker.py"))


def test_under_ddp_every_rank_sees_what_one_process_sees(results):
    assert results["ddp"]["identical"]
    assert results["ddp"]["same"]
    assert results["ddp"]["difference"] < 1e-9


def test_under_fsdp_the_ranks_add_up_to_what_one_process_sees(results):
    result = results["fsdp"]
    assert result["identical"]
    assert result["same"]
    assert result["difference"] < 1e-9
    assert result["reductions"] == 3  # one for each half window of 16 steps, among 48


def test_a_sample_of_each_shard_estimates_the_whole(results):
    result = results["fsdp sampled"]
    assert result["same"]
    assert result["difference"] > 1e-3  # or it was no sample


def test_one_rank_alone_may_ask(results):
    assert results["fsdp"]["last_step"] == 47
    assert results["fsdp too early"]["said"] == (
        "a diagnosis needs at least 16 steps, and the monitor has seen 10: train on"
    )

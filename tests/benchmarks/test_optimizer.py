"""The benchmark of the optimizer: it runs in every part, and its accounts of time and memory are right."""

import json
import time

import pytest
import torch

from benchmarks import memory, optimizer, run, timing
from benchmarks.contenders import BARE, CONTENDERS, GUARDED, trial
from benchmarks.workloads import loss_of, workloads

CPU = torch.device("cpu")


@pytest.mark.parametrize("workload", workloads(tiny=True), ids=lambda w: w.key)
def test_every_contender_trains_and_all_of_samirage_alike(workload):
    losses = {}
    for name in CONTENDERS:
        made = trial(name, workload, CPU)
        for _ in range(3):
            made.step()
        with torch.no_grad():
            losses[name] = loss_of(made.model, made.x, made.labels).item()
    ours = [loss for name, loss in losses.items() if name.startswith("samirage") and name != GUARDED]
    assert len(ours) == 3
    assert max(ours) == min(ours)
    peers = [loss for name, loss in losses.items() if name.startswith("pytorch-optimizer")]
    assert peers == pytest.approx([ours[0]] * 2, abs=0.2 * abs(losses[BARE] - ours[0]))  # roundings grow in training


def test_the_sizes_are_those_that_the_table_announces():
    def size(workload):
        return sum(p.numel() for p in workload.model().parameters())

    mlp, resnet, transformer = workloads()
    assert (size(mlp), size(resnet)) == (25_450, 11_220_132)
    assert mlp.batch()[0].shape == (128, 784)
    assert resnet.batch()[0].shape == (64, 3, 32, 32)
    layer = 12 * 256**2 + 13 * 256  # attention 4·d², feed-forward 8·d²; biases and two norms
    assert size(transformer) == 4 * layer + 2 * 256**2 + 128 * 256 + 256 + 512


def test_times_are_taken_in_turn_and_the_first_round_does_not_count():
    calls = []

    def pause(name, seconds):
        calls.append(name)
        time.sleep(seconds)

    taken = timing.times_in_turn({"a": lambda: pause("a", 0.004), "b": lambda: pause("b", 0.001)}, rounds=6)
    assert {name: len(times) for name, times in taken.items()} == {"a": 6, "b": 6}
    assert all(sorted(calls[i : i + 2]) == ["a", "b"] for i in range(0, 14, 2))
    assert len({tuple(calls[i : i + 2]) for i in range(0, 14, 2)}) == 2  # in both orders
    assert min(taken["a"]) >= 0.004 > 0.001 <= min(taken["b"])


def test_the_spread_is_median_and_quartiles():
    assert timing.spread([5.0, 1.0, 3.0, 2.0, 4.0]) == timing.Spread(3.0, 2.0, 4.0, 5)


def test_the_balance_sees_temporaries_and_what_is_kept():
    kept = []

    def first():
        a = torch.zeros(1000)  # 4,000 bytes
        kept.append(torch.zeros(500))
        b = a + a  # 4,000 more, which is the peak
        del a, b
        torch.zeros(100)

    def second():
        torch.zeros(10)
        kept.clear()

    assert memory.balances([first, second], CPU) == [(10_000, 2_000), (40, -2_000)]


def test_the_peers_perturbation_is_seen_as_memory():
    # Two copies by construction: the backup, and the perturbation that is computed while the gradients still exist.
    used = memory.measure(workloads(tiny=True)[0], CPU)
    assert set(used) == set(CONTENDERS) - {BARE}
    assert used["pytorch-optimizer, first_step + second_step"].peak > 1.5
    assert all(abs(m.kept) < 0.01 for name, m in used.items() if name != GUARDED)
    assert 0 < used[GUARDED].kept <= 11  # sampled vectors of the monitor, which are whole ones in a model this small


def test_the_command_measures_prints_and_stores(tmp_path, capsys):
    out = tmp_path / "new" / "optimizer.json"
    run.main(["optimizer", "--tiny", "--seconds", "0.1", "--threads", "1", "--out", str(out)])
    stored = json.loads(out.read_text(encoding="utf-8"))
    (device,) = [d for d in stored["devices"] if d["device"] == "cpu"]
    assert list(device["workloads"]) == ["mlp", "resnet18", "transformer"]
    for measured in device["workloads"].values():
        assert list(measured["contenders"]) == list(CONTENDERS)
        for name, cost in measured["contenders"].items():
            assert cost["overhead"]["n"] >= 5
            assert (cost["read"] is not None) == name.startswith("samirage")
        assert measured["contenders"][BARE]["overhead"]["median"] == 1
    printed = capsys.readouterr().out
    assert "MLP 784-32-10" in printed
    assert "first_step + second_step" in printed


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["memory"])
    assert "there are the parts engine, optimizer, monitor; got memory" in capsys.readouterr().err


def test_reading_the_record_is_compared_with_the_steps_between_two_readings():
    made = trial("samirage, step(closure)", workloads(tiny=True)[0], CPU)
    made.step()
    fast, slow = (optimizer._reading(made, bare, CPU).median for bare in (1.0, 1e-3))
    assert 0 < fast < slow


def test_the_monitors_cost_is_printed(capsys):
    run.main(["monitor", "--tiny", "--threads", "1"])
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("% (quartiles") == 5
    assert "ensemble of 16, 1000 images, batch 128: guard and watch add" in printed

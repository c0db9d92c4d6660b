"""All that waits for a GPU, within a time limit: what is run, skipped, stopped and stored; on a CPU."""

import json
import sys
import time

import pytest

import gpu
import one_cell
from samirage.lab.engine.compute import commit
from samirage.lab.results.store import RunFolder
from timed_parts import GRACE_S, Part, path_of, run_parts, stored

FACTS = {"scale": "smoke", "device": "cpu"}


def part(name, code, **options):
    return Part(name, [sys.executable, "-c", code], **options)


def run(parts, folder, seconds=60.0, told=None):
    told = [] if told is None else told
    outcomes = run_parts(parts, folder, deadline=time.monotonic() + seconds, facts=FACTS, tell=told.append)
    return {outcome.name: outcome.state for outcome in outcomes}


def test_a_part_leaves_what_it_measured_and_is_not_run_twice(tmp_path):
    made = tmp_path / "made"
    code = f"open({str(made)!r}, 'a').write('x')"
    parts = [part("a/b", code, result=lambda: {"size": made.stat().st_size, "ratio": float("nan")})]
    assert run(parts, tmp_path) == {"a/b": "finished"}
    assert run(parts, tmp_path) == {"a/b": "finished"}
    assert made.read_text() == "x"
    found = json.loads((tmp_path / "parts" / "a__b.json").read_text())
    assert found["result"] == {"size": 1, "ratio": None}
    assert found["scale"] == "smoke"
    assert found["exit_code"] == 0
    assert 0 < found["wall_s"] < 60


def test_what_fails_stops_nothing_else_and_comes_last_the_next_time(tmp_path):
    def unreadable():
        raise FileNotFoundError("no such file")

    told = []
    parts = [
        part("bad", "print('first'); raise SystemExit('no room')", result=unreadable),
        Part("missing", ["/no/such/program"]),
        part("unreadable", "", result=unreadable),
        part("tests", "raise SystemExit(1)", result=lambda: {"failed": ["one"]}, keep_failed=True),
        part("good", ""),
    ]
    ends = run(parts, tmp_path, told=told)
    assert ends == {"bad": "failed", "missing": "failed", "unreadable": "failed", "tests": "failed", "good": "finished"}
    assert "exit code 1: no room" in told[0]
    assert "FileNotFoundError" in told[2]
    assert stored(tmp_path, "bad")["output"] == ["first", "no room"]
    assert stored(tmp_path, "tests")["result"] == {"failed": ["one"]}
    again = [part("bad", ""), part("new", "")]
    assert list(run(again, tmp_path)) == ["new", "bad"]
    assert stored(tmp_path, "bad")["state"] == "finished"


def test_at_the_deadline_a_part_is_stopped_as_by_ctrl_c_with_all_that_it_started(tmp_path):
    mark = tmp_path / "mark"
    code = f"""
import subprocess, sys, time
code = "import time; time.sleep(8); open({str(mark)!r}, 'w')"
subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("asked to stop", flush=True)
"""
    begun = time.monotonic()
    parts = [part("long", code), part("next", "")]
    assert run(parts, tmp_path, GRACE_S + 3) == {"long": "stopped", "next": "not started"}
    assert time.monotonic() - begun < GRACE_S + 3
    found = stored(tmp_path, "long")
    assert found["output"] == ["asked to stop"]
    assert found["exit_code"] is None
    time.sleep(max(0.0, begun + 9 - time.monotonic()))
    assert not mark.exists()
    # What it was given was too little, and so is less.
    assert run(parts, tmp_path, GRACE_S + 2) == {"long": "not started", "next": "finished"}


def test_what_is_known_to_take_longer_is_not_started_and_shorter_parts_are(tmp_path):
    told = []
    parts = [part("long", "", expected_s=lambda: 100.0), part("long-too", "", expected_s=lambda: 100.0), part("b", "")]
    ends = run(parts, tmp_path, 60.0, told)
    assert ends == {"long": "not started", "long-too": "not started", "b": "finished"}
    assert told[0] == "long: not started, it needs about 1.7 min, 0.7 min are left"
    assert len(told) == 2
    assert run(parts[:1], tmp_path, 200.0) == {"long": "finished"}


def test_no_name_leads_out_of_the_folder(tmp_path):
    for name in ("../x", "a/../../x", "", "/x", "a b"):
        with pytest.raises(ValueError, match="a part is named by"):
            path_of(tmp_path, name)


def test_the_plan_begins_with_tests_and_with_the_papers_best_radius(tmp_path, monkeypatch):
    monkeypatch.setattr("samirage.lab.studies.cifar.pictures_of", lambda config, device, data_dir: None)
    monkeypatch.setattr("samirage.lab.studies.mnist.Digits", lambda *given, **options: None)
    names = [one.name for one in gpu.plan(tmp_path, "cpu", "paper")]
    assert names[:5] == ["tests", "epochs", "epochs-eager", "steps", "mnist/sgd"]
    networks = [name for name in names if name.startswith("cifar/")]
    assert networks[:6] == ["cifar/sgd-seed0"] + [
        f"cifar/rho0.3-{method}-seed0" for method in ("sam", "switch", "decay", "guard")
    ] + ["cifar/sgd-seed1"]  # fmt: skip
    assert networks[25].startswith(("cifar/rho0.2", "cifar/rho0.4"))
    assert len(networks) == len(set(networks)) == 165


def test_how_long_a_network_takes_is_guessed_from_an_epoch_and_then_from_another_network(tmp_path):
    parts = {one.name: one for one in gpu.plan(tmp_path, "cpu", "smoke")}
    network = parts["cifar/rho0.3-sam-seed0"]
    assert network.expected_s() is None
    epochs = {
        "images_per_epoch": 128, "config": {"batch_size": 32},
        "contenders": {"SGD": {"epoch_seconds": {"median": 2.0}}},
    }  # fmt: skip
    path_of(tmp_path, "epochs").parent.mkdir()
    path_of(tmp_path, "epochs").write_text(json.dumps({"state": "finished", "result": epochs}))
    assert network.expected_s() == 2 * 6 * 2.0  # two gradients a step, six epochs
    path_of(tmp_path, "cifar/sgd-seed1").write_text(json.dumps({"state": "finished", "wall_s": 5.0}))
    assert network.expected_s() == 10.0


def test_on_a_cpu_at_smoke_scale_it_measures_trains_and_packs(tmp_path, monkeypatch, capsys):
    if str(commit()).endswith("-dirty"):
        pytest.skip("the tree has changes that are not committed, and what such a tree has computed is not packed")
    chosen = ["epochs", "cifar/sgd-seed0"]
    whole = gpu.plan
    monkeypatch.setattr(gpu, "plan", lambda *given: [one for one in whole(*given) if one.name in chosen])
    arguments = ["--device", "cpu", "--scale", "smoke", "--out", str(tmp_path), "--minutes"]
    assert gpu.main([*arguments, "8"]) == 0
    assert "2 parts: 2 finished.\n" in capsys.readouterr().out
    epochs, network = (stored(tmp_path, name) for name in chosen)
    assert epochs["result"]["contenders"]["SAM"]["ratio"]["n"] == 2
    assert epochs["command"].startswith("python benchmarks/resnet.py --scale smoke")
    assert str(tmp_path) not in json.dumps(network)
    assert network["result"]["gradients"] == [24]
    assert network["versions"].keys() >= {"python", "torch"}
    assert RunFolder(tmp_path / "packed").finished("cifar") == ["sgd-seed0"]
    assert gpu.main([*arguments, "0.5"]) == 0  # nothing is left to do
    assert "2 parts: 2 finished.\n" in capsys.readouterr().out
    assert gpu.main(["--device", "cpu", "--scale", "laptop", "--out", str(tmp_path), "--minutes", "1"]) == 2
    assert "holds parts of scale smoke" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--minutes", "0"], "--minutes must be a number above 0"),
        (["--minutes", "nan"], "--minutes must be a number above 0"),
        (["--minutes", "1", "--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, capsys, arguments, said):
    assert gpu.main(["--device", "cpu", "--scale", "smoke", "--out", str(tmp_path / "new"), *arguments]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_cell_that_does_not_exist_is_refused(tmp_path, capsys):
    given = ["mnist", "sam-rho7", "--scale", "smoke", "--device", "cpu", "--out", str(tmp_path)]
    assert one_cell.main(given) == 2
    assert "has no cell 'sam-rho7'" in capsys.readouterr().err

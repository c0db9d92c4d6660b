"""Sweeps by processes and on Ray: all cells, whatever is killed; one driver or two; a disk or an object store."""

import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from samirage.errors import UserError
from samirage.files import named_place
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import STUDIES, create
from samirage.lab.sweep import capacity
from samirage.lab.sweep.launchers.in_process import InProcess
from samirage.lab.sweep.launchers.local_processes import Processes
from samirage.lab.sweep.launchers.ray import Ray
from samirage.lab.sweep.reproduce import reproduce
from samirage.report.page import build_page
from tests.lab.sweep.sweeping import Squares


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Workers find the studies of these tests."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    )


def squares(folder, study="squares"):
    return {name: int(folder.read_cell(study, name).square.sum()) for name in folder.finished(study)}


def all_squares(count):
    return {f"c{k}": k * k for k in range(count)}


def test_two_processes_share_the_cells_and_all_are_stored(tmp_path):
    notes, passes = tmp_path / "notes", []
    study = Squares(6, notes=str(notes), wait=0.3)
    folder = RunFolder(tmp_path / "run")
    assert reproduce([study], folder, command="c", launcher=Processes(2, 1), advance=passes.append) == []
    assert squares(folder) == all_squares(6)
    assert sum(passes) == 60
    assert len({line.split()[1] for line in notes.read_text().splitlines()}) == 2
    assert folder.claims("squares")[0].measured == 55
    assert multiprocessing.active_children() == []


def test_a_failing_cell_is_reported_and_does_not_stop_the_others(tmp_path):
    folder = RunFolder(tmp_path / "run")
    failures = reproduce([Squares(3, (("c1", "error"),))], folder, command="c", launcher=InProcess())
    assert [(f.task.name, f.error) for f in failures] == [("squares/c1", "KeyError: 'no luck'")]
    assert squares(folder) == {"c0": 0, "c2": 4}
    assert reproduce([Squares(3)], folder, command="c") == []
    assert squares(folder) == all_squares(3)


def test_the_cell_of_a_killed_process_is_run_by_another_three_times_at_most(tmp_path):
    folder, notes = RunFolder(tmp_path / "run"), tmp_path / "notes"
    study = Squares(5, (("c0", "kill"), ("c1", "kill once"), ("c2", "error")), str(notes))
    failures = reproduce([study], folder, command="c", launcher=Processes(2, 1))
    assert {f.task.name: f.error for f in failures} == {
        "squares/c0": "its process ended 3 times (killed: perhaps the memory ran out)",
        "squares/c2": "KeyError: 'no luck'",
    }
    assert squares(folder) == {"c1": 1, "c3": 9, "c4": 16}
    names = [line.split()[0] for line in notes.read_text().splitlines()]
    assert sorted(names) == ["c0", "c0", "c0", "c1", "c1", "c2", "c3", "c4"]  # no more than the cells in flight


def test_a_full_disk_ends_the_sweep_with_its_sentence_and_no_process_is_left(tmp_path):
    folder = RunFolder(tmp_path / "run")
    in_the_way = tmp_path / "run" / "cells"
    (tmp_path / "run").mkdir()
    in_the_way.write_text("")
    with pytest.raises(UserError, match=r"cannot write .*c\d\.nc \(.*\); name a folder that is writable"):
        reproduce([Squares(4)], folder, command="c", launcher=Processes(2, 1))
    assert multiprocessing.active_children() == []


def test_an_interruption_ends_the_processes_at_once(tmp_path):
    def interrupts(passes):
        raise KeyboardInterrupt

    folder = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        reproduce([Squares(6, wait=0.2)], folder, command="c", launcher=Processes(2, 1), advance=interrupts)
    assert multiprocessing.active_children() == []
    assert reproduce([Squares(6)], folder, command="c") == []
    assert squares(folder) == all_squares(6)


DRIVER = """
import sys
from pathlib import Path
from tests.lab.sweep.sweeping import Squares
from samirage.lab.sweep.launchers.local_processes import Processes
from samirage.lab.results.store import RunFolder
from samirage.lab.sweep.reproduce import reproduce
if __name__ == "__main__":
    study = Squares(int(sys.argv[2]), (), sys.argv[3], 0.2)
    reproduce([study], RunFolder(Path(sys.argv[1])), command="c", launcher=Processes(2, 1))
"""


def driver(tmp_path, count):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    return subprocess.Popen([sys.executable, str(script), str(tmp_path / "run"), str(count), str(tmp_path / "notes")])


@pytest.mark.slow
def test_workers_end_with_a_killed_driver_and_its_run_resumes(tmp_path):
    process = driver(tmp_path, 60)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("cells/squares/*.nc")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert len(workers) >= 2
    assert alive == []
    folder = RunFolder(tmp_path / "run")
    stored = squares(folder)
    assert 0 < len(stored) < 60
    before = (tmp_path / "notes").read_text().count("\n")
    assert reproduce([Squares(60, notes=str(tmp_path / "notes"))], folder, command="c") == []
    assert squares(folder) == all_squares(60)
    assert (tmp_path / "notes").read_text().count("\n") - before == 60 - len(stored)


@pytest.mark.slow
def test_two_drivers_on_one_folder_do_not_get_in_each_others_way(tmp_path):
    processes = [driver(tmp_path, 12) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    folder = RunFolder(tmp_path / "run")
    assert squares(folder) == all_squares(12)
    assert folder.claims("squares")[0].measured == sum(all_squares(12).values())
    assert list((tmp_path / "run").rglob("*.partial")) == []


def test_what_two_threads_add_to_one_file_is_all_there(tmp_path):
    begun, names = RunFolder(tmp_path / "run"), [f"study{i}" for i in range(20)]

    def add(mine):
        for name in mine:
            RunFolder(begun.path).write_manifest(name, {"config": {}, "cells": []})

    threads = [threading.Thread(target=add, args=(names[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun.studies()) == sorted(names)


def test_a_study_is_pickled_as_what_it_was_made_with():
    study = Squares(3, notes="x")
    study.large = bytes(10**6)
    content = pickle.dumps(study)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert (again.count, again.notes) == (3, "x")
    assert pickle.loads(content) is again  # its data are loaded once


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_sent_to_another_process(name):
    study = create([name], "smoke", {})[0]
    content = pickle.dumps((study, study.cells()))
    assert len(content) < 20_000
    again, cells = pickle.loads(content)
    assert (again.config, cells) == (study.config, study.cells())


def test_a_run_in_an_object_store_is_written_read_and_resumed():
    folder = RunFolder(named_place("memory://bucket/run"))
    failures = reproduce([Squares(3, (("c1", "error"),))], folder, command="c")
    assert [f.task.name for f in failures] == ["squares/c1"]
    again = RunFolder(named_place("memory://bucket/run"))
    assert squares(again) == {"c0": 0, "c2": 4}
    assert reproduce([Squares(3)], again, command="c") == []
    assert squares(again) == all_squares(3)
    again.write_packed("squares", {"c0": again.read_cell("squares", "c1")})
    assert int(again.read_cell("squares", "c0").square.sum()) == 1
    assert "squares" in build_page(again).read_text()


def test_places_are_named_by_path_or_address(tmp_path):
    assert named_place("a/b") == Path("a/b")
    assert named_place(f"file://{tmp_path}") == tmp_path
    with pytest.raises(UserError, match=r"^nowhere://x cannot be reached \(.*\); name a folder, or install"):
        named_place("nowhere://x")


@pytest.mark.parametrize(
    ("asked", "got"),
    [((None, None), (4, 1)), ((None, 2), (2, 2)), ((1, None), (1, 4)), ((2, None), (2, 2)), ((3, 1), (3, 1))],
)
def test_workers_fill_the_cores_and_no_more(asked, got, monkeypatch):
    monkeypatch.setattr(capacity, "usable_cores", lambda: 4)
    assert capacity.workers_and_threads(*asked) == got


def test_workers_fit_into_the_memory_and_the_cores(monkeypatch):
    monkeypatch.setattr(capacity, "usable_cores", lambda: 64)
    memory = psutil.virtual_memory()._replace(available=5 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert capacity.workers_and_threads(None, None) == (5, 1)
    with pytest.raises(UserError, match="33 workers of 2 threads need 66 cores, and there are 64: use fewer"):
        capacity.workers_and_threads(33, 2)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "12800000 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 64),
    ],
)
def test_cores_are_those_of_the_affinity_within_the_limit_of_the_container(files, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert capacity.usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nonsense", "'nonsense' is no address of a Ray cluster: use HOST:PORT, ray://HOST:PORT or auto"),
        ("127.0.0.1:{free}", "no Ray cluster can be reached at 127.0.0.1:{free} (Connection refused); start one"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(address, sentence):
    pytest.importorskip("ray", reason="Ray is an extra")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = str(taken.getsockname()[1])
    with pytest.raises(UserError) as caught:
        Ray(address.replace("{free}", free), cpus=1)
    assert str(caught.value).startswith(sentence.replace("{free}", free))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning", "ignore:.*:ResourceWarning")
def test_ray_does_all_cells_and_those_of_killed_workers_again(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is an extra")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder, notes, passes = RunFolder(tmp_path / "run"), tmp_path / "notes", []
    study = Squares(4, (("c1", "kill once"), ("c2", "error")), str(notes))
    launcher = Ray(None, cpus=2)
    try:
        failures = reproduce([study], folder, command="c", launcher=launcher, advance=passes.append)
    finally:
        launcher.close()
    assert [(f.task.name, f.error) for f in failures] == [("squares/c2", "KeyError: 'no luck'")]
    assert squares(folder) == {"c0": 0, "c1": 1, "c3": 9}
    assert sum(passes) == 40

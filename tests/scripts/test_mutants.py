"""scripts/mutants.py on a toy package: what it finds and leaves alone; and its planted bugs fit the source."""

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

import mutants
import update_contributing
from mutation.mutant import files_of, planted, read_planted
from mutation.operators import edits
from mutation.targets import SAMIRAGE, Project

SUMS = '''\
"""A module whose docstring says 1 + 1."""

LIMIT = 0.5


def total(values: list[float]) -> float:
    """Return the sum, at most 9 < 10."""
    result = 0.0
    for value in values:
        result += value
    return min(result, 9.0)


def countdown(n: int) -> int:
    while n > 0:
        n -= 1
    return n


def unused(a: int) -> int:
    return -a
'''
TESTS = """\
from toy.room.sums import LIMIT, countdown, total

def test_total():
    assert total([1.0, 2.0]) == 3.0
    assert total([8.0, 2.0]) == 9.0

def test_countdown():
    assert countdown(3) == 0

def test_limit():
    assert LIMIT == 0.5
"""
PLANTED = """\
[seen]
file = "src/toy/room/sums.py"
old = "result += value"
new = "result -= value"
tests = ["tests/room"]
why = "the sum has another sign"

[unseen]
file = "src/toy/room/sums.py"
old = "n > 0"
new = "n != 0"
tests = ["tests/room/test_sums.py::test_countdown"]
why = "a negative number never ends"
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    files = {
        "src/toy/__init__.py": "",
        "src/toy/room/__init__.py": "",
        "src/toy/room/sums.py": SUMS,
        "tests/room/test_sums.py": TESTS,
        "planted.toml": PLANTED,
        "pyproject.toml": "[tool.pytest.ini_options]\n",
        ".venv/large": "not to be copied",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return Project(root=tmp_path / "project", package="src/toy", targets=("room/*.py",), planted="planted.toml")


def digest(root) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def run(project, tmp_path, *arguments):
    code = mutants.main([*arguments, "--limit", "2", "--out", str(tmp_path / "out")], project)
    return code, json.loads((tmp_path / "out" / "mutants.json").read_text())


def test_the_toys_mutants_are_told_apart_and_nothing_is_left_behind(project, tmp_path, capsys):
    before = digest(project.root)
    code, found = run(project, tmp_path)
    assert code == 1  # a planted bug has survived
    assert digest(project.root) == before
    assert list((tmp_path / "tmp").iterdir()) == []
    assert found["planted"]["total"] == {"killed": 1, "timeout": 0, "survived": 1, "not covered": 0}
    assert found["planted"]["score"] == 0.5
    killed = [
        "number: 0.5 -> 0.75", "number: 0.5 -> 0.3333333333333333", "number: 0.0 -> 1.0", "min to max",
        "+= to -=: result += value", "statement dropped: result += value", "number: 9.0 -> 13.5", "number: 9.0 -> 6.0",
        "> to <=", "> to >=", "number: 0 -> 1", "number: 1 -> 2",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    by_change = {line["change"]: line for line in lines}
    assert len(by_change) == len(lines)
    for start in killed:
        (line,) = [by_change[change] for change in by_change if change.startswith(start)]
        assert line["outcome"] == "killed", line
    named = {outcome: [line["change"] for line in lines if line["outcome"] == outcome] for outcome in mutants.OUTCOMES}
    assert named["not covered"] == ["sign or not dropped: -a -> a"]
    assert named["timeout"] == ["-= to +=: n -= 1 -> n += 1", "statement dropped: n -= 1 -> pass"]
    assert named["survived"] == ["unseen: a negative number never ends"]
    assert by_change["> to <=: n > 0 -> (n <= 0)"]["by"] == "tests/room/test_sums.py::test_countdown"
    assert found["survivors"] == [
        "src/toy/room/sums.py:15: unseen: a negative number never ends (survived)",
        "src/toy/room/sums.py:21: sign or not dropped: -a -> a (not covered)",
    ]
    systematic = found["systematic"]
    assert systematic["total"] == {"killed": 12, "timeout": 2, "survived": 0, "not covered": 1}
    assert systematic["score"] == round(14 / 15, 4)
    assert "sums.py:21: sign or not dropped" in capsys.readouterr().out


def test_what_is_known_is_not_run_again_until_the_module_or_its_tests_change(project, tmp_path, capsys, monkeypatch):
    run(project, tmp_path, "--named", "seen")
    journal = tmp_path / "out" / "outcomes.jsonl"
    with journal.open("a") as file:
        file.write('{"key": "cut o')  # as an interruption leaves it
    started = []
    monkeypatch.setattr(mutants.Workbench, "__enter__", lambda self: started.append(1) or 1 / 0)
    code, found = run(project, tmp_path, "--named", "seen")
    assert (code, found["planted"]["score"], started) == (0, 1.0, [])
    (project.root / "tests/room/test_sums.py").write_text(TESTS + "\n")
    with pytest.raises(ZeroDivisionError):
        run(project, tmp_path, "--named", "seen")


def test_a_sample_is_drawn_by_its_seed(project, tmp_path, capsys):
    def drawn(*arguments):
        assert mutants.main(["--list", *arguments], project) == 0
        return capsys.readouterr().out.splitlines()

    every = drawn()
    assert len(every) == 17
    first = drawn("--sample", "5", "--seed", "1")
    assert len(first) == 2 + 5  # the planted bugs are always there
    assert first == drawn("--sample", "5", "--seed", "1") != drawn("--sample", "5", "--seed", "2")
    assert set(first) < set(every)
    assert drawn("room/sums", "--named") == [line for line in every if "seen: " in line]


def test_what_cannot_be_run_is_a_sentence(project, tmp_path, capsys):
    def message(*arguments):
        assert mutants.main([*arguments, "--out", str(tmp_path / "out")], project) == 2
        return capsys.readouterr().err

    assert "there is no module 'rooms' to mutate: name a room (room)" in message("rooms")
    assert "there is no planted bug nowhere" in message("--named", "seen", "nowhere")
    (project.root / "tests/room/test_sums.py").write_text(TESTS + "\ndef test_red():\n    assert False\n")
    assert "the tests fail without a mutant: tests/room/test_sums.py::test_red" in message("--named", "seen")
    (project.root / "src/toy/room/sums.py").write_text(SUMS.replace("n > 0", "n >= 1"))
    stale = message("--named")
    assert "planted bugs that no longer fit the source" in stale
    assert "unseen (its old text stands 0 times in src/toy/room/sums.py)" in stale
    with pytest.raises(SystemExit, match="2"):
        mutants.main(["--sample", "0"], project)
    moved = replace(project, targets=("room/*.py", "other/*.py"))
    assert mutants.main(["--list"], moved) == 2
    assert "no module of src/toy is called other/*.py: bring the targets up to date" in capsys.readouterr().err


def test_a_summary_is_stored_from_a_clean_commit_only(project, tmp_path, capsys):
    def git(*arguments):
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(
            ["git", "-C", project.root, *identity, *arguments], check=True, capture_output=True, env=environment
        )

    git("init")
    git("add", "--all")
    git("commit", "--message", "first")
    store = tmp_path / "stored.json"
    assert run(project, tmp_path, "--named", "seen", "--store", str(store))[0] == 0
    stored = json.loads(store.read_text())
    assert len(stored["commit"]) == 12
    assert stored["packages"]["pytest"] == pytest.__version__
    (project.root / "planted.toml").write_text(PLANTED + "\n")
    store.unlink()
    assert mutants.main(["--named", "seen", "--store", str(store), "--out", str(tmp_path / "out")], project) == 2
    assert "needs a clean commit" in capsys.readouterr().err
    assert not store.exists()


def test_an_interruption_leaves_neither_a_copy_nor_a_process(project, tmp_path):
    program = (
        "import sys, tempfile; from pathlib import Path; import mutants; from mutation.targets import Project\n"
        f"tempfile.tempdir = {str(tmp_path / 'tmp')!r}\n"
        f"project = Project(Path({str(project.root)!r}), 'src/toy', ['room/*.py'], planted='planted.toml')\n"
        f"sys.exit(mutants.main(['--out', {str(tmp_path / 'out')!r}, '--limit', '60'], project))\n"
    )
    before = digest(project.root)
    scripts = str(SAMIRAGE.root / "scripts")
    path = os.pathsep.join(filter(None, [scripts, os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path})
    try:
        until = time.monotonic() + 60
        changed = None
        while time.monotonic() < until and changed is None:  # until a mutant is being run
            copies = list((tmp_path / "tmp").glob("*/project/src/toy/room/sums.py"))
            changed = next((copy for copy in copies if copy.read_text() not in {SUMS, ""}), None)
            time.sleep(0.005)
        assert changed is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        process.kill()
        process.wait()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert digest(project.root) == before
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and is_within(pid, tmp_path)]


def is_within(pid, folder) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(str(folder))
    except OSError:  # ended meanwhile
        return False


def test_every_mutant_of_a_module_is_a_program_and_another_one():
    source = (SAMIRAGE.root / "src/samirage/sam/window.py").read_bytes()
    found = edits(source)
    dumps = [ast.dump(ast.parse(edit.applied(source))) for edit in found]
    assert len(set(dumps)) > 50
    assert ast.dump(ast.parse(source)) not in dumps
    assert not [edit for edit in found if edit.before not in source.decode()]
    # What no test of behaviour can see is left alone.
    assert edits(b'"""Sum of 1 + 1."""\ndef f(a: 1 + 1 = None) -> "a":\n    raise ValueError(f"{a + 1}")\n') == []


def test_the_planted_bugs_fit_the_source_and_the_table_of_tests_names_files_that_exist():
    entries = read_planted(SAMIRAGE.root / SAMIRAGE.planted)
    bugs = planted(SAMIRAGE.root, entries)
    assert len(bugs) == len(entries) > 40
    for bug in bugs:
        ast.parse(bug.text)
    modules = {file.removeprefix("src/samirage/").removesuffix(".py") for file in SAMIRAGE.files()}
    rooms = {parent.as_posix() for module in modules for parent in PurePosixPath(module).parents}
    assert set(SAMIRAGE.extra_tests) <= modules | rooms
    tests = {test for file in SAMIRAGE.files() for test in SAMIRAGE.tests_of(file)}
    assert not [test for test in tests if not (SAMIRAGE.root / test).exists()]


def test_a_modules_tests_are_its_own_and_those_of_the_table_or_else_all_of_its_room(project):
    assert project.tests_of("src/toy/room/sums.py") == ("tests/room/test_sums.py", "src/toy/room/sums.py")
    assert project.tests_of("src/toy/room/other.py") == ("tests/room", "src/toy/room/other.py")
    table = replace(project, extra_tests={"room": ["tests/all"], "room/other": ["tests/own"]})
    assert table.tests_of("src/toy/room/other.py") == ("tests/own", "tests/all", "src/toy/room/other.py")
    assert table.tests_of("src/toy/room/inner/other.py") == ("tests/all", "src/toy/room/inner/other.py")
    whole = replace(project, extra_tests={"room": ["tests/room", "src/toy/room"]})
    assert whole.tests_of("src/toy/room/sums.py") == ("tests/room", "src/toy/room")  # each file once
    assert files_of(project.root, ["tests/room", "src/toy/room", "tests/room/test_sums.py::test_limit"]) == (
        "tests/room/test_sums.py",
        "src/toy/room/__init__.py",
        "src/toy/room/sums.py",
        "tests/room/test_sums.py::test_limit",
    )


def test_the_contributors_guide_tells_what_is_stored():
    assert update_contributing.main(["--check"]) == 0, "run scripts/update_contributing.py"
    counts = {"killed": 6, "timeout": 1, "survived": 2, "not covered": 1}
    none = dict.fromkeys(counts, 0)
    found = {
        "commit": "0123456789ab", "sample": 10, "seed": 3, "survivors": ["a", "b", "c"],
        "planted": {"modules": {"sam/guard": {**none, "killed": 4}}, "total": {**none, "killed": 4}, "score": 1.0},
        "systematic": {"modules": {"sam/guard": counts, "sam/map": counts, "points/find": none}, "total": counts},
    }  # fmt: skip
    page = update_contributing.updated(update_contributing.PAGE.read_text(encoding="utf-8"), found)
    assert "At commit `0123456789ab`, 10 of the systematic ones drawn with seed 3:" in page
    assert "| named | sam | 4 | 0 | 0 | 0 | 100 % |" in page
    assert "| systematic | sam | 12 | 2 | 4 | 2 | 70 % |" in page
    assert "| systematic | all | 6 | 1 | 2 | 1 | 70 % |" in page
    assert "listed in [results/mutants.json](results/mutants.json): 3." in page
    assert update_contributing.updated(page, found) == page
    assert "Nothing is stored yet." in update_contributing.updated(page, None)

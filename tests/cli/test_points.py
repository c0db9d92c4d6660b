"""The commands about points, as a user meets them, against the closed forms of the double well."""

import json
import sys

import pytest

from tests.cli.test_main import run


def test_certify_finds_the_attractor_of_the_double_well(capsys):
    assert run("certify", "double-well", "--rho", "1.5", "--lr", "0.1") == 0
    out = capsys.readouterr().out
    assert "hallucinated minimizer at rho = 1.5 (sam): attracts SAM at lr = 0.1" in out
    # Known in advance: the point (0.47093, −0.02220), ‖g‖ = 0.374, mu up to 3.92, stable up to lr = 0.510.
    assert all(figure in out for figure in ("x = 0.47093", "-0.02220", "‖g‖ = 0.374", "mu from 3.92", "rate 0.510"))


def test_certify_takes_a_point_and_the_dynamics(capsys):
    point = ("--x", "0.4709324735922267", "-0.022200955951532")
    assert run("certify", "double-well", "--rho", "1.5", "--lr", "0.6", *point) == 0
    assert "attracts SAM" not in capsys.readouterr().out  # beyond the largest stable learning rate, 0.510
    assert run("certify", "double-well", "--rho", "1.5", "--lr", "0.6", "--momentum", "0.5", *point) == 0
    # The heavy ball with momentum 0.5 is stable up to (1 + 0.5)·0.510.
    assert "attracts SAM at lr = 0.6" in capsys.readouterr().out


def test_a_proof_is_recorded_and_checked_and_a_false_record_is_not_confirmed(tmp_path, capsys):
    record = tmp_path / "proof.json"
    assert run("prove", "double-well", "--rho", "1.5", "--lr", "0.1", "--out", record) == 0
    assert "exactly one zero" in capsys.readouterr().out
    assert run("prove", "--check", record) == 0
    assert capsys.readouterr().out.rstrip().endswith("CONFIRMED")
    claim = json.loads(record.read_text())
    claim["rho"] = 1.4
    record.write_text(json.dumps(claim))
    assert run("prove", "--check", record) == 1
    assert "CONFIRMED" not in capsys.readouterr().out.replace("NOT CONFIRMED", "")


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported and others when its functions are called."""
    (tmp_path / "hostile.py").write_text(
        "from pathlib import Path\n\nfrom samirage.landscape import Ring\n\n\ndef mark(name):\n"
        "    (Path(__file__).parent / name).write_text('')\n\n\nmark('imported')\n\n\n"
        "def make(**arguments):\n    mark('called')\n    return Ring(**arguments)\n\n\n"
        "class Callable:\n    def __call__(self):\n        mark('called')\n\n\nthing = Callable()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hostile", raising=False)
    yield tmp_path
    sys.modules.pop("hostile", None)


def marks(folder):
    return {mark for mark in ("imported", "called", "os") if (folder / mark).exists()}


def a_record(folder, capsys, **changes):
    record = folder / "proof.json"
    assert run("prove", "ring", "--rho", "1.5", "--x", "0.5", "0", "--out", record) == 0
    record.write_text(json.dumps({**json.loads(record.read_text()), **changes}))
    capsys.readouterr()
    return record


@pytest.mark.parametrize(
    "function", ["os:system", "hostile:make", "hostile:thing", "hostile", "nonsense", "", ":", "a:"]
)
def test_checking_runs_nothing_that_a_record_names(function, hostile, capsys):
    arguments = {"command": f"touch {hostile / 'os'}"} if function == "os:system" else {}
    record = a_record(hostile, capsys, function=function, arguments=arguments)
    before = record.read_text()
    assert run("prove", "--check", record) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert f"the record names the function {function!r}, which is not built in, and nothing was run" in printed.err
    assert printed.out == ""
    assert marks(hostile) == set()
    assert "hostile" not in sys.modules
    assert record.read_text() == before


def test_a_function_of_ones_own_is_checked_when_the_command_names_it_too(hostile, capsys):
    record = a_record(hostile, capsys, function="hostile:make", arguments={"radius": 1.0})
    assert run("prove", "--check", record, "--function", "hostile:other") == 2
    assert "the record is about the function 'hostile:make', and you allowed 'hostile:other'" in capsys.readouterr().err
    assert marks(hostile) == set()
    assert run("prove", "--check", record, "--function", "hostile:make") == 0
    assert "f is hostile:make(radius=1.0)" in capsys.readouterr().out
    assert marks(hostile) == {"imported", "called"}


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("os:system", "must be a class with a formula, or a function defined in that module; got system"),
        ("hostile:thing", "must be a class with a formula, or a function defined in that module; got Callable"),
        ("hostile:Path", "must be a class with a formula, or a function defined in that module; got Path"),
        ("shutil:which", "shutil:which cannot be called with"),
        ("ring", "a function of your own is named MODULE:NAME; got 'ring'"),
        ("no.such.module:f", "the module of 'no.such.module:f' cannot be imported"),
        ("hostile:nothing", "the module 'hostile' has no 'nothing'"),
        ("samirage.landscape:TorchFunction", "must be a class with a formula"),
    ],
)
def test_what_the_command_names_is_looked_at_before_it_is_called(function, sentence, hostile, capsys):
    arguments = {"command": f"touch {hostile / 'os'}"} if function == "os:system" else {}
    record = a_record(hostile, capsys, function=function, arguments=arguments)
    assert run("prove", "--check", record, "--function", function) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not marks(hostile) & {"called", "os"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"no JSON", "this is no record of a proof"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b'{"format": "samirage-proof/1"}', "its format is 'samirage-proof/1', and this program reads"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_record_is_one_sentence(text, sentence, tmp_path, capsys):
    file = tmp_path / "proof.json"
    file.write_bytes(text)
    assert run("prove", "--check", file) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["proof.json"]


def test_an_unknown_key_or_a_missing_one_is_one_sentence_and_a_changed_sentence_is_not_confirmed(tmp_path, capsys):
    assert run("prove", "--check", a_record(tmp_path, capsys, remark="true")) == 2
    assert "it has the unknown keys 'remark'" in capsys.readouterr().err
    assert run("prove", "--check", a_record(tmp_path, capsys, half_width="wide")) == 2
    assert "half_width must be a number; got 'wide'" in capsys.readouterr().err
    assert run("prove", "--check", a_record(tmp_path, capsys, statement="All points are hallucinated.")) == 1
    assert "the statement of the record is not what its fields say" in capsys.readouterr().out


def test_where_nothing_is_to_be_proved_the_exit_code_says_so(capsys):
    assert run("prove", "double-well", "--rho", "1.5", "--x", "0.5", "0.1") == 1


def test_a_function_of_the_users_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(
        "from samirage.landscape import Ring\n\n\ndef make(radius):\n    return Ring(radius)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert run("certify", "mine:make", "--arg", "radius=2.0", "--rho", "3", "--lr", "0.01", "--x", "1", "0") == 0
    assert "hallucinated" in capsys.readouterr().out  # at ‖x‖ = rho − R


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("certify", "nonsense", "--rho", "1"), "unknown function 'nonsense': use one of"),
        (("certify", "ring"), "name a FUNCTION and give --rho"),
        (("prove", "--check", "no-such-file"), "no-such-file is not a file: name one that"),
        (
            ("prove", "ring", "--check", "a", "--rho", "1", "--arg", "a=1"),
            "FUNCTION, --rho, --arg would change nothing",
        ),
        (("prove", "ring", "--rho", "1.5", "--function", "mine:make"), "--function goes with --check"),
        (("certify", "ring", "--rho", "1.5", "--arg", "radius"), "--arg takes NAME=VALUE"),
        (("certify", "ring", "--rho", "1.5", "--x-file", "none.json"), "none.json cannot be read as a JSON list"),
        (("certify", "quadratic", "--rho", "1.5"), "name a point with --x"),
        (("certify", "ring", "--rho", "1.5", "--momentum", "1"), "'1' is not a number of at least 0 and below 1"),
        (("certify", "ring", "--rho", "1.5", "--weight-decay", "-1"), "'-1' is not a finite number of at least 0"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(arguments, sentence, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", ['"0.5"', '[0.5, "a"]', '{"x": 1}', "[]", "[true, 1]", "3"])
def test_a_point_that_is_no_list_of_numbers_is_refused(content, tmp_path, capsys):
    (tmp_path / "x.json").write_text(content)
    for command in ("certify", "landscape"):
        assert run(command, "ring", "--rho", "1.5", "--x-file", tmp_path / "x.json") == 2
        assert capsys.readouterr().err == (
            f"samirage: {tmp_path / 'x.json'} must hold a JSON list of numbers, such as [0.5, -1.0]\n"
        )


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "is a folder: name a file, such as"),
        ("file/proof.json", "file is no folder that is writable); name another"),
    ],
)
def test_a_record_that_cannot_be_written_is_refused_before_the_search(out, said, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("prove", "ring", "--rho", "1.5", "--out", tmp_path / out) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""The commands about points, as a user meets them, against the closed forms of the double well."""

import json

import pytest

from test_cli import run


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
        (("certify", "ring", "--rho", "1.5", "--arg", "radius"), "--arg takes NAME=VALUE"),
        (("certify", "ring", "--rho", "1.5", "--x-file", "none.json"), "none.json cannot be read as a JSON list"),
        (("certify", "quadratic", "--rho", "1.5"), "name a point with --x"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(arguments, sentence, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1

"""The command line, as a user meets it: what works, what is refused, and what Ctrl-C leaves."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from samirage._version import __version__
from samirage.cli import main as cli
from samirage.lab import studies
from samirage.lab.studies import STUDIES


def run(*arguments):
    """Exit code of the command line, also where argparse ends the process itself."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code


OPTIONS = ("--rho", "10", "--seed", "5", "--threads", "1")


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A run folder of study `mnist`, made by as many processes as there are cores, and what was printed."""
    out, printed = tmp_path_factory.mktemp("reproduced") / "run", io.StringIO()
    with redirect_stdout(printed):
        assert run("reproduce", "mnist", "--scale", "smoke", "--out", out, *OPTIONS) == 0
    return out, printed.getvalue()


def test_reproduce_makes_a_run_folder_and_says_where_the_page_is(reproduced):
    out, printed = reproduced
    page = out / "report" / "index.html"
    assert printed == f"The page: {page}\n"
    assert page.stat().st_size > 10_000
    manifest = json.loads((out / "manifest.json").read_text())["studies"]["mnist"]
    assert manifest["seeds"] == [5, 6, 7, 8]
    assert manifest["config"]["rhos"] == [10.0]
    assert manifest["command"] == f"samirage reproduce mnist --scale smoke --out {out} --rho 10 --seed 5 --threads 1"
    assert sorted(p.name for p in (out / "cells/mnist").iterdir()) == ["sam-rho10.nc", "sgd.nc", "switch-rho10.nc"]


def test_the_report_is_rebuilt_without_torch(reproduced):
    out, _ = reproduced
    page = out / "report" / "index.html"
    page.unlink()
    program = f"""
import sys
from samirage.cli.main import main
assert main(["report", {str(out)!r}]) == 0
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=Path(__file__).parent)
    assert page.exists()


def loaded_by(*arguments):
    """Exit code of the command line in a new process, and the modules that it loads."""
    program = "import json, sys\nfrom samirage.cli.main import main\n"
    program += "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as stop:\n    code = stop.code\n"
    program += "print(json.dumps([code, list(sys.modules)]))"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["reproduce", "--help"], 0),
        (["reproduce", "nosuch"], 2),
        (["verify", "nosuch"], 2),
        (["report", "nosuch"], 2),
        (["certify"], 2),
        (["prove"], 2),
        (["prove", "--check", "nosuch"], 2),
        (["landscape"], 2),
        (["data", "fetch", "nosuch"], 2),
    ],
)
def test_help_and_refusals_that_need_no_numbers_do_not_load_torch(arguments, code):
    got, modules = loaded_by(*arguments)
    assert got == code
    assert "samirage.cli.main" in modules
    assert "torch" not in modules


def test_a_study_loads_its_own_modules_and_no_other_study_or_room(tmp_path):
    one = ["--scale", "smoke", "--rho", "10", "--workers", "1", "--out", tmp_path / "run"]
    code, modules = loaded_by("reproduce", "mnist", *one)
    assert code == 0
    studies_loaded = {name for name in modules if name.startswith("samirage.lab.studies.")}
    assert studies_loaded == {"samirage.lab.studies.base", "samirage.lab.studies.mnist"}
    foreign = ("points", "landscape", "monitor", "diagnosis", "optim", "trainers", "lab.sweep.launchers.ray")
    assert not modules & {f"samirage.{room}" for room in foreign}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["reproduce", "imagenet"], "unknown study 'imagenet': the studies are mnist"),
        (["reproduce", "mnist", "--scale", "huge"], "argument --scale: invalid choice: 'huge' (choose from"),
        (["reproduce", "mnist", "--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["reproduce", "mnist", "--rho", "-1"], "argument --rho: '-1' is not a finite radius above 0"),
        (["reproduce", "mnist", "--rho", "nan"], "argument --rho: 'nan' is not a finite radius above 0"),
        (["reproduce", "mnist", "--rho", "inf"], "argument --rho: 'inf' is not a finite radius above 0"),
        (["reproduce", "mnist", "--rho", "big"], "argument --rho: 'big' is not a finite radius above 0"),
        (["reproduce", "mnist", "--threads", "0"], "argument --threads: '0' is not a whole number of at least 1"),
        (["reproduce", "mnist", "--seed", "-3"], "argument --seed: '-3' is not a whole number from 0 to 4294967295"),
        (
            ["reproduce", "mnist", "--seed", "4294967296"],
            "'4294967296' is not a whole number from 0 to",
        ),
        (["reproduce", "mnist", "--loss", "hinge"], "unknown loss 'hinge': use one of softmax-squared"),
        (["reproduce", "mnist", "--device", "tpu"], "unknown device 'tpu': use cpu, cuda or cuda:N"),
        (["data", "fetch", "imagenet"], "imagenet"),
        (["report", "nowhere"], "nowhere is not a folder: name a run folder"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.startswith("samirage: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["report"],
        ["verify"],
        ["prove", "--check"],
        ["certify", "ring", "--rho", "1", "--x-file"],
        ["landscape", "ring", "--steps", "2", "--out"],
        ["data", "fetch", "mnist", "--data-dir"],
        ["reproduce", "mnist", "--scale", "paper", "--data-dir"],
        ["reproduce", "mnist", "--scale", "smoke", "--out"],
    ],
    ids=" ".join,
)
def test_a_name_that_the_system_refuses_is_one_sentence(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, "a" * 300) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("samirage: ")
    assert "File name too long" in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_refused(tmp_path, capsys):
    assert run("reproduce", "mnist", "--device", "cuda", "--out", tmp_path / "run") == 2
    assert "sees no CUDA device: use --device cpu" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unwritable_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert run("reproduce", "mnist", "--scale", "smoke", "--out", tmp_path / "file" / "run") == 2
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert "name a folder that is writable" in error
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b truncated"])
def test_a_corrupt_data_file_is_refused(content, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train-images-idx3-ubyte.gz").write_bytes(content)
    out = tmp_path / "run"
    assert run("reproduce", "mnist", "--scale", "paper", "--data-dir", data, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(data) in error
    assert not out.exists()


def test_other_settings_in_the_same_folder_are_refused(tmp_path, capsys):
    out = tmp_path / "run"
    common = ["reproduce", "mnist", "--scale", "smoke", "--rho", "10", "--workers", "1", "--threads", "1", "--out", out]
    assert run(*common) == 0
    capsys.readouterr()
    assert run(*common, "--loss", "cross-entropy") == 2
    assert "loss 'softmax-squared' (now 'cross-entropy')" in capsys.readouterr().err
    assert run(*common) == 0
    assert "0 of 3 cells to compute" in capsys.readouterr().err


def test_a_study_without_its_configuration_is_refused_and_one_without_its_command_is_resumed(tmp_path, capsys):
    out = tmp_path / "run"
    common = ["reproduce", "mnist", "--scale", "smoke", "--rho", "10", "--workers", "1", "--threads", "1", "--out", out]
    assert run(*common) == 0
    manifest = out / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["studies"]["mnist"]["command"]
    manifest.write_text(json.dumps(content))
    capsys.readouterr()
    assert run(*common) == 0
    assert "0 of 3 cells to compute" in capsys.readouterr().err
    del content["studies"]["mnist"]["config"]
    manifest.write_text(json.dumps(content))
    assert run(*common) == 2
    sentence = "holds study mnist without its configuration: restore its manifest.json, or name another --out"
    assert capsys.readouterr().err == f"samirage: {out} {sentence}\n"


def test_a_failed_cell_is_named_and_the_exit_code_is_1(tmp_path, capsys, monkeypatch):
    from samirage.lab.studies.mnist import MnistStudy

    inner = MnistStudy.run

    def fails_once(self, cell, advance):
        if cell.name == "sgd":
            raise RuntimeError("no luck")
        return inner(self, cell, advance)

    monkeypatch.setattr(MnistStudy, "run", fails_once)
    out = tmp_path / "run"
    assert run("reproduce", "mnist", "--scale", "smoke", "--rho", "10", "--workers", "1", "--out", out) == 1
    assert "samirage: cell mnist/sgd failed: RuntimeError: no luck" in capsys.readouterr().err
    assert (out / "report/index.html").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_a_clean_message_and_a_folder_that_resumes(tmp_path):
    out = tmp_path / "run"
    # Under a shell that starts it in the background, Python would ignore Ctrl-C; so restore it first.
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from dataclasses import replace\nfrom samirage.lab.studies import mnist\n"
    program += "mnist.SCALES['smoke'] = replace(mnist.SCALES['smoke'], steps=2000)\n"
    program += "from samirage.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "reproduce", "mnist", "--scale", "smoke", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "120"})
    deadline = time.monotonic() + 120
    while not (out / "cells/mnist/sgd.nc").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert f"cells are stored in {out}; the same command computes the rest." in " ".join(error.split())
    assert not [name for name in os.listdir(out / "cells/mnist") if name.endswith(".partial")]


def test_every_command_has_help_with_an_example(capsys):
    for command in ([], ["reproduce"], ["report"], ["data"], ["data", "fetch"]):
        assert run(*command, "--help") == 0
        assert f"example: {' '.join(['samirage', *command])}" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"samirage {__version__}\n"


def test_the_help_names_every_study():
    assert tuple(studies._STUDIES) == STUDIES


def left_by_its_reader(arguments, **environment):
    """Exit code and errors of a command whose output is closed at once, sooner than `| head` would."""
    command = [sys.executable, "-c", "import sys; from samirage.cli.main import main; sys.exit(main())", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, **environment}, **pipes) as process:
        process.stdout.close()
        error = process.stderr.read()
        return process.wait(timeout=120), error


unix = pytest.mark.skipif(os.name == "nt", reason="Windows reports closed pipes in another way")


@unix
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["certify", "double-well", "--rho", "1.5"], ["data", "fetch", "mnist-mini"], ["--help"]], ids=" ".join
)
def test_a_reader_that_goes_ends_a_command_quietly(arguments, unbuffered):
    code, error = left_by_its_reader(arguments, PYTHONUNBUFFERED=unbuffered)
    assert code == 141 or (code == 0 and arguments == ["--help"])  # where argparse itself hides it
    assert error == ""


@unix
def test_what_was_wrong_is_said_although_nobody_reads_the_output():
    code, error = left_by_its_reader(["report", "nowhere"])
    assert error.startswith("samirage: nowhere is not a folder")
    assert code == 2


def test_a_pipe_that_is_not_that_of_the_output_is_no_reader_that_went(monkeypatch):
    def breaks(options, command):
        raise BrokenPipeError(32, "Broken pipe")  # as that to a worker

    monkeypatch.setattr(cli, "_report", breaks)
    with pytest.raises(BrokenPipeError):
        cli.main(["report", "anywhere"])

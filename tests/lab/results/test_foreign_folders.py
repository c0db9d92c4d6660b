"""A run folder that somebody else has written: one sentence, nothing run, nothing written or read outside of it."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from samirage.cli import main as cli
from samirage.errors import UserError
from samirage.lab.results.json_files import write_json
from samirage.lab.results.names import file_name
from samirage.lab.results.store import RunFolder
from samirage.lab.studies.mnist import SCALES, MnistStudy
from samirage.lab.sweep.reproduce import begin
from tests.lab.sweep.test_verify import mnist_cell

SECRET = b"not for the page"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder without claims, and files outside of it."""
    path = tmp_path_factory.mktemp("made")
    (path / "outside" / "cells" / "mnist").mkdir(parents=True)
    (path / "outside" / "secret").write_bytes(SECRET)
    study, folder = MnistStudy(SCALES["smoke"]), RunFolder(path / "run")
    begin(study, folder, "samirage reproduce mnist --scale smoke")
    for cell in study.cells():
        folder.write_cell("mnist", cell.name, mnist_cell(cell.settings["method"], cell.settings["rho"]))
    (folder.path / ".lock").unlink(missing_ok=True)
    return path


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it, for a test to meddle with."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return RunFolder(tmp_path / "run")


def test_the_folder_is_shown_before_anybody_meddles_with_it(folder):
    assert cli.main(["report", str(folder.path)]) == 0
    assert cli.main(["verify", str(folder.path)]) == 1  # it has no claims yet


def tree(path):
    """All that is under a path: what it is, and its content."""
    found = {}
    for one in sorted(path.rglob("*")):
        kind = os.lstat(one).st_mode
        content = hashlib.sha256(one.read_bytes()).hexdigest() if one.is_file() and not one.is_symlink() else ""
        found[str(one.relative_to(path))] = (kind, os.readlink(one) if one.is_symlink() else content)
    return found


def refused(folder, capsys, *commands):
    """The sentence with which commands refuse a folder; neither it nor anything beside it may change."""
    before, sentences = tree(folder.path.parent), set()
    for command in commands or ("report", "verify"):
        assert cli.main([command, str(folder.path)]) == 2, command
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("samirage: ")
        assert captured.err.count("\n") == 1
        assert captured.err[:-1].isprintable()
        sentences.add(captured.err)
    assert tree(folder.path.parent) == before
    return " ".join(sentences)


def edit(folder, name, change):
    path = folder.path / name
    document = json.loads(path.read_text()) if path.exists() else {}
    changed = change(document)
    path.write_text(json.dumps(document if changed is None else changed))


NAMES = [
    "../../x", "..", ".", "", ".hidden", "/etc/passwd", "a/b", "a\\b", "C:evil", "C:\\evil", "con", "NUL", "nul.txt",
    "COM1", "x\0y", "x\ny", "x\x1b[2J", "‮gpj.exe", "x.", "x ", "x" * 151, "ä" * 80, "a:b", "a*b", "a|b", "~", "-rf",
    "$HOME", "%2e%2e", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_studies_and_cells_are_checked_where_they_are_read(folder, name, capsys):
    path = folder.path / "manifest.json"
    good = path.read_text()
    edit(folder, "manifest.json", lambda m: m["studies"]["mnist"]["cells"].append(name))
    refused(folder, capsys)
    path.write_text(good)
    edit(folder, "manifest.json", lambda m: m["studies"].update({name: {"cells": [], "config": {}}}))
    refused(folder, capsys)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_checked_before_anything_is_written(folder, name):
    before = tree(folder.path.parent)
    cell = mnist_cell("sgd", 0.0)
    for attempt in (
        lambda: folder.write_manifest(name, {"config": {}, "cells": []}),
        lambda: folder.write_manifest("toy", {"config": {}, "cells": [name]}),
        lambda: folder.write_cell("mnist", name, cell),
        lambda: folder.write_cell(name, "sgd", cell),
        lambda: folder.write_packed(name, {"sgd": cell}),
        lambda: folder.read_cell("mnist", name),
        lambda: folder.remove_leftovers(name),
    ):
        with pytest.raises(ValueError, match="cannot be used: a name begins with a letter"):
            attempt()
    assert tree(folder.path.parent) == before


def test_the_names_of_today_are_names():
    names = [
        "small-rho",
        "guard+switch",
        "rho0.3-sam-tanh32-32",
        "softmax-squared-full-sam-rho0.05-seeds0-79",
        "consul",
    ]
    assert [file_name(name) for name in names] == names
    with pytest.raises(ValueError, match="the name 3 cannot be used"):
        file_name(3)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("manifest.json", lambda m: [], "is not a manifest of a run"),
        ("manifest.json", lambda m: m.update(studies=[]), "is not a manifest of a run"),
        ("manifest.json", lambda m: m["studies"].update(mnist=[]), "study mnist: it must be an object"),
        ("manifest.json", lambda m: m["studies"]["mnist"].pop("cells") and None, "cells must be a list of names"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(cells="sgd"), "cells must be a list of names"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(cells=[["sgd"]]), "the name ['sgd'] cannot be used"),
        ("manifest.json", lambda m: m["studies"]["mnist"]["cells"].append("sgd"), "cells names one twice"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(seeds="0"), "seeds must be a list of whole numbers"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(seeds=[0.5]), "seeds must be a list of whole"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(commit=3), "commit must be a text"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(command=["rm"]), "command must be a text"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(versions=[1]), "versions must be an object of texts"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(hardware={"a": {}}), "hardware must be an object of"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(config=3), "config must be an object of plain values"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(command="a\nb"), "cannot be printed on one line"),
        ("manifest.json", lambda m: m["studies"]["mnist"].update(command="\x1b]0;x\x07"), "cannot be printed on"),
        ("claims.json", lambda c: [], "holds no object of studies by name"),
        ("claims.json", lambda c: {"mnist": 3}, "holds a claim that cannot be read"),
        ("claims.json", lambda c: {"mnist": ["claim"]}, "holds a claim that cannot be read"),
        ("claims.json", lambda c: {"mnist": [{}]}, "missing keys"),
        ("readings.json", lambda r: 3, "holds no object of studies by name"),
        ("digests.json", lambda d: {"mnist": ["x"]}, "holds no digests of study mnist"),
    ],
)
def test_every_type_is_checked_where_it_is_read(folder, name, change, sentence, capsys):
    edit(folder, name, change)
    commands = {"readings.json": ["verify"], "digests.json": ["verify"]}.get(name, [])
    assert sentence in refused(folder, capsys, *commands)


@pytest.mark.parametrize(
    "text",
    ["", "{", "nothing", '{"format": NaN}', "[" * 100_000, '{"a": ' * 3000 + "1" + "}" * 3000, "1" * 5000, "\udcff"],
    ids=["empty", "cut off", "no JSON", "NaN", "deep list", "deep object", "long number", "no UTF-8"],
)
@pytest.mark.parametrize("name", ["manifest.json", "claims.json"])
def test_what_is_no_strict_json_is_a_sentence(folder, name, text, capsys):
    (folder.path / name).write_bytes(text.encode(errors="surrogateescape"))
    refused(folder, capsys)


CLAIM = {
    "statement": "s", "source": "ours", "relation": "at least", "expected": 0.5, "measured": 0.75,
    "standard_error": 0.25, "n": 4, "command": "c", "verdict": "holds",
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"statement": 3}, {"statement": ""}, {"statement": "\x1b[31mred"}, {"statement": "a\u2028b"}, {"source": None},
        {"relation": "about"}, {"expected": None}, {"expected": "inf"}, {"expected": [0.5]}, {"expected": 10**400},
        {"measured": "many"}, {"measured": True}, {"measured": {}}, {"standard_error": -1}, {"n": -1}, {"n": "4"},
        {"n": 4.5}, {"comparable": "yes"}, {"comparable": 1}, {"comparable": False}, {"tolerance": -1}, {"unit": 3},
        {"colour": "red"}, {"reason": []}, {"no_error": "none"},
    ],
)  # fmt: skip
def test_every_field_of_a_claim_is_checked(folder, changes, capsys):
    edit(folder, "claims.json", lambda claims: {"mnist": [CLAIM | changes]})
    assert "claims.json" in refused(folder, capsys)


READING = {
    "title": "t", "question": "q?", "axis": "a", "scale": "log", "findings": ["f"], "labels": {"sam": "SAM"},
    "measures": [{"name": "final_loss", "label": "Loss", "factor": 1.0, "scale": "log", "full": False}],
}  # fmt: skip
MEASURE = READING["measures"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"title": 3}, {"question": None}, {"axis": []}, {"scale": "cubic"}, {"scale": ["log"]}, {"findings": "f"},
        {"findings": [3]}, {"labels": ["sam"]}, {"labels": {"sam": 3}}, {"measures": "all"}, {"measures": []},
        {"measures": [3]}, {"measures": [{"name": "x"}]}, {"measures": [MEASURE | {"factor": "9"}]},
        {"measures": [MEASURE | {"factor": True}]}, {"measures": [MEASURE | {"full": 1}]}, {"caption": {}},
        {"measures": [MEASURE | {"name": 3}]}, {"colour": "red"},
    ],
)  # fmt: skip
def test_every_field_of_a_reading_is_checked(folder, changes):
    edit(folder, "readings.json", lambda readings: {"fresh": READING})
    assert folder.reading("fresh").title == "t"
    edit(folder, "readings.json", lambda readings: {"fresh": READING | changes})
    with pytest.raises(UserError, match=r"readings\.json cannot be used for study 'fresh'"):
        folder.reading("fresh")


class Canary:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "was here"))


def netcdf(folder, make):
    """Put a file made with h5py in the place of a cell."""
    path = folder.path / "cells" / "mnist" / "sgd.nc"
    with h5py.File(path, "w") as file:
        make(file)
    return path


def outside(folder, name):
    return str(folder.path.parent / "outside" / name)


@pytest.mark.parametrize("name", ["external values", "virtual values", "external link", "soft link", "group", "huge"])
def test_a_cell_holds_its_own_values_and_nothing_else(folder, name, capsys):
    with h5py.File(outside(folder, "other.nc"), "w") as other:
        other["x"] = np.arange(3.0)

    def make(file):
        if name == "external values":
            size = len(SECRET)
            file.create_dataset("x", (size,), "u1", external=[(outside(folder, "secret"), 0, size)])
        elif name == "virtual values":
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource(outside(folder, "other.nc"), "x", (3,))
            file.create_virtual_dataset("x", layout)
        elif name == "external link":
            file["x"] = h5py.ExternalLink(outside(folder, "other.nc"), "x")
        elif name == "soft link":
            file["y"], file["x"] = np.arange(3.0), h5py.SoftLink("/y")
        elif name == "group":
            file.create_group("deeper")["x"] = np.arange(3.0)
        else:
            file.create_dataset("x", (1 << 40,), "f8", chunks=(1 << 10,), compression="gzip")

    path = netcdf(folder, make)
    expected = {
        "external values": "the values of 'x' lie in another file", "virtual values": "the values of 'x' lie in",
        "external link": "'x' is a link to another place", "soft link": "'x' is a link", "group": "is not an array",
        "huge": "it declares more than 4 GiB",
    }  # fmt: skip
    sentence = refused(folder, capsys)
    assert expected[name] in sentence
    assert str(path) in sentence


@pytest.mark.parametrize("content", ["pickle", "empty", "garbage", "cut off", "script"])
def test_a_cell_that_is_no_netcdf_is_a_sentence_and_is_not_run(folder, content, capsys):
    path, canary = folder.path / "cells" / "mnist" / "sgd.nc", Path(outside(folder, "canary"))
    made = {
        "pickle": pickle.dumps(Canary(canary)), "empty": b"", "garbage": os.urandom(5000),
        "cut off": path.read_bytes()[:-200], "script": f"#!/bin/sh\ntouch {canary}\n".encode(),
    }  # fmt: skip
    path.write_bytes(made[content])
    assert str(path) in refused(folder, capsys)
    assert not canary.exists()


@pytest.mark.parametrize("packed", [False, True])
def test_cells_with_other_variables_and_types_are_a_sentence(folder, packed, capsys):
    wrong = [
        mnist_cell("sgd", 0.0).drop_vars("final_loss"),
        mnist_cell("sgd", 0.0).assign_attrs(rho="large"),
        mnist_cell("sgd", 0.0).assign(final_test_accuracy=("seed", list("abcd"))),
        mnist_cell("sgd", 0.0).assign(final_test_accuracy=("other", [0.5] * 4)),
        xr.Dataset(),
        xr.Dataset({"cell": 3.0}),
    ]
    for cell in wrong:
        if packed:
            (folder.path / "cells" / "mnist.nc").unlink(missing_ok=True)
            if "seed" not in cell.dims or cell["final_test_accuracy"].dtype.kind == "U":
                continue  # which cannot be packed
            folder.write_packed("mnist", {"sgd": cell})
        else:
            folder.write_cell("mnist", "sgd", cell)
        (folder.path / ".lock").unlink(missing_ok=True)
        refused(folder, capsys, "report")


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed.assign_coords(about=("cell", ["{"])),
        lambda packed: packed.assign_coords(about=("cell", ["[]"])),
        lambda packed: packed.assign_coords(about=("cell", ['{"dtypes": {"final_loss": "os.system"}, "attrs": {}}'])),
        lambda packed: packed.assign_coords(about=("cell", ['{"dtypes": {"absent": "f8"}, "attrs": {}}'])),
        lambda packed: packed.drop_vars("about"),
        lambda packed: packed.drop_vars("has"),
        lambda packed: packed.drop_vars("cell"),
        lambda packed: packed.rename_dims(cell="other"),
    ],
)
def test_packed_cells_that_were_meddled_with_are_a_sentence(folder, change, capsys):
    from samirage.lab.results.netcdf import write_dataset
    from samirage.lab.results.pack import pack

    write_dataset(folder.path / "cells" / "mnist.nc", change(pack({"sgd": mnist_cell("sgd", 0.0)})))
    assert "mnist.nc" in refused(folder, capsys)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("manifest.json", "outside/manifest.json"), ("claims.json", "outside/secret"), ("cells", "outside/cells"),
        ("cells/mnist", "outside/cells/mnist"), ("cells/mnist/sgd.nc", "outside/secret"), ("report", "outside"),
        ("report/index.html", "outside/secret"), ("cells/mnist/sgd.nc", "run/cells/mnist/sgd.nc"),
        ("cells/mnist.nc", "outside/secret"),
    ],
)  # fmt: skip
def test_links_in_a_run_folder_are_not_followed(folder, link, target, capsys):
    path, there = folder.path / link, folder.path.parent / target
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        moved = folder.path.parent / "moved"
        path.rename(moved)
        if link == "manifest.json":
            there.write_bytes(moved.read_bytes())
    path.symlink_to(there)
    sentence = refused(folder, capsys, *(["report"] if link.startswith("report") else []))
    assert "is a link, and none is followed here: put in its place what it links to" in sentence


@pytest.mark.parametrize("link", [".lock", "cells", "cells/mnist", "claims.json", "manifest.json", "report"])
def test_a_run_is_not_taken_up_through_links(folder, link, capsys):
    path = folder.path / link
    if path.exists():
        path.rename(folder.path.parent / "moved")
    (folder.path / "cells" / "mnist" / "sgd.nc").unlink(missing_ok=True)  # so that there is something to do
    path.symlink_to(outside(folder, "secret" if link in {".lock", "claims.json"} else "cells"))
    before = tree(folder.path.parent / "outside")
    options = ["--scale", "smoke", "--workers", "1", "--threads", "1", "--out", str(folder.path)]
    assert cli.main(["reproduce", "mnist", *options]) == 2
    assert "is a link" in capsys.readouterr().err
    assert tree(folder.path.parent / "outside") == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["manifest.json", "claims.json", "cells/mnist/sgd.nc"])
def test_a_pipe_is_not_waited_for(folder, name, capsys):
    path = folder.path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert "is not a file" in refused(folder, capsys)


def test_a_run_folder_may_itself_be_a_link(folder, capsys):
    link = folder.path.parent / "latest"
    link.symlink_to(folder.path)
    assert RunFolder(link).finished("mnist") == folder.finished("mnist")


def test_json_is_strict_when_it_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []

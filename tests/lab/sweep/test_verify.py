"""Are stored claims those of the cells? Whatever is changed, missing or added is told; a run as it was made passes."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from samirage.cli import main as cli
from samirage.lab.results.claims import Claim, Verdict
from samirage.lab.results.digest import digest
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import create
from samirage.lab.studies.mnist import SCALES, MnistStudy
from samirage.lab.sweep.reproduce import begin, reproduce
from samirage.lab.sweep.verify import recompute, verify

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = replace(SCALES["smoke"], rhos=(0.1, 3.0, 10.0), seeds=4)


def mnist_cell(method, rho):
    """Four networks, of which those with SAM alone collapse at large radii."""
    collapsed = method == "sam" and rho >= 3
    accuracy = (0.1 if collapsed else 0.8) + np.array([-0.01, 0.0, 0.02, 0.03])
    data = {
        "final_test_accuracy": ("seed", accuracy.astype(np.float32)),
        "final_shift_ratio": ("seed", np.full(4, 1e-3 if collapsed else 1.1, np.float32)),
        "final_grad_norm": ("seed", np.full(4, 2.0, np.float32)),
        "final_loss": ("seed", np.full(4, 0.5, np.float32)),
        "hallucinated": ("seed", np.full(4, collapsed)),
        "diverged": ("seed", np.zeros(4, bool)),
        "wall_seconds": 1.5,
    }
    curves = {name: (("seed", "step"), np.ones((4, 3), np.float32)) for name in ("loss", "grad_norm", "shift_ratio")}
    curves["test_accuracy"] = (("seed", "eval_step"), np.full((4, 2), 0.5, np.float32))
    coords = {"seed": range(4), "step": [0, 20, 40], "eval_step": [0, 60]}
    return xr.Dataset(data | curves, coords, {"method": method, "rho": rho, "switch_step": 6})


def begun(path, study, cells):
    """A run folder of a study that has finished with these cells."""
    folder = RunFolder(path)
    begin(study, folder, f"samirage reproduce {study.name}")
    for name, cell in cells.items():
        folder.write_cell(study.name, name, cell)
    assert reproduce([study], folder, command="samirage reproduce") == []
    return folder


@pytest.fixture
def folder(tmp_path):
    study = MnistStudy(SETTINGS)
    cells = {cell.name: mnist_cell(cell.settings["method"], cell.settings["rho"]) for cell in study.cells()}
    return begun(tmp_path / "run", study, cells)


def run(*arguments):
    return cli.main(["verify", *map(str, arguments)])


def told(folder, study="mnist"):
    """What differs: the claim, cell or part, and the field."""
    return [(difference.what, difference.field) for difference in verify(folder, study).differences]


def edit(folder, name, change, study="mnist"):
    """Change what a JSON file of the folder says of a study."""
    path = folder.path / name
    document = json.loads(path.read_text())
    change(document["studies" if name == "manifest.json" else study])
    path.write_text(json.dumps(document))


def test_a_run_as_it_was_made_agrees(folder, capsys):
    assert run(folder.path) == 0
    assert capsys.readouterr().out == "All agree: 4 claims of 1 studies, from 7 cells.\n"
    # And what is recomputed is what one computes by hand from the cells above.
    collapse, gain, stable, practical = recompute(folder, "mnist").claims
    assert (collapse.measured, collapse.n, collapse.verdict) == (1.0, 4, Verdict.HOLDS)
    assert gain.measured == pytest.approx(0.7, abs=1e-7)
    assert (stable.measured, stable.standard_error) == (0.0, 0.0)
    assert (practical.measured, practical.n) == (0.0, 4)


def test_a_changed_cell_is_told_with_the_claims_that_depend_on_it(folder, capsys):
    cell = folder.read_cell("mnist", "switch-rho3")
    cell["final_test_accuracy"][1] -= np.float32(0.5)
    folder.write_cell("mnist", "switch-rho3", cell)
    statements = {what.partition(",")[0] for what, field in told(folder) if field == "measured"}
    assert statements == {"At rho = 3", "Switching remains stable across radii: even at its worst radius"}
    assert ("cell switch-rho3", "digest") in told(folder)
    assert run(folder.path) == 1
    out = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("mnist: At rho = 3, switching beats SAM alone") and "measured: stored 0.7" in line
        and "recomputed 0.57" in line for line in out
    )  # fmt: skip
    assert out[-1] == f"{len(out) - 1} differences in 4 claims of 1 studies, from 7 cells."


@pytest.mark.parametrize("change", ["value", "attribute", "type"])
def test_a_changed_cell_is_told_where_no_claim_depends_on_it(folder, change):
    cell = folder.read_cell("mnist", "sam-rho0.1")
    if change == "value":
        cell["final_loss"][2] += np.float32(1e-6)
    elif change == "attribute":
        cell.attrs["lr"] = 0.3
    else:
        cell["final_loss"] = cell["final_loss"].astype(np.float64)
    folder.write_cell("mnist", "sam-rho0.1", cell)
    assert told(folder) == [("cell sam-rho0.1", "digest")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("measured", 0.7001),
        ("measured", None),
        ("standard_error", 0.25),
        ("n", 5),
        ("expected", 0.1),
        ("tolerance", 0.1),
        ("verdict", "fails"),
        ("relation", "at most"),
        ("source", "ours"),
        ("unit", "%"),
        ("command", "samirage reproduce guard"),
        ("reason", "why not"),
    ],
)
def test_a_changed_claim_is_told_by_its_field(folder, field, value):
    changes = {field: value}
    edit(folder, "claims.json", lambda claims: claims[1].update(changes))
    statement = folder.claims("mnist")[1].statement
    assert told(folder) == [(statement, field)]


def test_a_changed_statement_is_told_as_such(folder):
    edit(folder, "claims.json", lambda claims: claims[1].update(statement="Switching always wins"))
    assert told(folder) == [("Switching always wins", "statement")]


def test_missing_added_doubled_and_exchanged_claims_are_told(folder):
    statements = [claim.statement for claim in folder.claims("mnist")]
    path = folder.path / "claims.json"
    before = path.read_text()
    edit(folder, "claims.json", lambda claims: claims.pop(2))
    assert told(folder) == [(statements[2], "claim")]
    path.write_text(before)
    edit(folder, "claims.json", lambda claims: claims.append({**claims[0], "statement": "One more"}))
    assert told(folder) == [("One more", "claim")]
    path.write_text(before)
    edit(folder, "claims.json", lambda claims: claims.append(claims[0]))
    assert told(folder) == [(statements[0], "claim")]
    path.write_text(before)
    edit(folder, "claims.json", lambda claims: claims.reverse())
    assert told(folder) == [("the claims", "order")]
    path.unlink()
    assert told(folder) == [(statement, "claim") for statement in statements]


def test_missing_and_added_cells_are_told(folder, capsys):
    cells = folder.path / "cells" / "mnist"
    shutil.copy(cells / "sgd.nc", cells / "sgd-again.nc")
    assert told(folder) == [("cell sgd-again", "file")]
    (cells / "sgd-again.nc").unlink()
    (cells / "sam-rho0.1.nc").unlink()
    found = told(folder)
    assert ("cell sam-rho0.1", "file") in found
    # Without it the claim on practical radii cannot be made.
    assert any("At practical radii" in what and field == "claim" for what, field in found)
    # Struck from the plan as well, as if it had never been.
    edit(folder, "manifest.json", lambda studies: studies["mnist"]["cells"].remove("sam-rho0.1"))
    assert ("cell sam-rho0.1", "plan") in told(folder)
    assert run(folder.path) == 1
    assert "cell sam-rho0.1: plan: stored nothing, recomputed planned" in capsys.readouterr().out


def test_what_is_stored_of_a_study_that_the_manifest_does_not_name_is_told(folder, capsys):
    folder.write_claims("toy", folder.claims("mnist"))
    (folder.path / "cells" / "wells").mkdir()
    assert run(folder.path) == 1
    out = capsys.readouterr().out
    assert "toy: claims.json: study: stored stored, recomputed nothing" in out
    assert "wells: cells: study" in out


def test_the_last_digits_of_a_float_may_differ_and_no_more(folder):
    def scaled(factor):
        edit(folder, "claims.json", lambda claims: claims[1].update(measured=claims[1]["measured"] * factor))

    scaled(1 + 1e-12)  # as another order of summation does
    assert told(folder) == []
    scaled(1 + 1e-8)
    assert [field for _, field in told(folder)] == ["measured"]


def test_a_changed_finding_is_told(tmp_path):
    study = create(["batch"], "smoke", {"threads": 1})[0]
    cells = {}
    for case in study.cases():
        data = {"final_test_accuracy": np.full(2, 0.8), "hallucinated": np.array([False, case.method == "sam"])}
        data |= {"final_shift_ratio": np.ones(2), "status": np.zeros(2, np.int8)}
        cells[case.name] = xr.Dataset(
            {name: ("seed", values) for name, values in data.items()}, {"seed": range(2)}, study.attributes(case)
        )
    folder = begun(tmp_path / "run", study, cells)
    assert told(folder, "batch") == []
    finding = folder.reading("batch").findings[0]
    assert "1 of 2 at batch 32" in finding
    edit(
        folder,
        "readings.json",
        lambda reading: reading.update(findings=[finding.replace("1 of 2 at batch 32", "0 of 2 at batch 32")]),
        "batch",
    )
    assert told(folder, "batch") == [("the reading", "findings")]
    (folder.path / "readings.json").unlink()
    assert ("the reading", "title") in told(folder, "batch")


def test_a_run_of_version_0_1_0_which_has_no_digests_is_verified_by_its_claims(folder, capsys):
    (folder.path / "digests.json").unlink()

    def older(claims):
        for claim in claims:
            del claim["no_error"]
            claim["standard_error"] = "nan" if claim["standard_error"] is None else claim["standard_error"]

    edit(folder, "claims.json", older)
    assert run(folder.path) == 0
    assert "(without digests, which are not stored of: mnist)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda one: one["config"].update(steps="many"),
            "steps in the configuration of study mnist must be of type int",
        ),
        (
            lambda one: one["config"].update(rhos=[0.1, None]),
            "rhos in the configuration of study mnist must be of type",
        ),
        (lambda one: one["config"].pop("images"), "the configuration of study mnist lacks images"),
        (lambda one: one["config"].update(loss="hinge"), "unknown loss 'hinge': use one of"),
        (lambda one: one["config"].update(seeds=10**12), "says 1000000000000 seeds, and as many are not listed"),
        (lambda one: one.update(config=[]), "config must be an object"),
    ],
)
def test_a_configuration_that_cannot_be_one_is_a_sentence(folder, change, sentence, capsys):
    edit(folder, "manifest.json", lambda studies: change(studies["mnist"]))
    assert run(folder.path) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_cells_that_are_not_of_the_study_are_a_sentence(folder, capsys):
    folder.write_cell("mnist", "sgd", xr.Dataset({"x": ("y", [1.0])}))
    assert run(folder.path) == 2
    assert "holds no results of study mnist as this version knows it" in capsys.readouterr().err


def test_what_is_no_run_folder_is_refused_without_waiting_for_torch(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "other").write_manifest("imagenet", {"config": {}, "cells": []})
    sentences = {
        "nosuch": "is not a folder: name a run folder",
        "file": "is not a folder: name a run folder",
        "empty": "holds no study: name a run folder",
        "other": "holds study 'imagenet', which is none of this version: mnist, guard",
    }
    program = "import sys; from samirage.cli.main import main; code = main(sys.argv[1:]); "
    program += "assert 'torch' not in sys.modules; sys.exit(code)"
    for name, sentence in sentences.items():
        done = subprocess.run(
            [sys.executable, "-c", program, "verify", str(tmp_path / name)], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert sentence in done.stderr


def test_the_digest_is_of_the_content_and_of_all_of_it():
    cell = xr.Dataset(
        {"a": ("seed", [1.0, np.nan]), "b": ("seed", ["x", "y"])}, {"seed": [0, 1]}, {"rho": 0.1, "names": ["p", "q"]}
    )
    other_nan = np.array([1.0, -np.float64("nan")])
    assert digest(cell) == digest(cell.copy(deep=True)) == digest(cell.assign(a=("seed", other_nan)))
    different = [
        cell.assign(a=("seed", [1.0, 2.0])), cell.assign(a=("seed", np.array([1.0, np.nan], np.float32))),
        cell.assign(b=("seed", ["x", "z"])), cell.rename(a="c"), cell.assign_coords(seed=[0, 2]),
        cell.assign_attrs(rho=0.2), cell.assign_attrs(names=["p"]), cell.drop_vars("b"), cell.rename_dims(seed="s"),
    ]  # fmt: skip
    assert len({digest(one) for one in [cell, *different]}) == 1 + len(different)


STORED = RunFolder(ROOT / "results" / "laptop")


@pytest.mark.parametrize("study", STORED.studies())
def test_the_stored_results_are_those_of_their_cells(study):
    found = verify(STORED, study)
    assert found.differences == ()
    assert found.digests
    assert found.claims == len(STORED.claims(study)) > 0


def test_every_stored_claim_says_why_where_it_has_no_error():
    claims = [claim for study in STORED.studies() for claim in STORED.claims(study)]
    assert all(claim.no_error != "unknown" for claim in claims)
    assert any(claim.no_error for claim in claims)
    assert "nan" not in (STORED.path / "claims.json").read_text().lower()


def test_statements_of_claims_are_no_stricter_than_their_tests():
    """A claim holds where the value is equal to the expected one, so that no statement may say "more than"."""
    strict = ("is above", "more than half", "from most", "gains more", "exceeds", "is larger", "is better")
    claims: list[Claim] = [claim for study in STORED.studies() for claim in STORED.claims(study)]
    assert [claim.statement for claim in claims if any(words in claim.statement for words in strict)] == []

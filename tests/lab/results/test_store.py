"""The run folder: what is written comes back, whole or not at all."""

import json
import os
import time

import numpy as np
import pytest
import xarray as xr

from samirage.errors import UserError
from samirage.lab.results.claims import Claim, Relation
from samirage.lab.results.store import RunFolder


def dataset(value=1.5):
    return xr.Dataset(
        {
            "loss": (("seed", "step"), np.full((2, 3), value, dtype=np.float32)),
            "hallucinated": ("seed", np.array([True, False])),
            "wall_seconds": 0.25,
        },
        coords={"seed": [4, 5], "step": [0, 2, 4]},
        attrs={"method": "sam", "rho": 0.3},
    )


def begun(path, cells=("a", "b")):
    folder = RunFolder(path)
    folder.write_manifest("mnist", {"config": {"steps": 5}, "cells": list(cells)})
    return folder


def test_cells_come_back_as_written(tmp_path):
    folder = begun(tmp_path / "run")
    folder.write_cell("mnist", "b", dataset())
    read = RunFolder(tmp_path / "run").read_cell("mnist", "b")
    xr.testing.assert_identical(read, dataset())
    assert read.hallucinated.dtype == bool
    assert read.loss.dtype == np.float32
    assert folder.finished("mnist") == ["b"]


def test_studies_and_claims_accumulate(tmp_path):
    folder = begun(tmp_path)
    folder.write_manifest("toy", {"config": {}, "cells": []})
    claim = Claim(
        statement="s", source="ours", relation=Relation.AT_LEAST, expected=1, measured=float("nan"),
        standard_error=0.5, n=3, command="c",
    )  # fmt: skip
    folder.write_claims("mnist", [claim])
    folder.write_claims("toy", [])
    again = RunFolder(tmp_path)
    assert again.studies() == ["mnist", "toy"]
    assert again.manifest("mnist")["config"] == {"steps": 5}
    assert [c.to_dict() for c in again.claims("mnist")] == [claim.to_dict()]
    assert again.claims("toy") == []


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    folder = begun(tmp_path)
    folder.write_cell("mnist", "a", dataset(1.0))
    before = sorted(os.listdir(tmp_path / "cells/mnist"))

    def fails_half_way(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", fails_half_way)
    with pytest.raises(UserError, match=r"cannot write .*a\.nc \(No space left on device\); name a folder"):
        folder.write_cell("mnist", "a", dataset(2.0))
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path / "cells/mnist")) == before == ["a.nc"]
    xr.testing.assert_identical(folder.read_cell("mnist", "a"), dataset(1.0))


def test_leftovers_of_killed_processes_are_removed_and_fresh_ones_are_not(tmp_path):
    folder = begun(tmp_path)
    folder.write_cell("mnist", "a", dataset())
    old, fresh = (tmp_path / "cells/mnist" / f".b.nc.{n}.partial" for n in (1, 2))
    for partial in (old, fresh):
        partial.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    folder.remove_leftovers("mnist")
    assert not old.exists()
    assert fresh.exists()
    assert folder.finished("mnist") == ["a"]


def test_folders_that_are_no_run_folder_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file is a file; name a folder"):
        RunFolder(tmp_path / "file")
    with pytest.raises(UserError, match=r"is not empty and holds no manifest\.json.*name a new or empty folder"):
        RunFolder(tmp_path)
    assert RunFolder(tmp_path / "new").studies() == []


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "manifest.json cannot be read"),
        ("[]", "is not a manifest of a run"),
        (json.dumps({"format": 99, "studies": {}}), "written in format 99, and this version reads format 1"),
    ],
)
def test_foreign_manifests_are_refused(tmp_path, manifest, message):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=message):
        RunFolder(tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    folder = begun(tmp_path)
    with pytest.raises(UserError, match="holds no study 'toy'; it holds: mnist"):
        folder.manifest("toy")
    with pytest.raises(UserError, match=r"a\.nc is missing; run `samirage reproduce mnist` again"):
        folder.read_cell("mnist", "a")
    folder.write_cell("mnist", "a", dataset())
    path = tmp_path / "cells/mnist/a.nc"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.nc cannot be read .*; delete it and run"):
        folder.read_cell("mnist", "a")

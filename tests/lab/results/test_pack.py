"""Packed cells: what is kept for each seed comes back as it was, whatever the cells differ in."""

import numpy as np
import pytest
import xarray as xr

import pack_run
from samirage.errors import UserError
from samirage.lab.results.digest import digest
from samirage.lab.results.pack import pack, unpack
from samirage.lab.results.store import RunFolder

CELLS = {
    "sgd": xr.Dataset(
        {
            "loss": (("seed", "step"), np.ones((3, 4))),
            "accuracy": ("seed", np.array([0.1, np.nan, 1 / 3], np.float32)),
            "hit": ("seed", [True, False, True]),
            "wall_seconds": 0.25,
        },
        {"seed": [0, 1, 2], "step": [0, 5, 10, 15]},
        {"method": "sgd", "rho": 0.0, "passes": 300},
    ),
    "guard": xr.Dataset(
        {
            "accuracy": ("seed", np.array([0.5, 0.25], np.float32)),
            "hit": ("seed", [False, False]),
            "gradients": ("seed", np.array([2**24 + 1, 3], np.int32)),
            "rejections": ("seed", np.array([2**40 + 1, 7])),
        },
        {"seed": [2, 7]},
        {"method": "guard", "rho": 0.1, "passes": 600},
    ),
}


def test_a_cell_comes_back_with_its_numbers_types_and_attributes():
    packed = pack(CELLS)
    for name, cell in CELLS.items():
        xr.testing.assert_identical(unpack(packed, name), cell.drop_dims("step", errors="ignore"))
        for variable, values in unpack(packed, name).items():
            assert values.dtype == cell[variable].dtype


def test_a_packed_run_is_read_like_any_other(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_manifest("guard", {"config": {}, "seeds": [0], "cells": [*CELLS, "missing"]})
    folder.write_packed("guard", CELLS)
    assert folder.finished("guard") == ["sgd", "guard"]
    xr.testing.assert_identical(folder.read_cell("guard", "guard"), CELLS["guard"])
    with pytest.raises(UserError, match=r"missing\.nc is missing; run `samirage reproduce guard` again"):
        folder.read_cell("guard", "missing")
    folder.write_packed("guard", {"guard": CELLS["sgd"]})  # and what has changed is read anew
    assert folder.finished("guard") == ["guard"]


def test_a_broken_packed_run_is_a_sentence(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_manifest("guard", {"config": {}, "seeds": [0], "cells": ["sgd"]})
    (tmp_path / "run" / "cells").mkdir()
    (tmp_path / "run" / "cells" / "guard.nc").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"guard\.nc cannot be read .* restore it, or name another folder"):
        folder.finished("guard")


def test_a_run_is_packed_with_its_claims_and_digests(tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    run.write_manifest("guard", {"config": {}, "seeds": [0], "commit": "0123456789ab", "cells": [*CELLS, "missing"]})
    for name, cell in CELLS.items():
        run.write_cell("guard", name, cell)
    assert pack_run.main([str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    out = RunFolder(tmp_path / "out")
    assert out.finished("guard") == list(CELLS)
    assert out.digests("guard") == {name: digest(out.read_cell("guard", name)) for name in CELLS}
    assert "loss" not in out.read_cell("guard", "sgd")
    assert pack_run.main(["--whole", str(tmp_path / "run"), str(tmp_path / "whole")]) == 0
    whole = RunFolder(tmp_path / "whole")
    xr.testing.assert_identical(whole.read_cell("guard", "sgd"), CELLS["sgd"])
    assert whole.digests("guard") == {name: digest(whole.read_cell("guard", name)) for name in CELLS}


@pytest.mark.parametrize(
    ("commit", "said"), [("0123456789ab-dirty", "0123456789ab-dirty"), (None, "no commit"), ("", "no commit")]
)
def test_a_run_that_nobody_can_compute_again_is_not_packed(tmp_path, capsys, commit, said):
    run = RunFolder(tmp_path / "run")
    run.write_manifest("wells", {"config": {}, "commit": "0123456789ab", "cells": []})
    run.write_manifest("guard", {"config": {}, "commit": commit, "cells": ["sgd"]})
    run.write_cell("guard", "sgd", CELLS["sgd"])
    assert pack_run.main([str(tmp_path / "run"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"study guard of {tmp_path / 'run'} was computed from {said}, which nobody can check out" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()

"""The command `samirage landscape`, as a user meets it."""

import pytest
import xarray as xr

from tests.cli.test_main import run


def test_a_built_in_function_is_scanned_and_drawn(tmp_path, capsys):
    out, figure = tmp_path / "well.nc", tmp_path / "well.svg"
    assert run("landscape", "double-well", "--rho", "1.5", "--steps", "9", "--out", out, "--figure", figure) == 0
    said = capsys.readouterr().out
    assert str(out) in said
    assert str(figure) in said
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert found.sizes["first"] == 9
        # Known in advance: the double well is ((x² − 1)²)/4 on the line y = 0.
        assert float(found.loss.sel(first=0.5, second=0.0)) == pytest.approx((0.25 - 1) ** 2 / 4)
    assert figure.read_text().startswith("<?xml")


def test_the_line_along_the_ascent_direction(tmp_path, capsys):
    out = tmp_path / "line.nc"
    arguments = ("--plane", "ascent", "--x", "0.5", "0", "--rho", "1.5", "--out", out)
    assert run("landscape", "ring", *arguments) == 0
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert found.attrs["kind"] == "line"


def test_a_model_of_the_users_own_on_a_part_of_its_data(tmp_path, monkeypatch, capsys):
    (tmp_path / "mymodel.py").write_text(
        "import torch\nfrom torch import nn\nfrom samirage.landscape import Objective\n\n\n"
        "def make(hidden=4):\n"
        "    torch.manual_seed(0)\n"
        "    model = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2))\n"
        "    return Objective(model, nn.CrossEntropyLoss(), [(torch.randn(20, 3), torch.arange(20) % 2)])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "mine.nc"
    given = ("landscape", "mymodel:make", "--arg", "hidden=5", "--rho", "0.1", "--steps", "3", "--examples", "8")
    assert run(*given, "--out", out) == 0
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert (found.attrs["examples"], found.attrs["dim"]) == (8, 32)
        assert "filter-normalised" in found.first.attrs["long_name"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("landscape",), "name a FUNCTION"),
        (("landscape", "nothing"), "unknown function 'nothing'"),
        (("landscape", "ring", "--figure", "a.bmp"), "must end in .pdf, .svg, .png"),
        (("landscape", "ring", "--examples", "3"), "needs a model with data"),
        (("landscape", "ring", "--plane", "ascent", "--x", "1.5", "0"), "needs --rho"),
        (("landscape", "ring", "--steps", "1"), "steps must be"),
        (("landscape", "ring", "--seed", "-1"), "'-1' is not a whole number from 0 to 4294967295"),
        (("landscape", "ring", "--seed", "4294967296"), "is not a whole number from 0 to 4294967295"),
        (("landscape", "ring", "--out", "."), "--out . is a folder: name a file"),
        (("landscape", "ring", "--figure", "/dev/null/a.pdf"), "cannot write /dev/null/a.pdf (/dev/null is no folder"),
        (("landscape", "ring", "--arg", "dim=1"), "--plane axes needs two coordinates"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1

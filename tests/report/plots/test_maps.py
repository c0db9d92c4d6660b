"""Maps, profiles and surfaces as data: one scale, no axis swapped, every mark where it belongs."""

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.contour import QuadContourSet

from samirage.errors import UserError
from samirage.landscape import Mark, Ring, TorchFunction, ascent_line, plane, scan
from samirage.report.plots.maps import Panel, maps_plot, marks_of, shared_levels
from samirage.report.plots.profile import profile_plot
from samirage.report.plots.slice import save_slice
from samirage.report.plots.surfaces import surface_pair

AXES = tuple(torch.eye(2, dtype=torch.float64))
ORIGIN = torch.zeros(2, dtype=torch.float64)


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    run = torch.tensor([[1.2, 0.4], [0.8, 0.2], [0.5, 0.0]], dtype=torch.float64)
    marks = [Mark("sam:0", "path", run), Mark("x_h", "hallucinated", run[-1])]
    at = plane(ORIGIN, directions=AXES, spans=((-1.5, 1.5), (-1.0, 1.0)), labels=("x", "y"))
    return scan(Ring(), at, rho=1.5, steps=(31, 21), marks=marks)


def test_all_maps_share_their_levels_and_the_scale_covers_both(found: xr.Dataset) -> None:
    figure = maps_plot([Panel(found, "loss", "f"), Panel(found, "loss_sam", "f^SAM")], columns=2)
    first, second = figure.axes[:2]
    levels = [next(c for c in axes.collections if isinstance(c, QuadContourSet)).levels for axes in (first, second)]
    assert np.array_equal(levels[0], levels[1])
    assert levels[0][0] == min(float(found.loss.min()), float(found.loss_sam.min()))
    assert levels[0][-1] >= float(found.loss.max()) or levels[0][-1] >= float(found.loss_sam.max()) / 3


def test_a_panel_has_the_shape_and_the_axes_of_its_plane(found: xr.Dataset) -> None:
    figure = maps_plot([Panel(found, "loss", "f")], columns=3)
    axes = figure.axes[0]
    assert axes.get_xlim() == (-1.5, 1.5)
    assert axes.get_ylim() == (-1.0, 1.0)
    box = axes.get_position()
    width, height = figure.get_size_inches()
    assert box.height * height / (box.width * width) == pytest.approx(2 / 3)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")


def test_marks_are_drawn_where_they_are_and_named_in_the_legend(found: xr.Dataset) -> None:
    figure = maps_plot([Panel(found, "loss", "f", marks=("sam", "x_h", "maximizer"))], columns=1)
    axes = figure.axes[0]
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert [[1.2, 0.4], [0.8, 0.2], [0.5, 0.0]] in drawn
    assert [[0.0, 0.0]] in drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "maximizer of f", "SAM only", "hallucinated point",
    ]  # fmt: skip
    assert "xₕ" in [text.get_text() for text in axes.texts]


def test_arrows_point_along_the_field(found: xr.Dataset) -> None:
    figure = maps_plot([Panel(found, "loss", "f", field="descent")], columns=1)
    quiver = figure.axes[0].collections[-1]
    for (x, y), u, v in zip(quiver.XY, quiver.U, quiver.V, strict=True):
        slope = (np.hypot(x, y) ** 2 - 1) * np.array([x, y])
        if np.hypot(u, v) > 1e-6:  # at the minimizers themselves only rounding is left
            assert np.dot(-slope, [u, v]) > 0.99 * np.linalg.norm(slope) * np.hypot(u, v)


def test_gaps_are_grey_and_say_so() -> None:
    f = TorchFunction(lambda x: torch.log(x[0]), 2)
    gappy = scan(f, plane(ORIGIN, directions=AXES), steps=9)
    figure = maps_plot([Panel(gappy, "loss", "f")], columns=1)
    assert figure.axes[0].get_facecolor() == pytest.approx((0xB9 / 255, 0xB9 / 255, 0xBF / 255, 1.0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no finite loss"]


def test_levels_of_a_constant_and_of_nothing_still_ascend() -> None:
    for values in (np.full(4, 3.0), np.full(4, np.nan)):
        assert (np.diff(shared_levels([values])) > 0).all()


def test_a_mark_with_several_points_stays_one_and_two_points_stay_two() -> None:
    rows = [Mark("set", "set", torch.zeros(3, 2)), Mark("a", "point", torch.ones(2, 2))]
    table = scan(Ring(), plane(ORIGIN, directions=AXES), steps=2, marks=rows)
    assert [(name, len(x)) for name, _, x, _ in marks_of(table)][2:] == [("set", 3), ("a", 1), ("a", 1)]


def test_the_profile_marks_x_and_where_sam_looks() -> None:
    line = scan(Ring(), ascent_line(Ring(), torch.tensor([0.5, 0.0], dtype=torch.float64), rho=1.5), rho=1.5)
    axes = profile_plot(line).axes[0]
    places = [drawn.get_xdata()[0] for drawn in axes.lines[1:3]]
    assert places == [0.0, 1.5]
    assert any("ρ = 1.5" in text.get_text() for text in axes.texts)


def test_surfaces_share_their_scale_and_hold_the_values_of_the_slice(found: xr.Dataset) -> None:
    pair = surface_pair(found, top=0.3)
    assert [surface.title for surface in pair] == ["f", "fˢᴬᴹ"]
    for surface, variable in zip(pair, ("loss", "loss_sam"), strict=True):
        trace = surface.spec["data"][0]
        assert (trace["cmin"], trace["cmax"]) == (0.0, 0.3)
        z = np.array(trace["z"], dtype=float)
        values = found[variable].transpose("second", "first").values
        assert z.shape == (21, 31)
        inside = values <= 0.3
        assert np.allclose(z[inside], values[inside], atol=1e-6)
        assert np.nanmax(z) <= 0.3
    path = next(trace for trace in pair[0].spec["data"] if trace.get("name") == "sam:0")
    assert path["x"] == [1.2, 0.8, 0.5]
    assert path["z"][1] == pytest.approx((0.68 - 1) ** 2 / 4 + 0.003)


@pytest.mark.parametrize(("suffix", "begins"), [(".pdf", b"%PDF"), (".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_slice_is_saved_for_print(found: xr.Dataset, tmp_path, suffix: str, begins: bytes) -> None:
    save_slice(found, tmp_path / f"slice{suffix}")
    content = (tmp_path / f"slice{suffix}").read_bytes()
    assert content.startswith(begins)
    assert b"series" not in content  # which is for the page


def test_other_formats_are_refused(found: xr.Dataset, tmp_path) -> None:
    with pytest.raises(UserError, match=r"must end in .pdf, .svg or .png"):
        save_slice(found, tmp_path / "slice.bmp")

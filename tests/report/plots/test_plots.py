"""Figures as data: what was drawn, where, and whether any text collides."""

import itertools
import re
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from samirage.lab.methods import METHODS
from samirage.report.plots.shift import shift_plot
from samirage.report.plots.style import INK, PALETTE, plot_svg
from samirage.report.plots.summary import Places, summary_plot
from samirage.report.plots.thin import centre_curve, kept_points, seed_curves
from samirage.report.plots.training import training_plot
from samirage.report.runs import StudyRuns
from tests.report.synthetic_run import make_cell

RHOS = (0.05, 0.2, 0.5, 1.0, 3.0, 10.0)
MAKERS: dict[str, Callable[[StudyRuns], Figure]] = {
    "training": training_plot,
    "shift": shift_plot,
    "summary": lambda study: summary_plot(study, chance=0.1),
    "narrow summary": lambda study: summary_plot(study, width=3.8, chance=0.1),
}


def lines(axes: Axes, label: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_label() == label]


def rows_of(figure: Figure, columns: int) -> list[list[Axes]]:
    return [figure.axes[i : i + columns] for i in range(0, len(figure.axes), columns)]


def synthetic(rhos: Sequence[float], seeds: int = 4, steps: int = 600, diverged: Sequence[int] = ()) -> StudyRuns:
    keys = [("sgd", 0.0), *((method, rho) for method in ("sam", "switch") for rho in rhos)]
    runs = {(method, rho): make_cell(method, rho, range(seeds), steps=steps, diverged=diverged) for method, rho in keys}
    return StudyRuns(runs, tuple(rhos), 1.0)


def test_training_figure_has_four_rows_and_a_column_per_radius(study: StudyRuns) -> None:
    rows = rows_of(training_plot(study), 6)
    assert len(rows) == 4
    for row in (rows[0], rows[2]):
        assert [axes.get_title() for axes in row] == [f"ρ = {rho:g}" for rho in RHOS]
        assert {axes.get_yscale() for axes in row} == {"log"}
    for row in (rows[1], rows[3]):
        assert {axes.get_yscale() for axes in row} == {"linear"}
        assert {axes.get_ylim() for axes in row} == {(0.0, 100.0)}
    # Loss axes are shared by all columns and both methods: curves may be compared across the figure.
    assert len({axes.get_ylim() for axes in rows[0] + rows[2]}) == 1


def test_training_figure_draws_every_seed_the_mean_and_the_reference(study: StudyRuns) -> None:
    rows = rows_of(training_plot(study), 6)
    for group, method in enumerate(("sam", "switch")):
        for offset, (name, along, scale) in enumerate((("loss", "step", 1), ("test_accuracy", "eval_step", 100))):
            for column, rho in enumerate(RHOS):
                axes, runs = rows[2 * group + offset][column], study.runs[method, rho]
                (seeds,) = axes.collections
                assert len(seeds.get_paths()) == 16
                assert to_hex(seeds.get_color()[0]) == METHODS[method].colour
                (mean,) = lines(axes, "centre")
                at_end = float(runs[name].isel({along: -1}).mean()) * scale
                assert mean.get_xdata()[-1] == float(runs[along][-1])
                assert mean.get_ydata()[-1] == pytest.approx(at_end, rel=1e-5)
                assert mean.get_linewidth() > 3 * seeds.get_linewidth()[0]
                (reference,) = lines(axes, "reference")
                plain = float(study.runs["sgd", 0.0][name].isel({along: -1}).mean()) * scale
                assert reference.get_ydata()[-1] == pytest.approx(plain, rel=1e-5)


def test_the_switch_is_marked_in_the_switch_rows_only(study: StudyRuns) -> None:
    for figure in (training_plot(study), shift_plot(study)):
        rows = rows_of(figure, 6)
        for row, expected in zip(rows, ([], [], [60.0], [60.0]), strict=True):
            for axes in row:
                assert [line.get_xdata()[0] for line in lines(axes, "switch")] == expected


def test_unfinished_runs_are_named_and_the_rest_is_drawn(study: StudyRuns) -> None:
    kept = {key: runs for key, runs in study.runs.items() if key != ("sam", 3.0)}
    rows = rows_of(training_plot(StudyRuns(kept, study.rhos, 1.0)), 6)
    assert [text.get_text() for text in rows[0][4].texts] == ["not\nfinished"]
    assert not rows[0][4].lines
    assert len(rows[0][5].collections) == 1


def test_shift_figure_ends_every_run_with_a_marker_that_says_where_it_is(study: StudyRuns) -> None:
    figure = shift_plot(study)
    rows = rows_of(figure, 6)
    for group, method in enumerate(("sam", "switch")):
        for column, rho in enumerate(RHOS):
            runs = study.runs[method, rho]
            stuck = runs["hallucinated"].to_numpy()
            pair = (rows[2 * group][column], rows[2 * group + 1][column])
            for axes, name in zip(pair, ("final_shift_ratio", "final_grad_norm"), strict=True):
                assert axes.get_yscale() == "log"
                (filled,), (hollow,) = lines(axes, "hallucinated"), lines(axes, "elsewhere")
                assert filled.get_markerfacecolor() != "none"
                assert hollow.get_markerfacecolor() == "none"
                np.testing.assert_allclose(filled.get_ydata(), runs[name].to_numpy()[stuck], rtol=1e-6)
                np.testing.assert_allclose(hollow.get_ydata(), runs[name].to_numpy()[~stuck], rtol=1e-6)
                ends = np.concatenate([filled.get_xdata(), hollow.get_xdata()])
                # Beyond the last step, and inside the axes.
                assert ends.min() > 600
                assert ends.max() < axes.get_xlim()[1]
            assert rows[2 * group][column].get_title() == f"ρ = {rho:g}\n● {stuck.sum()} of 16"
            (threshold,) = lines(rows[2 * group][column], "threshold")
            assert list(threshold.get_ydata()) == [0.1, 0.1]
    assert "r = 0.1" in {text.get_text() for text in rows[0][0].texts}


def test_shift_curves_begin_where_sam_begins_and_are_medians(study: StudyRuns) -> None:
    rows = rows_of(shift_plot(study), 6)
    (middle,) = lines(rows[2][0], "centre")
    assert middle.get_xdata()[0] == 60.0
    expected = np.median(study.runs["sam", 10.0]["shift_ratio"].to_numpy()[:, -1])
    (collapsed,) = lines(rows[0][5], "centre")
    assert collapsed.get_ydata()[-1] == pytest.approx(expected, rel=1e-5)


def test_summary_tells_the_story(study: StudyRuns) -> None:
    top, bottom = summary_plot(study, chance=0.1).axes
    assert top.get_xscale() == bottom.get_xscale() == "log"
    assert [label.get_text() for label in bottom.get_xticklabels()] == [f"{rho:g}" for rho in RHOS]
    for method in ("sam", "switch"):
        (mean,), (share,) = lines(top, f"{method} mean"), lines(bottom, f"{method} share")
        for i, rho in enumerate(RHOS):
            runs = study.runs[method, rho]
            assert mean.get_ydata()[i] == pytest.approx(100 * float(runs["final_test_accuracy"].mean()), rel=1e-5)
            assert share.get_ydata()[i] == pytest.approx(100 * float(runs["hallucinated"].mean()))
            assert mean.get_xdata()[i] == pytest.approx(rho, rel=0.3)
        dots = lines(top, f"{method} seeds")
        assert [len(line.get_xdata()) for line in dots] == [16] * 6
    (band,) = [patch for patch in top.patches if patch.get_label() == "sgd range"]
    plain = 100 * study.runs["sgd", 0.0]["final_test_accuracy"].to_numpy()
    box = band.get_extents().transformed(top.transData.inverted())
    assert (box.y0, box.y1) == (pytest.approx(plain.min()), pytest.approx(plain.max()))
    assert list(lines(top, "chance")[0].get_ydata()) == [10.0, 10.0]


def test_the_methods_stand_apart_at_every_radius() -> None:
    places = Places((1.0, 2.0, 3.0))
    for rho in (1.0, 2.0, 3.0):
        left = max(places.beside(rho, 0, spread) for spread in (-1.0, 0.0, 1.0))
        right = min(places.beside(rho, 1, spread) for spread in (-1.0, 0.0, 1.0))
        assert left < rho < right
    assert places.beside(2.0, 1, 1.0) < places.beside(3.0, 0, -1.0)
    assert Places((0.0, 1.0)).centre(0.0) > 0.0


def test_one_diverged_seed_does_not_stretch_the_band() -> None:
    top, _ = summary_plot(synthetic((1.0, 10.0), diverged=[2])).axes
    (band,) = [patch for patch in top.patches if patch.get_label() == "sgd range"]
    assert band.get_extents().transformed(top.transData.inverted()).y0 > 70.0


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("columns", [1, 4, 6, 8])
def test_no_text_overlaps_or_leaves_the_figure(name: str, columns: int) -> None:
    rhos = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)[-columns:]
    figure = MAKERS[name](synthetic(rhos, seeds=3, steps=1000))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = set(figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible()))
    shown = [text for text in texts - _undrawn_labels(figure) if text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in shown]
    width, height = canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    clashes = [(a, b) for (a, p), (b, q) in itertools.combinations(boxes, 2) if p.padded(-0.5).overlaps(q.padded(-0.5))]
    assert not clashes


def _undrawn_labels(figure: Figure) -> set[Text]:
    """Labels of ticks outside the limits of their axis, and of spare ticks: matplotlib keeps but never draws them."""
    undrawn: set[Text] = set()
    for axes in figure.axes:
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            drawn = {t.label1 for t in axis.get_major_ticks() if min(ends) <= t.get_loc() <= max(ends)}
            undrawn |= {label for t in axis.majorTicks for label in (t.label1, t.label2)} - drawn
    return undrawn


def test_drawing_leaves_the_settings_of_matplotlib_alone(study: StudyRuns) -> None:
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 33.0, "axes.spines.top": True}):
        figure = summary_plot(study)
        assert matplotlib.rcParams["font.size"] == 33.0
    assert dict(matplotlib.rcParams) == before
    # A user's settings do not show in our figures.
    assert figure.axes[0].xaxis.label.get_fontsize() == 9.0
    assert not figure.axes[0].spines["top"].get_visible()


def test_the_two_methods_differ_in_grey_and_stand_out_on_the_page() -> None:
    light = {name: _luminance(on_light) for name, on_light, _ in PALETTE.values()}
    dark = {name: _luminance(on_dark) for name, _, on_dark in PALETTE.values()}
    assert _contrast(light["sam"], light["switch"]) > 1.8
    assert _contrast(dark["sam"], dark["switch"]) > 1.2
    # 3 : 1 is what WCAG asks of graphics.
    assert min(_contrast(value, _luminance("#fdfdfb")) for value in light.values()) > 3.0
    assert min(_contrast(value, _luminance("#15171a")) for value in dark.values()) > 3.0


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def _contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_thinning_keeps_ends_extremes_and_gaps() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(5, 2000))
    values[1, 700] = 50.0
    values[2, 1234] = -50.0
    values[3, 100:900] = np.nan
    kept = kept_points(values, 120)
    assert kept.shape[1] <= 120
    assert (np.diff(kept, axis=1) >= 0).all()
    for row, index in zip(values, kept, strict=True):
        assert index[0] == 0
        assert index[-1] == 1999
        assert np.nanmax(row[index]) == np.nanmax(row)
        assert np.nanmin(row[index]) == np.nanmin(row)
    assert np.isnan(values[3][kept[3]]).sum() > 20
    assert np.array_equal(kept_points(values[:, :50], 120)[0], np.arange(50))


def test_centre_ignores_diverged_seeds_and_floors_zeros() -> None:
    runs = xr.Dataset(
        {"loss": (("seed", "step"), np.array([[1.0, 3.0, np.nan], [3.0, np.inf, np.nan], [2.0, 0.0, np.nan]]))},
        coords={"step": [0, 5, 9]},
    )
    mean = centre_curve(runs, "loss", "step", "mean", 100)
    assert mean.tolist() == [[0.0, 2.0], [5.0, 1.5]]
    curves = seed_curves(runs, "loss", "step", 100, floor=1e-3)
    assert [curve[:, 1].tolist() for curve in curves] == [[1.0, 3.0], [3.0], [2.0, 1e-3]]


@pytest.mark.parametrize("standalone", [False, True])
def test_svg_is_one_element_that_refers_to_nothing_outside(study: StudyRuns, standalone: bool) -> None:
    svg = plot_svg(summary_plot(study), prefix="p", label='Accuracy "≤" <all> & more', standalone=standalone)
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'Accuracy "≤" <all> & more'
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert ids
    assert len(ids) == len(set(ids))
    assert all(identifier.startswith("p-") for identifier in ids)
    referenced = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))
    assert referenced <= set(ids)
    assert set(re.findall(r"https?://[^\"' )]+", svg)) == {"http://www.w3.org/2000/svg"}
    drawn = {INK, *(METHODS[method].colour for method in ("sgd", "sam", "switch"))}
    for sentinel, (name, light, _) in PALETTE.items():
        assert not re.search(rf"(?<!,){sentinel}\b(?!;--|;background)", svg.split("</style>")[-1])
        assert (f"var(--{name},{light})" in svg) == (sentinel in drawn)
    assert ("<style>" in svg) is standalone
    assert "var(--figure-font" in svg
    assert "DejaVu" not in svg  # text is in the font of the page


def test_the_same_data_gives_the_same_svg(study: StudyRuns) -> None:
    first, second = (plot_svg(summary_plot(study), prefix="p", label="l") for _ in range(2))
    assert first == second

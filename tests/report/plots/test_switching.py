"""What a drawing tells the page: which series a thing belongs to, and the values of markers."""

from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from samirage.report.plots.style import plot_svg
from samirage.report.plots.switching import forget_names, name_drawn, switchable


@pytest.fixture
def figure() -> Figure:
    drawn = Figure()
    axes = drawn.add_subplot()
    axes.plot([0, 1], [0, 1], label="sam mean")
    axes.plot([0, 1], [1, 0], label="sam+guard mean")
    (points,) = axes.plot([0, 1, 2], [1, 2, 3], "o", label="sam clean")
    name_drawn(points, points=["first <1>", "second", "third"])
    axes.axhline(0.5, label="sample")
    drawn.legend(handles=[Line2D([], [], label=label) for label in ("SAM", "SAM with guard", "hollow")])
    switchable(drawn, [("sam",), "sam+guard", ""])
    return drawn


def parts(figure: Figure, attribute: str) -> dict[str, list[ElementTree.Element]]:
    root = ElementTree.fromstring(plot_svg(figure, prefix="p", label="words"))
    found: dict[str, list[ElementTree.Element]] = {}
    for element in root.iter():
        if attribute in element.attrib:
            found.setdefault(element.attrib[attribute], []).append(element)
    return found


def test_entries_of_the_legend_and_what_they_switch_have_one_name(figure: Figure) -> None:
    assert {name: len(found) for name, found in parts(figure, "data-series").items()} == {"sam": 2, "sam+guard": 1}
    legend = parts(figure, "data-legend")
    assert {name: "".join(text for part in found for text in part.itertext()) for name, found in legend.items()} == {
        "sam": "SAM",
        "sam+guard": "SAM with guard",
    }
    # The line of an entry is named too, not its text alone.
    assert all(any(one.tag.endswith("path") for part in found for one in part.iter()) for found in legend.values())


def test_each_marker_tells_its_own_value(figure: Figure) -> None:
    markers = [use for part in parts(figure, "data-series")["sam"] for use in part.iter() if use.tag.endswith("use")]
    texts = [marker[0].text for marker in markers]
    assert texts == ["first <1>", "second", "third"]
    assert [float(marker.attrib["x"]) for marker in markers] == sorted(float(m.attrib["x"]) for m in markers)


def test_names_can_be_taken_back(figure: Figure) -> None:
    forget_names(figure)
    assert not parts(figure, "data-series")
    assert not parts(figure, "data-legend")


def test_there_must_be_an_entry_for_every_name(figure: Figure) -> None:
    with pytest.raises(ValueError, match="argument"):
        switchable(figure, ["sam"])

"""Texts of a run folder that look like HTML, scripts or styles: on the page they are texts."""

from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from samirage.lab.results.claims import Claim, Relation
from samirage.lab.results.plot_spec import Measure, PlotSpec
from samirage.lab.results.store import RunFolder
from samirage.report.page import build_page
from samirage.report.scripts import own_script
from tests.report.synthetic_run import make_folder

# Each would run, load or restyle something if any one of its characters were not escaped where it stands.
HOSTILE = " ".join(
    (
        "</title></style></script><script>alert(1)</script>",
        "\"'><img src=x onerror=alert(1)><svg onload=alert(1)>",
        '" onmouseover="alert(1)" x="',
        'a style="}*{display:none}body:before{content:forged}/*" b',
        "<a href='javascript:alert(1)'>link</a> {{ 7 * 7 }} {% include 'x' %} &lt;b&gt; `<i>code</i>`",
    )
)


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the texts of its scripts and styles."""

    def __init__(self, html):
        super().__init__(convert_charrefs=False)
        self.found, self.raw, self.within = [], {"script": [], "style": []}, None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.within = tag if tag in self.raw else None
        if self.within:
            self.raw[tag].append("")

    def handle_endtag(self, tag):
        self.within = None

    def handle_data(self, data):
        if self.within:
            self.raw[self.within][-1] += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a run in which every free text is hostile."""
    text = HOSTILE
    folder = RunFolder(tmp_path_factory.mktemp("hostile") / "run")
    cells = {}
    for number, method in enumerate((text, "sam")):
        values = {
            "final_loss": ("seed", np.array([0.5, 0.25]) + number),
            "hallucinated": ("seed", [False, True]),
            "status": ("seed", np.zeros(2, np.int8)),
        }
        for x in (text, "other"):
            attrs = {"panel": text, "method": method, "x": x, "statuses": [text], "study": text}
            cells[f"cell{number}-{x == text}"] = xr.Dataset(values, {"seed": [0, 1]}, attrs)
    pairs = {text: text, "processor": text}
    folder.write_manifest("fresh", {
        "config": {text: text, "list": [text], "inner": pairs}, "seeds": [0, 1], "versions": pairs, "hardware": pairs,
        "commit": text, "command": text, "started": text, "cells": list(cells),
    })  # fmt: skip
    for name, cell in cells.items():
        folder.write_cell("fresh", name, cell)
    claim = Claim(
        statement=text, source=text, relation=Relation.AT_MOST, expected=1.0, measured=float("nan"),
        standard_error=float("nan"), n=2, command=text, unit=text, comparable=False, reason=text, no_error=text,
    )  # fmt: skip
    folder.write_claims("fresh", [claim])
    measure = Measure("final_loss", text, scale="linear")
    labels = {text: text, "sam": text}
    folder.write_reading("fresh", PlotSpec(text, text, text, "names", (measure,), labels, (text,), text))
    return build_page(folder).read_text(encoding="utf-8")


def test_no_element_attribute_or_address_comes_from_a_text(page, tmp_path):
    elements = Elements(page)
    usual = Elements(build_page(make_folder(tmp_path / "run")).read_text(encoding="utf-8"))
    assert {tag for tag, _ in elements.found} <= {tag for tag, _ in usual.found} | {"details", "summary", "small"}
    for tag, attrs in elements.found:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert not str(attrs.get("href", "")).strip().lower().startswith(("javascript:", "data:text")), tag
        assert tag not in {"img", "iframe", "object", "embed", "form action", "base"}


def test_scripts_and_styles_are_those_of_the_page(page):
    elements = Elements(page)
    assert elements.raw["script"] == [own_script(f"{name}.js").text for name in ("page", "legends")]
    styles = "".join(elements.raw["style"])
    assert "forged" not in styles
    assert "alert" not in styles
    assert all("forged" not in str(attrs.get("style", "")) for _, attrs in elements.found)


def test_the_text_is_there_to_be_read(page):
    parts = []

    class Texts(HTMLParser):
        def handle_data(self, data):
            parts.append(data)

    Texts(convert_charrefs=True).feed(page)
    seen = "".join(parts)
    assert seen.count(HOSTILE) >= 10

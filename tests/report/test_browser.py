"""The page as a browser shows it, at the width of a desk and of a phone."""

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.report.browsing import screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTHS = {"desk": 1280, "phone": 390}


@pytest.fixture(params=WIDTHS)
def shown(request: pytest.FixtureRequest, browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    screen(browser, WIDTHS[request.param])
    browser.get(page.as_uri())
    assert browser.execute_script("return window.innerWidth") == WIDTHS[request.param]
    return browser


def test_nothing_sticks_out_of_the_page(shown: webdriver.Chrome) -> None:
    content, view = shown.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert content <= view


def test_figures_are_visible_and_within_the_page(shown: webdriver.Chrome) -> None:
    figures = [svg for svg in shown.find_elements(By.CSS_SELECTOR, "figure svg") if svg.is_displayed()]
    assert len(figures) >= 3
    for svg in figures:
        assert svg.size["width"] > 200
        assert svg.size["height"] > 100


def test_nothing_is_requested_and_nothing_goes_wrong(shown: webdriver.Chrome, page: Path) -> None:
    requested = shown.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert requested == []
    assert [entry for entry in shown.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_verdicts_and_table_can_be_read(shown: webdriver.Chrome) -> None:
    text = shown.find_element(By.TAG_NAME, "body").text
    assert "holds" in text
    assert "fails" in text
    table = shown.find_element(By.CSS_SELECTOR, "table.methods")
    assert len(table.find_elements(By.CSS_SELECTOR, "tbody tr")) >= 13
    size = float(table.value_of_css_property("font-size").removesuffix("px"))
    assert size >= 12


def test_the_dark_scheme_changes_colours_and_keeps_contrast(browser: webdriver.Chrome, page: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        browser.get(page.as_uri())
        seen[scheme] = browser.execute_script(
            "const s = getComputedStyle(document.body);"
            "const axis = document.querySelector('figure svg text');"
            "return [s.backgroundColor, s.color, getComputedStyle(axis).fill]"
        )
    for scheme, (background, text, axis) in seen.items():
        for colour in (text, axis):
            assert contrast(background, colour) > 4.5, (scheme, background, colour)
    assert seen["light"][0] != seen["dark"][0]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two CSS colours, as WCAG 2 defines it."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(float(c)) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

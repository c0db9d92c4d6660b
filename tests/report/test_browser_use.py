"""The page in use: search, filter, legends and surfaces, by keyboard too; and what axe finds of barriers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.report.browsing import DESK, PHONE, screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def desk(browser: webdriver.Chrome, stored_page: Path) -> webdriver.Chrome:
    screen(browser, DESK)
    browser.get(stored_page.as_uri())
    return browser


def seen(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    return [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def count(browser: webdriver.Chrome, selector: str) -> int:
    script = "return [...document.querySelectorAll(arguments[0])].filter(shown).length"
    script = "const shown = (e) => e.checkVisibility() && getComputedStyle(e).display !== 'none';" + script
    return browser.execute_script(script, selector)


def wait(browser: webdriver.Chrome, true: Callable[[webdriver.Chrome], object]) -> None:
    WebDriverWait(browser, 20, poll_frequency=0.1).until(true)


def search(browser: webdriver.Chrome, text: str) -> str:
    box = browser.find_element(By.ID, "query")
    box.clear()
    box.send_keys(text)
    return browser.find_element(By.ID, "found").text


def stored(page: Path, name: str) -> dict[str, list[dict[str, str]]]:
    return json.loads((page.parents[1] / f"{name}.json").read_text(encoding="utf-8"))


def test_the_overview_lists_every_claim_with_its_verdict(desk: webdriver.Chrome, stored_page: Path) -> None:
    claims = [claim for own in stored(stored_page, "claims").values() for claim in own]
    rows = seen(desk, "table.all .row")
    assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == [claim["statement"] for claim in claims]
    assert [row.find_element(By.CLASS_NAME, "verdict").text[2:] for row in rows] == [c["verdict"] for c in claims]
    for row in rows:
        target = row.find_element(By.TAG_NAME, "a").get_attribute("href").partition("#")[2]
        statement = desk.find_element(By.ID, target).find_element(By.CLASS_NAME, "statement")
        assert statement.text == row.find_element(By.TAG_NAME, "th").text
    assert len(seen(desk, ".questions > li")) == 3


def test_search_finds_claims_sections_and_cells(desk: webdriver.Chrome, stored_page: Path) -> None:
    claims = [claim for own in stored(stored_page, "claims").values() for claim in own]
    cells = len(desk.find_elements(By.CSS_SELECTOR, ".cells li"))
    fitting = [
        c["statement"] for c in claims if "guard" in " ".join((c["statement"], c["source"], c["reason"])).lower()
    ]
    said = search(desk, "GUARD")
    assert 0 < len(fitting) < len(claims)
    assert [row.find_element(By.TAG_NAME, "th").text for row in seen(desk, "table.all .row")] == fitting
    assert said.startswith(f"Found for “GUARD”: {len(fitting)} of {len(claims)} claims, ")
    said = search(desk, "guard+switch")
    assert [section.get_attribute("id") for section in seen(desk, "section.study")] == ["wells"]
    assert [item.text for item in seen(desk, ".cells li")] == ["guard+switch"]
    assert said.endswith(f" claims, 1 of 3 studies, 1 of {cells} cells.")
    assert seen(desk, '[data-nothing="claims"]')
    desk.find_element(By.ID, "query").send_keys(Keys.ESCAPE)
    assert count(desk, "section.study") == 3
    assert count(desk, "table.all .row") == len(claims)
    assert count(desk, ".cells li") == 0  # folded again
    assert desk.find_element(By.ID, "found").text == ""


def test_raised_and_lowered_letters_are_found_as_one_types_them(desk: webdriver.Chrome) -> None:
    search(desk, "fsam")
    assert count(desk, "section#toy") == 1
    assert count(desk, "section#batch") == 0


def test_nothing_found_is_said_and_there_is_a_way_back(desk: webdriver.Chrome) -> None:
    assert search(desk, "no such thing") == "Nothing found for “no such thing”."
    assert count(desk, "section.study") == count(desk, "table.all") == 0
    assert desk.find_element(By.ID, "found").get_attribute("aria-live") == "polite"
    (back,) = seen(desk, "button.clear")
    back.send_keys(Keys.ENTER)
    assert count(desk, "section.study") == 3
    assert desk.switch_to.active_element.get_attribute("id") == "query"


def test_claims_are_filtered_by_verdict_with_the_keyboard(desk: webdriver.Chrome, stored_page: Path) -> None:
    verdicts = [claim["verdict"] for own in stored(stored_page, "claims").values() for claim in own]
    button = desk.find_element(By.CSS_SELECTOR, '.verdicts [data-verdict="fails"]')
    desk.find_element(By.CSS_SELECTOR, '.verdicts [data-verdict="holds"]').send_keys(Keys.TAB)
    assert desk.switch_to.active_element == button
    button.send_keys(Keys.SPACE)
    assert button.get_attribute("aria-pressed") == "true"
    assert 0 < count(desk, "table.all .row") == count(desk, ".claim") == verdicts.count("fails")
    assert f"{verdicts.count('fails')} of {len(verdicts)} claims" in desk.find_element(By.ID, "found").text
    assert count(desk, "section.study") == 3


def test_a_legend_switches_its_lines_off_and_on(desk: webdriver.Chrome) -> None:
    figure = desk.find_element(By.ID, "batch-comparison")
    desk.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", figure)
    wait(desk, lambda _: seen(desk, "#batch-comparison .entry"))
    entry = next(e for e in seen(desk, "#batch-comparison .entry") if e.get_attribute("data-entry") == "sam")
    lines = ".wide [data-series=sam]"
    others = ".wide [data-series]:not([data-series=sam])"
    before = count(desk, f"#batch-comparison {lines}"), count(desk, f"#batch-comparison {others}")
    assert min(before) > 0
    for way in (lambda: entry.send_keys(Keys.ENTER), entry.click):
        assert entry.get_attribute("aria-pressed") == "true"
        way()
        assert entry.get_attribute("aria-pressed") == "false"
        assert count(desk, f"#batch-comparison {lines}") == 0
        assert count(desk, f"#batch-comparison {others}") == before[1]
        way()
        assert count(desk, f"#batch-comparison {lines}") == before[0]
    # A button lies where the entry is drawn, and is named as it is.
    drawn = figure.find_elements(By.CSS_SELECTOR, '.wide [data-legend="sam"]')
    assert entry.get_attribute("aria-label") == "".join(part.text for part in drawn).strip() != ""
    for part in drawn:
        assert abs(part.rect["y"] + part.rect["height"] / 2 - entry.rect["y"] - entry.rect["height"] / 2) < 6


def test_every_entry_of_a_legend_switches_something(desk: webdriver.Chrome) -> None:
    script = (
        "return [...document.querySelectorAll('figure')].map((figure) => ["
        "  figure.id,"
        "  [...new Set([...figure.querySelectorAll('[data-legend]')].map((part) => part.dataset.legend))].sort(),"
        "  [...new Set([...figure.querySelectorAll('[data-series]')].map((part) => part.dataset.series))].sort()])"
    )
    figures = {name: (legend, series) for name, legend, series in desk.execute_script(script)}
    assert figures["wells-ends"][0] == ["hallucinated", "minimizers", "true"]
    assert {"sam", "switch"} <= set(figures["batch-comparison"][0])
    for legend, series in figures.values():
        assert set(legend) <= set(series)


def test_markers_tell_their_values(desk: webdriver.Chrome) -> None:
    titles = desk.execute_script(
        "return [...document.querySelectorAll('#batch-comparison title')].map(t => t.textContent)"
    )
    table = desk.find_element(By.CSS_SELECTOR, "#batch table.remedies").text
    assert titles
    value = titles[0].partition(": ")[2].partition(" (n")[0]
    assert value in table


def test_the_list_of_studies_is_folded_on_a_phone_and_says_where_one_is(
    browser: webdriver.Chrome, stored_page: Path
) -> None:
    screen(browser, PHONE)
    browser.get(stored_page.as_uri())
    assert not seen(browser, "nav li")
    summary = browser.find_element(By.CSS_SELECTOR, "nav summary")
    summary.send_keys(Keys.ENTER)
    assert len(seen(browser, "nav li")) == 4
    next(link for link in seen(browser, "nav a") if link.get_attribute("href").endswith("#batch")).send_keys(Keys.ENTER)
    assert not seen(browser, "nav li")
    wait(browser, lambda b: b.execute_script("return document.querySelector('nav [aria-current]')?.hash") == "#batch")
    top, bar = browser.execute_script(
        "const box = (q) => document.querySelector(q).getBoundingClientRect();"
        "return [box('#batch-title').top, box('.side').bottom]"
    )
    assert top >= bar >= 30  # what one went to is not under the bar that stays on the screen


def barriers(browser: webdriver.Chrome) -> list[tuple[str, list[str]]]:
    """What axe finds, and a check that it did check."""
    # A drawing is one image to a screen reader, named and described: its thousands of parts only cost time here.
    browser.execute_script("for (const svg of document.querySelectorAll('figure svg[role=img]')) svg.replaceChildren()")
    found = Axe().run(browser, options={"resultTypes": ["violations", "passes"]})
    passed = {rule["id"] for rule in found["passes"]}
    assert passed >= {"color-contrast", "button-name", "svg-img-alt", "label", "region", "heading-order"}
    return [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found["violations"]]


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light")])
def test_axe_finds_no_barrier(browser: webdriver.Chrome, stored_page: Path, width: int, scheme: str) -> None:
    screen(browser, width, scheme)
    browser.get(stored_page.as_uri())
    wait(browser, lambda _: count(browser, ".entry"))
    assert barriers(browser) == []


def test_surfaces_are_drawn_and_turn_together(browser: webdriver.Chrome, stored_page: Path) -> None:
    screen(browser, PHONE, "dark")  # small: without a graphics card every picture of them takes a while
    browser.get(stored_page.as_uri())
    browser.execute_script("document.querySelector('figure.surfaces').scrollIntoView()")
    wait(browser, lambda _: len(browser.find_elements(By.CSS_SELECTOR, ".view[data-drawn]")) == 2)
    eyes = "return [...document.querySelectorAll('.view')].map((view) => view._fullLayout.scene.camera.eye)"
    before = browser.execute_script(eyes)
    next(button for button in seen(browser, ".turn button") if "left" in button.text).send_keys(Keys.ENTER)
    wait(browser, lambda _: before[0] != (eye := browser.execute_script(eyes))[0] and eye[0] == eye[1])
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert barriers(browser) == []


def test_without_scripts_everything_is_shown(browser: webdriver.Chrome, stored_page: Path) -> None:
    screen(browser, DESK)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(stored_page.as_uri())
        assert not seen(browser, ".search, .verdicts, .entry, .turn")
        assert len(seen(browser, "section.study")) == 3
        assert len(seen(browser, "nav li")) == 4
        assert "need JavaScript" in browser.find_element(By.CSS_SELECTOR, "figure.surfaces").text
        assert len(seen(browser, "table.all .row")) == len(browser.find_elements(By.CSS_SELECTOR, ".claim"))
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

"""Surfaces that turn together, with a stand-in for the plotting library, which reports what it shows as that one does.

The library reports every change of a view, also one that a script asked for, some time after the promise of that change
is kept. Views that answer each other's reports go on swinging when the reader has let go.
"""

import json
from pathlib import Path

import pytest
from selenium import webdriver

import samirage.report
from tests.report.browsing import DESK, screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TEMPLATES = Path(samirage.report.__file__).parent / "templates"
VIEW = '<div><div class="view" style="height: 80px"></div><script type="application/json">{}</script></div>'
STAND_IN = """
const Plotly = {
  reports: 0,
  newPlot: async (view, data, layout) => {
    view._fullLayout = { scene: { camera: layout.scene.camera } };
    view.heard = {};
    view.on = (name, listener) => (view.heard[name] = listener);
  },
  report: (view, name, camera) => {
    Plotly.reports++;
    view.heard[name]({ "scene.camera": camera });
  },
  show: (view, name, camera) => {
    view._fullLayout.scene.camera = camera;
    Plotly.report(view, name, camera);
  },
  relayout: async (view, change) => {
    await new Promise((kept) => setTimeout(kept, 3));
    const camera = change["scene.camera"];
    if (!camera) return;
    view._fullLayout.scene.camera = camera;
    setTimeout(() => Plotly.report(view, "plotly_relayout", camera), 4 + 9 * (Plotly.reports % 3));
  },
};
const plottingLibrary = async () => Plotly;
"""


@pytest.fixture
def surfaces(browser: webdriver.Chrome, tmp_path: Path) -> webdriver.Chrome:
    spec = json.dumps({"data": [], "layout": {"scene": {"camera": {"eye": {"x": 1, "y": 0, "z": 1}}}}})
    own = (TEMPLATES / "surfaces.js").read_text(encoding="utf-8")
    page = tmp_path / "surfaces.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><figure class="surfaces" id="s"><p class="unable" hidden></p>'
        '<div class="turn" hidden><button data-turn="0.2 0">left</button></div>'
        f'<div class="pair">{VIEW.format(spec) * 2}</div></figure><script>{STAND_IN}{own}</script>',
        encoding="utf-8",
    )
    screen(browser, DESK)
    browser.get(page.as_uri())
    return browser


def play(browser: webdriver.Chrome, script: str) -> list[float]:
    """Run a script when the views are drawn, wait, and return where they look from, and how often they report then."""
    return browser.execute_async_script(
        "const done = arguments[0]; const rest = (ms) => new Promise((kept) => setTimeout(kept, ms));"
        "const views = [...document.querySelectorAll('.view')];"
        "(async () => {"
        "  while (!views.every((view) => view.dataset.drawn)) await rest(5);"
        f"  {script}"
        "  await rest(250); const before = Plotly.reports; await rest(250);"
        "  done([...views.map((view) => view._fullLayout.scene.camera.eye.x), Plotly.reports - before]);"
        "})();"
    )


def drag(view: int, *, kind: str = "plotly_relayouting") -> str:
    return (
        f"views[{view}].dispatchEvent(new PointerEvent('pointerdown'));"
        "for (let i = 1; i <= 20; i++) {"
        f"  Plotly.show(views[{view}], '{kind}', {{ eye: {{ x: 1 + i / 10, y: 0, z: 1 }} }});"
        "  await rest(5);"
        "}"
    )


@pytest.mark.parametrize("view", [0, 1])
def test_the_other_view_follows_and_both_come_to_rest(surfaces: webdriver.Chrome, view: int) -> None:
    # At the last place, not at one on the way to it, although places came faster than the other view could follow.
    assert play(surfaces, drag(view)) == [3.0, 3.0, 0]


def test_the_view_that_was_touched_last_leads(surfaces: webdriver.Chrome) -> None:
    back = drag(1, kind="plotly_relayout").replace("1 + i / 10", "5 - i / 10")
    assert play(surfaces, drag(0) + back) == [3.0, 3.0, 0]


def test_a_button_turns_both_at_the_same_height(surfaces: webdriver.Chrome) -> None:
    play(surfaces, "document.querySelector('.turn button').click();")
    eyes = surfaces.execute_script(
        "return [...document.querySelectorAll('.view')].map((view) => view._fullLayout.scene.camera.eye)"
    )
    assert eyes[0] == eyes[1] == pytest.approx({"x": 0.980067, "y": 0.198669, "z": 1.0}, abs=1e-5)


def test_a_browser_that_cannot_draw_says_so(browser: webdriver.Chrome, surfaces: webdriver.Chrome) -> None:
    path = Path(browser.current_url.removeprefix("file://"))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("async () => Plotly", "async () => { throw new Error() }"), encoding="utf-8")
    browser.refresh()
    shown = browser.execute_async_script(
        "const done = arguments[0]; setTimeout(() => done(["
        "document.querySelector('.unable').hidden, document.querySelector('.pair').hidden]), 200)"
    )
    assert shown == [False, True]

"""How a diagnosis looks: in a line, as text, as a table, as HTML."""

import io
from html.parser import HTMLParser

import pytest
import rich.console

from samirage import Status, diagnose
from samirage.diagnosis.show import tone
from tests.monitor.runs import RING, bouncing, hallucinated


@pytest.fixture(scope="module")
def hallucination():
    optimizer, _ = hallucinated(steps=300, window=64)
    return diagnose(optimizer)


@pytest.fixture(scope="module")
def unchecked():
    optimizer, _ = bouncing(steps=100)
    return diagnose(optimizer)


def test_the_line_is_one_and_names_step_status_and_figures(hallucination):
    assert hallucination.line == str(hallucination.line).strip()
    assert "\n" not in hallucination.line
    assert hallucination.line.startswith("step 299: hallucinated minimizer (r ")


def test_the_text_holds_meaning_figures_and_advice(hallucination):
    text = str(hallucination)
    assert text.startswith("Hallucinated minimizer (steps 256 to 299)\n" + Status.HALLUCINATED_MINIMIZER.meaning)
    assert text.endswith("Advice: " + Status.HALLUCINATED_MINIMIZER.advice)
    (row,) = [line for line in text.splitlines() if "shifted gradient over gradient" in line]
    assert row.split()[4] == "r"
    assert "< 0.1" in row
    assert row.endswith("✓")


def test_what_could_not_be_checked_has_a_mark_of_its_own(unchecked):
    (row,) = [line for line in str(unchecked).splitlines() if "how much the steps add up" in line and "<" in line]
    assert row.endswith("?")
    assert "–" in row


def test_rich_draws_the_same_figures(hallucination, unchecked):
    for diagnosis in (hallucination, unchecked):
        out = io.StringIO()
        rich.console.Console(file=out, width=160, color_system="truecolor").print(diagnosis)
        drawn = " ".join(out.getvalue().split())  # it breaks lines
        assert diagnosis.status.value.capitalize() in drawn
        assert diagnosis.advice in drawn
        for figure in diagnosis.figures.values():
            if figure.asked:
                assert figure.meaning in drawn
                assert figure.test in drawn


class _Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_notebook_gets_html_that_is_well_formed_and_escaped(hallucination, unchecked):
    for diagnosis in (hallucination, unchecked):
        parser = _Balanced()
        parser.feed(diagnosis._repr_html_())
        assert not parser.open
        text = " ".join(parser.text)
        assert diagnosis.advice in text
        assert "< 0.1" in text or "≥" in text
    assert "f⁺&lt;f" in hallucination._repr_html_()


def test_evidence_is_shown():
    optimizer, _ = hallucinated(steps=600)
    text = str(diagnose(optimizer, confirm=RING))
    assert text.startswith("Hallucinated minimizer, confirmed (steps 450 to 599)")
    assert "what gradient descent gains, over what the slope promises" in text


@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_tone(status):
    expected = {
        Status.PROGRESSING: "good",
        Status.STATIONARY: "good",
        Status.UNDECIDED: "neutral",
        Status.BOUNCING_MINIMIZER: "neutral",
    }
    assert tone(status) == expected.get(status, "bad")
    assert status.is_alarm == (tone(status) == "bad")

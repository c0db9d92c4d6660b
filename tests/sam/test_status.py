"""One vocabulary: the names are fixed, and every member says what it means and what to do, in a sentence."""

import re

import samirage
from samirage import landscape
from samirage.sam import Status

NAMES = [
    "INACTIVE",
    "STATIONARY",
    "HALLUCINATED_MINIMIZER",
    "HALLUCINATED_SADDLE",
    "HALLUCINATED_PLATEAU",
    "HALLUCINATED_BOUNCE",
    "BOUNCING_MINIMIZER",
    "SADDLE_TRAP",
    "MAXIMIZER_TRAP",
    "DRIFTING",
    "PROGRESSING",
    "DIVERGED",
    "UNDECIDED",
    "HALLUCINATED_MAXIMIZER",
]


def test_the_members_are_those_of_the_public_interface_in_order():
    assert [status.name for status in Status] == NAMES


def test_every_member_explains_itself_in_whole_sentences_of_its_own():
    for text in ("meaning", "advice"):
        sentences = [getattr(status, text) for status in Status]
        assert all(s[0].isupper() and s.endswith(".") for s in sentences)
    assert len({status.meaning for status in Status}) == len(NAMES)


def test_what_an_advice_names_is_in_the_package():
    sentences = " ".join(status.meaning + " " + status.advice for status in Status)
    assert [name for name in re.findall(r"samirage\.(\w+)", sentences) if not hasattr(samirage, name)] == []
    classes = {"Guard", "Lift", "Mix", "Objective", "WarmStart"}
    assert all(hasattr(samirage, name) or hasattr(landscape, name) for name in classes)
    assert set(re.findall(r"(?<![.!?] )(?<!^)\b[A-Z]\w+\b", sentences)) - {"SAM"} <= classes
    assert "Lift" in Status.HALLUCINATED_MINIMIZER.advice


def test_hallucinated_are_those_named_so():
    assert {s.name for s in Status if s.is_hallucinated} == {n for n in NAMES if n.startswith("HALLUCINATED")}

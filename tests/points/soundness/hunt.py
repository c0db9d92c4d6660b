"""Rounds of the fuzzer until the time is over; of every kind of finding, the smallest example."""

import math
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky

from tests.points.soundness.cases import Case, cases
from tests.points.soundness.examine import Tally, examine

_SHRINKING_S: Final = 8.0  # for one kind of finding
_ORDER: Final = (
    "formulas",
    "points: hallucinated",
    "points: planted",
    "points: other",
    "true points proved",
    "regular true points",
    "regular true points proved",
    "theorems",
    "theorems in part",
    "records",
    "records: none",
    "records: rotation",
    "records: least squares",
    "records with attraction",
    "false refusals",
    "forgeries",
    "forgeries refused",
    "forgeries not confirmed",
    "forgeries confirmed and true",
    "mutations",
    "mutations refused",
    "mutations not confirmed",
    "mutations confirmed",
    "mutations confirmed and true",
)


class Unsound(AssertionError):
    """A finding of a kind that was not seen before."""


def hunt(goes_on: Callable[[], bool], first_seed: int, examples: int, mutations: int) -> Tally:
    """Search until told to stop.

    Args:
        goes_on: Asked before every example.
        first_seed: Seed of the first round; the others count on.
        examples: Number of examples in a round.
        mutations: How many changes of each record are tried.
    """
    tally = Tally()
    known: set[str] = set()
    shrunk: dict[str, str] = {}
    number = first_seed
    while goes_on():
        _round(goes_on, number, examples, mutations, tally, known, shrunk)
        number += 1
    tally.findings = {kind: shrunk.get(kind, text) for kind, text in tally.findings.items()}
    return tally


def _round(
    goes_on: Callable[[], bool],
    number: int,
    examples: int,
    mutations: int,
    tally: Tally,
    known: set[str],
    shrunk: dict[str, str],
) -> None:
    """Run examples; at the first new kind of finding, shrink it and end."""
    target: list[str] = []
    shrinks_until = math.inf

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def one(case: Case) -> None:
        nonlocal shrinks_until
        if time.monotonic() > shrinks_until or not (target or goes_on()):
            return
        # While a finding is being shrunk, what happens is not counted again.
        fresh = _watched(case, Tally() if target else tally, mutations)
        for kind, text in fresh.items():
            # A mutation is as small as it gets.
            if kind in target or not (target or kind in known or kind.startswith("mutation")):
                if not target:
                    shrinks_until = time.monotonic() + _SHRINKING_S
                target[:] = [kind]
                shrunk[kind] = text
                raise Unsound(kind)

    with suppress(Unsound, Flaky):  # flaky: its time was over before it was as small as can be
        one()
    known.update(target)


def _watched(case: Case, tally: Tally, mutations: int) -> dict[str, str]:
    fresh: dict[str, str] = {}
    tally.on_finding = fresh.setdefault  # type: ignore[assignment]
    examine(case, tally, mutations)
    return fresh


def summary(tally: Tally) -> str:
    """Return the counts and the findings as text."""
    lines = [f"{tally.counts[key]:8} {key}" for key in _ORDER]
    lines += [f"{count:8} {key}" for key, count in sorted(tally.counts.items()) if key not in _ORDER]
    lines += ["", "by family:"] + [f"{count:8} {key}" for key, count in sorted(tally.families.items())]
    lines += ["", "true points that were not proved:"]
    lines += [f"{count:8} {reason}" for reason, count in tally.reasons.most_common(20)]
    lines += ["", "true records that were not confirmed:", *tally.refused[:3]]
    lines += ["", f"findings: {len(tally.findings)} kinds"]
    for kind, text in tally.findings.items():
        lines += [f"{tally.numbers[kind]:8} {kind} (first in formula {tally.first[kind]})", f"           {text}"]
    return "\n".join(lines)


def as_data(tally: Tally) -> dict[str, Any]:
    """Return the counts and the findings as plain data."""
    return {
        "counts": {key: tally.counts[key] for key in _ORDER},
        "families": dict(sorted(tally.families.items())),
        "not_proved": dict(tally.reasons.most_common()),
        "findings": {kind: tally.numbers[kind] for kind in tally.findings},
    }


def commit(root: Path) -> str:
    """Return the commit of the checkout, with `-dirty` where files differ from it."""
    shown = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.strip() or "unknown"

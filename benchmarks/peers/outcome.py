"""What a probe saw, and how it is stored. Needs nothing but Python, because peers run in environments of their own."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


class NotOfferedError(Exception):
    """The implementation offers nothing of the kind."""


@dataclass(frozen=True)
class Outcome:
    """What one probe saw.

    Attributes:
        holds: Whether the behaviour was as asked for; None where the question makes no sense for this implementation.
        figure: What was measured, or what was raised, in a few words.
    """

    holds: bool | None
    figure: str


def observed(probe: Callable[[], Outcome]) -> Outcome:
    """Run a probe; what the implementation raises is an outcome, too."""
    try:
        return probe()
    except NotOfferedError as reason:
        return Outcome(None, str(reason))
    except Exception as error:
        return raised(error)


def raised(error: BaseException) -> Outcome:
    """Return the outcome of a probe that ended in an exception."""
    lines = str(error).strip().splitlines() or ["without a message"]
    return Outcome(False, f"raises {type(error).__name__}: {shortened(lines[0])}")


def shortened(text: str, length: int = 90) -> str:
    """Return the text, cut at a word if it is longer than `length`."""
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " …"


def store(path: Path, *, title: str, source: str, versions: Mapping[str, str], outcomes: Mapping[str, Outcome]) -> None:
    """Write what all probes saw of one implementation.

    Args:
        path: JSON file to write.
        title: The implementation's name.
        source: Where it came from, with version or commit.
        versions: Versions of what it ran on.
        outcomes: By behaviour.
    """
    stored = {
        "title": title,
        "source": source,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": dict(versions),
        "outcomes": {key: asdict(outcome) for key, outcome in outcomes.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

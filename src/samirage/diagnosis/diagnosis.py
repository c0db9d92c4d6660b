"""A diagnosis: what a run is doing, why one thinks so, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from samirage.diagnosis.confirm import Confirmation
from samirage.diagnosis.figures import Figure, figures
from samirage.diagnosis.rules import decide, nearest, table
from samirage.diagnosis.show import as_html, as_line, as_rich, as_text
from samirage.diagnosis.thresholds import Thresholds
from samirage.sam import Status

# In balance a guard with its default shrinking and growth rejects one step in 15.
_MANY_REJECTIONS: Final = 0.2


@dataclass(frozen=True)
class Diagnosis:
    """What a run was doing in a window of its steps.

    `print(diagnosis)` gives a small table, `diagnosis.line` one line for a log, `rich.print` a coloured table, and a
    notebook shows it as HTML.

    Attributes:
        status: What it was doing: what the extra passes say, if they were made and found another class; else what the
            free figures say.
        figures: The figures by name, those that the status rests on first, each with threshold and margin.
        advice: One sentence.
        last_step: Number of the last step of the window.
        steps: Number of steps of the window.
        notes: What could not be checked, and other things to know, one sentence each.
        free_status: What the free figures say.
        confirmation: What the extra passes found; None if there were none.
    """

    status: Status
    figures: Mapping[str, Figure]
    advice: str
    last_step: int
    steps: int
    notes: tuple[str, ...]
    free_status: Status
    confirmation: Confirmation | None = None

    @property
    def line(self) -> str:
        """The diagnosis in one line."""
        return as_line(self)

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> object:
        return as_rich(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def judge(
    values: Mapping[str, float],
    *,
    last_step: int,
    steps: int,
    thresholds: Thresholds,
    notes: tuple[str, ...] = (),
) -> Diagnosis:
    """Diagnose a window from the values of its figures.

    Args:
        values: Value of each figure of `samirage.diagnosis.figures.MEANINGS`; NaN where it is missing.
        last_step: Number of the last step of the window.
        steps: Number of its steps.
        thresholds: The thresholds.
        notes: What else to say.

    Returns:
        The diagnosis.
    """
    rules = table(thresholds)
    rule = decide(values, rules)
    if values["rejected_share"] >= _MANY_REJECTIONS:
        share = f"{100 * values['rejected_share']:.0f} % of the steps"
        notes = (*notes, f"The guard rejected {share}: SAM looks too far here; lower rho.")
    if rule is None:
        close = nearest(values, rules)
        said = notes
        if close is not None:
            missed = figures(values, (close[1],))[close[1].figure]
            said = (*notes, f"Nearest: {close[0].status.value}, but for {missed}.")
        return Diagnosis(
            Status.UNDECIDED,
            figures(values, ()),
            Status.UNDECIDED.advice,
            last_step,
            steps,
            said,
            Status.UNDECIDED,
        )
    shown = figures(values, rule.conditions)
    unchecked = [f"{f.symbol} ({f.meaning})" for f in shown.values() if f.asked and f.passed is None]
    if unchecked:
        notes = (*notes, f"Could not check {', '.join(unchecked)}.")
    return Diagnosis(
        rule.status, shown, rule.advice or rule.status.advice, last_step, steps, notes, free_status=rule.status
    )

"""How a diagnosis is shown: one line, plain text, a rich table, HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal

from samirage.errors import require
from samirage.sam import Status

if TYPE_CHECKING:
    from samirage.diagnosis.diagnosis import Diagnosis

Tone = Literal["good", "neutral", "bad"]

_NEUTRAL: Final = frozenset({Status.UNDECIDED, Status.BOUNCING_MINIMIZER})
_COLOURS: Final = {"good": "green", "neutral": "yellow", "bad": "red"}
_HTML_COLOURS: Final = {"good": "#1a7f37", "neutral": "#9a6700", "bad": "#cf222e"}
_MARKS: Final = {"holds": "✓", "fails": "✗", "could not check": "?"}


def tone(status: Status) -> Tone:
    """Tell whether a status is good news, bad news, or neither.

    Args:
        status: The status.

    Example:
        >>> tone(Status.PROGRESSING), tone(Status.HALLUCINATED_PLATEAU)
        ('good', 'bad')
    """
    return "bad" if status.is_alarm else "neutral" if status in _NEUTRAL else "good"


def as_line(diagnosis: Diagnosis) -> str:
    """Return the diagnosis in one line, for a log.

    Args:
        diagnosis: The diagnosis.
    """
    values = ", ".join(f"{symbol} {value}" for symbol, _, value, _, _, _ in _rows(diagnosis)[:4])
    return f"step {diagnosis.last_step}: {diagnosis.status.value}{_confirmed(diagnosis)} ({values})"


def as_text(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as plain text: headline, meaning, table, advice.

    Args:
        diagnosis: The diagnosis.
    """
    rows = _rows(diagnosis)
    widths = [max(len(row[i]) for row in rows) for i in (1, 0, 2, 3, 4)]
    lines = [_headline(diagnosis), diagnosis.status.meaning, ""]
    for symbol, meaning, value, test, margin, verdict in rows:
        cells = zip((meaning, symbol, value, test, margin), widths, "<<>>>", strict=True)
        line = "  ".join(f"{cell:{side}{width}}" for cell, width, side in cells)
        lines.append(f"  {line}  {_MARKS.get(verdict, '')}".rstrip())
    lines += ["", *diagnosis.notes, f"Advice: {diagnosis.advice}"]
    return "\n".join(lines)


def as_rich(diagnosis: Diagnosis) -> object:
    """Return the diagnosis as a table for rich.

    Args:
        diagnosis: The diagnosis.

    Raises:
        UserError: If rich is not installed.
    """
    rich_table, text = require("lab", "rich.table"), require("lab", "rich.text")
    colour = _COLOURS[tone(diagnosis.status)]
    notes = "\n".join([*diagnosis.notes, f"Advice: {diagnosis.advice}"])
    grid: Any = rich_table.Table(
        title=text.Text(_headline(diagnosis), style=f"bold {colour}"),
        caption=text.Text(f"{diagnosis.status.meaning}\n{notes}"),
        title_justify="left",
        caption_justify="left",
    )
    for heading, side in zip(("figure", "", "value", "asked", "margin", ""), "llrrrl", strict=True):
        grid.add_column(heading, justify="right" if side == "r" else "left")
    for symbol, meaning, value, test, margin, verdict in _rows(diagnosis):
        style = {"fails": "red", "could not check": "yellow"}.get(verdict, "" if verdict else "dim")
        cells = (meaning, symbol, value, test, margin, _MARKS.get(verdict, ""))
        grid.add_row(*(text.Text(cell) for cell in cells), style=style)
    return grid


def as_html(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as an HTML fragment, for a notebook.

    Args:
        diagnosis: The diagnosis.
    """
    colour = _HTML_COLOURS[tone(diagnosis.status)]
    cells = []
    for symbol, meaning, value, test, margin, verdict in _rows(diagnosis):
        style = "" if verdict else ' style="opacity:0.6"'
        row = (meaning, symbol, value, test, margin, f"{_MARKS.get(verdict, '')} {verdict}".strip())
        cells.append(f"<tr{style}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    heads = "".join(f"<th>{head}</th>" for head in ("figure", "", "value", "asked", "margin", ""))
    notes = "".join(f"<p>{escape(note)}</p>" for note in diagnosis.notes)
    return (
        f'<div><p><strong style="color:{colour}">{escape(_headline(diagnosis))}</strong><br>'
        f"{escape(diagnosis.status.meaning)}</p><table><thead><tr>{heads}</tr></thead><tbody>{''.join(cells)}</tbody>"
        f"</table>{notes}<p>Advice: {escape(diagnosis.advice)}</p></div>"
    )


def _headline(diagnosis: Diagnosis) -> str:
    first = diagnosis.last_step - diagnosis.steps + 1
    return f"{diagnosis.status.value.capitalize()}{_confirmed(diagnosis)} (steps {first} to {diagnosis.last_step})"


def _confirmed(diagnosis: Diagnosis) -> str:
    if diagnosis.confirmation is None:
        return ""
    if diagnosis.status is not diagnosis.free_status:
        return f", not {diagnosis.free_status.value}: extra passes decide"
    return f", {diagnosis.confirmation.verdict}"


def _rows(diagnosis: Diagnosis) -> list[tuple[str, str, str, str, str, str]]:
    """Symbol, meaning, value, test, margin, verdict: of what is asked for, of the evidence, and of the main figures."""
    shown = [f for f in diagnosis.figures.values() if f.asked]
    if diagnosis.confirmation is not None:
        shown += diagnosis.confirmation.evidence
    names = {f.name for f in shown}
    main = ("shift_ratio", "slope_ratio", "cosine", "motion_coherence", "descent_efficiency", "loss_trend", "loss")
    shown += [f for f in diagnosis.figures.values() if f.name in main and f.name not in names]
    return [
        (
            f.symbol,
            f.meaning,
            "–" if f.value != f.value else f"{f.value:.3g}",
            f.test,
            "" if f.margin != f.margin else f"{f.margin:+.2g}",
            f.verdict,
        )
        for f in shown
    ]

"""The overview of a run: what became of all claims of all studies, and how each claim is printed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samirage.lab.results.claims import Claim, Relation, Verdict
from samirage.report.numbers import significant, with_error

SIGNS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗", Verdict.NOT_COMPARABLE: "–"}
"""A verdict as one character, which stands beside its name: never alone, and never told by colour alone."""


@dataclass(frozen=True)
class Count:
    """How often a verdict was given.

    Attributes:
        verdict: The verdict.
        n: How many claims have it.
    """

    verdict: Verdict
    n: int

    @property
    def sign(self) -> str:
        """The verdict as one character."""
        return SIGNS[self.verdict]


def counts(claims: Sequence[Claim]) -> list[Count]:
    """Count the verdicts.

    Args:
        claims: The claims.

    Returns:
        One count for each verdict that occurs, in the order of `Verdict`.

    Example:
        >>> claim = Claim(statement="s", source="ours", relation=Relation.AT_MOST, expected=0.5,
        ...     measured=0.4, standard_error=0.1, n=4, command="samirage reproduce mnist")
        >>> [(count.verdict.value, count.n) for count in counts([claim, claim])]
        [('holds', 2)]
    """
    found = [Count(verdict, sum(claim.verdict is verdict for claim in claims)) for verdict in Verdict]
    return [count for count in found if count.n]


def told(studies: Mapping[str, Sequence[Claim]]) -> str:
    """Say in one sentence what became of the claims.

    Args:
        studies: For every study, its claims.

    Returns:
        The sentence.

    Example:
        >>> told({"mnist": []})
        'No claims are stored for this run yet: they are written when all cells of a study have finished.'
    """
    claims = [claim for own in studies.values() for claim in own]
    if not claims:
        return "No claims are stored for this run yet: they are written when all cells of a study have finished."
    verbs = {
        Verdict.HOLDS: ("holds", "hold"),
        Verdict.FAILS: ("fails", "fail"),
        Verdict.NOT_COMPARABLE: ("cannot be compared", "cannot be compared"),
    }
    parts = [f"{count.n} {verbs[count.verdict][count.n != 1]}" for count in counts(claims)]
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    made = f"{len(claims)} claims" if len(claims) != 1 else "1 claim"
    where = f"{len(studies)} studies" if len(studies) != 1 else "1 study"
    return (
        f"This run puts {made} of {where} to the test: {listed}. Each verdict is computed from stored results; nobody "
        "writes one."
    )


def measured_text(claim: Claim) -> str:
    """Print what was measured, with its standard error and unit.

    Args:
        claim: The claim.

    Example:
        >>> claim = Claim(statement="s", source="ours", relation=Relation.AT_LEAST, expected=90, measured=97.5,
        ...     standard_error=0.42, n=16, unit="%", command="samirage reproduce mnist")
        >>> measured_text(claim), expected_text(claim)
        ('97.5 ± 0.4%', 'at least 90%')
    """
    value = with_error(claim.measured, claim.standard_error)
    return value + _unit(claim) if claim.n else value


def expected_text(claim: Claim) -> str:
    """Print what was expected, and within what.

    Args:
        claim: The claim.

    Example:
        >>> claim = Claim(statement="s", source="ours", relation=Relation.EQUAL_WITHIN, expected=83.1, tolerance=1,
        ...     measured=72.1, standard_error=0.4, n=16, unit="%", command="samirage reproduce mnist")
        >>> expected_text(claim)
        '83.1%, within 1 percentage points'
    """
    value = significant(claim.expected, 6) + _unit(claim)
    points = " percentage points" if claim.unit == "%" else _unit(claim)
    if claim.relation is Relation.EQUAL_WITHIN:
        return f"{value}, within {significant(claim.tolerance)}{points}"
    softened = f", tolerance {significant(claim.tolerance)}{points}" if claim.tolerance else ""
    return f"{claim.relation.value} {value}{softened}"


def _unit(claim: Claim) -> str:
    return claim.unit if claim.unit in {"", "%"} else f" {claim.unit}"


def first_question(text: str) -> str:
    """Return a text as far as its first question goes, or its first sentence where it asks nothing.

    Args:
        text: The text.

    Returns:
        The beginning.

    Example:
        >>> first_question("SAM is said to help. Does it? And why?"), first_question("It helps. A little.")
        ('SAM is said to help. Does it?', 'It helps.')
    """
    found = re.match(r"[^?]*\?", text) or re.match(r".*?[.!](?=\s|$)", text, re.DOTALL)
    return found[0] if found else text

"""The stored results of all studies, and what every page says of them: their origin, and what became of claims."""

from functools import cache
from pathlib import Path
from typing import Final

from samirage.lab.results.claims import Claim, Relation
from samirage.lab.results.store import RunFolder
from samirage.report.numbers import significant, with_error
from samirage.report.sections import build_section
from samirage.report.sections.section import Section

ROOT: Final = Path(__file__).resolve().parent.parent.parent
FOLDER: Final = RunFolder(ROOT / "results" / "laptop")


@cache
def section(study: str) -> Section:
    """Return the section of a study as the run's own page has it, with its sentences and figures.

    Args:
        study: Name of the study.
    """
    return build_section(FOLDER, study)


def finished() -> list[str]:
    """Return the studies of which something is stored, in the order in which they were stored."""
    return [study for study in FOLDER.studies() if FOLDER.finished(study)]


def origin(study: str) -> str:
    """Say where numbers come from: hardware, version, date and command.

    Args:
        study: Name of the study.
    """
    manifest = FOLDER.manifest(study)
    return (
        f"{manifest['hardware']['processor']}, torch {manifest['versions']['torch']}, {manifest['started'][:10]}: "
        f"`{manifest['command']}`"
    )


def measured(claim: Claim) -> str:
    """Print what was measured for a claim, with its error.

    Args:
        claim: The claim.
    """
    unit = f" {claim.unit}" if claim.unit else ""
    return with_error(claim.measured, claim.standard_error) + unit


def expected(claim: Claim) -> str:
    """Print what a claim expects.

    Args:
        claim: The claim.
    """
    unit = f" {claim.unit}" if claim.unit else ""
    within = f" ± {significant(claim.tolerance)}" if claim.relation is Relation.EQUAL_WITHIN else ""
    sign = {Relation.AT_LEAST: "≥ ", Relation.AT_MOST: "≤ ", Relation.EQUAL_WITHIN: ""}[claim.relation]
    value = claim.expected
    if claim.relation is not Relation.EQUAL_WITHIN and claim.tolerance:
        value += claim.tolerance if claim.relation is Relation.AT_MOST else -claim.tolerance
    return f"{sign}{significant(value)}{within}{unit}"


def claims_list(claims: list[Claim]) -> list[str]:
    """Return a line for every claim.

    Args:
        claims: The claims.
    """
    return [
        f"- **{claim.verdict.value}**: {claim.statement} (measured {with_error(claim.measured, claim.standard_error)}, "
        f"n = {claim.n})"
        for claim in claims
    ]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table as lines of Markdown; bars in the cells are escaped.

    Args:
        head: The heads of its columns.
        rows: Its rows.
    """
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]

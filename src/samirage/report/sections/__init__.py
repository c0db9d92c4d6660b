"""One builder per study, for those that the section of comparisons does not fit."""

from collections.abc import Callable

from samirage.lab.store import RunFolder
from samirage.report.sections import (
    alternatives,
    comparison,
    construction,
    doctor,
    generic,
    guard,
    mnist,
    network,
    points,
    toy,
    wells,
)
from samirage.report.sections.section import Section

Builder = Callable[[RunFolder, str], Section]

BUILDERS: dict[str, Builder] = {
    "mnist": mnist.build,
    "guard": guard.build,
    "alternatives": alternatives.build,
    "wells": wells.build,
    "doctor": doctor.build,
    "points": points.build,
    "toy": toy.build,
    "construction": construction.build,
    "network": network.build,
}


def build_section(folder: RunFolder, study: str) -> Section:
    """Build the section of a study: by its own builder, else as its stored reading says, else a list of its cells.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section.
    """
    builder = BUILDERS.get(study, comparison.build) if folder.finished(study) else generic.build
    return builder(folder, study)

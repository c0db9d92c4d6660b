"""One builder per study: a new study adds a file here and one line below."""

from collections.abc import Callable

from samirage.lab.store import RunFolder
from samirage.report.sections import (
    alternatives,
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
    """Build the section of a study; one that has no builder, or no finished cell yet, gets a list of its cells.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section.
    """
    builder = BUILDERS.get(study, generic.build) if folder.finished(study) else generic.build
    return builder(folder, study)

"""The section of a study that the page knows nothing about."""

from samirage.lab.results.store import RunFolder
from samirage.report.sections.section import Section, missing_notice


def build(folder: RunFolder, study: str) -> Section:
    """Build a section that says what has finished; the page adds claims, configuration and the list of cells.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section.
    """
    planned, finished = folder.manifest(study)["cells"], folder.finished(study)
    return Section(
        title=f"Study {study}",
        headline=(f"{len(finished)} of {len(planned)} cells have finished. Their files are listed below.",),
        notices=missing_notice(folder, study),
    )

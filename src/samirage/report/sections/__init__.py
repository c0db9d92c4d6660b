"""The sections of the page, by the name of the study; each is loaded when it is needed.

A study that has a section of its own has it in a module of its name here, with a function `build`. Any other is shown
as its stored plot specification says.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from samirage.lab.results.store import RunFolder
from samirage.lab.studies import STUDIES
from samirage.report.sections.section import Section


def build_section(folder: RunFolder, study: str) -> Section:
    """Build the section of a study: by its own builder, else as its stored reading says, else a list of its cells.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        The section.
    """
    build: Callable[[RunFolder, str], Section] = import_module(_module(folder, study)).build
    return build(folder, study)


def _module(folder: RunFolder, study: str) -> str:
    if not folder.finished(study):
        return f"{__name__}.generic"
    own = f"{__name__}.{study.replace('-', '_')}"
    # A run folder that somebody else has made may name any module: only that of a study is a section.
    return own if study in STUDIES and find_spec(own) else f"{__name__}.comparison"

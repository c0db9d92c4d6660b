"""What a section of the page is made of. A study decides what is in its section; the templates decide how it looks."""

from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from samirage.lab.results.store import RunFolder
from samirage.report.plots.surfaces import Surface

Screens = Literal["all", "wide", "narrow"]


@dataclass(frozen=True)
class Drawing:
    """One drawing of a plot.

    Attributes:
        svg: The SVG element, which carries its text for screen readers.
        natural_width: Width in CSS pixels at which its text has the intended size; it scrolls rather than shrink much.
        screens: On which screens it is shown; a plot may have one drawing for wide and one for narrow ones.
        label: What it shows, in words.
    """

    svg: Markup
    natural_width: int
    screens: Screens = "all"
    label: str = ""


@dataclass(frozen=True)
class PlotBlock:
    """A plot with its heading and caption.

    Attributes:
        id: Its id on the page.
        title: Its heading.
        caption: What is drawn, in plain words.
        drawings: Its drawings.
    """

    id: str
    title: str
    caption: str
    drawings: tuple[Drawing, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """What its drawings show, in words, each text once."""
        return tuple(dict.fromkeys(drawing.label for drawing in self.drawings))


@dataclass(frozen=True)
class SurfacesBlock:
    """Surfaces side by side that turn together.

    Attributes:
        id: Its id on the page.
        title: Its heading.
        caption: What is drawn, in plain words.
        surfaces: The surfaces.
    """

    id: str
    title: str
    caption: str
    surfaces: tuple[Surface, ...]


@dataclass(frozen=True)
class Block:
    """A part of a section: data, and the template that prints it.

    Attributes:
        template: Name of a file in `templates/blocks`; it finds the data as `data`.
        data: Its data.
    """

    template: str
    data: Any


@dataclass(frozen=True)
class Section:
    """A study on the page.

    Attributes:
        title: Its heading.
        headline: Paragraphs in plain words; every number in them is computed from stored cells.
        notices: What the reader must know first, such as that cells are missing.
        opening: Blocks before the claims.
        blocks: Blocks after the claims.
        facts: Further pairs of name and text for the list of software and hardware.
        question: What the study asks, in one line, for the overview; none where nobody has written one.
    """

    title: str
    headline: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    opening: tuple[Block, ...] = ()
    blocks: tuple[Block, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    question: str = ""

    @property
    def has_surfaces(self) -> bool:
        """Whether it shows surfaces that a reader can turn, for which the page must bring scripts."""
        return any(block.template == "surfaces.html" for block in (*self.opening, *self.blocks))


def missing_notice(folder: RunFolder, study: str) -> tuple[str, ...]:
    """Say which cells have not finished.

    Args:
        folder: The run folder.
        study: Name of the study.

    Returns:
        One sentence, or none when nothing is missing.
    """
    planned, finished = list(folder.manifest(study)["cells"]), set(folder.finished(study))
    missing = [name for name in planned if name not in finished]
    if not missing:
        return ()
    shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    one = len(missing) == 1
    return (
        f"{len(missing)} of {len(planned)} cells {'has' if one else 'have'} not finished: {shown}. "
        f"Run `samirage reproduce {study}` again on this folder to compute {'it' if one else 'them'}.",
    )

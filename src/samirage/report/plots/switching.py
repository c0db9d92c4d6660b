"""Names by which the page knows what is drawn: its legends switch series off and on, and its markers tell values."""

import json
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text


def name_drawn(artist: Artist, *, series: str = "", legend: str = "", points: Sequence[str] = ()) -> None:
    """Name something drawn; what it was named before stays, but for what is given now.

    Args:
        artist: What is drawn.
        series: The series that it belongs to.
        legend: The series that it stands for in a legend.
        points: What is said of each of its markers, in their order, to a reader who points there.

    Example:
        >>> artist = Artist()
        >>> name_drawn(artist, points=["SAM only: 3"])
        >>> name_drawn(artist, series="sam")
        >>> artist.get_gid()
        '{"points": ["SAM only: 3"], "series": "sam"}'
    """
    said = json.loads(artist.get_gid() or "{}")
    given = {"series": series, "legend": legend, "points": list(points)}
    artist.set_gid(json.dumps({**said, **{key: value for key, value in given.items() if value}}))


def switchable(figure: Figure, entries: Sequence[str | tuple[str, ...]]) -> None:
    """Let the entries of a figure's legend switch what they explain.

    An entry switches everything in the figure's axes whose label is a name of it, or begins with one and a space.

    Args:
        figure: The figure, with one legend.
        entries: For each entry of the legend, its name or names; empty for one that switches nothing.
    """
    (legend,) = figure.legends
    owners = {name: names[0] for names in map(_tuple, entries) for name in names}
    for names, handle, text in zip(map(_tuple, entries), legend.legend_handles, legend.get_texts(), strict=True):
        if names and handle is not None:
            name_drawn(handle, legend=names[0])
            name_drawn(text, legend=names[0])
    for axes in figure.axes:
        for artist in axes.get_children():
            label = str(artist.get_label())
            fitting = [name for name in owners if label == name or label.startswith(f"{name} ")]
            if fitting:
                name_drawn(artist, series=owners[max(fitting, key=len)])


def forget_names(figure: Figure) -> None:
    """Take back all such names, for a file that no page reads.

    Args:
        figure: The figure.
    """
    drawn = figure.findobj()
    boxes = [text.get_bbox_patch() for text in drawn if isinstance(text, Text)]  # which no text counts among its parts
    for artist in [*drawn, *(box for box in boxes if box is not None)]:
        if (artist.get_gid() or "").startswith("{"):
            artist.set_gid(None)


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return names if isinstance(names, tuple) else (names,) if names else ()

"""The colours of the page: those of the drawings, and quieter ones mixed from ink and paper.

They are mixed here, not by the browser, so that what measures the contrast of a page can read them.
"""

from typing import Final

from samirage.report.plots.style import PALETTE
from samirage.report.svg import PAPER

# Name -> share of ink in it: of lines, of the ground of code, of secondary text, of the edges of what can be pressed.
_MIXED: Final = {"rule": 0.16, "tint": 0.05, "soft": 0.72, "edge": 0.55}
_VERDICTS: Final = {"good": ("#1d6b45", "#6fcf97"), "bad": ("#b3261e", "#ff8a80")}


def scheme(*, dark: bool, paper: str = "") -> dict[str, str]:
    """Return the colours of the page by name.

    Args:
        dark: Whether for light on dark.
        paper: The background; by default that of the drawings.

    Returns:
        Name -> colour.

    Example:
        >>> scheme(dark=False, paper="#ffffff")["soft"], scheme(dark=True)["paper"]
        ('#5b5b5e', '#15171a')
    """
    paper = paper or PAPER[dark]
    own = {name: (light, night)[dark] for name, light, night in PALETTE.values()}
    mixed = {name: mix(own["ink"], paper, share) for name, share in _MIXED.items()}
    return {"paper": paper, **own, **mixed, **{name: colours[dark] for name, colours in _VERDICTS.items()}}


def mix(one: str, other: str, share: float) -> str:
    """Mix two colours.

    Args:
        one: The first, as `#rrggbb`.
        other: The second.
        share: Share of the first, 0 … 1.

    Returns:
        The colour.

    Example:
        >>> mix("#000000", "#ffffff", 0.5)
        '#808080'
    """
    channels = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in channels)

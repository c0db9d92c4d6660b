"""What the drawings of a page have in common, once: looks become classes, and repeated outlines are drawn by reference.

Many drawings show the same thing twice: on a wide and on a narrow screen, or one landscape in every panel. matplotlib
writes it out each time, and repeats the look of every tick mark. Without this, the page of the stored runs is half as
large again; libraries look at one drawing at a time.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from string import ascii_letters

from markupsafe import Markup

_LONG = 120  # characters of an outline from which on a reference is shorter, all told
_DRAWING = re.compile(r"<svg .*?</svg>", re.DOTALL)
_STYLE = re.compile(r' style="([^"]*)"')
_ID = re.compile(r' id="([^"]+)"')
_DEFS = re.compile(r"(<defs>.*?</defs>)", re.DOTALL)
_NUM = r"(-?(?:\d+\.?\d*|\.\d+))"
_PATH = re.compile(rf'<path((?: [\w-]+="[^"]*")*?) d="m{_NUM} ?{_NUM}([^"M]*)"((?: [\w-]+="[^"]*")*) ?/>')
_MARKER = re.compile(r'<defs><path id="([^"]+)" (d="[^"]*"(?: class="[^"]*")?) ?/></defs>')
_CLIP = re.compile(r' clip-path="[^"]*"')


@dataclass(frozen=True)
class Shared:
    """A page of which the common parts were taken out.

    Attributes:
        html: The page.
        css: A rule for each look.
        sprite: The outlines that are referred to, in a drawing of its own that is not seen.
    """

    html: Markup
    css: Markup
    sprite: Markup


def share(html: Markup) -> Shared:
    """Take out what the drawings of a page have in common; each looks as before.

    Args:
        html: The page, or its part that holds the drawings.

    Returns:
        The parts.

    Example:
        >>> lines = [f'<path d="m{x} 1l3 3" style="fill:none;stroke:red" />' for x in (1, 2)]
        >>> shared = share(Markup(f'<svg viewBox="0 0 9 9">{"".join(lines)}</svg>'))
        >>> shared.html
        Markup('<svg viewBox="0 0 9 9"><path d="m1 1l3 3" class="_a" /><path d="m2 1l3 3" class="_a" /></svg>')
        >>> shared.css
        Markup('._a{fill:none;stroke:red}')
    """
    drawings = [found[0] for found in _DRAWING.finditer(html)]
    looks = {look: f"_{name}" for look, name in _named(Counter(_all(_STYLE, drawings)))}
    outlines = Counter(path[4] for drawing in drawings for part in _undefined(drawing) for path in _PATH.finditer(part))
    common = Counter({d: n for d, n in outlines.items() if n > 1 and len(d) > _LONG})
    names = {outline: f"_{name}" for outline, name in _named(common)}
    ids = (f"_{short}" for short in _shorts() if f"_{short}" not in names.values())
    markers: dict[str, str] = {}

    def drawn(found: re.Match[str]) -> str:
        text = _STYLE.sub(lambda style: f' class="{looks[style[1]]}"', found[0])
        text = "".join(
            part if part.startswith("<defs>") else _PATH.sub(lambda path: _referred(path, names), part)
            for part in _DEFS.split(text)
        )
        renamed: dict[str, str] = {}
        for old, look in _MARKER.findall(text):
            renamed[old] = markers.get(look) or markers.setdefault(look, next(ids))
        text = _MARKER.sub("", text)
        for old in [*renamed, *_ID.findall(text)]:
            new = renamed.get(old) or next(ids)
            text = text.replace(f' id="{old}"', f' id="{new}"')
            text = text.replace(f'="#{old}"', f'="#{new}"').replace(f"url(#{old})", f"url(#{new})")
        return text

    body = _DRAWING.sub(drawn, html)
    css = "".join(f".{name}{{{look}}}" for look, name in looks.items())
    sprite = "".join(f'<path id="{name}" d="m0 0 {outline}"/>' for outline, name in names.items())
    sprite += "".join(f'<path id="{name}" {look}/>' for look, name in markers.items())
    if sprite:
        sprite = f'<svg class="sprite" aria-hidden="true" width="0" height="0"><defs>{sprite}</defs></svg>'
    return Shared(Markup(body), Markup(css), Markup(sprite))


def _undefined(drawing: str) -> list[str]:
    """The parts of a drawing outside of its definitions: those are referred to as they are."""
    return [part for part in _DEFS.split(drawing) if not part.startswith("<defs>")]


def _all(pattern: re.Pattern[str], texts: list[str]) -> list[str]:
    return [found for text in texts for found in pattern.findall(text)]


def _named(counted: Counter[str]) -> list[tuple[str, str]]:
    """Names for texts, the shortest for the most frequent."""
    return [(text, name) for (text, _), name in zip(counted.most_common(), _shorts(), strict=False)]


def _referred(path: re.Match[str], names: dict[str, str]) -> str:
    before, x, y, outline, after = path.groups()
    rest = before + after
    if outline not in names or " transform=" in rest:
        return path[0]
    # A clip is in the coordinates of what it clips, which a reference moves: so it is that of a group around it.
    clip = _CLIP.search(rest)
    use = f'<use href="#{names[outline]}" x="{x}" y="{y}"{_CLIP.sub("", rest)} />'
    return f"<g{clip[0]}>{use}</g>" if clip else use


def _shorts() -> Iterator[str]:
    """Yield short names: a, b, and so on to Z, then aa, ab."""
    for length in count(1):
        for letters in product(ascii_letters, repeat=length):
            yield "".join(letters)

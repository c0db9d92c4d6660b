"""What drawings have in common is taken out: what is left says the same, put together again."""

import re

from markupsafe import Markup

from samirage.report.sharing import Shared, share

LINE = "l" + "1 2 3-4 5 6 7-8 " * 10 + "9 9"
RED, BLUE = "fill:none;stroke:red", "fill:none;stroke:blue"


def drawing(*parts: str) -> str:
    return f'<svg viewBox="0 0 9 9" role="img">{"".join(parts)}</svg>'


def path(x: int, y: int, style: str = RED, rest: str = "", line: str = LINE) -> str:
    return f'<path d="m{x} {y}{line}"{rest} style="{style}" />'


def restored(shared: Shared) -> str:
    """The page with looks and outlines written out again."""
    looks = dict(re.findall(r"\.(_\w+)\{([^}]*)\}", shared.css))
    outlines = dict(re.findall(r'<path id="(\w+)" d="m0 0 ([^"]*)"/>', shared.sprite))
    html = re.sub(
        r'<g( clip-path="[^"]*")>(<use href="#\w+" x="[^"]*" y="[^"]*")([^>]*) /></g>', r"\2\1\3 />", shared.html
    )
    html = re.sub(
        r'<use href="#(\w+)" x="([^"]*)" y="([^"]*)"([^>]*?) />',
        lambda m: f'<path d="m{m[2]} {m[3]}{outlines[m[1]]}"{m[4]} />' if m[1] in outlines else m[0],
        html,
    )
    return re.sub(r' class="(_\w+)"', lambda m: f' style="{looks[m[1]]}"', html)


def test_looks_and_repeated_outlines_are_written_once() -> None:
    page = Markup(drawing(path(1, 2), path(3, 4, BLUE)) + "<p style='color:red'>text</p>" + drawing(path(5, -6)))
    shared = share(page)
    assert shared.html.count(LINE) == 0
    assert shared.sprite.count(LINE) == 1
    assert shared.css.count("stroke:red") == 1
    assert shared.html.count("style=") == 1  # that of the text, which is no drawing
    assert restored(shared) == page
    assert len(shared.html) + len(shared.css) + len(shared.sprite) < len(page)


def test_what_occurs_once_or_is_short_stays() -> None:
    page = Markup(drawing(path(1, 2), path(1, 2, line="l1 1"), path(3, 2, line="l1 1")))
    shared = share(page)
    assert not shared.sprite
    assert restored(shared) == page


def test_a_clip_stays_where_it_was() -> None:
    clip = ' clip-path="url(#p-c)"'
    page = Markup(drawing('<defs><clipPath id="p-c"><rect /></clipPath></defs>', path(1, 2, RED, clip), path(7, 7)))
    shared = share(page)
    (name,) = re.findall(r'<clipPath id="(\w+)"', shared.html)
    # The reference moves what it shows by x and y; the clip must not move along.
    assert re.search(rf'<g clip-path="url\(#{name}\)"><use href="#\w+" x="1" y="2" class="\w+" /></g>', shared.html)


def test_markers_are_defined_once_for_all_drawings() -> None:
    def marked(name: str, style: str = RED) -> str:
        return drawing(
            f'<defs><path id="{name}" d="M0 0{LINE}" style="{style}" /></defs><use href="#{name}" x="1" y="1" />'
        )

    shared = share(Markup(marked("a-m") + marked("b-m") + marked("c-m", BLUE)))
    defined = dict(re.findall(r'<path id="(\w+)" d="M0 0[^"]*" class="(\w+)"/>', shared.sprite))
    used = re.findall(r'<use href="#(\w+)" x="1" y="1" />', shared.html)
    looks = dict(re.findall(r"\.(_\w+)\{([^}]*)\}", shared.css))
    assert [looks[defined[name]] for name in used] == [RED, RED, BLUE]
    assert len(defined) == 2
    assert "<defs>" not in shared.html


def test_names_are_unique_on_the_page() -> None:
    one = '<defs><clipPath id="a-c"><rect /></clipPath></defs>' + path(1, 1, RED, ' clip-path="url(#a-c)"')
    shared = share(Markup(drawing(one, path(1, 1)) + drawing(one.replace("a-c", "b-c"), path(2, 2))))
    ids = re.findall(r' id="([^"]+)"', shared.html + shared.sprite)
    assert len(ids) == len(set(ids)) == 3
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', shared.html)) == set(ids)


def test_a_page_without_drawings_stays_as_it_is() -> None:
    assert share(Markup("<p>text</p>")) == Shared(Markup("<p>text</p>"), Markup(""), Markup(""))

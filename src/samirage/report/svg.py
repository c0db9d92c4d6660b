"""A matplotlib figure as one SVG element for an HTML page: small, in the page's colours, without outside references.

matplotlib writes outlines in absolute coordinates with six decimals; scour writes them as steps with four digits, which
nearly halves the page of the stored runs. matplotlib's own `path.simplify_threshold` leaves filled
outlines as they are, and saves 1 %; so would leaving out points on straight stretches, joining neighbours that look
alike, and rounding before, which were tried and save less than a tenth each.
"""

import io
import json
import re
from collections.abc import Mapping
from xml.dom.minidom import parseString
from xml.etree import ElementTree

from matplotlib.figure import Figure
from scour.scour import sanitizeOptions, scourString

PAPER = ("#fdfdfb", "#15171a")  # background on light and on dark
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"

_OPTIONS = sanitizeOptions()
_OPTIONS.digits = _OPTIONS.cdigits = 4  # significant ones, of the steps: a tenth of a point from 100 points on
_OPTIONS.style_to_xml = _OPTIONS.simple_colors = _OPTIONS.renderer_workaround = False
_OPTIONS.keep_defs = True  # scour knows references by `xlink:href` alone, not by `href`
_OPTIONS.strip_xml_prolog = True
_OPTIONS.newlines = False
_SVG = "http://www.w3.org/2000/svg"  # a name, never fetched


def to_inline_svg(
    figure: Figure, *, prefix: str, label: str, palette: Mapping[str, tuple[str, str, str]], standalone: bool = False
) -> str:
    """Turn a figure into an SVG element.

    Args:
        figure: The figure.
        prefix: Begins every id, so that several plots fit on one page.
        label: What a screen reader says.
        palette: Sentinel colour -> (name, colour on light, colour on dark). In the SVG it becomes `var(--name)`,
            which the page defines; the colour on light is the fallback.
        standalone: Whether to bring definitions of the colours along, for a file of its own.

    Returns:
        The element as text.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    named = " ".join(v for e in root.iter() for name, v in e.attrib.items() if name != "d" and "#" in v)
    referenced = set(re.findall(r"#([\w-]+)", named))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        _say(element)
        _rewrite_attributes(element, prefix, referenced, palette)
    if not standalone:  # the page says so once for all drawings
        for defs in [child for child in root if child.tag == "defs" and len(child) and child[0].tag == "style"]:
            root.remove(defs)
    width, height = root.attrib["viewBox"].split()[2:]
    size = {"width": f"{float(width) * 4 / 3:.0f}", "height": f"{float(height) * 4 / 3:.0f}"} if standalone else {}
    root.attrib = {"xmlns": _SVG, "viewBox": root.attrib["viewBox"], **size}
    if standalone:
        style = ElementTree.Element("style")
        light = ";".join(f"--{name}:{light}" for name, light, _ in palette.values())
        dark = ";".join(f"--{name}:{dark}" for name, _, dark in palette.values())
        # A page that shows the file as an image may not follow the reader's scheme: so it has its own background.
        style.text = (
            f"svg{{{light};background:{PAPER[0]};--figure-font:{FONT}}}"
            f"@media (prefers-color-scheme:dark){{svg{{{dark};background:{PAPER[1]}}}}}"
        )
        root.insert(0, style)
    small = parseString(scourString(ElementTree.tostring(root, encoding="unicode"), _OPTIONS)).documentElement
    assert small is not None  # for the type checker: a document that was read has a root
    small.setAttribute("role", "img")
    small.setAttribute("aria-label", label)
    # Written again, since scour quotes attributes with either quote, and `report.sharing` reads double ones. What is
    # written in a plot must not look like an attribute to it.
    return re.sub(r">[^<]+<", lambda found: found[0].replace('"', "&quot;"), small.toxml())


def natural_width(svg: str) -> int:
    """Return the width in CSS pixels at which the text of an SVG element has its intended size.

    Args:
        svg: The element.

    Returns:
        The width.

    Example:
        >>> natural_width('<svg viewBox="0 0 72 36">')
        96
    """
    match = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    return round(float(match[1]) * 4 / 3) if match else 0


def _rewrite_attributes(
    element: ElementTree.Element, prefix: str, referenced: set[str], palette: Mapping[str, tuple[str, str, str]]
) -> None:
    attributes: dict[str, str] = {}
    for raw, raw_value in element.attrib.items():
        name, value = raw.rsplit("}", 1)[-1], raw_value
        if name == "id" and value not in referenced:
            continue
        if name == "id":
            value = f"{prefix}-{value}"
        elif name == "d":  # in which there are no colours and no references
            attributes[name] = value
            continue
        elif name == "transform" and value.startswith("rotate(-0 "):
            continue
        elif name == "style":
            if element.tag == "text":
                value = value.replace("'DejaVu Sans', sans-serif", "var(--figure-font, sans-serif)")
            value = value.replace(": ", ":").replace("; ", ";")
        elif name == "href":
            value = value.replace("#", f"#{prefix}-")
        value = value.replace("url(#", f"url(#{prefix}-")
        for sentinel, (variable, light, _) in palette.items():
            value = value.replace(sentinel, f"var(--{variable},{light})")
        attributes[name] = value
    element.attrib = attributes


def _say(element: ElementTree.Element) -> None:
    """Write what a name says (`samirage.report.plots.switching`) as data attributes, and as titles of markers."""
    name = element.attrib.get("id", "")
    if not name.startswith("{"):
        return
    del element.attrib["id"]
    said = json.loads(name)
    for key in ("series", "legend"):
        if key in said:
            element.attrib[f"data-{key}"] = said[key]
    markers = [child for child in element.iter() if child.tag.endswith("use")]
    for marker, text in zip(markers, said.get("points", ()), strict=False):
        ElementTree.SubElement(marker, "title").text = text

"""A matplotlib figure as one SVG element for an HTML page: small, in the page's colours, without outside references."""

import io
import json
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from matplotlib.figure import Figure

from samirage.report.svg_paths import compact_path

PAPER = ("#fdfdfb", "#15171a")  # background on light and on dark
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"

_SHORT = 100  # characters of a path that is worth joining to its neighbour
_SVG = "http://www.w3.org/2000/svg"  # a name, never fetched


def to_inline_svg(
    figure: Figure, *, prefix: str, label: str, palette: Mapping[str, tuple[str, str, str]], standalone: bool = False
) -> str:
    """Turn a figure into an SVG element.

    Args:
        figure: The figure.
        prefix: Begins every id, so that several figures fit on one page.
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
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        _say(element)
        _rewrite_attributes(element, prefix, referenced, palette)
    _drop_what_is_not_seen(root)
    _unwrap(root)
    _join_alike(root)
    if not standalone:  # the page says so once for all drawings
        for defs in [child for child in root if child.tag == "defs" and len(child) and child[0].tag == "style"]:
            root.remove(defs)
    width, height = root.attrib["viewBox"].split()[2:]
    size = {"width": f"{float(width) * 4 / 3:.0f}", "height": f"{float(height) * 4 / 3:.0f}"} if standalone else {}
    root.attrib = {"xmlns": _SVG, "viewBox": root.attrib["viewBox"], **size, "role": "img", "aria-label": label}
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
    text = re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))
    # What is written in a figure must not look like an attribute to those who rewrite attributes (`report.sharing`).
    return re.sub(r">[^<]+<", lambda found: found[0].replace('"', "&quot;"), text)


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
        elif name == "d":
            attributes[name] = compact_path(value)  # in which there are no colours and no references
            continue
        elif name in {"x", "y"} and element.tag in {"use", "text"}:
            value = f"{float(value):.1f}".removesuffix(".0")
        elif name == "transform" and value.startswith("rotate(-0 "):
            continue
        elif name == "style":
            if element.tag == "text":
                value = re.sub(r"font: ([^;']*?)'[^;]*", r"font: \1var(--figure-font, sans-serif)", value)
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


def _drop_what_is_not_seen(element: ElementTree.Element) -> None:
    for child in list(element):
        _drop_what_is_not_seen(child)
        empty = child.tag in {"g", "defs"} and not len(child)
        unseen = child.tag == "path" and (child.attrib.get("style") in {"fill:none", ""} or not child.attrib.get("d"))
        if empty or unseen:
            element.remove(child)


def _join_alike(element: ElementTree.Element) -> None:
    """Join neighbours that look alike and are short, as the strokes of error bars are, and drop repeated markers."""
    kept: list[ElementTree.Element] = []
    for child in list(element):
        _join_alike(child)
        before = kept[-1] if kept else None
        if before is not None and child.tag == before.tag and not len(child) and not len(before):
            if child.attrib == before.attrib:
                if "opacity" not in child.attrib.get("style", "opacity"):
                    continue
            elif child.tag == "path" and _joinable(child) and _joinable(before) and _look(child) == _look(before):
                before.attrib["d"] += child.attrib["d"]
                before.attrib["joined"] = "yes"
                continue
        kept.append(child)
    for child in kept:
        child.attrib.pop("joined", None)
    element[:] = kept


def _joinable(path: ElementTree.Element) -> bool:
    """Whether a path is short, and looks the same when it is a piece of another: where it covers nothing twice."""
    short = path.attrib.get("joined") or len(path.attrib["d"]) < _SHORT
    return bool(short) and "opacity" not in path.attrib.get("style", "opacity")


def _look(path: ElementTree.Element) -> dict[str, str]:
    return {name: value for name, value in path.attrib.items() if name not in {"d", "joined"}}


def _unwrap(element: ElementTree.Element) -> None:
    """Put what stands in groups that say nothing in their place."""
    children: list[ElementTree.Element] = []
    for child in list(element):
        _unwrap(child)
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    element[:] = children

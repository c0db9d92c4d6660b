"""A matplotlib figure as one SVG element for an HTML page: small, in the page's colours, without outside references."""

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from matplotlib.figure import Figure

PAPER = ("#fdfdfb", "#15171a")  # background on light and on dark
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"

_TOKEN = re.compile(r"[MLQCZz]|-?[\d.]+(?:e-?\d+)?")
_NUMBERS_OF = {"M": 2, "L": 2, "Q": 4, "C": 6, "Z": 0}
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
    referenced = set(re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        _rewrite_attributes(element, prefix, referenced, palette)
    _drop_empty(root)
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
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))


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
            value = compact_path(value)
        elif name in {"x", "y"} and element.tag == "use":
            value = f"{float(value):.1f}"
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


def _drop_empty(element: ElementTree.Element) -> None:
    for child in list(element):
        _drop_empty(child)
        if child.tag in {"g", "defs"} and not len(child):
            element.remove(child)


def compact_path(data: str) -> str:
    """Write SVG path data with relative coordinates and few decimals; rounding errors do not add up.

    Args:
        data: Path data with the absolute commands M, L, Q, C and Z.

    Returns:
        The same path, to within 0.05 points (0.005 for paths with curves, which are markers).

    Example:
        >>> compact_path("M 10 20 L 10.26 19.5 L 12 19.5 z")
        'M10 20l.3-.5 1.7 0z'
    """
    decimals = 2 if "C" in data else 1  # curves are markers, which are small
    unit = 10**decimals
    tokens = _TOKEN.findall(data)
    out: list[str] = []
    x = y = 0
    command, last, index = "", "", 0
    while index < len(tokens):
        if tokens[index].isalpha():
            command, index = tokens[index].upper(), index + 1
        count = _NUMBERS_OF[command]
        numbers = [round(float(token) * unit) for token in tokens[index : index + count]]
        index += count
        if command == "Z":
            out.append("z")
            last = command
            continue
        if command == "M":
            out.append("M" + _join(numbers, decimals))
            last = command
        else:
            moved = [n - (x if i % 2 == 0 else y) for i, n in enumerate(numbers)]
            if any(moved):  # a step too small to see
                text = _join(moved, decimals)
                if command != last:
                    text = command.lower() + text
                elif not text.startswith("-"):
                    text = f" {text}"  # the letter of a repeated command may be left out
                out.append(text)
                last = command
        x, y = numbers[-2:]
    return "".join(out)


def _join(numbers: list[int], decimals: int) -> str:
    text = ""
    for number in numbers:
        shown = f"{number / 10**decimals:.{decimals}f}".rstrip("0").rstrip(".")
        shown = re.sub(r"^(-?)0\.", r"\1.", shown) if shown not in {"-0", ""} else "0"
        text += shown if not text or shown.startswith("-") else f" {shown}"
    return text

"""The page: one HTML file that needs nothing outside itself, made from a run folder alone."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from samirage._version import __version__
from samirage.errors import UserError
from samirage.files import write_whole
from samirage.lab.results.store import RunFolder
from samirage.report import numbers, overview
from samirage.report.colours import scheme
from samirage.report.scripts import own_script, plotting_library
from samirage.report.sections import build_section
from samirage.report.sharing import share
from samirage.report.svg import FONT

_SCRIPTS: Final = ("page", "legends")
_TURNING: Final = ("unpack", "surfaces")  # only in pages that have surfaces


def build_page(folder: RunFolder) -> Path:
    """Write `report/index.html` into a run folder: plots, claims, tables, configuration, from stored cells only.

    The file appears whole or not at all. It makes no request, so it opens from disk and can be sent by mail.

    Args:
        folder: The run folder.

    Returns:
        Path of the page.

    Raises:
        UserError: If the folder does not exist, holds no finished cell or one that cannot be read, or cannot be
            written to.
    """
    if not folder.path.is_dir():
        raise UserError(
            f"{folder.path} does not exist; name the folder of a run, such as `samirage reproduce` makes it"
        )
    studies = folder.studies()
    if not any(folder.finished(study) for study in studies):
        raise UserError(f"{folder.path} holds no finished cell; run `samirage reproduce` on this folder first")
    shown = [_study(folder, study) for study in studies]
    turning = any(one["section"].has_surfaces for one in shown)
    claims = {one["name"]: one["claims"] for one in shown}
    with _shown(f"the cells in {folder.path}", "restore them, or reproduce the run in a new folder"):
        html = _environment().get_template("page.html").render(
            run=folder.path.resolve().name,
            studies=shown,
            told=overview.told(claims),
            counts=overview.counts([claim for own in claims.values() for claim in own]),
            signs=overview.SIGNS,
            scripts=[own_script(f"{name}.js") for name in (*_SCRIPTS, *(_TURNING if turning else ()))],
            library=plotting_library() if turning else None,
            light=scheme(dark=False),
            dark=scheme(dark=True),
            printed=scheme(dark=False, paper="#ffffff"),
            font=FONT,
            version=__version__,
        )  # fmt: skip
    page = folder.place("report", "index.html")
    write_whole(page, html.encode())
    return page


def _study(folder: RunFolder, study: str) -> dict[str, Any]:
    manifest, finished, claims = folder.manifest(study), set(folder.finished(study)), folder.claims(study)
    way_out = f"restore them, or delete them and run `samirage reproduce {study}` again on this folder"
    with _shown(f"the cells of study {study} in {folder.path}", way_out):
        section = build_section(folder, study)
    return {
        "name": study,
        "section": section,
        "claims": claims,
        "counts": overview.counts(claims),
        "finished": len(finished),
        "config": flat(manifest.get("config", {})),
        "seeds": seed_range(manifest.get("seeds", [])),
        "versions": flat(manifest.get("versions", {})),
        "hardware": flat(manifest.get("hardware", {})),
        "commit": manifest.get("commit"),
        "command": manifest.get("command"),
        "started": manifest.get("started"),
        "packed": _link(folder, f"{study}.nc"),
        "cells": [
            {"name": cell, "href": _link(folder, study, f"{cell}.nc"), "finished": cell in finished}
            for cell in manifest["cells"]
        ],
    }


@contextmanager
def _shown(cells: str, way_out: str) -> Iterator[None]:
    """Say in one sentence that cells, which somebody else may have written, cannot be shown.

    Raises:
        UserError: If so.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # NumPy, xarray, matplotlib and jinja2 meet data of any form, and may fail anywhere
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{cells} cannot be shown ({said}); {way_out}") from error


def _link(folder: RunFolder, *parts: str) -> str | None:
    """Return the address of a file of results as the page finds it, if there is such a file."""
    held = folder.place("cells", *parts).exists()
    return "../cells/" + "/".join(quote(part) for part in parts) if held else None


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Print nested settings as pairs of dotted names and text.

    Args:
        values: The settings: plain data as JSON has it.
        prefix: What the names begin with.

    Returns:
        Name -> text.

    Example:
        >>> flat({"lr": 1.0, "rhos": [0.05, 10.0], "data": {"name": "mnist", "batch": None}})
        {'lr': '1', 'rhos': '0.05, 10', 'data.name': 'mnist', 'data.batch': 'none'}
    """
    pairs: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs.update(flat(value, f"{prefix}{key}."))
        else:
            pairs[f"{prefix}{key}"] = _text(value)
    return pairs


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return numbers.minus(f"{value:g}")
    if isinstance(value, int):
        return numbers.minus(f"{value:,}")
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def seed_range(seeds: list[int]) -> str:
    """Print a list of seeds, consecutive ones as a range.

    Args:
        seeds: The seeds.

    Returns:
        The text.

    Example:
        >>> seed_range([0, 1, 2, 3]), seed_range([4, 9]), seed_range([])
        ('0 to 3 (4 seeds)', '4, 9', 'not recorded')
    """
    if not seeds:
        return "not recorded"
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]} ({len(seeds)} seeds)"
    return ", ".join(str(seed) for seed in seeds)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("samirage.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    environment.filters["json"] = _json
    for name in ("percent", "significant", "with_error"):
        environment.filters[name] = getattr(numbers, name)
    for name in ("expected_text", "measured_text"):
        environment.filters[name] = getattr(overview, name)
    environment.filters["share"] = share
    environment.filters["told_by"] = _told_by
    return environment


def _told_by(svg: Markup, title: str, words: str) -> Markup:
    """Let a drawing be named and described by elements of the page, which all readers can read, instead of a label."""
    return Markup(re.sub(r'aria-label="[^"]*"', f'aria-labelledby="{title}" aria-describedby="{words}"', svg, count=1))


def _code(text: str) -> Markup:
    """Escape a text and print what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _json(value: Any) -> Markup:
    """Print plain data as JSON that cannot end the element that it stands in."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))

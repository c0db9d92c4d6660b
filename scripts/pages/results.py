"""The page of results: one section a study, with its question, its first figure, its findings and its claims."""

import re
from collections import Counter
from html import unescape
from typing import Final

from pages.stored import FOLDER, expected, finished, measured, origin, section, table
from samirage.lab.results.claims import Claim, Verdict
from samirage.report.plots.style import PALETTE
from samirage.report.sections.section import Drawing, PlotBlock
from samirage.report.svg import FONT, PAPER

_LABEL: Final = re.compile(r'aria-label="([^"]*)"')
_INK: Final = next((light, dark) for name, light, dark in PALETTE.values() if name == "ink")
_MANY: Final = 6  # more claims than so many are folded away if they hold


def first_figure(study: str) -> tuple[PlotBlock, Drawing] | None:
    """Return the first figure of a study and its drawing for wide screens; None where it has no figure.

    Args:
        study: Name of the study.
    """
    one = section(study)
    for block in (*one.opening, *one.blocks):
        if isinstance(block.data, PlotBlock):
            return block.data, next(drawing for drawing in block.data.drawings if drawing.screens != "narrow")
    return None


def figures() -> dict[str, str]:
    """Return the first figure of every study as the content of an SVG file of its own."""
    found = {study: first_figure(study) for study in finished()}
    return {study: standalone(str(figure[1].svg), figure[1].natural_width) for study, figure in found.items() if figure}


def standalone(svg: str, width: int) -> str:
    """Give the drawing of a page what a file of its own needs: size, colours for light and dark, background.

    Args:
        svg: The drawing.
        width: Its width in CSS pixels.
    """
    light = ";".join(f"--{name}:{on_light}" for name, on_light, _ in PALETTE.values())
    dark = ";".join(f"--{name}:{on_dark}" for name, _, on_dark in PALETTE.values())
    style = (
        f"<style>svg{{{light};background:{PAPER[0]};color:{_INK[0]};--figure-font:{FONT}}}"
        f"@media (prefers-color-scheme:dark){{svg{{{dark};background:{PAPER[1]};color:{_INK[1]}}}}}</style>"
    )
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    if box is None:
        raise ValueError("a drawing without a viewBox")
    height = round(width * float(box[2]) / float(box[1]))
    return f'{head} width="{width}" height="{height}">{style}{rest}\n'


def headline_block() -> list[str]:
    """Return what study `mnist` found, in plain words."""
    return ["\n\n".join(section("mnist").headline[1:]), "", f"({origin('mnist')})"]


def usual_block() -> list[str]:
    """Return what study `mnist` found at radii in common use."""
    return [section("mnist").headline[-1]]


def overview_block() -> list[str]:
    """Return the table of all studies, with what became of their claims."""
    rows, total = [], Counter[Verdict]()
    for study in finished():
        verdicts = Counter(claim.verdict for claim in FOLDER.claims(study))
        total += verdicts
        counts = [str(verdicts[verdict] or "–") for verdict in Verdict]
        rows.append([f"[{study}](#{study})", section(study).title, *counts])
    n = sum(total.values())
    return [
        f"{len(rows)} studies are stored. Of their {n} claims, {total[Verdict.HOLDS]} hold, {total[Verdict.FAILS]} "
        f"fail, and {total[Verdict.NOT_COMPARABLE]} cannot be compared with their source at this scale.",
        "",
        *table(["study", "what about", "hold", "fail", "not comparable"], rows),
    ]


def studies_block() -> list[str]:
    """Return a section for every stored study."""
    return [line for study in finished() for line in study_lines(study)]


def study_lines(study: str) -> list[str]:
    """Return the section of a study, as lines.

    Args:
        study: Name of the study.
    """
    one = section(study)
    question, *findings = one.headline
    lines = [f'<a id="{study}"></a>', "", f"## {one.title}", "", question, ""]
    if figure := first_figure(study):
        block, drawing = figure
        label = _LABEL.search(str(drawing.svg))
        alt = unescape(label[1] if label else block.title).replace("[", "(").replace("]", ")")
        lines += [
            f"[![{alt}](figures/{study}.svg)](figures/{study}.svg)",
            "",
            f"**{block.title}.** {block.caption}",
            "",
        ]
    lines += [line for finding in findings for line in (finding, "")]
    lines += [line for notice in one.notices for line in (notice, "")]
    return [*lines, *claims_lines(FOLDER.claims(study)), *origin_lines(study), ""]


def claims_lines(claims: list[Claim]) -> list[str]:
    """Return a table of claims. Where they are many, those that hold are folded away.

    Args:
        claims: The claims.
    """
    holding = [one for one in claims if one.verdict is Verdict.HOLDS]
    if len(claims) <= _MANY:
        return [*_claims_table(claims), ""] if claims else []
    others = [one for one in claims if one.verdict is not Verdict.HOLDS]
    fold = ['<details markdown="1">', f"<summary>{len(holding)} of {len(claims)} claims hold: all of these</summary>"]
    shown = [*_claims_table(others), ""] if others else []
    return [*shown, *fold, "", *_claims_table(holding), "", "</details>", ""]


def _claims_table(claims: list[Claim]) -> list[str]:
    rows = [
        [f"**{one.verdict.value}**", one.statement, expected(one), measured(one), str(one.n), one.source]
        for one in claims
    ]
    return table(["verdict", "claim", "expected", "measured", "n", "source"], rows)


def origin_lines(study: str) -> list[str]:
    """Say how the results of a study came about.

    Args:
        study: Name of the study.
    """
    manifest = FOLDER.manifest(study)
    hardware, versions = manifest["hardware"], manifest["versions"]
    commit = f", commit {manifest['commit']}" if manifest.get("commit") else ""
    return [
        f"`{manifest['command']}`  ",
        f"{manifest['started'][:10]}; {hardware['processor']}, {hardware['cores']} cores, {hardware['system']}; python "
        f"{versions['python']}, torch {versions['torch']}, numpy {versions['numpy']}, samirage {versions['samirage']}"
        f"{commit}.",
    ]

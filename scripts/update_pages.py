"""Write what README and docs say of the stored runs: the pictures, and the blocks between markers.

Usage: update_pages.py [--check]. With --check nothing is written, and the exit code is 1 when something is stale.

A block stands between `<!-- results: NAME, written by scripts/update_pages.py -->` and `<!-- end of results -->`. It
comes from `results/laptop` alone (that on sweeps from `results/sweep`), and shows what is stored there, whatever it is.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pages import caveats, choosing, remedies, results, sweeps
from pages.stored import FOLDER, ROOT
from samirage.report.sections.mnist import summary_svg

BLOCKS: Final[dict[str, Callable[[], list[str]]]] = {
    "mnist": remedies.mnist_block,
    "guard": remedies.guard_block,
    "alternatives": remedies.alternatives_block,
    "wells": remedies.wells_block,
    "headline": results.headline_block,
    "usual": results.usual_block,
    "overview": results.overview_block,
    "studies": results.studies_block,
    "radius": choosing.radius_block,
    "remedy": choosing.remedy_block,
    "warm-start": choosing.findings_block("switch"),
    "decay": choosing.findings_block("decay"),
    "further": choosing.further_block,
    "fails": caveats.fails_block,
    "not-comparable": caveats.not_comparable_block,
    "runs": caveats.runs_block,
    "sweeps": sweeps.sweeps_block,
}
FIGURES: Final = ROOT / "docs" / "figures"
_BLOCK: Final = re.compile(
    r"(<!-- results: ([\w-]+), written by scripts/update_pages.py -->\n).*?(<!-- end of results -->)", re.DOTALL
)


def pictures() -> dict[Path, str]:
    """Return the pictures: that of the README, and one for every study that has a figure."""
    made = {ROOT / "docs" / "mnist-laptop.svg": summary_svg(FOLDER)}
    return made | {FIGURES / f"{study}.svg": svg for study, svg in results.figures().items()}


def updated(page: str) -> str:
    """Return a page with its blocks renewed.

    Args:
        page: The page.
    """
    return _BLOCK.sub(lambda match: "\n".join([match[1], *BLOCKS[match[2]](), "", match[3]]), page)


def written(page: str) -> str:
    """Return what the stored results yield on a page: its blocks.

    Args:
        page: The page.
    """
    return "\n".join(match[0] for match in _BLOCK.finditer(page))


def rest(page: str) -> str:
    """Return a page without its blocks: what people wrote.

    Args:
        page: The page.
    """
    return _BLOCK.sub("", page)


def pages() -> list[Path]:
    """Return README and all pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew or check the pages and pictures.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    renewed = pictures()
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if _BLOCK.search(text):
            renewed[path] = updated(text)
    stale = [path for path, text in renewed.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    left = sorted(set(FIGURES.glob("*.svg")) - set(renewed))
    if "--check" in (sys.argv[1:] if arguments is None else arguments):
        for path in [*stale, *left]:
            print(f"{path.relative_to(ROOT)} is out of date: run scripts/update_pages.py")
        return 1 if stale or left else 0
    FIGURES.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(renewed[path], encoding="utf-8")
    for path in left:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

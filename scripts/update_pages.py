"""Write what README and docs say of the stored runs: the pictures, and the blocks between markers.

Usage: update_pages.py [--check]. With --check nothing is written, and the exit code is 1 when something is stale.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from samirage.lab.claims import Claim
from samirage.lab.store import RunFolder
from samirage.report.figures.remedies import setting_label
from samirage.report.figures.style import METHODS
from samirage.report.numbers import percent, with_error
from samirage.report.runs import load_runs
from samirage.report.sections import alternatives, guard, wells
from samirage.report.sections.mnist import summary_svg
from samirage.report.tables import method_table

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "results"
PICTURES: Final[dict[Path, Callable[[], str]]] = {
    ROOT / "docs" / "mnist-laptop.svg": lambda: summary_svg(RunFolder(RESULTS / "laptop"))
}


def origin(folder: RunFolder, study: str) -> str:
    """Say where numbers come from: hardware, version, date and command."""
    manifest = folder.manifest(study)
    return (
        f"{manifest['hardware']['processor']}, torch {manifest['versions']['torch']}, {manifest['started'][:10]}: "
        f"`{manifest['command']}`"
    )


def claims_list(claims: list[Claim]) -> list[str]:
    """Return a line for every claim."""
    return [
        f"- **{claim.verdict.value}**: {claim.statement} (measured {with_error(claim.measured, claim.standard_error)}, "
        f"n = {claim.n})"
        for claim in claims
    ]


def mnist_block() -> list[str]:
    """Return the README's paragraph and table about study `mnist`."""
    folder = RunFolder(RESULTS / "laptop")
    manifest = folder.manifest("mnist")
    config = manifest["config"]
    rows = {(row.method, row.rho): row for row in method_table(load_runs(folder, "mnist"))}
    sgd = rows["sgd", 0.0]
    lines = [
        f"{sgd.n} seeds each, {config['images']:,} training images, full batch, {config['steps']} steps, learning rate "
        f"{config['lr']:g}, loss {config['loss']}; {manifest['hardware']['processor']}, torch "
        f"{manifest['versions']['torch']}. Plain gradient descent: {percent(sgd.accuracy.mean)} ± "
        f"{100 * sgd.accuracy.standard_error:.1f} test accuracy.",
        "",
        "| rho | SAM only: accuracy (%) | at hallucinated points | switch: accuracy (%) | at hallucinated points |",
        "|---|---|---|---|---|",
    ]
    for rho in config["rhos"]:
        cells = [f"{rho:g}"]
        for method in ("sam", "switch"):
            row = rows[method, float(rho)]
            cells.append(f"{100 * row.accuracy.mean:.1f} ± {100 * row.accuracy.standard_error:.1f}")
            cells.append(f"{row.hallucinated.k} of {row.n}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "Claims held against this run:", "", *claims_list(folder.claims("mnist"))]


def guard_block() -> list[str]:
    """Return the remedies, each at its worst radius in every setting, and the claims."""
    folder = RunFolder(RESULTS / "laptop")
    runs = guard.load(folder, "guard")
    lines = [
        guard.headline(runs)[0],
        "",
        "| mean test accuracy (%) at the worst radius | " + " | ".join(setting_label(s) for s in runs) + " |",
        "|---" * (len(runs) + 1) + "|",
    ]
    tables = [guard.table(setting, cells) for setting, cells in runs.items()]
    for method in tables[0].rows:
        cells = []
        for one in tables:
            row = min((row for row in one.rows[method] if row is not None), key=lambda row: row.accuracy.mean)
            where = f" at {row.rho:g}" if row.rho else ""
            cells.append(with_error(row.accuracy.mean, row.accuracy.standard_error, scale=100) + where)
        lines.append(f"| {METHODS[method].label} | {' | '.join(cells)} |")
    return [*lines, "", f"({origin(folder, 'guard')})", "", *claims_list(folder.claims("guard"))]


def alternatives_block() -> list[str]:
    """Return the ranking of the alternatives."""
    folder = RunFolder(RESULTS / "laptop")
    lines = [
        "| method | accuracy (%) in its worst setting | worst setting | mean over settings | at hallucinated points | "
        "gradients per step |",
        "|---|---|---|---|---|---|",
    ]
    for rank in alternatives.ranking(guard.load(folder, "alternatives")):
        accuracy = with_error(rank.worst.mean, rank.worst.standard_error, scale=100)
        lines.append(
            f"| {rank.label} | {accuracy} | {rank.where} | {100 * rank.mean:.1f} | {rank.hit} of {rank.n} | "
            f"{rank.gradients:.2f} |"
        )
    return [*lines, "", f"({origin(folder, 'alternatives')})"]


def wells_block() -> list[str]:
    """Return where the runs in the double well end."""
    folder = RunFolder(RESULTS / "laptop")
    cells = {name: folder.read_cell("wells", name) for name in folder.finished("wells")}
    return [wells.describe(cells), "", f"({origin(folder, 'wells')})"]


BLOCKS: Final[dict[str, Callable[[], list[str]]]] = {
    "mnist": mnist_block,
    "guard": guard_block,
    "alternatives": alternatives_block,
    "wells": wells_block,
}
_BLOCK: Final = re.compile(
    r"(<!-- results: (\w+), written by scripts/update_pages.py -->\n).*?(<!-- end of results -->)", re.DOTALL
)


def updated(page: str) -> str:
    """Return a page with its blocks renewed."""
    return _BLOCK.sub(lambda match: "\n".join([match[1], *BLOCKS[match[2]](), "", match[3]]), page)


def main() -> int:
    """Renew or check the pages and pictures."""
    renewed = {path: make() for path, make in PICTURES.items()}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if _BLOCK.search(text):
            renewed[path] = updated(text)
    stale = [path for path, text in renewed.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run scripts/update_pages.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(renewed[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write what the README says of the stored run: the picture and the table, between the two markers.

Usage: update_readme.py [--check]. With --check nothing is written, and the exit code is 1 when something is stale.
"""

import sys
from pathlib import Path

from samirage.lab.store import RunFolder
from samirage.report.numbers import percent
from samirage.report.runs import load_runs
from samirage.report.sections.mnist import summary_svg
from samirage.report.tables import method_table

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "results" / "mnist-laptop"
PICTURE = ROOT / "docs" / "mnist-laptop.svg"
BEGIN, END = "<!-- results: written by scripts/update_readme.py -->", "<!-- end of results -->"


def results_block(folder: RunFolder) -> str:
    """Return the README's paragraph and table about a stored run."""
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
    claims = folder.claims("mnist")
    lines += ["", "Claims held against this run:", ""]
    lines += [f"- **{claim.verdict.value}**: {claim.statement} (measured {claim.measured:.2f})" for claim in claims]
    return "\n".join(lines)


def updated(readme: str, folder: RunFolder) -> str:
    """Return the README with the block renewed."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{results_block(folder)}\n\n{END}{tail}"


def main() -> int:
    """Renew or check the README and its picture."""
    folder = RunFolder(RUN)
    readme = ROOT / "README.md"
    renewed, picture = updated(readme.read_text(encoding="utf-8"), folder), summary_svg(folder)
    if "--check" in sys.argv[1:]:
        current = readme.read_text(encoding="utf-8") == renewed and PICTURE.exists()
        print("README is up to date" if current else "README is out of date: run scripts/update_readme.py")
        return 0 if current else 1
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture, encoding="utf-8")
    readme.write_text(renewed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

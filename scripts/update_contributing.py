"""Write what scripts/mutants.py stored in results/mutants.json into CONTRIBUTING.md.

Usage: update_contributing.py [--check]. With --check nothing is written, and the exit code is 1 when the page is stale.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "CONTRIBUTING.md"
STORED: Final = ROOT / "results" / "mutants.json"
BEGIN: Final = "<!-- mutants, written by scripts/update_contributing.py -->\n"
END: Final = "\n<!-- end of mutants -->"


def told(found: Mapping[str, Any] | None) -> str:
    """Return the text between the marks.

    Args:
        found: What was stored; None where nothing was.
    """
    if found is None:
        return "\nNothing is stored yet.\n"
    rows = []
    for part in ("planted", "systematic"):
        rooms: dict[str, Counter[str]] = {}
        for module, counts in found[part]["modules"].items():
            rooms.setdefault(module.partition("/")[0], Counter()).update(counts)
        for room, counts in [*rooms.items(), ("all", Counter(found[part]["total"]))]:
            cells = [counts[name] for name in ("killed", "timeout", "survived", "not covered")]
            seen = f"{100 * (cells[0] + cells[1]) / max(1, sum(cells)):.0f} %"
            rows.append(
                f"| {'named' if part == 'planted' else part} | {room} | {' | '.join(map(str, cells))} | {seen} |"
            )
    drawn = (
        "" if found["sample"] is None else f", {found['sample']} of the systematic ones drawn with seed {found['seed']}"
    )
    return "\n".join(
        [
            f"\nAt commit `{found['commit']}`{drawn}:\n",
            "| bugs | room | killed | timeout | survived | not covered | seen |",
            "|---|---|---|---|---|---|---|",
            *rows,
            f"\nNot seen, and listed in [results/mutants.json](results/mutants.json): {len(found['survivors'])}.\n",
        ]
    )


def updated(page: str, found: Mapping[str, Any] | None) -> str:
    """Return the page with the text between its marks replaced.

    Args:
        page: The page.
        found: What was stored; None where nothing was.
    """
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + told(found) + END + tail


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    found = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else None
    page = PAGE.read_text(encoding="utf-8")
    new = updated(page, found)
    if "--check" in argv:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

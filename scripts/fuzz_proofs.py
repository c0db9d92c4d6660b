"""Fuzz `samirage.points.prove` and its checker: random formulas, an oracle of another kind, mutations of true records.

Usage: fuzz_proofs.py --minutes N [--seed S] [--out FILE.json]

Random functions (wells, bumps, moats, rings, least squares, networks, compositions, the built-in ones and SymPy
expressions) and functions that are not what they say: coefficients that cancel or differ by one unit in the last
place, `residuals` and values that do not belong to the formula. Most points are true hallucinated points. Whatever is
proved is judged in mpmath by differences of 150-digit values: the zero in the box and that there is no second one,
`‖g‖`, the eigenvalues of `H⁺`, whole families at random rotations, and attraction by a simulation of SAM. Fields,
printed sentence and record are judged each on its own. Every record has to be confirmed by the checker; random changes
of it (fields, digits, types, order, keys, text) have to be refused in one sentence, unless what they say is true.

Prints the counts, and what is wrong with its smallest example, and exits 1 if anything is. FILE.json holds the counts.
"""

import argparse
import importlib
import json
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_ROUND: Final = 200  # examples between two looks at the clock
_MUTATIONS: Final = 20  # of each record


def main(arguments: list[str] | None = None) -> int:
    """Fuzz until the time is over.

    Args:
        arguments: Of the command line.

    Returns:
        The exit code: 1 if anything is wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, metavar="N", help="how long, above 0")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all that is random (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the counts as JSON")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes must be above 0; got {options.minutes!r}")
    hunt: Any = importlib.import_module("tests.points.soundness.hunt")
    began = time.monotonic()
    tally = hunt.hunt(lambda: time.monotonic() - began < 60 * options.minutes, options.seed, _ROUND, _MUTATIONS)
    seconds = time.monotonic() - began
    print(hunt.summary(tally))
    print(f"{seconds:.0f} s, seed {options.seed}")
    if options.out is not None:
        stored = {
            "command": f"scripts/fuzz_proofs.py --minutes {options.minutes:g} --seed {options.seed}",
            "commit": hunt.commit(ROOT),
            "python": platform.python_version(),
            "seconds": round(seconds, 1),
            **hunt.as_data(tally),
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    warnings.simplefilter("default")
    sys.exit(main())

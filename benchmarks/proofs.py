"""How many parameters a proof reaches: a hallucinated point of ever larger networks on digits, proved and checked.

Usage: proofs.py [SHAPE …] [--out FILE]

`24x2` is a tanh network of 24·24 inputs and 2 hidden units that tells zeros from ones. The point is found by SAM, the
proof is by ball arithmetic, and the checker confirms its record by other means; all on one core.
"""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from samirage.lab.engine.compute import hardware, versions
from samirage.lab.studies.points.proofs import network_subject
from samirage.points import check_record, prove

SHAPES = ("3x1", "7x1", "14x1", "14x2", "28x1", "24x2")
IMAGES = 40


def measure(shape: str) -> dict[str, Any]:
    """Find, prove and check one point.

    Args:
        shape: Side of the images and hidden units, such as `"24x2"`.

    Returns:
        What came out, and the seconds that each part took; the checker's are None where nothing was proved.
    """
    side, hidden = map(int, shape.split("x"))
    subject = network_subject(side=side, hidden=hidden, images=IMAGES)
    figures: dict[str, Any] = {
        "shape": shape,
        "parameters": subject.f.dim,
        "rho": subject.rho,
        "found": subject.x is not None,
        "find_seconds": subject.find_seconds,
    }
    if subject.x is None:
        return figures | {"proved": False, "confirmed": False}
    begun = perf_counter()
    proof = prove(subject.f, subject.x, subject.rho)
    figures |= {"proved": proof.proved, "prove_seconds": perf_counter() - begun, "statement": str(proof)}
    confirmed, seconds = False, None
    if proof.proved:
        begun = perf_counter()
        confirmed = check_record(proof.record(shape), make=lambda name, arguments: subject.f).confirmed
        seconds = perf_counter() - begun
    return figures | {"confirmed": confirmed, "check_seconds": seconds}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", default=SHAPES, help="networks, such as 24x2")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the figures, as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console(width=110)
    load, measured = os.getloadavg()[0], []
    for shape in options.shapes:
        one = measure(shape)
        measured.append(one)
        console.print(
            f"{one['shape']}: {one['parameters']:,} parameters, "
            + ("proved" if one["proved"] else "not proved")
            + (f" in {one['prove_seconds']:.1f} s" if "prove_seconds" in one else "")
            + (f", confirmed in {one['check_seconds']:.1f} s" if one["confirmed"] else "")
        )
    if options.out is not None:
        about = {
            "date": datetime.now(UTC).date().isoformat(),
            "versions": versions(),
            "hardware": hardware(torch.device("cpu")),
            "threads": 1,
            "load_before": load,
            "images": IMAGES,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(
            json.dumps(about | {"networks": measured}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()

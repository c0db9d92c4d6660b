"""What sweeps lose when something is killed, what they cost, and how long all studies take; from `results/sweep`."""

import json
from typing import Any

from pages.stored import ROOT, table

_STORED = ROOT / "results" / "sweep"


def sweeps_block() -> list[str]:
    """Return what was measured of sweeps; each part where its results are stored."""
    lines = []
    for name, told in (("kill", _killed), ("scaling", _scaling), ("all_studies", _all_studies)):
        path = _STORED / f"{name}.json"
        if path.exists():
            lines += ["", *told(json.loads(path.read_text(encoding="utf-8")))]
    return lines[1:]


def _origin(report: dict[str, Any]) -> str:
    hardware, versions = report["hardware"], report["versions"]
    return f"({hardware['processor']}, {hardware['cores']} cores, torch {versions['torch']}, {report['date'][:10]})"


def _killed(report: dict[str, Any]) -> list[str]:
    trials = report["trials"]
    same = sum(not (trial["differing"] or trial["half_written"]) for trial in trials)
    victims = {victim: sum(trial["victim"] == victim for trial in trials) for victim in ("driver", "worker")}
    again = sum(trial["lost"] for trial in trials)
    return [
        f"In {len(trials)} sweeps (`{report['command']}`) the driver ({victims['driver']} times) or a worker "
        f"({victims['worker']} times) was killed at a random moment, and the driver started again. {same} ended with "
        f"the data of an undisturbed sweep, bit by bit, and no half-written file; {again} stored cells were computed "
        f"again. "
        f"{_origin(report)}"
    ]


def _scaling(report: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{row['per_minute']:.1f}", f"{100 * row['overhead']:.2f}", f"{row['start_s']:.1f}"]
        for name, row in report["medians"].items()
    ]
    return [
        f"Cells that compute for about {report['seconds_per_cell']:g} s each, {report['cells']} in a sweep; medians of "
        f"{report['rounds']} sweeps. {_origin(report)}",
        "",
        *table(["launcher", "cells per minute", "overhead per cell (%)", "start and end (s)"], rows),
    ]


def _all_studies(report: dict[str, Any]) -> list[str]:
    computed, planned = (sum(row[key] for row in report["studies"]) for key in ("computed", "cells"))
    return [
        f"All {len(report['studies'])} studies (`{report['command']}`) take {report['cpu_minutes']:.0f} ± "
        f"{report['error_minutes']:.0f} minutes of processor time, as {computed} of their {planned} cells tell: about "
        f"{report['minutes_with_workers']:.0f} minutes on {report['workers']} cores. {_origin(report)}"
    ]

"""Kill driver and workers of a sweep at random moments, resume it, and compare its data with those of a quiet sweep.

Usage: kill.py [--trials N] [--studies NAME …] [--scale NAME] [--out FILE]

Every trial begins a sweep in a new folder by the command line with two workers, kills a process by SIGKILL at a random
moment (in every second trial the driver, in the others a worker), gives the same command again if the driver is gone,
and reads what is stored. A worker is replaced while the sweep goes on.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
import xarray as xr

from samirage.lab.engine.compute import hardware, versions
from samirage.lab.results.store import RunFolder

_LATER_S = 1.0  # most time between the cell after which to kill and the kill


@dataclass(frozen=True)
class Trial:
    """What one trial came to.

    Attributes:
        victim: `"driver"` or `"worker"`.
        after_s: When it was killed, in seconds from the start of the sweep.
        stored: Cells that were stored then, those included that its orphaned workers just finished.
        cells: Cells of the sweep.
        lost: Cells that had been stored and were written again.
        differing: Cells whose data differ from those of the quiet sweep; durations are no data.
        half_written: Files that no run should leave behind.
    """

    victim: str
    after_s: float
    stored: int
    cells: int
    lost: int
    differing: int
    half_written: int


def main(arguments: list[str] | None = None) -> None:
    """Run the trials, print them, and store them.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="number of trials")
    parser.add_argument("--studies", nargs="+", default=["mnist", "switch", "small-rho"], help="studies of the sweep")
    parser.add_argument("--scale", default="smoke", help="scale of the sweep")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        quiet = Path(temporary) / "quiet"
        begun = time.monotonic()
        _start(options, quiet).wait()
        took = time.monotonic() - begun
        trials = []
        for number in range(options.trials):
            victim = "driver" if number % 2 == 0 else "worker"
            run = Path(temporary) / f"trial{number}"
            trials.append(_trial(options, run, quiet, victim, draw))
            print(f"{number + 1:3d}  {trials[-1]}", flush=True)
    report = {
        "what": "kill -9 of a sweep's driver or of one of its two workers at a random moment, and the data afterwards",
        "command": f"samirage reproduce {' '.join(options.studies)} --scale {options.scale} --workers 2 --threads 1",
        "quiet_s": took,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(torch.device("cpu")),
        "trials": [asdict(trial) for trial in trials],
    }
    bad = [trial for trial in trials if trial.differing or trial.half_written]
    print(f"{len(trials) - len(bad)} of {len(trials)} sweeps ended with the data of the quiet one, bit by bit")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if bad else 0)


def _start(options: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import sys; from samirage.cli.main import main; sys.exit(main())", "reproduce"]
    command += [*options.studies, "--scale", options.scale, "--workers", "2", "--threads", "1", "--out", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _trial(options: argparse.Namespace, folder: Path, quiet: Path, victim: str, draw: random.Random) -> Trial:
    ours, theirs = RunFolder(folder), RunFolder(quiet)
    cells = [(study, cell) for study in theirs.studies() for cell in theirs.finished(study)]
    driver, begun = _start(options, folder), time.monotonic()
    # A moment of the work and not of the clock, for the machine may be slower by now.
    after = draw.randrange(len(cells) - 2)
    while len(_written(folder)) < after or len(psutil.Process(driver.pid).children()) < 2:
        time.sleep(0.01)
    time.sleep(draw.uniform(0, _LATER_S))
    after_s = time.monotonic() - begun
    workers = [p for p in psutil.Process(driver.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    killed = psutil.Process(driver.pid) if victim == "driver" or not workers else draw.choice(workers)
    killed.kill()
    times = _written(folder)
    if killed.pid == driver.pid:
        psutil.wait_procs(workers, timeout=60)  # they may yet store what they had done
        times = _written(folder)
        driver.wait()
        _start(options, folder).wait()
    else:
        driver.wait()
    again = _written(folder)
    differing = sum(not _same(ours, theirs, study, cell) for study, cell in cells)
    return Trial(
        victim="driver" if killed.pid == driver.pid else "worker",
        after_s=round(after_s, 2),
        stored=len(times),
        cells=len(cells),
        lost=sum(again.get(name) != when for name, when in times.items()),
        differing=differing,
        half_written=len(list(folder.rglob("*.partial"))),
    )


def _written(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("cells/*/*.nc")}


def _same(ours: RunFolder, theirs: RunFolder, study: str, cell: str) -> bool:
    if cell not in ours.finished(study):
        return False
    one, other = (_data(folder.read_cell(study, cell)) for folder in (ours, theirs))
    return one.identical(other) and all(
        one[name].to_numpy().tobytes() == other[name].to_numpy().tobytes() for name in one.variables
    )


def _data(cell: xr.Dataset) -> xr.Dataset:
    return cell.drop_vars([name for name in cell.variables if "seconds" in str(name) or "per_s" in str(name)])


if __name__ == "__main__":
    main()

"""Do on a GPU all that waits for one, most valuable first, within a time limit; a second call goes on.

Usage: gpu.py --minutes N --out DIR [--device cuda] [--scale paper]

In this order: the tests marked `gpu`; how long an epoch takes, compiled and not, and a step; study `mnist`, cell by
cell; study `cifar`, network by network, those of the paper's best radius first. What fails stops nothing else. No part
is started that is known to take longer than what is left; one that runs when time is up is stopped, and is said to be.

DIR then holds, for every part, a JSON file in `parts/` with what it measured, its duration, versions, hardware and
commit, and its output in `logs/`; the run folder of the studies in `run/`, with which `samirage reproduce` can go on;
and that run in a small form in `packed/`. `parts/` and `packed/` are made to be stored.
"""

import argparse
import json
import math
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pack_run
from samirage.errors import UserError
from samirage.lab.engine.compute import commit, hardware, usable_device, versions
from samirage.lab.results.store import RunFolder
from samirage.lab.studies import create
from samirage.lab.studies.base import AbstractStudy, Cell
from timed_parts import Outcome, Part, path_of, run_parts, stored

ROOT: Final = Path(__file__).resolve().parent.parent
_PYTHON: Final = sys.executable
_CONCLUSION_S: Final = 40.0  # kept for the claims of the studies, and for packing them
_BEST_RADIUS: Final = 0.3  # at which the paper reports SAM's best accuracy on CIFAR-100
_TAKEN: Final = (  # of a cell, if it has them: how it ended
    "final_test_accuracy", "final_loss", "final_grad_norm", "final_shift_ratio", "hallucinated", "gradients",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run what fits into the time.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        0 when nothing failed, 1 when a part did, 2 when something given cannot be used, 130 when interrupted.
    """
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, metavar="N", help="time limit, in minutes")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder: new, or that of an earlier call"
    )
    parser.add_argument("--device", default="cuda", help="cpu, cuda or cuda:N [%(default)s]")
    parser.add_argument("--scale", choices=("smoke", "laptop", "paper"), default="paper", help="[%(default)s]")
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    try:
        if not 0 < options.minutes < math.inf:
            raise UserError(f"--minutes must be a number above 0; got {options.minutes:g}")
        device = usable_device(options.device)
        facts = {"scale": options.scale, "device": options.device, "versions": versions(), "hardware": hardware(device)}
        _check_same(options.out, facts)
        parts = plan(options.out, options.device, options.scale)
    except UserError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    facts["commit"] = commit()
    places = {_PYTHON: "python", str(options.out): "DIR", f"{ROOT}/": "", str(ROOT): "."}
    deadline = begun + 60 * options.minutes - _CONCLUSION_S
    try:
        outcomes = run_parts(
            parts, options.out, deadline=deadline, facts=facts, places=places, tell=partial(print, flush=True)
        )
    except KeyboardInterrupt:
        print("Stopped. The same command goes on with what is missing.", file=sys.stderr)
        return 130
    packed = conclude(options.out, options.device, options.scale)
    print(_summary(outcomes, options.out, packed))
    return int(any(outcome.state == "failed" for outcome in outcomes) or packed is not None)


def _check_same(out: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a folder with parts of another scale or device."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: name a folder")
    for path in sorted((out / "parts").glob("*.json")):
        found = stored(out, path.stem.replace("__", "/")) or {}
        for name in ("scale", "device"):
            if name in found and found[name] != facts[name]:
                raise UserError(
                    f"{out} holds parts of {name} {found[name]}, and {facts[name]} was asked for: name another --out"
                )


def plan(out: Path, device: str, scale: str) -> list[Part]:
    """Return the parts, most valuable first.

    Args:
        out: The folder.
        device: Name of the device.
        scale: Scale of the studies and of the benchmark of epochs.

    Raises:
        UserError: If a study cannot be configured so, or its data set is not to be had.
    """
    measured = out / "measured"
    seconds, rounds = ("1", "2") if scale == "smoke" else ("20", "10")
    junit = measured / "tests.xml"
    epochs = [_PYTHON, str(ROOT / "benchmarks" / "resnet.py"), "--scale", scale, "--device", device, "--rounds", rounds]
    steps = [_PYTHON, str(ROOT / "benchmarks" / "run.py"), "optimizer", "--seconds", seconds]
    return [
        Part(
            "tests",
            [_PYTHON, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}",
             f"--config-file={ROOT / 'pyproject.toml'}", f"--junitxml={junit}", str(ROOT / "tests")],
            result=lambda: _tests(junit),
            keep_failed=True,
        ),
        _benchmark("epochs", epochs, measured),
        _benchmark("epochs-eager", [*epochs, "--eager"], measured),
        _benchmark("steps", [*steps, *["--tiny"] * (scale == "smoke")], measured),
        *(part for study in create(["mnist", "cifar"], scale, {"device": device, "threads": 1})
          for part in _cells(study, out, device, scale)),
    ]  # fmt: skip


def _benchmark(name: str, command: list[str], measured: Path) -> Part:
    path = measured / f"{name}.json"
    return Part(name, [*command, "--out", str(path)], result=lambda: json.loads(path.read_text(encoding="utf-8")))


def _tests(junit: Path) -> dict[str, Any]:
    """Read what became of tests."""
    cases = list(ElementTree.parse(junit).getroot().iter("testcase"))
    ends = {"failed": ("failure", "error"), "skipped": ("skipped",)}
    named = {
        end: [
            f"{case.get('classname')}.{case.get('name')}"
            for case in cases
            if any(case.find(tag) is not None for tag in tags)
        ]
        for end, tags in ends.items()
    }
    return {
        "passed": len(cases) - len(named["failed"]) - len(named["skipped"]),
        "skipped": len(named["skipped"]),
        "failed": named["failed"],
    }


def _cells(study: AbstractStudy, out: Path, device: str, scale: str) -> list[Part]:
    run = out / "run"
    cells = sorted(study.cells(), key=partial(_worth, study.name))  # stable: else in the order of the study
    names = [f"{study.name}/{cell.name}" for cell in cells]
    return [
        Part(
            name,
            [_PYTHON, str(ROOT / "scripts" / "one_cell.py"), study.name, cell.name,
             "--scale", scale, "--device", device, "--out", str(run)],
            expected_s=partial(_expected_s, study, cell, out),
            result=partial(_ending, run, study.name, cell.name),
        )
        for name, cell in zip(names, cells, strict=True)
    ]  # fmt: skip


def _worth(study: str, cell: Cell) -> tuple[int, float]:
    """Order the networks of `cifar`: one seed of all methods first, and radii by their distance from the best."""
    if study != "cifar":
        return (0, 0.0)
    rho, seed = cell.settings["rho"], cell.settings["seed"]
    return (
        0 if not rho or rho == _BEST_RADIUS else 1,
        abs(rho - _BEST_RADIUS) if rho and rho != _BEST_RADIUS else seed,
    )


def _expected_s(study: AbstractStudy, cell: Cell, out: Path) -> float | None:
    """Guess from the cells of the study that are finished, else from the benchmark of epochs."""
    rates: list[float] = []
    for other in study.cells():
        found = stored(out, f"{study.name}/{other.name}") or {}
        if found.get("state") == "finished":
            rates.append(found["wall_s"] / other.passes)
    if rates:
        return cell.passes * max(rates)
    epochs = (stored(out, "epochs") or {}).get("result")
    if study.name != "cifar" or not epochs:
        return None
    steps = epochs["images_per_epoch"] / epochs["config"]["batch_size"]
    return float(cell.passes * epochs["contenders"]["SGD"]["epoch_seconds"]["median"] / steps)


def _ending(run: Path, study: str, name: str) -> dict[str, Any]:
    """Read how a cell ended."""
    cell = RunFolder(run).read_cell(study, name)
    durations = {
        f"{key.removesuffix('_seconds')}_s": float(cell[key]) for key in ("wall_seconds", "cpu_seconds") if key in cell
    }
    return {
        **{key: cell[key].values.tolist() for key in _TAKEN if key in cell},
        "seed": cell["seed"].values.tolist(),
        **durations,
    }


def conclude(out: Path, device: str, scale: str) -> str | None:
    """Hold what is finished of the studies against their claims, and pack it.

    Args:
        out: The folder.
        device: Name of the device.
        scale: Scale of the studies.

    Returns:
        What went wrong; None if nothing did.
    """
    run = RunFolder(out / "run")
    try:
        for name in run.studies():
            (study,) = create([name], scale, {"device": device, "threads": 1})
            finished = {cell: run.read_cell(name, cell) for cell in run.finished(name)}
            if not finished:
                continue
            command = f"samirage reproduce {name} --scale {scale} --device {device}"
            run.write_claims(name, study.claims(finished, command))
            run.write_reading(name, study.reading(finished))
        if run.studies():
            pack_run.pack_run(run, RunFolder(out / "packed"))
    except Exception as error:  # the parts are stored, whatever is wrong with their sum
        return f"the run could not be packed: {type(error).__name__}: {error}"
    return None


def _summary(outcomes: list[Outcome], out: Path, packed: str | None) -> str:
    counts = {
        state: sum(one.state == state for one in outcomes) for state in ("finished", "failed", "stopped", "not started")
    }
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    left = counts["stopped"] + counts["not started"] + counts["failed"]
    more = "; the same command goes on with the rest" if left else ""
    return f"{len(outcomes)} parts: {said}{more}.\nTo be stored: {path_of(out, 'x').parent} and {out / 'packed'}" + (
        f"\n{packed}" if packed else ""
    )


if __name__ == "__main__":
    sys.exit(main())

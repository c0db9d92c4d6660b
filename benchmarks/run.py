"""Run the benchmarks and print their tables: `make bench`.

Usage: run.py [engine] [optimizer] [monitor] [--seconds S] [--threads N] [--out FILE], by default all of them.
"""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import engine, monitor, optimizer
from benchmarks.workloads import workloads
from samirage.lab.engine.compute import compute, default_threads, hardware, versions

PARTS: Final = ("engine", "optimizer", "monitor")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: Of the command line; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="engine, optimizer, monitor; default: all")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time for each workload of the optimizer [%(default)s]"
    )
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="a few seconds in all, to see whether everything runs")
    parser.add_argument("--out", type=Path, help="file to write what was measured of the optimizer to, as JSON")
    options = parser.parse_args(arguments)
    parts = options.parts or list(PARTS)
    if not set(parts) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}; got {' '.join(parts)}")
    console = Console(width=130)
    if "engine" in parts:
        engine_table(console, options.threads, tiny=options.tiny)
    if "optimizer" in parts:
        results = optimizer_results(options.threads, options.seconds, tiny=options.tiny)
        for result in results["devices"]:
            optimizer_tables(console, result)
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if "monitor" in parts:
        for line in monitor.lines(options.threads, tiny=options.tiny):
            console.print(line)


def optimizer_results(threads: int, seconds: float, *, tiny: bool) -> dict[str, Any]:
    """Measure the overhead of a SAM step on the CPU, and on a CUDA device where there is one.

    Args:
        threads: CPU threads.
        seconds: About how long to measure the times of a workload.
        tiny: Whether to take workloads that are too small to mean anything.
    """
    torch.set_num_threads(threads)
    devices = [torch.device("cpu")] + [torch.device("cuda")] * torch.cuda.is_available()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {k: versions()[k] for k in ("python", "samirage", "torch")}
        | {"pytorch-optimizer": version("pytorch-optimizer")},
        "read_every": optimizer.READ_EVERY,
        "devices": [
            {
                "device": device.type,
                "hardware": hardware(device),
                "threads": threads,
                "load_before": os.getloadavg()[0],
                "workloads": {
                    w.key: optimizer.measure(w, seconds=seconds, device=device) for w in workloads(tiny=tiny)
                },
                "load_after": os.getloadavg()[0],
            }
            for device in devices
        ],
    }


def optimizer_tables(console: Console, result: dict[str, Any]) -> None:
    """Print what was measured on one device."""
    machine = result["hardware"]
    where = machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores, {result['threads']} threads"
    load = f"load {result['load_before']:.1f} before, {result['load_after']:.1f} after"
    console.print(f"{where}; {load}; torch {torch.__version__}, float32")
    for measured in result["workloads"].values():
        table = Table(title=f"{measured['title']}: {measured['parameters']:,} parameters")
        table.add_column("step")
        for heading in ("ms", "overhead", "quartiles", "n", "own", "record", "peak", "kept"):
            table.add_column(heading, justify="right")
        for name, cost in measured["contenders"].items():
            overhead, own, read, memory = (cost[key] for key in ("overhead", "own", "read", "memory"))
            table.add_row(
                name,
                f"{1e3 * cost['step_seconds']['median']:.3g}",
                f"{overhead['median']:.3f}",
                f"{overhead['low']:.3f}–{overhead['high']:.3f}",
                f"{overhead['n']}",
                f"{own['median']:.3f}" if own else "–",
                f"{read['median']:.4f}" if read else "–",
                f"{memory['peak']:.2f}" if memory else "–",
                f"{memory['kept']:.2f}" if memory else "–",
            )
        console.print(table)
    console.print(
        "overhead: time of a step by that of two forward and backward passes and the base optimizer's step, the bare\n"
        "loop, which ran in the same rounds; own: the part of it that passes outside of these passes and that step;\n"
        f"record: what reading all its figures every {optimizer.READ_EVERY} steps adds; peak and kept: memory above\n"
        "the bare loop, in copies of the parameters, at the highest point of a step and between steps."
    )


def engine_table(console: Console, threads: int, *, tiny: bool) -> None:
    """Measure the ensemble engine and print what came out."""
    machine = hardware(torch.device("cpu"))
    console.print(f"{machine['processor']}, {threads} threads, torch {torch.__version__}, float32")
    table = Table(title=f"Ensemble engine: SAM, full batch, 784-32-10 tanh network, {engine.SEEDS} seeds at once")
    for heading in ("images", "large GEMM", "engine", "share", "any module", "share", "engine", "loop", "speed-up"):
        table.add_column(heading, justify="right")
    table.add_row(
        "", "GFLOP/s", "GFLOP/s", "of GEMM", "GFLOP/s", "of GEMM", "µs/seed-step", "µs/seed-step", "", end_section=True
    )
    sizes = ((100, 1, 1),) if tiny else ((1_000, 10, 7), (60_000, 1, 3))
    for images, steps, rounds in sizes:
        measure = partial(engine.measure, images, steps=steps, rounds=rounds, general=images == 1_000)
        result = compute(measure, threads=threads)
        general = result.general_gflop_per_s
        table.add_row(
            f"{images:,}",
            f"{result.gemm_gflop_per_s:.0f}",
            f"{result.wide_gflop_per_s:.0f}",
            f"{result.wide_gflop_per_s / result.gemm_gflop_per_s:.2f}",
            f"{general:.0f}" if general else "–",
            f"{general / result.gemm_gflop_per_s:.2f}" if general else "–",
            f"{result.engine_seconds * 1e6:.0f}",
            f"{result.loop_seconds * 1e6:.0f}",
            f"{result.loop_seconds / result.engine_seconds:.2f}×",
        )
    console.print(table)
    console.print(
        "Rates: operations executed in matrix products, by the whole time of the steps. The engine leaves out pixels\n"
        "that are zero in every image, the loop does not; the speed-up includes that."
    )


if __name__ == "__main__":
    main()

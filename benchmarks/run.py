"""Run all benchmarks and print their tables: `make bench`."""

import sys
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import engine
from samirage.lab.runtime import compute, default_threads, hardware


def main() -> None:
    """Measure and print."""
    console = Console(width=110)
    threads = default_threads()
    machine = hardware(torch.device("cpu"))
    console.print(f"{machine['processor']}, {threads} threads, torch {torch.__version__}, float32")
    table = Table(title=f"Ensemble engine: SAM, full batch, 784-32-10 tanh network, {engine.SEEDS} seeds at once")
    for heading in ("images", "large GEMM", "engine", "share", "any module", "share", "engine", "loop", "speed-up"):
        table.add_column(heading, justify="right")
    table.add_row(
        "", "GFLOP/s", "GFLOP/s", "of GEMM", "GFLOP/s", "of GEMM", "µs/seed-step", "µs/seed-step", "", end_section=True
    )
    for images, steps, rounds in ((1_000, 10, 7), (60_000, 1, 3)):
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

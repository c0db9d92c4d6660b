"""Memory of a step, from the allocator's own account: every allocation and release, kernels' temporaries included."""

import gc
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.contenders import BARE, CONTENDERS, Trial, trial
from benchmarks.workloads import Workload

_CPU = 0  # the number of the device type in a trace
_SETTLED = 2  # steps after which the base optimizer has set up its state


@dataclass(frozen=True)
class Memory:
    """Memory above that of the bare loop, in copies of the parameters.

    Attributes:
        peak: At the highest point of a step.
        kept: Between two steps, without gradients.
    """

    peak: float
    kept: float


def balances(tasks: Sequence[Callable[[], object]], device: torch.device) -> list[tuple[int, int]]:
    """Run tasks one after the other, and account for the memory of their tensors.

    Args:
        tasks: What to run. They must not release tensors that were there before the first.
        device: Where their tensors are.

    Returns:
        For each task, bytes at its highest point and bytes still held at its end, both above its beginning.
    """
    gc.collect()  # tensors of earlier tasks that hang in reference cycles
    if device.type == "cuda":
        return [_balance_on_cuda(task, device) for task in tasks]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for i, task in enumerate(tasks):
            with record_function(f"task {i}"):
                task()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    starts = {e["name"]: float(e["ts"]) for e in events if e.get("cat") == "user_annotation"}
    bounds = [starts[f"task {i}"] for i in range(len(tasks))] + [math.inf]
    moves = [e for e in events if e.get("name") == "[memory]" and e["args"]["Device Type"] == _CPU]
    moves.sort(key=lambda e: float(e["ts"]))
    found = []
    for begin, end in pairwise(bounds):
        levels = [0, *accumulate(e["args"]["Bytes"] for e in moves if begin <= float(e["ts"]) < end)]
        found.append((max(levels), levels[-1]))
    return found


def _balance_on_cuda(task: Callable[[], object], device: torch.device) -> tuple[int, int]:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    task()
    return torch.cuda.max_memory_allocated(device) - before, torch.cuda.memory_allocated(device) - before


def measure(workload: Workload, device: torch.device) -> dict[str, Memory]:
    """Return the memory of every contender but the bare loop."""
    used = {name: _peak_and_kept(name, workload, device) for name in CONTENDERS}
    size = sum(p.numel() * p.element_size() for p in workload.model().parameters())
    peak, kept = used.pop(BARE)
    return {name: Memory((p - peak) / size, (k - kept) / size) for name, (p, k) in used.items()}


def _peak_and_kept(name: str, workload: Workload, device: torch.device) -> tuple[int, int]:
    made: list[Trial] = []

    def settle() -> None:
        made.append(trial(name, workload, device))
        for _ in range(_SETTLED):
            made[0].step()
        made[0].optimizer.zero_grad()

    (_, kept), (peak, _) = balances([settle, lambda: made[0].step()], device)
    return peak, kept

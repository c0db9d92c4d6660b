"""What a SAM step costs beyond its two passes, in samirage and in pytorch-optimizer: time and memory.

The overhead is the time of a whole SAM step divided by that of two forward and backward passes and one step of the
base optimizer, the bare loop, which runs in the same rounds. 1 is the least that is possible.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import torch

from benchmarks import memory
from benchmarks.contenders import BARE, CONTENDERS, Trial, trial
from benchmarks.timing import Spread, spread, times_in_turn
from benchmarks.workloads import Workload

READ_EVERY: Final = 50  # steps between two readings of the record, as a training log would
_SAMPLE: Final = 0.02  # seconds that one sample should take at least
_ROUNDS: Final = (5, 1000)


@dataclass(frozen=True)
class Cost:
    """What one contender costs.

    Attributes:
        step_seconds: Time of a step, in seconds.
        overhead: Time of a step divided by that of the bare loop in the same round.
        own: Time of a step outside of the closure, less that of the bare loop (the base optimizer's step), divided by
            the time of the bare loop's step: the part of `overhead` − 1 that does not come from passes that happen to
            be slower or faster. None on an accelerator.
        read: Time of reading all figures of the record, divided by that of so many bare steps as `READ_EVERY`: what
            such readings add to the overhead. None for an optimizer that has no record.
        memory: Memory above the bare loop.
    """

    step_seconds: Spread
    overhead: Spread
    own: Spread | None
    read: Spread | None
    memory: memory.Memory | None


def measure(workload: Workload, *, seconds: float, device: torch.device) -> dict[str, Any]:
    """Measure all contenders on one workload.

    Args:
        workload: What to train.
        seconds: About how long to measure times.
        device: Where.

    Returns:
        The workload's title, its number of parameters and, by contender, `Cost` as dictionaries.
    """
    trials = {name: trial(name, workload, device) for name in CONTENDERS}
    once = {name: _seconds(made, 1, device)[0] for name, made in trials.items() for _ in range(2)}
    steps = max(1, round(_SAMPLE / min(once.values())))
    rounds = round(seconds / (steps * sum(once.values())))
    rounds = min(max(rounds, _ROUNDS[0]), _ROUNDS[1])
    outside: dict[str, list[float]] = {name: [] for name in trials}

    def sample(name: str) -> Callable[[], None]:
        def task() -> None:
            whole, inside = _seconds(trials[name], steps, device)
            outside[name].append((whole - inside) / steps)

        return task

    taken = times_in_turn({name: sample(name) for name in trials}, rounds=rounds)
    outside = {name: values[1:] for name, values in outside.items()}  # the first round does not count
    used = memory.measure(workload, device)
    bare = [value / steps for value in taken[BARE]]
    costs = {}
    for name, made in trials.items():
        values = [value / steps for value in taken[name]]
        own = [(a - b) / c for a, b, c in zip(outside[name], outside[BARE], bare, strict=True)]
        costs[name] = Cost(
            step_seconds=spread(values),
            overhead=spread([a / b for a, b in zip(values, bare, strict=True)]),
            own=spread(own) if device.type == "cpu" else None,
            read=_reading(made, spread(bare).median, device) if hasattr(made.optimizer, "record") else None,
            memory=used.get(name),
        )
    return {
        "title": workload.title,
        "parameters": sum(p.numel() for p in trials[BARE].model.parameters()),
        "steps_per_sample": steps,
        "contenders": {name: asdict(cost) for name, cost in costs.items()},
    }


def _seconds(made: Trial, steps: int, device: torch.device) -> tuple[float, float]:
    """Time of so many steps, whole and within the closure."""
    _wait(device)
    inside, begun = made.inside, time.perf_counter()
    for _ in range(steps):
        made.step()
    _wait(device)
    return time.perf_counter() - begun, made.inside - inside


def _reading(made: Trial, bare: float, device: torch.device, times: int = 7) -> Spread:
    taken = []
    for _ in range(times):
        made.step()
        _wait(device)
        begun = time.perf_counter()
        record: Any = made.optimizer.record  # type: ignore[attr-defined]
        for field in fields(record):
            float(getattr(record, field.name))
        taken.append((time.perf_counter() - begun) / (READ_EVERY * bare))
    return spread(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

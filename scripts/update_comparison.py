"""Write docs/sam-implementations-compared.md from what benchmarks/peers/run.py and benchmarks/run.py stored.

Usage: update_comparison.py [--check]. With --check nothing is written, and the exit code is 1 when the page is stale.
"""

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.peers.behaviours import BEHAVIOURS, Behaviour

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "sam-implementations-compared.md"
RESULTS: Final = ROOT / "results" / "peers"
COLUMNS: Final = ("samirage", "davda54", "pytorch-optimizer", "composer", "optax")
COST: Final = RESULTS / "cost.json"

HEAD: Final = """\
# SAM implementations compared

<!-- Written by scripts/update_comparison.py from results/peers/: do not edit. -->

Each cell is what a program saw when it ran: `yes` if the sentence held, **no** if it did not, and the figure that it
measured or the error that was raised. The programs are in [benchmarks/peers](../benchmarks/peers), one function per
row, the same for all columns, and each implementation is driven as its own documentation shows. A cell with a dash was
not run, because the question has no meaning there or the implementation offers nothing of the kind. samirage's cells
name the tests that fail when they no longer hold.
"""

FOOT: Final = """\
## How to run it again

```
pip install -r benchmarks/peers/requirements.txt
python benchmarks/peers/run.py            # downloads the compared files of davda54/sam and mosaicml/composer
python -m venv jax && jax/bin/pip install -r benchmarks/peers/requirements-optax.txt
jax/bin/python benchmarks/peers/optax_probes.py
python benchmarks/run.py optimizer --seconds 300 --out results/peers/cost.json
python scripts/update_comparison.py
```

What to know about it:

- Of Composer only the optimizer and the gradient scaler were run, as its Trainer calls them; the Trainer was not. What
  the Trainer adds around them, this page does not show.
- pytorch-optimizer's row on passes is about its LookSAM; all others are about its SAM.
- optax works on values, not on weights in place, so that rows about storage, copies or hooks have no meaning there. It
  ran in its opaque mode, in which one call is one step, unless the cell says otherwise.
- davda54/sam and pytorch-optimizer offer helpers for batch normalisation; the row shows both without and with them.
"""


def tests_by_name() -> dict[str, str]:
    """Return the file of each test of the optimizer, relative to the root, by the test's name."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "tests" / "optim").glob("test_*.py"), reverse=True):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = path.relative_to(ROOT).as_posix()
    return found


def page(results: Mapping[str, Any], cost: Mapping[str, Any] | None, files: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        results: What was stored of each implementation, by column.
        cost: What was stored of time and memory, if anything.
        files: Where the tests are, by name.

    Raises:
        KeyError: If a named test does not exist.
    """
    parts = [HEAD, "## Behaviour\n", _behaviours(results, files)]
    if cost is not None:
        parts += ["## Time and memory of a step\n", *map(_cost, cost["devices"]), _explained(cost)]
    return "\n".join([*parts, "## What was run\n", _sources(results), FOOT])


def _behaviours(results: Mapping[str, Any], files: Mapping[str, str]) -> str:
    lines = [f"| | {' | '.join(results[column]['title'] for column in COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for behaviour in BEHAVIOURS:
        cells = [_cell(results[column]["outcomes"].get(behaviour.key)) for column in COLUMNS]
        cells[0] += _links(behaviour, files)
        lines.append(f"| {behaviour.sentence} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(outcome: Mapping[str, Any] | None) -> str:
    if outcome is None:
        return "–"
    figure = outcome["figure"].replace("|", "\\|")
    return {True: f"yes: {figure}", False: f"**no**: {figure}", None: f"– ({figure})"}[outcome["holds"]]


def _links(behaviour: Behaviour, files: Mapping[str, str]) -> str:
    links = [f"[{i}](../{files[name]} '{name}')" for i, name in enumerate(behaviour.tests, 1)]
    return f"; tests {', '.join(links)}" if links else ""


def _cost(device: Mapping[str, Any]) -> str:
    machine = device["hardware"]
    where = machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores"
    lines = [
        f"On {where}, {device['threads']} threads; load of the machine {device['load_before']:.1f} before and "
        f"{device['load_after']:.1f} after.\n"
    ]
    for measured in device["workloads"].values():
        lines += [
            f"**{measured['title']}**: {measured['parameters']:,} parameters\n",
            "| step | ms | overhead | quartiles | n | own | record | peak | kept |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, cost in measured["contenders"].items():
            overhead, own, read, memory = (cost[key] for key in ("overhead", "own", "read", "memory"))
            cells = [
                name,
                f"{1e3 * cost['step_seconds']['median']:.3g}",
                f"{overhead['median']:.3f}",
                f"{overhead['low']:.3f} to {overhead['high']:.3f}",
                str(overhead["n"]),
                f"{own['median']:.4f}" if own else "–",
                f"{read['median']:.1g}" if read else "–",
                f"{memory['peak']:.2f}" if memory else "–",
                f"{memory['kept']:.2f}" if memory else "–",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _explained(cost: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in cost["versions"].items())
    return (
        "All steps of a workload ran in turn, in one process, in an order drawn anew for each round. *overhead*: time\n"
        "of a step divided by that of the bare loop in the same round (median, quartiles, n rounds); the bare loop\n"
        "runs two forward and backward passes and one step of the base optimizer, so that 1 is the least that is\n"
        "possible. *own*: the part of it that passes outside of these passes and that step. *record*: what reading\n"
        f"all figures of the record every {cost['read_every']} steps adds. *peak*, *kept*: memory above the bare\n"
        "loop, in copies of the parameters, at the highest point of a step and between two steps; on a CPU from the\n"
        "allocator's events as torch.profiler records them, temporaries inside kernels included.\n"
        f"{cost['date']}; {versions}.\n"
    )


def _sources(results: Mapping[str, Any]) -> str:
    lines = ["| | source | on | date |", "|---|---|---|---|"]
    for column in COLUMNS:
        stored = results[column]
        on = ", ".join(f"{name} {version}" for name, version in stored["versions"].items())
        lines.append(f"| {stored['title']} | {stored['source']} | {on} | {stored['date']} |")
    return "\n".join(lines) + "\n"


def current() -> str:
    """Return the page as it should be."""
    results = {column: json.loads((RESULTS / f"{column}.json").read_text(encoding="utf-8")) for column in COLUMNS}
    cost = json.loads(COST.read_text(encoding="utf-8")) if COST.exists() else None
    return page(results, cost, tests_by_name())


def main() -> int:
    """Renew or check the page."""
    renewed = current()
    if "--check" in sys.argv[1:]:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == renewed
        print("the page is up to date" if same else f"{PAGE.name} is out of date: run scripts/update_comparison.py")
        return 0 if same else 1
    PAGE.write_text(renewed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

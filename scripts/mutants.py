#!/usr/bin/env python3
"""Plant bugs, one at a time, and tell which of them the tests do not see.

Two kinds of bugs are planted in a copy of the project; the working tree is only read.

- **Named**: those of scripts/mutation/planted.toml, each chosen because it would be dangerous, with the tests that must
  see it. None may survive: the exit code is 1 when one does.
- **Systematic**: every small change of the syntax tree that scripts/mutation/operators.py knows (comparisons, signs,
  numbers, dropped terms, minima for maxima, …), or a random sample of them. Their share that is seen is the score. Some
  change nothing that can be observed, so 100 % is not the goal; each survivor is a question that a test could answer.

A module's tests are `tests/<room>/test_<module>.py`, its examples, and what scripts/mutation/targets.py adds. They are
run in forks of a process that has imported torch already, those that run the changed line first, until one fails. What
was found is kept in a folder line by line, and the next call runs only what is missing there: mutants that are new,
or whose module or test files have changed.

Why not a library: mutmut 3.8 also forks, and runs well here, but changes nothing outside of functions and nothing in
those with a decorator: no threshold, no default of a dataclass, no constant of a module, not `Claim.verdict`.
cosmic-ray 8.7 changes these, but in place, so that an interruption leaves a bug in the source, and starts a process for
every mutant: about 5 s each, most of them for importing torch. Neither takes bugs that one writes down.

Usage:
    python scripts/mutants.py --named                          # the planted bugs alone: a few minutes
    python scripts/mutants.py --named krawczyk-without-its-box
    python scripts/mutants.py sam/guard monitor                # all mutants of some modules, and their planted bugs
    python scripts/mutants.py --sample 150 --seed 1            # some of all modules
    python scripts/mutants.py --sample 150 --store results/mutants.json   # from a clean commit
"""

import argparse
import contextlib
import json
import platform
import queue
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mutation.mutant import Mutant, StaleError, planted, read_planted, systematic
from mutation.targets import SAMIRAGE, Project, UnknownModuleError
from mutation.workbench import BaselineError, Workbench

OUTCOMES: Final = ("killed", "timeout", "survived", "not covered")
SEEN: Final = frozenset({"killed", "timeout"})  # a mutant that never ends is noticed too


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Plant bugs, one at a time, and tell which of them the tests do not see.",
        epilog="example: python scripts/mutants.py --sample 20 --seed 3 sam/guard",
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="rooms or modules, such as sam or sam/guard")
    parser.add_argument("--named", action="store_true", help="only the planted bugs (MODULE may then name one of them)")
    parser.add_argument("--sample", type=int, metavar="N", help="only N systematic mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1, help="how many to run at a time")
    parser.add_argument("--limit", type=float, metavar="S", help="seconds for a mutant (default: 10 + 4 x its tests)")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants"), help="folder of what was found")
    parser.add_argument("--store", type=Path, metavar="FILE", help="write the summary there too; needs a clean commit")
    options = parser.parse_args(argv)
    if options.sample is not None and options.sample < 1:
        parser.error(f"--sample must be at least 1; got {options.sample}")
    if options.limit is not None and not options.limit > 0:
        parser.error(f"--limit must be above 0 seconds; got {options.limit:g}")
    return options


def chosen(project: Project, options: argparse.Namespace) -> list[Mutant]:
    """Return the mutants to run: the planted ones first."""
    entries = read_planted(project.root / project.planted)
    if options.named and set(options.modules) & set(entries):
        unknown = set(options.modules) - set(entries)
        if unknown:
            raise UnknownModuleError(f"there is no planted bug {', '.join(sorted(unknown))}")
        return planted(project.root, {name: entries[name] for name in options.modules})
    files = project.files(options.modules)
    if options.modules:
        entries = {name: entry for name, entry in entries.items() if entry["file"] in files}
    mutants = planted(project.root, entries)
    if not options.named:
        every = [one for file in files for one in systematic(project.root, file, project.tests_of(file))]
        if options.sample is not None and options.sample < len(every):
            places = sorted(random.Random(options.seed).sample(range(len(every)), options.sample))
            every = [every[place] for place in places]
        mutants += every
    return mutants


def run(
    project: Project, mutants: Sequence[Mutant], known: dict[str, dict[str, Any]], options: argparse.Namespace
) -> Generator[tuple[Mutant, dict[str, Any]], None, None]:
    """Yield each mutant with what became of it, in any order; those that are known already are not run again."""
    # Taken now: the copies below do not change when somebody goes on working, and what is found is about them.
    keys = {mutant: mutant.key(project.root) for mutant in mutants}
    missing = [mutant for mutant in mutants if keys[mutant] not in known]
    yield from ((mutant, known[keys[mutant]]) for mutant in mutants if keys[mutant] in known)
    # A worker takes all mutants with the same tests: it has to run these without a mutant once.
    groups: dict[tuple[str, ...], list[Mutant]] = {}
    for mutant in missing:
        groups.setdefault(mutant.tests, []).append(mutant)
    waiting: queue.SimpleQueue[list[Mutant]] = queue.SimpleQueue()
    for group in sorted(groups.values(), key=len, reverse=True):
        waiting.put(group)
    done: queue.SimpleQueue[tuple[Mutant, dict[str, Any]] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(bench: Workbench) -> None:
        try:
            while not stop.is_set():
                for mutant in waiting.get_nowait():
                    if stop.is_set():
                        return
                    done.put((mutant, bench.run(mutant, limit_s=options.limit)))
        except queue.Empty:
            done.put(None)
        except BaseException as error:  # shown by the main thread
            done.put(error)

    threads: list[threading.Thread] = []
    with contextlib.ExitStack() as stack:
        stack.callback(_join, threads)
        for _ in range(min(options.processes, len(groups))):
            bench = stack.enter_context(Workbench(project.root, project.preload))
            threads.append(threading.Thread(target=work, args=(bench,), daemon=True))
        stack.callback(stop.set)  # the first that is called: then the benches are closed, and the threads end
        for thread in threads:
            thread.start()
        working = len(threads)
        while working:
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                working -= 1
            else:
                mutant, result = item
                yield mutant, {"key": keys[mutant], **result}


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def read_known(path: Path) -> dict[str, dict[str, Any]]:
    """Return what earlier calls found, by key; a last line that was cut off is left out."""
    known: dict[str, dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            known[entry["key"]] = entry
    return known


def summary(project: Project, results: Sequence[tuple[Mutant, dict[str, Any]]], options: argparse.Namespace) -> Any:
    """Return what is stored: counts by module, and the survivors."""
    parts: dict[str, Any] = {}
    for part, is_named in (("planted", True), ("systematic", False)):
        counts: dict[str, Counter[str]] = {}
        for mutant, result in results:
            if bool(mutant.name) == is_named:
                module = mutant.file.removeprefix(project.package).strip("/").removesuffix(".py")
                counts.setdefault(module, Counter())[result["outcome"]] += 1
        total = sum(counts.values(), Counter())
        parts[part] = {
            "modules": {module: {name: count[name] for name in OUTCOMES} for module, count in sorted(counts.items())},
            "total": {name: total[name] for name in OUTCOMES},
            "score": round(sum(total[name] for name in SEEN) / total.total(), 4) if total else None,
        }
    survivors = sorted(
        (mutant.file, mutant.line, mutant.change, result["outcome"])
        for mutant, result in results
        if result["outcome"] not in SEEN
    )
    return {
        "commit": commit(project.root),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in ("torch", "numpy", "pytest")},
        "sample": options.sample,
        "seed": options.seed if options.sample is not None else None,
        "modules": list(options.modules),
        **parts,
        "survivors": [f"{file}:{line}: {change} ({outcome})" for file, line, change, outcome in survivors],
    }


def commit(root: Path) -> str:
    """Return the commit of the working tree, with "-dirty" if it has changes, or "unknown"."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def installed(name: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def show(found: Any) -> None:
    """Print a summary as tables."""
    for part in ("planted", "systematic"):
        modules = found[part]["modules"]
        if not modules:
            continue
        print(f"\n{part + ' bugs':32}" + "".join(f"{name:>13}" for name in OUTCOMES))
        for module, counts in [*modules.items(), ("total", found[part]["total"])]:
            print(f"{module:32}" + "".join(f"{counts[name]:13}" for name in OUTCOMES))
        print(f"{'seen':32}{found[part]['score']:13.1%}")
    if found["survivors"]:
        print("\nNot seen:")
        for line in found["survivors"]:
            print(f"  {line}")


def main(argv: Sequence[str] | None = None, project: Project = SAMIRAGE) -> int:
    """Run the command; return its exit code: 1 when a planted bug survived, 2 when nothing could be run."""
    options = arguments(argv)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copies are removed then, too
    try:
        if options.store is not None and commit(project.root).endswith("-dirty"):
            print("mutants: --store needs a clean commit, so that the numbers can be found again", file=sys.stderr)
            return 2
        mutants = chosen(project, options)
        if options.list:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… --list | head` ends as other programs do
            for mutant in mutants:
                print(f"{mutant.file}:{mutant.line}: {mutant.change}")
            return 0
        options.out.mkdir(parents=True, exist_ok=True)
        journal = options.out / "outcomes.jsonl"
        results = []
        known = read_known(journal)
        with (
            journal.open("a", encoding="utf-8") as log,
            contextlib.closing(run(project, mutants, known, options)) as ran,
        ):
            for mutant, result in ran:
                results.append((mutant, result))
                if result["key"] not in known:
                    where = f"{mutant.file}:{mutant.line}"
                    log.write(json.dumps({"where": where, "change": mutant.change, **result}) + "\n")
                    log.flush()
                    seen = f"{result['outcome']} by {result['by']}" if result["by"] else result["outcome"]
                    print(f"[{len(results)}/{len(mutants)}] {where}: {mutant.change}: {seen}", flush=True)
    except (StaleError, BaselineError, UnknownModuleError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mutants: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    found = summary(project, results, options)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    for path in (options.out / "mutants.json", *([options.store] if options.store else [])):
        path.write_text(text, encoding="utf-8")
    show(found)
    return int(found["planted"]["score"] not in (None, 1.0))


if __name__ == "__main__":
    sys.exit(main())

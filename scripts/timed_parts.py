"""Run commands one after the other within a time limit, and keep what became of each in a small JSON file.

A part that is finished is skipped by the next call with the same folder, one that failed or was stopped is run again.
"""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from samirage.files import write_whole

GRACE_S: Final = 20.0  # between the signal that asks a command to end and the one that ends it
_TAIL: Final = 20  # lines of output that are kept of a part that did not end well

State = Literal["finished", "failed", "stopped", "not started"]


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: Unique; letters, digits, `.`, `+`, `-` and `/`.
        command: The command and its arguments; the first is the program.
        expected_s: Guesses how long it takes, in seconds, from what is known when its turn comes; None if nothing is.
        result: Reads what it has measured, once it has ended; plain data for JSON.
        keep_failed: Whether there is a result also where the command fails, as of tests.
    """

    name: str
    command: Sequence[str]
    expected_s: Callable[[], float | None] = lambda: None
    result: Callable[[], Any] = lambda: None
    keep_failed: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        name: Its name.
        state: `"finished"`; `"failed"`: it ended with an error; `"stopped"`: time was up; `"not started"`: it would not
            have ended in time.
        said: One line for people.
    """

    name: str
    state: State
    said: str


def path_of(folder: Path, name: str) -> Path:
    """Return the JSON file of a part.

    Args:
        folder: The folder that all parts share.
        name: Name of the part.

    Raises:
        ValueError: If the name could lead out of the folder.
    """
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", name) or ".." in name:
        raise ValueError(f"a part is named by letters, digits and . + - /; got {name!r}")
    return folder / "parts" / f"{name.replace('/', '__')}.json"


def stored(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what is stored of a part; None where nothing is, or nothing that can be read.

    Args:
        folder: The folder.
        name: Name of the part.
    """
    try:
        document = json.loads(path_of(folder, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def run_parts(
    parts: Sequence[Part],
    folder: Path,
    *,
    deadline: float,
    facts: Mapping[str, Any],
    places: Mapping[str, str] = MappingProxyType({}),
    tell: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Run the parts that are not finished, in order, until the deadline; those that have failed before come last.

    A part that is expected to take longer than what is left is not started, and the next one gets its chance. Nothing
    is known of how long a part takes before it has run; it is stopped when time is up.

    Args:
        parts: What to run, most valuable first.
        folder: Where their files go.
        deadline: When to end, by `clock`, in seconds; all commands have ended by then.
        facts: What to store with each part, such as versions and hardware.
        places: Paths of this machine, and what stands for each in the stored commands.
        tell: Called with lines for people, but of parts that are not started only of the first.
        clock: Time in seconds.

    Returns:
        What became of each part.
    """
    outcomes: list[Outcome] = []
    for part in sorted(parts, key=lambda part: (stored(folder, part.name) or {}).get("state") == "failed"):
        before = stored(folder, part.name) or {}
        if before.get("state") == "finished":
            outcome = Outcome(part.name, "finished", f"in {before['wall_s']:.0f} s, by an earlier call")
        else:
            outcome = _run(part, folder, before, deadline, facts, places, clock)
        if outcome.state != "not started" or all(other.state != "not started" for other in outcomes):
            tell(f"{part.name}: {outcome.state}, {outcome.said}")
        outcomes.append(outcome)
    return outcomes


def _run(
    part: Part,
    folder: Path,
    before: Mapping[str, Any],
    deadline: float,
    facts: Mapping[str, Any],
    places: Mapping[str, str],
    clock: Callable[[], float],
) -> Outcome:
    left = deadline - GRACE_S - clock()
    # Where it was stopped once, it takes longer than it was given.
    least = before.get("wall_s", 0.0) if before.get("state") == "stopped" else 0.0
    needed = max(part.expected_s() or 0.0, least)
    if left <= needed:
        about = (
            f"it needs {'more than' if needed == least else 'about'} {needed / 60:.1f} min" if needed else "time is up"
        )
        return Outcome(part.name, "not started", f"{about}, {max(left, 0) / 60:.1f} min are left")
    log = folder / "logs" / path_of(folder, part.name).with_suffix(".log").name
    log.parent.mkdir(parents=True, exist_ok=True)
    begun, started = datetime.now(UTC), clock()
    with log.open("wb") as output:
        try:
            code = _waited_for(part.command, output, left)
        except OSError as error:
            output.write(str(error).encode())
            code = 127
    wall_s = clock() - started
    state: State = "stopped" if code is None else "failed" if code else "finished"
    said = f"in {wall_s:.0f} s" if code is not None else f"after {wall_s:.0f} s, for time was up"
    result = None
    if state == "finished" or (state == "failed" and part.keep_failed):
        try:
            result = part.result()
        except Exception as error:  # whatever it is, the other parts are not to suffer
            state, said = "failed", f"what it measured cannot be read: {type(error).__name__}: {error}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if state == "failed" and code:
        said += f" with exit code {code}: {next((line for line in reversed(lines) if line.strip()), 'no output')}"
    document = {
        "part": part.name,
        "state": state,
        "exit_code": code,
        "begun": begun.isoformat(timespec="seconds"),
        "wall_s": round(wall_s, 3),
        "command": _shown(part.command, places),
        **facts,
        "result": _plain(result),
        **({} if state == "finished" else {"output": lines[-_TAIL:]}),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path_of(folder, part.name), f"{text}\n".encode())
    return Outcome(part.name, state, said)


def _shown(command: Sequence[str], places: Mapping[str, str]) -> str:
    shown = shlex.join(command)
    for path, name in places.items():
        shown = shown.replace(path, name)
    return shown


def _waited_for(command: Sequence[str], output: Any, seconds: float) -> int | None:
    """Run a command; its exit code, or None if it had to be stopped. What it has started ends with it."""
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return None
    except BaseException:
        _end(process)
        raise


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask as Ctrl-C does, then end the whole group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S / 2)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _plain(value: Any) -> Any:
    """Numbers that JSON does not have become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

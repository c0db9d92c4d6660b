"""Where and how the numbers are computed: device, threads, denormals; and what to write down about it."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import torch

from samirage.errors import UserError

T = TypeVar("T")


def usable_device(name: str) -> torch.device:
    """Return the device of this name, if this machine has it.

    Args:
        name: `"cpu"`, `"cuda"` or `"cuda:N"`.

    Returns:
        The device.

    Raises:
        UserError: If the name is not one of these, or there is no such device.

    Example:
        >>> usable_device("cpu")
        device(type='cpu')
    """
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise UserError(f"unknown device {name!r}: use cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} was asked for, but this PyTorch sees no CUDA device: use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise UserError(f"device {name!r} was asked for, but there are only {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def default_threads() -> int:
    """Return how many threads PyTorch uses unless told otherwise."""
    return torch.get_num_threads()


def compute(task: Callable[[], T], *, threads: int, stop: Event | None = None) -> T:
    """Run a task with so many CPU threads, reproducibly, and with denormal numbers flushed to zero.

    In saturated regimes gradients fade through the denormal range, in which a CPU is many times slower. Flushing is a
    setting of each thread, and a thread of the pool that shares the arithmetic has it only if it was born with it. The
    task therefore runs in a new thread, whose pool is new as well; the settings of the caller stay as they are.

    Args:
        task: What to run.
        threads: Number of CPU threads, at least 1.
        stop: Set when the caller is interrupted, in the hope that the task looks at it and ends.

    Returns:
        What the task returns; what it raises is raised.

    Example:
        >>> compute(lambda: float(torch.tensor(1e-40) * 1.0), threads=2)
        0.0
    """
    results: list[T] = []
    errors: list[BaseException] = []
    finished = Event()

    def run() -> None:
        # OpenMP's number of threads, too, belongs to the thread that sets it.
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        try:
            results.append(task())
        except BaseException as error:  # handed over to the caller, whatever it is
            errors.append(error)
        finally:
            finished.set()

    thread = Thread(target=run, name="samirage-compute")
    with _deterministic():
        thread.start()
        try:
            finished.wait()  # and not thread.join(): before Python 3.13, an interrupted join takes the thread for ended
        except BaseException:
            if stop is not None:
                stop.set()
            finished.wait()
            raise
        finally:
            thread.join()
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _deterministic() -> Iterator[None]:
    """Make PyTorch choose algorithms that repeat bit for bit; these settings are global."""
    # A module of properties, which the type checker does not know.
    memory: Any = torch.utils.deterministic
    deterministic, fill = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    # cuBLAS is deterministic only with a fixed workspace, and reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # a pass over every new tensor, for no gain here
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = fill
        torch.use_deterministic_algorithms(deterministic)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in ("samirage", "torch", "numpy", "xarray", "matplotlib"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what the machine is: system, processor, cores, memory and, if used, the GPU.

    Args:
        device: The device that computes.
    """
    described: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def commit() -> str | None:
    """Return the commit of the source tree that this package runs from; None for an installed package."""
    here = Path(__file__).resolve().parent
    if "site-packages" in here.parts:
        return None
    try:
        shown = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()

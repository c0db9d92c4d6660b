"""Where and how the numbers are computed: device, threads, denormals; and what to write down about it."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from samirage.lab.errors import UserError


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


@contextmanager
def compute_settings(threads: int) -> Iterator[None]:
    """Compute with so many CPU threads, reproducibly, and with denormal numbers flushed to zero.

    In saturated regimes gradients fade through the denormal range, in which a CPU is many times slower.

    Args:
        threads: Number of CPU threads, at least 1.

    Yields:
        Nothing; settings are as before when the block ends.
    """
    threads_before, deterministic_before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    flushed_before = bool(torch.tensor(1e-40) * 1.0 == 0.0)
    # cuBLAS is deterministic only with a fixed workspace, and reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)
        torch.use_deterministic_algorithms(deterministic_before)
        torch.set_num_threads(threads_before)


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

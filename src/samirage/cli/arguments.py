"""Values on the command line, each with the sentence that says what it must be."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samirage.errors import UserError
from samirage.files import named_place
from samirage.lab.results.constants import MAX_SEED


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return int(_number(text, int, lambda n: n >= 1, "a whole number of at least 1"))


def seed(text: str) -> int:
    """Read a seed, a whole number from 0 to `MAX_SEED`."""
    return int(_number(text, int, lambda n: 0 <= n <= MAX_SEED, f"a whole number from 0 to {MAX_SEED}"))


def fraction(text: str) -> float:
    """Read a number of at least 0 and below 1."""
    return float(_number(text, float, lambda b: 0 <= b < 1, "a number of at least 0 and below 1"))


def nonnegative(text: str) -> float:
    """Read a finite number of at least 0."""
    return float(_number(text, float, lambda w: 0 <= w < float("inf"), "a finite number of at least 0"))


def radius(text: str) -> float:
    """Read a finite radius above 0."""
    return float(_number(text, float, lambda r: 0 < r < float("inf"), "a finite radius above 0"))


def existing_run_folder(name: str) -> Path:
    """Return the folder that `DIR` names.

    Args:
        name: A path, or an address in an object store.

    Raises:
        UserError: If there is no such folder.
    """
    place = named_place(name)
    if not place.is_dir():
        raise UserError(f"{place} is not a folder: name a run folder, such as `samirage reproduce` makes")
    return place


def check_writable(path: Path, option: str) -> None:
    """Refuse, before anything is computed, a file that could not be written. Nothing is made.

    Args:
        path: The file; its folder need not exist.
        option: The option that names it.

    Raises:
        UserError: If the path is a folder, or no folder can be made or written there.
    """
    if os.path.isdir(path):  # which, unlike Path.is_dir, takes any name
        raise UserError(f"{option} {path} is a folder: name a file, such as {path / 'result'}")
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path} ({folder} is no folder that is writable); name another file by {option}")


def _number(text: str, kind: Callable[[str], Any], legal: Callable[[Any], bool], wanted: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not legal(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value

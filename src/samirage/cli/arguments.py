"""Values on the command line, each with the sentence that says what it must be."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samirage.errors import UserError
from samirage.files import named_place


def whole(text: str) -> int:
    """Read a whole number of at least 0."""
    return int(_number(text, int, lambda n: n >= 0, "a whole number of at least 0"))


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return int(_number(text, int, lambda n: n >= 1, "a whole number of at least 1"))


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


def _number(text: str, kind: Callable[[str], Any], legal: Callable[[Any], bool], wanted: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not legal(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value

"""What a manifest may hold: every name and every type, checked once, where it is read and before it is written."""

from collections.abc import Mapping
from typing import Any, Final

from samirage.lab.results.names import file_name

_TEXTS: Final = ("command", "started", "commit")
_PAIRS: Final = ("versions", "hardware")
_DEEPEST: Final = 8  # of nested settings


def checked(studies: object) -> dict[str, dict[str, Any]]:
    """Return what a manifest says of its studies, if every name and type is one that it may have.

    Args:
        studies: The object under `"studies"`.

    Returns:
        The same.

    Raises:
        ValueError: If not: says what, of which study, and what it may be.

    Example:
        >>> checked({"mnist": {"cells": ["sgd"], "seeds": [0, 1]}})["mnist"]["seeds"]
        [0, 1]
        >>> checked({"mnist": {"cells": "sgd"}})
        Traceback (most recent call last):
        ...
        ValueError: study mnist: cells must be a list of names
    """
    if not isinstance(studies, dict):
        raise ValueError("studies must be an object of studies by name")
    for study, said in studies.items():
        file_name(study)
        try:
            _check_study(said)
        except ValueError as error:
            raise ValueError(f"study {study}: {error}") from None
    return studies


def _check_study(said: object) -> None:
    if not isinstance(said, dict):
        raise ValueError("it must be an object")
    cells, seeds = said.get("cells"), said.get("seeds", [])
    if not isinstance(cells, list):
        raise ValueError("cells must be a list of names")
    for cell in cells:
        file_name(cell)
    if len(set(cells)) < len(cells):
        raise ValueError("cells names one twice")
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise ValueError("seeds must be a list of whole numbers")
    for name in _TEXTS:
        if not isinstance(said.get(name), str | None):
            raise ValueError(f"{name} must be a text")
    for name in _PAIRS:
        pairs = said.get(name, {})
        if not isinstance(pairs, dict) or not all(
            isinstance(value, str | int | float | None) for value in pairs.values()
        ):
            raise ValueError(f"{name} must be an object of texts and numbers")
    if not isinstance(said.get("config", {}), dict) or not _is_plain(said.get("config", {}), _DEEPEST):
        raise ValueError(f"config must be an object of plain values, nested at most {_DEEPEST} deep")


def _is_plain(value: object, depth: int) -> bool:
    if isinstance(value, Mapping):
        return depth > 0 and all(isinstance(key, str) and _is_plain(inner, depth - 1) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_plain(inner, depth - 1) for inner in value)
    return isinstance(value, str | int | float | None)

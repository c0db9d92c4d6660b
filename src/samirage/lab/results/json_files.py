"""JSON files of a run folder: written whole, and read as what somebody else may have written."""

import json
import re
from pathlib import Path
from typing import Any, Final

from samirage.errors import UserError
from samirage.files import write_whole

# What no line of text needs: control characters, which steer terminals, line ends of Unicode, halves of characters,
# which no file can hold, and marks that reverse the direction in which text is shown.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def read_json(path: Path) -> Any:
    """Read a JSON file that somebody else may have written.

    Args:
        path: The file, on a disk or in an object store.

    Returns:
        Its content: plain data, in which every text is one line that can be printed.

    Raises:
        UserError: If it is not a regular file, or not strict JSON of such texts.
    """
    if not path.is_file():  # to open a pipe would wait for ever
        raise UserError(f"{path} is not a file; restore it, or name another folder")
    try:
        return parse_json(path.read_text(encoding="utf-8"), constants=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it, or name another folder") from None


def parse_json(text: str, *, constants: bool = True) -> Any:
    """Parse JSON that somebody else may have written.

    Args:
        text: The text.
        constants: Whether NaN and infinities are allowed, which strict JSON does not have.

    Returns:
        Its content: plain data, in which every text is one line that can be printed.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        document = json.loads(text, parse_constant=None if constants else _refused)
        _check_texts(document)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return document


def _refused(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _check_texts(document: Any) -> None:
    if isinstance(document, str):
        if not is_one_line(document):
            raise ValueError(f"the text {ascii(document)[:60]} holds characters that cannot be printed on one line")
    elif isinstance(document, list):
        for value in document:
            _check_texts(value)
    elif isinstance(document, dict):
        for key, value in document.items():
            _check_texts(key)
            _check_texts(value)


def is_one_line(text: str) -> bool:
    r"""Tell whether a text is safe to print: one line, without characters that steer a terminal or reverse the text.

    Args:
        text: The text.

    Example:
        >>> is_one_line("rho ≤ 0.3"), is_one_line("\x1b[2J"), is_one_line("two\nlines")
        (True, False, False)
    """
    return _UNSAFE.search(text) is None


def printable(text: str) -> str:
    r"""Return a text as one line that is safe to print; what is not becomes an escape sequence.

    Args:
        text: The text.

    Example:
        >>> print(printable("rho ≤ 0.3 \x1b[2J"))
        rho ≤ 0.3 \x1b[2J
    """
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file; it appears whole or not at all.

    Args:
        path: The file, on a disk or in an object store.
        document: Plain data.

    Raises:
        UserError: If it cannot be written.
        ValueError: If it holds NaN or an infinity, which JSON does not have.
    """
    write_whole(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())

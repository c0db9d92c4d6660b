"""Files that appear whole or not at all, on a disk or in an object store. Needs no torch, and for a disk no extra."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, cast

from samirage.errors import UserError, require


def named_place(name: str) -> Path:
    """Return the place that a name means: a path or, with a protocol, as `s3://bucket/run`, one in an object store.

    Args:
        name: A path, or an address that fsspec knows.

    Returns:
        The path. One in an object store behaves as a `Path` in all that samirage does with it.

    Raises:
        UserError: If the protocol is unknown, or what it needs is not installed.

    Example:
        >>> named_place("runs/first").name
        'first'
    """
    if "://" not in name:
        return Path(name)
    try:
        place = require("lab", "upath").UPath(name)
        if place.protocol in {"file", "local"}:
            return Path(place.path)
        place.exists()  # which connects, so that a wrong address is known at once
    except (ImportError, OSError, ValueError) as error:
        protocol = name.partition("://")[0]
        said = f"{type(error).__name__}: {error}".rstrip(".")
        raise UserError(
            f"{name} cannot be reached ({said}); "
            f"name a folder, or install and set up the fsspec package of {protocol}://"
        ) from None
    return cast(Path, place)


def is_on_disk(path: Path) -> bool:
    """Tell whether a place is on a disk; if not, it is in an object store.

    Args:
        path: What `named_place` returned.

    Returns:
        Whether it is.
    """
    return isinstance(path, Path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that becomes `path` when the block ends well, and is removed if not.

    Args:
        path: The file to be written, on a disk; its folder is made if need be.

    Yields:
        Where to write.

    Raises:
        UserError: If the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")  # machines may share the folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        _cannot_write(path, error)
    finally:
        with suppress(OSError):  # where nothing could be written, there is nothing to remove
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file.

    Args:
        path: The file, on a disk or in an object store; its folder is made if need be.
        content: What it is to hold.

    Raises:
        UserError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "new" / "file"
        >>> write_whole(path, b"all of it")
        >>> path.read_bytes()
        b'all of it'
    """
    if is_on_disk(path):
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)  # object stores show no half-written object
    except OSError as error:
        _cannot_write(path, error)


def _cannot_write(path: Path, error: OSError) -> NoReturn:
    raise UserError(
        f"cannot write {path} ({error.strerror or error}); name a folder that is writable and has room"
    ) from None

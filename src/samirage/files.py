"""Files that appear whole or not at all. Needs neither torch nor any extra."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from samirage.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that becomes `path` when the block ends well, and is removed if not.

    Args:
        path: The file to be written; its folder is made if need be.

    Yields:
        Where to write.

    Raises:
        UserError: If the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}); name a folder that is writable and has room"
        ) from None
    finally:
        with suppress(OSError):  # where nothing could be written, there is nothing to remove
            temporary.unlink(missing_ok=True)

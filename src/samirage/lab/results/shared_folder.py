"""A folder that several processes write and that strangers may have written: its paths, its lock, its JSON files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from samirage.errors import UserError
from samirage.files import is_on_disk
from samirage.lab.results.json_files import read_json, write_json

_TURN_AFTER_S: Final = 60.0  # others write small files only


class SharedFolder:
    """A folder, new or existing, whose JSON files hold something for each of several studies.

    Args:
        path: The folder, on a disk or in an object store; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, *parts: str) -> Path:
        """Return the place of a file or folder of this run, which need not exist.

        Args:
            parts: Names of folders, and that of the file.

        Returns:
            Its path.

        Raises:
            UserError: If there is a link on the way, through which one would read or write elsewhere.
        """
        path = self.path
        for part in parts:
            path /= part
            if is_on_disk(path) and path.is_symlink():
                raise UserError(f"{path} is a link, and none is followed here: put in its place what it links to")
        if is_on_disk(path) and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path)):
            # A junction of Windows is no link to Python.
            raise UserError(f"{path} leads out of {self.path}: put in its place what it links to")
        return path

    def by_study(self, name: str) -> dict[str, Any]:
        """Return what a file of this folder says of every study; nothing if there is no such file.

        Args:
            name: Its name.

        Raises:
            UserError: If it cannot be read.
        """
        path = self.place(name)
        document = read_json(path) if path.exists() else {}
        if not isinstance(document, dict):
            raise UserError(f"{path} holds no object of studies by name; restore it, or name another folder")
        return document

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, in which no other process changes the files that all studies share, and take it.

        Raises:
            UserError: If another process does not end its own within a minute, or the folder cannot be written.
        """
        if not is_on_disk(self.path):
            yield
            return
        lock = FileLock(self.place(".lock"), timeout=_TURN_AFTER_S)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise UserError(f"{self.path} has been locked for a minute; end the process that holds it") from None
        except OSError as error:
            raise UserError(
                f"cannot write {self.path} ({error.strerror or error}); name a folder that is writable and has room"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def add(self, name: str, study: str, document: Any) -> None:
        """Set what a file of this folder says of one study, in a turn.

        Args:
            name: Name of the file.
            study: Name of the study.
            document: What it says: plain data.

        Raises:
            UserError: If it cannot be written.
        """
        with self.turn():
            write_json(self.place(name), {**self.by_study(name), study: document})

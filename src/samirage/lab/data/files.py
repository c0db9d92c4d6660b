"""What a data set is: files, each of which knows what it must hold, and the mirrors that serve them."""

import contextlib
import gzip
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray


class BadFileError(Exception):
    """What is wrong with a file, as the rest of a sentence that begins with its name."""


class AbstractDataFile(ABC):
    """A file of a data set: under which names it is found, and what it must hold."""

    name: str
    """Its canonical name."""

    @property
    @abstractmethod
    def spellings(self) -> tuple[str, ...]:
        """The names under which it is looked for; those that end in `.gz` are packed by gzip."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The size of its unpacked content."""

    @abstractmethod
    def parse(self, content: bytes) -> tuple[NDArray[np.uint8], ...]:
        """Return what it holds, in arrays of their own that may be written to.

        Args:
            content: The unpacked content.

        Raises:
            BadFileError: If this is not the file.
        """

    def check_size(self, content: bytes) -> None:
        """Hold the content to its size.

        Args:
            content: The unpacked content.

        Raises:
            BadFileError: If it is too short or too long.
        """
        if len(content) < self.nbytes:
            raise BadFileError(f"is truncated: it holds {len(content)} of {self.nbytes} bytes")
        if len(content) > self.nbytes:
            raise BadFileError(f"holds more than its {self.nbytes} bytes")


@dataclass(frozen=True)
class Archive:
    """A tar archive, packed by gzip, in which the mirrors serve all files of a data set.

    Attributes:
        name: Its name.
        md5: MD5 of the archive, in hexadecimal digits, as those who made it give it. It tells an intact download from
            a broken one; that nobody has tampered with it, no MD5 can tell.
        folder: The folder in it that holds the files.
    """

    name: str
    md5: str
    folder: str


@dataclass(frozen=True)
class DataSet:
    """The files of a data set and where they are to be had; without mirrors, they lie in the package.

    Attributes:
        name: Its name.
        files: Its files.
        mirrors: Addresses below which the files (or the archive) are served, in the order in which they are tried.
        archive: The archive in which they are served, if they are not served one by one.
    """

    name: str
    files: tuple[AbstractDataFile, ...]
    mirrors: tuple[str, ...] = ()
    archive: Archive | None = None

    @property
    def subfolders(self) -> tuple[str, ...]:
        """The folders in which the files may lie, below the one that was named; the first is where they are put."""
        return (self.name,) if self.archive is None else (self.archive.folder, self.name)


def unpacked(path: Traversable, file: AbstractDataFile) -> bytes:
    """Return the content of a file, unpacked if its name ends in `.gz`, and at most one byte more than is due.

    Args:
        path: Where it lies.
        file: What it is to be.

    Raises:
        BadFileError: If it cannot be read or unpacked.
    """
    # One byte more than is due shows that a file is too long; to read on would let a small gzip file fill the memory.
    limit = file.nbytes + 1
    with said_plainly(), path.open("rb") as stream:
        if not path.name.endswith(".gz"):
            return stream.read(limit)
        with gzip.GzipFile(fileobj=stream) as stream_of_content:
            return stream_of_content.read(limit)


@contextlib.contextmanager
def said_plainly() -> Iterator[None]:
    """Say what is wrong with a file that cannot be read or unpacked.

    Raises:
        BadFileError: If so.
    """
    try:
        yield
    except EOFError as error:
        raise BadFileError("is truncated: the gzip stream ends early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadFileError(f"is not intact gzip ({error})") from error
    except tarfile.TarError as error:
        raise BadFileError(f"is not an intact archive ({error})") from error
    except OSError as error:
        raise BadFileError(f"cannot be read ({error.strerror or error})") from error

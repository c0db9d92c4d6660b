"""Files from the network into a folder: from the first mirror that serves them intact, all of them or none.

pooch fetches, computes checksums, unpacks archives and knows where a cache lies. What a file must hold, the file itself
checks.
"""

import contextlib
import gzip
import logging
import os
import sys
import tarfile
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError, require

ENVIRONMENT_VARIABLE: Final = "SAMIRAGE_DATA"
"""The environment variable that names the data folder where none is given."""

_TIMEOUT_S: Final = 30.0  # without an answer, per connection and per read


class BadFileError(Exception):
    """What is wrong with a file, as the rest of a sentence that begins with its name."""


class AbstractDataFile(ABC):
    """A file of a data set, packed by gzip or not: under which names it is found, and what it must hold.

    Attributes:
        name: Its canonical name; the names of test files begin with `test` or `t10k`.
    """

    name: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names under which it is looked for; in the wild, `train-images-idx3-ubyte` has a dot for its hyphen."""
        dotted = self.name.replace("-idx", ".idx")
        return tuple(dict.fromkeys((f"{self.name}.gz", self.name, f"{dotted}.gz", dotted)))

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The size of its unpacked content."""

    @abstractmethod
    def _values(self, content: bytes) -> tuple[NDArray[np.uint8], ...]:
        """Return what content of the right size holds; see `parse`."""

    def parse(self, content: bytes) -> tuple[NDArray[np.uint8], ...]:
        """Return what it holds, in arrays of their own that may be written to: images, or labels, or both.

        Args:
            content: The unpacked content.

        Raises:
            BadFileError: If this is not the file.
        """
        if len(content) < self.nbytes:
            raise BadFileError(f"is truncated: it holds {len(content)} of {self.nbytes} bytes")
        if len(content) > self.nbytes:
            raise BadFileError(f"holds more than its {self.nbytes} bytes")
        return self._values(content)

    def read(self, path: Traversable) -> tuple[NDArray[np.uint8], ...]:
        """Return what it holds; see `parse`.

        Args:
            path: Where it lies.

        Raises:
            BadFileError: If it cannot be read or unpacked, or is not the file.
        """
        # One byte more than is due shows that a file is too long; to read on would let a small gzip file fill the
        # memory.
        with _said_plainly(), path.open("rb") as stream:
            if path.name.endswith(".gz"):
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    content = unpacked.read(self.nbytes + 1)
            else:
                content = stream.read(self.nbytes + 1)
        return self.parse(content)


@dataclass(frozen=True)
class Archive:
    """A tar archive, packed by gzip, in which the mirrors serve all files of a data set.

    Attributes:
        name: Its name.
        checksum: Its checksum as pooch takes it, such as `md5:` and 32 hexadecimal digits. MD5 tells an intact download
            from a broken one; that nobody has tampered with it, no MD5 can tell.
        folder: The folder in it that holds the files.
    """

    name: str
    checksum: str
    folder: str


def cache() -> Path:
    """Return the folder that holds what is downloaded where no folder is named."""
    return Path(_pooch().os_cache("samirage"))


def named_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that the caller, or else the environment, names; None if neither does.

    Args:
        data_dir: What the caller names, if anything.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE) if data_dir is None else data_dir
    return Path(named).expanduser() if named else None


def download(
    name: str,
    mirrors: Sequence[str],
    archive: Archive | None,
    wanted: Sequence[AbstractDataFile],
    folder: Path,
) -> None:
    """Download files into a folder, or unpack the archive that lies there; what is incomplete leaves nothing behind.

    Args:
        name: Name of the data set.
        mirrors: Addresses below which the files (or the archive) are served, in the order in which they are tried.
        archive: The archive in which they are served, if they are not served one by one.
        wanted: The files; those that are served one by one are packed by gzip.
        folder: The folder; it is made if need be.

    Raises:
        UserError: If no mirror serves a file intact, or an archive that lies there is not the real one.
        OSError: If the folder cannot be written.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]  # innermost first
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging:
            ready = Path(staging)
            if archive is None:
                paths = [ready / f"{file.name}.gz" for file in wanted]
                for file, path in zip(wanted, paths, strict=True):
                    _from_mirrors(name, mirrors, path, file.read)
            else:
                paths = _unpacked(name, mirrors, archive, wanted, folder, ready)
            for path in paths:
                path.replace(folder / path.name)
    except BaseException:  # Ctrl-C, too, leaves nothing behind
        with contextlib.suppress(OSError):  # somebody else may have put something there meanwhile
            for path in created:
                path.rmdir()
        raise


def _unpacked(
    name: str,
    mirrors: Sequence[str],
    archive: Archive,
    wanted: Sequence[AbstractDataFile],
    folder: Path,
    staging: Path,
) -> list[Path]:
    """Unpack the archive that lies in the folder or beside it; without one, download it. Return its files.

    Raises:
        UserError: If it is not the real one.
    """
    pooch = _pooch()
    paths = [staging / archive.folder / file.name for file in wanted]

    def unpack(path: Path) -> None:
        kind, due = archive.checksum.split(":")
        found = pooch.file_hash(str(path), alg=kind)
        if found != due:
            raise BadFileError(f"has the wrong checksum ({kind.upper()} {found} where {due} is due)")
        members = [f"{archive.folder}/{file.name}" for file in wanted]
        with _said_plainly():
            pooch.Untar(members, extract_dir=str(staging.resolve()))(str(path), "download", None)
        for file, path_of_file in zip(wanted, paths, strict=True):
            if not path_of_file.is_file():
                raise BadFileError(f"holds no {archive.folder}/{file.name}")
            file.read(path_of_file)

    held = next((path for path in (folder / archive.name, folder.parent / archive.name) if path.is_file()), None)
    if held is None:
        _from_mirrors(name, mirrors, staging / archive.name, unpack)
    else:
        try:
            unpack(held)
        except BadFileError as error:
            raise UserError(f"The file {str(held)!r} {error}: delete it and try again.") from error
    return paths


def _from_mirrors(name: str, mirrors: Sequence[str], path: Path, check: Callable[[Path], object]) -> None:
    """Download a file from the first mirror that serves it intact.

    Raises:
        UserError: If none does.
    """
    fetch = _pooch().HTTPDownloader(timeout=_TIMEOUT_S)
    failures = []
    for mirror in mirrors:
        url = f"{mirror}{path.name}"
        print(f"downloading {url}", file=sys.stderr)  # it may take minutes
        try:
            fetch(url, str(path), None)
            check(path)
        except BadFileError as error:
            failures.append(f"{url} {error}")
        except OSError as error:  # all that requests raises, too
            failures.append(f"{url} gave {_short(error)}")
        else:
            return
    raise UserError(
        f"{name} could not be downloaded ({'; '.join(failures)}): check the network, or copy its files into a folder "
        f"and name that by --data-dir or {ENVIRONMENT_VARIABLE}."
    )


def _short(error: OSError) -> str:
    """The HTTP status or the kind of error: the full texts of connection errors are nested objects that say no more."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the HTTP status {response.status_code}"
    return f"the error {error.strerror or type(error).__name__}"


def _pooch() -> Any:
    pooch = require("lab", "pooch")
    pooch.get_logger().setLevel(logging.WARNING)  # what it is about to do is said here
    return pooch


@contextlib.contextmanager
def _said_plainly() -> Iterator[None]:
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
        raise BadFileError(f"is not an intact archive ({str(error).splitlines()[0].rstrip(':')})") from error
    except OSError as error:
        raise BadFileError(f"cannot be read ({error.strerror or error})") from error

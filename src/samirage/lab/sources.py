"""Where the files of a data set are: found in a folder, read and checked, or downloaded from a mirror.

What a file must hold is its own affair; see `AbstractDataFile`. No pickle is ever loaded.
"""

import contextlib
import gzip
import hashlib
import os
import sys
import tarfile
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError, require

ENVIRONMENT_VARIABLE: Final = "SAMIRAGE_DATA"
_DOWNLOAD_TIMEOUT_S: Final = 30.0  # without an answer, per connection and per read


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


def read(data_set: DataSet, data_dir: str | os.PathLike[str] | None) -> list[NDArray[np.uint8]]:
    """Read all files of a data set, after checking each.

    Args:
        data_set: The data set.
        data_dir: The folder with the files; by default the one that `SAMIRAGE_DATA` names, else the user's cache, into
            which they are downloaded if need be.

    Returns:
        What the files hold, in their order.

    Raises:
        UserError: If a folder or file is missing, unreadable, truncated or not the real one, or a download fails.
    """
    folder: Traversable
    if not data_set.mirrors:
        folder = _packaged(data_set)
    elif (root := _named_folder(data_dir)) is None:
        folder = fetch(data_set, None)
    else:
        if not root.is_dir():
            problem = "is not a folder" if root.exists() else "does not exist"
            raise UserError(
                f"The data folder {str(root)!r} {problem}: name a folder that holds the files of {data_set.name} by "
                f"--data-dir or {ENVIRONMENT_VARIABLE}, or, to download them, {_remedy(data_set, root)}."
            )
        folder = _folder_of(data_set, root)

    arrays: list[NDArray[np.uint8]] = []
    for file in data_set.files:
        path = _find(file, folder)
        if path is None:
            raise UserError(
                f"The data folder {str(folder)!r} holds none of {', '.join(map(repr, file.spellings))}: put one there, "
                f"or, to download it, {_remedy(data_set, folder)}."
            )
        arrays += _read(path, file, data_set, folder)
    return arrays


def fetch(data_set: DataSet, data_dir: str | os.PathLike[str] | None) -> Path:
    """Make sure that a data set lies on this computer, and download what is missing.

    Files that are there already are checked and kept; a file that is there but wrong is never overwritten. What was
    downloaded appears only when all of it is correct.

    Args:
        data_set: The data set.
        data_dir: The folder to put it into (in a subfolder, unless files of it lie in the folder itself); by default
            the one that `SAMIRAGE_DATA` names, else the user's cache.

    Returns:
        The folder that holds the files.

    Raises:
        UserError: If a file that is there is wrong, no mirror serves it intact, or the folder cannot be written.
    """
    if not data_set.mirrors:
        return Path(str(_packaged(data_set)))
    root = _named_folder(data_dir)
    if root is None:
        root = Path(require("lab", "pooch").os_cache("samirage"))
    folder = _folder_of(data_set, root)

    missing = []
    for file in data_set.files:
        path = _find(file, folder)
        if path is None:
            missing.append(file)
        else:
            _read(path, file, data_set, folder)
    try:
        if missing:
            _download(data_set, missing, folder)
    except OSError as error:
        raise UserError(
            f"The data folder {str(folder)!r} cannot be written ({error.strerror or error}): name another one by "
            f"--data-dir or {ENVIRONMENT_VARIABLE}."
        ) from error
    return folder


def _packaged(data_set: DataSet) -> Traversable:
    return files("samirage.lab").joinpath(data_set.name.replace("-", "_"))


def _named_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder that the caller, or else the environment, names."""
    named = os.environ.get(ENVIRONMENT_VARIABLE) if data_dir is None else data_dir
    return Path(named).expanduser() if named else None


def _folder_of(data_set: DataSet, root: Path) -> Path:
    """The first of the root itself and its subfolders that holds any of the files; the first subfolder if none does."""
    subfolders = [root / subfolder for subfolder in data_set.subfolders]
    holders = (path for path in (root, *subfolders) if any(_find(file, path) for file in data_set.files))
    return next(holders, subfolders[0])


def _find(file: AbstractDataFile, folder: Traversable) -> Traversable | None:
    return next((path for spelling in file.spellings if (path := folder.joinpath(spelling)).is_file()), None)


def _remedy(data_set: DataSet, folder: Traversable) -> str:
    """How to get a file that is missing."""
    if not data_set.mirrors:
        return "install samirage again"
    root = folder.parent if isinstance(folder, Path) and folder.name in data_set.subfolders else folder
    return f"run `samirage data fetch {data_set.name} --data-dir {root}`"


def _read(
    path: Traversable, file: AbstractDataFile, data_set: DataSet, folder: Traversable
) -> tuple[NDArray[np.uint8], ...]:
    try:
        return file.parse(_unpack(path, file))
    except BadFileError as error:
        # The file is the user's, so the user deletes it.
        raise UserError(f"The file {str(path)!r} {error}: delete it and {_remedy(data_set, folder)}.") from error


def _unpack(path: Traversable, file: AbstractDataFile) -> bytes:
    # One byte more than is due shows that a file is too long; to read on would let a small gzip file fill the memory.
    limit = file.nbytes + 1
    with _said_plainly(), path.open("rb") as stream:
        if not path.name.endswith(".gz"):
            return stream.read(limit)
        with gzip.GzipFile(fileobj=stream) as unpacked:
            return unpacked.read(limit)


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
        raise BadFileError(f"is not an intact archive ({error})") from error
    except OSError as error:
        raise BadFileError(f"cannot be read ({error.strerror or error})") from error


def _download(data_set: DataSet, missing: Sequence[AbstractDataFile], folder: Path) -> None:
    created = [path for path in (folder, *folder.parents) if not path.exists()]  # innermost first
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging:
            if data_set.archive is None:
                ready = [_download_file(data_set, file, Path(staging)) for file in missing]
            else:
                ready = _from_archive(data_set, data_set.archive, missing, folder, Path(staging))
            for path in ready:
                path.replace(folder / path.name)
    except BaseException:  # Ctrl-C, too, leaves nothing behind
        with contextlib.suppress(OSError):  # somebody else may have put something there meanwhile
            for path in created:
                path.rmdir()
        raise


def _download_file(data_set: DataSet, file: AbstractDataFile, staging: Path) -> Path:
    path = staging / f"{file.name}.gz"
    _from_mirrors(data_set, path, lambda: file.parse(_unpack(path, file)))
    return path


def _from_archive(
    data_set: DataSet, archive: Archive, missing: Sequence[AbstractDataFile], folder: Path, staging: Path
) -> list[Path]:
    """Unpack the archive that lies in the folder or beside it; without one, download it.

    Raises:
        UserError: If it is not the real one.
    """
    held = next((p for p in (folder / archive.name, folder.parent / archive.name) if p.is_file()), None)
    if held is not None:
        try:
            return list(_unpack_archive(held, archive, missing, staging))
        except BadFileError as error:
            raise UserError(f"The file {str(held)!r} {error}: delete it and {_remedy(data_set, folder)}.") from error
    path, ready = staging / archive.name, list[Path]()

    def check() -> None:
        ready[:] = _unpack_archive(path, archive, missing, staging)

    _from_mirrors(data_set, path, check)
    return ready


def _unpack_archive(path: Path, archive: Archive, wanted: Iterable[AbstractDataFile], staging: Path) -> Iterator[Path]:
    with _said_plainly():
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != archive.md5:
            raise BadFileError(f"has the wrong checksum (MD5 {digest} where {archive.md5} is due)")
        with tarfile.open(path, "r:gz") as unpacked:
            for file in wanted:
                # By its full name, and read here: nothing in the archive decides where anything is written.
                try:
                    member = unpacked.extractfile(f"{archive.folder}/{file.name}")
                except KeyError:
                    member = None
                if member is None:
                    raise BadFileError(f"holds no {archive.folder}/{file.name}")
                content = member.read(file.nbytes + 1)
                file.parse(content)
                (staging / file.name).write_bytes(content)
                yield staging / file.name


def _from_mirrors(data_set: DataSet, path: Path, check: Callable[[], object]) -> None:
    """Download a file from the first mirror that serves it intact.

    Raises:
        UserError: If none does.
    """
    download = require("lab", "pooch").HTTPDownloader(timeout=_DOWNLOAD_TIMEOUT_S)
    failures = []
    for mirror in data_set.mirrors:
        url = f"{mirror}{path.name}"
        print(f"downloading {url}", file=sys.stderr)  # it may take minutes
        try:
            download(url, str(path), None)
            check()
        except BadFileError as error:
            failures.append(f"{url} {error}")
        except OSError as error:  # all that requests raises, too
            failures.append(f"{url} gave {_short(error)}")
        else:
            return
    raise UserError(
        f"{data_set.name} could not be downloaded ({'; '.join(failures)}): check the network, or copy its files into a "
        f"folder and name that by --data-dir or {ENVIRONMENT_VARIABLE}."
    )


def _short(error: OSError) -> str:
    """The HTTP status or the kind of error: the full texts of connection errors are nested objects that say no more."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the HTTP status {response.status_code}"
    return f"the error {error.strerror or type(error).__name__}"

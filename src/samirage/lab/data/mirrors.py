"""Files of data sets from the network: from the first mirror that serves them intact, all of them or none."""

import contextlib
import hashlib
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from samirage.errors import UserError, require
from samirage.lab.data.files import AbstractDataFile, Archive, BadFileError, DataSet, said_plainly, unpacked

ENVIRONMENT_VARIABLE: Final = "SAMIRAGE_DATA"
"""The environment variable that names the data folder where none is given."""

_TIMEOUT_S: Final = 30.0  # without an answer, per connection and per read


def download(data_set: DataSet, missing: Sequence[AbstractDataFile], folder: Path) -> None:
    """Download files into a folder, or unpack the archive that lies there; what is incomplete leaves nothing behind.

    Args:
        data_set: The data set.
        missing: Which of its files.
        folder: The folder; it is made if need be.

    Raises:
        UserError: If no mirror serves a file intact, or an archive that lies there is not the real one.
        OSError: If the folder cannot be written.
    """
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
    _from_mirrors(data_set, path, lambda: file.parse(unpacked(path, file)))
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
            return [_stored(staging / name, content) for name, content in _contents(held, archive, missing)]
        except BadFileError as error:
            raise UserError(f"The file {str(held)!r} {error}: delete it and try again.") from error
    path, ready = staging / archive.name, list[Path]()

    def check() -> None:
        ready[:] = [_stored(staging / name, content) for name, content in _contents(path, archive, missing)]

    _from_mirrors(data_set, path, check)
    return ready


def _contents(path: Path, archive: Archive, wanted: Iterable[AbstractDataFile]) -> Iterator[tuple[str, bytes]]:
    with said_plainly():
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != archive.md5:
            raise BadFileError(f"has the wrong checksum (MD5 {digest} where {archive.md5} is due)")
        with tarfile.open(path, "r:gz") as opened:
            for file in wanted:
                # By its full name, and read here: nothing in the archive decides where anything is written.
                try:
                    member = opened.extractfile(f"{archive.folder}/{file.name}")
                except KeyError:
                    member = None
                if member is None:
                    raise BadFileError(f"holds no {archive.folder}/{file.name}")
                content = member.read(file.nbytes + 1)
                file.parse(content)
                yield file.name, content


def _stored(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _from_mirrors(data_set: DataSet, path: Path, check: Callable[[], object]) -> None:
    """Download a file from the first mirror that serves it intact.

    Raises:
        UserError: If none does.
    """
    download = require("lab", "pooch").HTTPDownloader(timeout=_TIMEOUT_S)
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

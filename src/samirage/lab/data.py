"""Image data sets: where they come from, and proof that they are what they claim to be.

`mnist-mini` (5,000 / 1,000 real MNIST digits) ships inside the package, so it needs no network. `mnist` (60,000 /
10,000) is read from a folder that the user names, or downloaded once into a cache. Every file, from wherever it comes,
is held to a checksum of its *unpacked* content, so it does not matter who compressed it or how. Only the idx format is
parsed; no pickle is ever loaded.
"""

import contextlib
import gzip
import hashlib
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError, require

__all__ = ["ENVIRONMENT_VARIABLE", "ImageData", "fetch", "load", "names"]

ENVIRONMENT_VARIABLE = "SAMIRAGE_DATA"
"""The environment variable that names the data folder where no `data_dir` is given."""

_DOWNLOAD_TIMEOUT_S = 30.0  # without an answer, per connection and per read


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images, split into a training and a test set.

    Args:
        name: The name of the data set, such as `"mnist-mini"`.
        train_images: Training images, 0 to 255. Shape (n_train, height, width).
        train_labels: Training classes, from 0. Shape (n_train,).
        test_images: Test images, 0 to 255. Shape (n_test, height, width).
        test_labels: Test classes, from 0. Shape (n_test,).
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class _IdxFile:
    """One idx file of unsigned bytes: its canonical name, its shape, and the SHA-256 of its unpacked content."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names under which the file is found in the wild: `train-images-idx3-ubyte`, `train-images.idx3-ubyte`."""
        dotted = self.name.replace("-idx", ".idx")
        return (f"{self.name}.gz", self.name, f"{dotted}.gz", dotted)

    @property
    def nbytes(self) -> int:
        """The size of the unpacked file, header included."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


@dataclass(frozen=True)
class _DataSet:
    """Four idx files (training images and labels, test images and labels); without mirrors, they lie in the package."""

    name: str
    files: tuple[_IdxFile, _IdxFile, _IdxFile, _IdxFile]
    mirrors: tuple[str, ...] = ()


def _mnist_files(n_train: int, n_test: int, sha256: Sequence[str]) -> tuple[_IdxFile, _IdxFile, _IdxFile, _IdxFile]:
    return (
        _IdxFile("train-images-idx3-ubyte", (n_train, 28, 28), sha256[0]),
        _IdxFile("train-labels-idx1-ubyte", (n_train,), sha256[1]),
        _IdxFile("t10k-images-idx3-ubyte", (n_test, 28, 28), sha256[2]),
        _IdxFile("t10k-labels-idx1-ubyte", (n_test,), sha256[3]),
    )


_DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        _DataSet(
            "mnist-mini",
            _mnist_files(
                5_000,
                1_000,
                (
                    "f4b791dc998a2e0cad45b4416d7da0bad9a7811b208f8cba7de5a4eccd7d0e64",
                    "e18e6fe44bbeb980f85a745210a0a269a8bb7b98201e0f223576115fd7d5dc6c",
                    "2232ba9b3c59f71a179b0cba82d0e19de7f11a68ee08453267677952ff414e74",
                    "66e4c6deb5f2a061f7d8cd5ec53025fdb9dabb08265e449acb8cf64b8cd36cac",
                ),
            ),
        ),
        _DataSet(
            "mnist",
            _mnist_files(
                60_000,
                10_000,
                (
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
            mirrors=(
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
        ),
    )
}


def names() -> tuple[str, ...]:
    """The data sets that `load` and `fetch` know.

    Returns:
        Their names; the first one is the default of every command.

    Example:
        >>> names()
        ('mnist-mini', 'mnist')
    """
    return tuple(_DATA_SETS)


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> ImageData:
    """Load a data set, after checking every file against its checksum.

    `mnist-mini` is part of the package. Any other data set is read from `data_dir`, else from the folder that the
    environment variable `SAMIRAGE_DATA` names (the files lie there directly or in a subfolder with the name of the data
    set), else from a cache, into which it is downloaded at first use. Files may be packed by gzip or not, and may be
    called `train-images-idx3-ubyte` or `train-images.idx3-ubyte`.

    The images of `mnist-mini` are ordered so that the first 10 k of them hold k of each digit.

    Args:
        name: One of `names()`.
        data_dir: The folder with the files; not consulted for a data set that is part of the package.

    Returns:
        The images and labels, in arrays of their own that may be written to.

    Raises:
        UserError: If the name is unknown, a folder or file is missing, unreadable, truncated or not the real one, or a
            download fails.

    Example:
        >>> data = load("mnist-mini")
        >>> data.train_images.shape, data.test_images.shape
        ((5000, 28, 28), (1000, 28, 28))
        >>> data.train_labels[:10].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    data_set = _lookup(name)
    folder: Traversable
    if not data_set.mirrors:
        folder = _packaged(data_set)
    elif (root := _named_folder(data_dir)) is None:
        folder = fetch(name)
    else:
        if not root.is_dir():
            problem = "is not a folder" if root.exists() else "does not exist"
            raise UserError(
                f"The data folder {str(root)!r} {problem}: name a folder that holds the files of {name} by --data-dir "
                f"or {ENVIRONMENT_VARIABLE}, or, to download them, {_remedy(data_set, root)}."
            )
        folder = _folder_of(data_set, root)

    arrays = []
    for file in data_set.files:
        path = _find(file, folder)
        if path is None:
            raise UserError(
                f"The data folder {str(folder)!r} holds none of {', '.join(map(repr, file.spellings))}: put one there, "
                f"or, to download it, {_remedy(data_set, folder)}."
            )
        arrays.append(_read(path, file, data_set, folder))
    train_images, train_labels, test_images, test_labels = arrays
    return ImageData(
        name=name,
        train_images=train_images,
        train_labels=train_labels.astype(np.int64),
        test_images=test_images,
        test_labels=test_labels.astype(np.int64),
    )


def fetch(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Make sure that a data set lies on this computer, and download what is missing.

    Files that are there already are checked and kept; a file that is there but wrong is never overwritten. Each file is
    taken from the first mirror that serves it intact. What was downloaded appears only when all of it is correct.

    Args:
        name: One of `names()`.
        data_dir: The folder to put it into (in a subfolder with the name of the data set, unless files of it lie in the
            folder itself); by default the folder that `SAMIRAGE_DATA` names, else the user's cache.

    Returns:
        The folder that holds the files.

    Raises:
        UserError: If the name is unknown, a file that is there is wrong, no mirror serves a file intact, or the folder
            cannot be written.

    Example:
        >>> sorted(path.name for path in fetch("mnist-mini").glob("*.gz"))[0]
        't10k-images-idx3-ubyte.gz'
    """
    data_set = _lookup(name)
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


def _lookup(name: str) -> _DataSet:
    if name not in _DATA_SETS:
        raise UserError(f"There is no data set {name!r}: choose one of {', '.join(names())}.")
    return _DATA_SETS[name]


def _packaged(data_set: _DataSet) -> Traversable:
    return files("samirage.lab").joinpath(data_set.name.replace("-", "_"))


def _named_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder that the caller, or else the environment, names."""
    named = os.environ.get(ENVIRONMENT_VARIABLE) if data_dir is None else data_dir
    return Path(named).expanduser() if named else None


def _folder_of(data_set: _DataSet, root: Path) -> Path:
    """The root itself where it holds any of the files, else the subfolder with the name of the data set."""
    return root if any(_find(file, root) for file in data_set.files) else root / data_set.name


def _find(file: _IdxFile, folder: Traversable) -> Traversable | None:
    return next((path for spelling in file.spellings if (path := folder.joinpath(spelling)).is_file()), None)


def _remedy(data_set: _DataSet, folder: Traversable) -> str:
    """How to get a file that is missing."""
    if not data_set.mirrors:
        return "install samirage again"
    root = folder.parent if isinstance(folder, Path) and folder.name == data_set.name else folder
    return f"run `samirage data fetch {data_set.name} --data-dir {root}`"


class _BadFileError(Exception):
    """What is wrong with a file, as the rest of a sentence that begins with its name."""


def _read(path: Traversable, file: _IdxFile, data_set: _DataSet, folder: Traversable) -> NDArray[np.uint8]:
    try:
        return _parse(_unpack(path, file), file)
    except _BadFileError as error:
        # The file is the user's, so the user deletes it.
        raise UserError(f"The file {str(path)!r} {error}: delete it and {_remedy(data_set, folder)}.") from error


def _unpack(path: Traversable, file: _IdxFile) -> bytes:
    # One byte more than is due shows that a file is too long; to read on would let a small gzip file fill the memory.
    limit = file.nbytes + 1
    try:
        with path.open("rb") as stream:
            if not path.name.endswith(".gz"):
                return stream.read(limit)
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return unpacked.read(limit)
    except EOFError as error:
        raise _BadFileError("is truncated: the gzip stream ends early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _BadFileError(f"is not intact gzip ({error})") from error
    except OSError as error:
        raise _BadFileError(f"cannot be read ({error.strerror or error})") from error


def _parse(content: bytes, file: _IdxFile) -> NDArray[np.uint8]:
    # An idx file: bytes 0, 0, 8 (for unsigned bytes), the number of dimensions, each dimension in 4 bytes, the values.
    rank = len(file.shape)
    start = 4 + 4 * rank
    if len(content) < file.nbytes:
        raise _BadFileError(f"is truncated: it holds {len(content)} of {file.nbytes} bytes")
    if len(content) > file.nbytes:
        raise _BadFileError(f"holds more than its {file.nbytes} bytes")
    if content[:4] != bytes((0, 0, 8, rank)):
        raise _BadFileError(
            f"is not an idx file of {rank}-dimensional unsigned bytes (it begins with {content[:4].hex(' ')})"
        )
    shape = struct.unpack(f">{rank}I", content[4:start])
    if shape != file.shape:
        raise _BadFileError(f"announces the shape {shape} where {file.shape} is due")
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise _BadFileError(f"has the wrong checksum (SHA-256 {digest[:12]}… where {file.sha256[:12]}… is due)")
    # A copy, for an array over `bytes` is read-only, and torch warns of those.
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _download(data_set: _DataSet, missing: Sequence[_IdxFile], folder: Path) -> None:
    created = [path for path in (folder, *folder.parents) if not path.exists()]  # innermost first
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging:
            for path in [_download_file(data_set, file, Path(staging)) for file in missing]:
                path.replace(folder / path.name)
    except BaseException:  # Ctrl-C, too, leaves nothing behind
        with contextlib.suppress(OSError):  # somebody else may have put something there meanwhile
            for path in created:
                path.rmdir()
        raise


def _download_file(data_set: _DataSet, file: _IdxFile, staging: Path) -> Path:
    download = require("lab", "pooch").HTTPDownloader(timeout=_DOWNLOAD_TIMEOUT_S)
    path = staging / f"{file.name}.gz"
    failures = []
    for mirror in data_set.mirrors:
        url = f"{mirror}{path.name}"
        try:
            download(url, str(path), None)
            _parse(_unpack(path, file), file)
        except _BadFileError as error:
            failures.append(f"{url} {error}")
        except OSError as error:  # all that requests raises, too
            failures.append(f"{url} gave {_short(error)}")
        else:
            return path
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

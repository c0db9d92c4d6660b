"""Image data sets: what they are called, what they hold, and how their files are read. No pickle is ever loaded.

`mnist-mini` (5,000 / 1,000 real MNIST digits) ships inside the package, so it needs no network. The others are read
from a folder that the user names, or downloaded once into a cache. The files of MNIST are held to a checksum of their
*unpacked* content, so it does not matter who compressed them or how; those of CIFAR come in an archive that is held to
its checksum.

To add a data set, add its entry to `_DATA_SETS`, and, if its files have another format, a reader of those.
"""

import hashlib
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError
from samirage.lab.data.download import (
    ENVIRONMENT_VARIABLE,
    AbstractDataFile,
    Archive,
    BadFileError,
    cache,
    download,
    named_folder,
)

_PIXELS: Final = 32  # height and width of CIFAR's images


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images, split into a training and a test set.

    Args:
        name: The name of the data set, such as `"mnist-mini"`.
        train_images: Training images, 0 to 255. Shape (n_train, height, width), with a last dimension 3 for colours.
        train_labels: Training classes, from 0. Shape (n_train,).
        test_images: Test images, 0 to 255. Shape (n_test, height, width), with a last dimension 3 for colours.
        test_labels: Test classes, from 0. Shape (n_test,).
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class IdxFile(AbstractDataFile):
    """One idx file of unsigned bytes, the format of MNIST: a header that announces the shape, then the values.

    Attributes:
        name: Its canonical name, such as `train-images-idx3-ubyte`.
        shape: Its shape.
        sha256: SHA-256 of its unpacked content, in hexadecimal digits.

    Example:
        >>> IdxFile("labels-idx1-ubyte", (3,), "0" * 64).parse(bytes([0, 0, 8, 2, 0, 0, 0, 3, 7, 1, 9]))
        Traceback (most recent call last):
        ...
        samirage.lab.data.download.BadFileError: is not an idx file of 1-dimensional unsigned bytes (it begins with \
00 00 08 02)
    """

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def nbytes(self) -> int:
        """The size of the unpacked file, header included."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    def _values(self, content: bytes) -> tuple[NDArray[np.uint8], ...]:
        # The header: bytes 0, 0, 8 (for unsigned bytes), the number of dimensions, each dimension in 4 bytes.
        rank = len(self.shape)
        start = 4 + 4 * rank
        if content[:4] != bytes((0, 0, 8, rank)):
            raise BadFileError(
                f"is not an idx file of {rank}-dimensional unsigned bytes (it begins with {content[:4].hex(' ')})"
            )
        shape = struct.unpack(f">{rank}I", content[4:start])
        if shape != self.shape:
            raise BadFileError(f"announces the shape {shape} where {self.shape} is due")
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise BadFileError(f"has the wrong checksum (SHA-256 {digest[:12]}… where {self.sha256[:12]}… is due)")
        # A copy, for an array over `bytes` is read-only, and torch warns of those.
        return (np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy(),)


@dataclass(frozen=True)
class CifarFile(AbstractDataFile):
    """One file of the binary version of CIFAR: records of one or two labels and a picture, without a header.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. There is no checksum of the single files
    that we could hold them to. So a file is held to what is known of it: its size, its labels, and, where they are
    in groups, how often each occurs (the batches of CIFAR-10 hold about as many images of each class, and not just so).

    Attributes:
        name: Its name.
        images: Number of images; with groups, a multiple of 100.
        classes: Number of classes.
        groups: Number of groups of five classes each, whose number stands before that of the class (the "coarse"
            labels of CIFAR-100); 0 where there are none.

    Example:
        >>> CifarFile("test.bin", 10_000).nbytes
        30740000
    """

    name: str
    images: int
    classes: int = 100
    groups: int = 20

    @property
    def nbytes(self) -> int:
        """The size of the unpacked file."""
        return self.images * ((2 if self.groups else 1) + 3 * _PIXELS**2)

    def _values(self, content: bytes) -> tuple[NDArray[np.uint8], ...]:
        records = np.frombuffer(content, np.uint8).reshape(self.images, -1)
        labels, pixels = np.split(records, [-3 * _PIXELS**2], axis=1)
        counts = (self.groups, self.classes)[-labels.shape[1] :]
        pairs = list(zip(labels.T, counts, strict=True))
        known = all(values.max() < count for values, count in pairs)
        holds = f"{self.classes} classes"
        if self.groups:
            holds = f"{self.images // self.classes} images of each of {holds}, in {self.groups} groups of five"
            known &= all((np.bincount(values, minlength=n) * n == self.images).all() for values, n in pairs)
        if not known or len(np.unique(labels, axis=0)) != self.classes:
            raise BadFileError(f"is not {self.name} of CIFAR-{self.classes} (which has {holds})")
        # The file has the three colours of an image one after another. Copies, that may be written to.
        images = pixels.reshape(self.images, 3, _PIXELS, _PIXELS).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), labels[:, -1].copy()


@dataclass(frozen=True)
class DataSet:
    """The files of a data set and where they come from; without mirrors, they lie in the package.

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

    def folder(self, root: Path) -> Path:
        """The first of the root itself and its subfolders that holds any file; the first subfolder if none does."""
        subfolders = [root / subfolder for subfolder in self.subfolders]
        holders = (path for path in (root, *subfolders) if any(_find(file, path) for file in self.files))
        return next(holders, subfolders[0])

    def remedy(self, folder: Traversable) -> str:
        """How to get a file that is missing in a folder."""
        if not self.mirrors:
            return "install samirage again"
        root = folder.parent if isinstance(folder, Path) and folder.name in self.subfolders else folder
        return f"run `samirage data fetch {self.name} --data-dir {root}`"


def _mnist_files(n_train: int, n_test: int, sha256: Sequence[str]) -> tuple[IdxFile, ...]:
    return (
        IdxFile("train-images-idx3-ubyte", (n_train, 28, 28), sha256[0]),
        IdxFile("train-labels-idx1-ubyte", (n_train,), sha256[1]),
        IdxFile("t10k-images-idx3-ubyte", (n_test, 28, 28), sha256[2]),
        IdxFile("t10k-labels-idx1-ubyte", (n_test,), sha256[3]),
    )


_MINI = (
    "f4b791dc998a2e0cad45b4416d7da0bad9a7811b208f8cba7de5a4eccd7d0e64",
    "e18e6fe44bbeb980f85a745210a0a269a8bb7b98201e0f223576115fd7d5dc6c",
    "2232ba9b3c59f71a179b0cba82d0e19de7f11a68ee08453267677952ff414e74",
    "66e4c6deb5f2a061f7d8cd5ec53025fdb9dabb08265e449acb8cf64b8cd36cac",
)
_FULL = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
_CIFAR_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
)
_DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet("mnist-mini", _mnist_files(5_000, 1_000, _MINI)),
        DataSet(
            "mnist",
            _mnist_files(60_000, 10_000, _FULL),
            mirrors=(
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
        ),
        DataSet(
            "cifar100",
            (CifarFile("train.bin", 50_000), CifarFile("test.bin", 10_000)),
            mirrors=_CIFAR_MIRRORS,
            archive=Archive("cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary"),
        ),
        DataSet(
            "cifar10",
            tuple(
                CifarFile(f"{name}.bin", 10_000, classes=10, groups=0)
                for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
            ),
            mirrors=_CIFAR_MIRRORS,
            archive=Archive(
                "cifar-10-binary.tar.gz",
                "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                "cifar-10-batches-bin",
            ),
        ),
    )
}


def names() -> tuple[str, ...]:
    """The data sets that `load` and `fetch` know, of which the first is the default of every command.

    Example:
        >>> names()[:2]
        ('mnist-mini', 'mnist')
    """
    return tuple(_DATA_SETS)


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> ImageData:
    """Load a data set, after checking every file.

    `mnist-mini` is part of the package. Any other data set is read from `data_dir`, else from the folder that the
    environment variable `SAMIRAGE_DATA` names (the files lie there directly or in a subfolder that is called as the
    data set, or as the folder in its archive, such as `cifar-100-binary`), else from a cache, into which it is
    downloaded at first use. Files may be packed by gzip or not. CIFAR is its binary version; the labels of CIFAR-100
    are its 100 fine ones. The images of `mnist-mini` are ordered so that the first 10 k of them hold k of each digit.

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
    elif (root := named_folder(data_dir)) is None:
        folder = fetch(name)
    elif root.is_dir():
        folder = data_set.folder(root)
    else:
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(
            f"The data folder {str(root)!r} {problem}: name a folder that holds the files of {name} by "
            f"--data-dir or {ENVIRONMENT_VARIABLE}, or, to download them, {data_set.remedy(root)}."
        )
    parts: tuple[list[NDArray[np.uint8]], ...] = ([], [], [], [])
    for file in data_set.files:
        path = _find(file, folder)
        if path is None:
            raise UserError(
                f"The data folder {str(folder)!r} holds none of {', '.join(map(repr, file.spellings))}: put one there, "
                f"or, to download it, {data_set.remedy(folder)}."
            )
        for array in _read(data_set, file, path):
            parts[2 * file.name.startswith(("test", "t10k")) + (array.ndim == 1)].append(array)
    arrays = [part[0] if len(part) == 1 else np.concatenate(part) for part in parts]
    return ImageData(name, arrays[0], arrays[1].astype(np.int64), arrays[2], arrays[3].astype(np.int64))


def fetch(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Make sure that a data set lies on this computer, and download what is missing.

    Files that are there already are checked and kept; a file that is there but wrong is never overwritten. Each file is
    taken from the first mirror that serves it intact; an archive may also lie in the folder already, and is then
    unpacked. What was downloaded appears only when all of it is correct.

    Args:
        name: One of `names()`.
        data_dir: The folder to put it into (in a subfolder, unless files of it lie in the folder itself); by default
            the folder that `SAMIRAGE_DATA` names, else the user's cache.

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
    folder = data_set.folder(named_folder(data_dir) or cache())
    missing = []
    for file in data_set.files:
        path = _find(file, folder)
        if path is None:
            missing.append(file)
        else:
            _read(data_set, file, path)
    try:
        if missing:
            download(name, data_set.mirrors, data_set.archive, missing, folder)
    except OSError as error:
        raise UserError(
            f"The data folder {str(folder)!r} cannot be written ({error.strerror or error}): name another one by "
            f"--data-dir or {ENVIRONMENT_VARIABLE}."
        ) from error
    return folder


def _lookup(name: str) -> DataSet:
    if name not in _DATA_SETS:
        raise UserError(f"There is no data set {name!r}: choose one of {', '.join(names())}.")
    return _DATA_SETS[name]


def _read(data_set: DataSet, file: AbstractDataFile, path: Traversable) -> tuple[NDArray[np.uint8], ...]:
    try:
        return file.read(path)
    except BadFileError as error:  # the file is the user's, so the user deletes it
        folder = path.parent if isinstance(path, Path) else path
        raise UserError(f"The file {str(path)!r} {error}: delete it and {data_set.remedy(folder)}.") from error


def _packaged(data_set: DataSet) -> Traversable:
    return files("samirage.lab.data").joinpath(data_set.name.replace("-", "_"))


def _find(file: AbstractDataFile, folder: Traversable) -> Traversable | None:
    return next((path for spelling in file.spellings if (path := folder.joinpath(spelling)).is_file()), None)

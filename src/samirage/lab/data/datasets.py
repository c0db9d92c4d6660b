"""Image data sets: what they are called, what they hold, and how they are loaded.

`mnist-mini` (5,000 / 1,000 real MNIST digits) ships inside the package, so it needs no network. `mnist` (60,000 /
10,000) and `cifar100` (50,000 / 10,000) are read from a folder that the user names, or downloaded once into a cache.
The files of MNIST are held to a checksum of their *unpacked* content, so it does not matter who compressed them or how;
those of CIFAR-100 come in an archive that is held to its checksum.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError
from samirage.lab.data import sources
from samirage.lab.data.cifar_binary import CifarFile
from samirage.lab.data.files import Archive, DataSet
from samirage.lab.data.idx import IdxFile
from samirage.lab.data.mirrors import ENVIRONMENT_VARIABLE

__all__ = ["ENVIRONMENT_VARIABLE", "ImageData", "fetch", "load", "names"]


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


def _mnist_files(n_train: int, n_test: int, sha256: Sequence[str]) -> tuple[IdxFile, ...]:
    return (
        IdxFile("train-images-idx3-ubyte", (n_train, 28, 28), sha256[0]),
        IdxFile("train-labels-idx1-ubyte", (n_train,), sha256[1]),
        IdxFile("t10k-images-idx3-ubyte", (n_test, 28, 28), sha256[2]),
        IdxFile("t10k-labels-idx1-ubyte", (n_test,), sha256[3]),
    )


# The arrays in the files of every set, one after another: training images and labels, test images and labels.
_DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet(
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
        DataSet(
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
        DataSet(
            "cifar100",
            (CifarFile("train.bin", 50_000), CifarFile("test.bin", 10_000)),
            mirrors=(
                "https://www.cs.toronto.edu/~kriz/",
                "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
            ),
            archive=Archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary"),
        ),
    )
}


def names() -> tuple[str, ...]:
    """The data sets that `load` and `fetch` know.

    Returns:
        Their names; the first one is the default of every command.

    Example:
        >>> names()
        ('mnist-mini', 'mnist', 'cifar100')
    """
    return tuple(_DATA_SETS)


def load(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> ImageData:
    """Load a data set, after checking every file.

    `mnist-mini` is part of the package. Any other data set is read from `data_dir`, else from the folder that the
    environment variable `SAMIRAGE_DATA` names (the files lie there directly or in a subfolder: `mnist`, and
    `cifar-100-binary` or `cifar100`), else from a cache, into which it is downloaded at first use. Files may be packed
    by gzip or not; those of MNIST may be called `train-images-idx3-ubyte` or `train-images.idx3-ubyte`. CIFAR-100 is
    its binary version, `train.bin` and `test.bin`; the labels are its 100 fine ones.

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
    train_images, train_labels, test_images, test_labels = sources.read(_lookup(name), data_dir)
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
    taken from the first mirror that serves it intact; the archive of CIFAR-100 may also lie in the folder already, and
    is then unpacked. What was downloaded appears only when all of it is correct.

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
    return sources.fetch(_lookup(name), data_dir)


def _lookup(name: str) -> DataSet:
    if name not in _DATA_SETS:
        raise UserError(f"There is no data set {name!r}: choose one of {', '.join(names())}.")
    return _DATA_SETS[name]

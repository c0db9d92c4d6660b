"""Make `mnist-mini`, the 5,000 / 1,000 MNIST digits inside the package, from the full MNIST files.

    python scripts/make_mnist_mini.py FULL_DIR OUT_DIR

Running it again gives the same bytes. It prints the checksums that `samirage/lab/data/datasets.py` holds.
"""

import gzip
import hashlib
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samirage.errors import UserError
from samirage.lab.data import datasets as data

SEED = b"samirage mnist-mini 1"
N_TRAIN_PER_CLASS = 500
N_TEST_PER_CLASS = 100
N_CLASSES = 10


def choose(images: NDArray[np.uint8], labels: NDArray[np.int64], n_per_class: int) -> NDArray[np.intp]:
    """Choose images at random, the same number of each class, in the order of classes 0, 1, …, 9, 0, 1, ….

    The random order is that of the images' hashes, salted with the seed: unlike a random generator's, it is the same in
    every version of every library.

    Args:
        images: The images to choose from. Shape (n, height, width).
        labels: Their classes. Shape (n,).
        n_per_class: How many to choose of each class.

    Returns:
        The indices of the chosen images. Shape (n_classes * n_per_class,).
    """
    hashes = [hashlib.sha256(SEED + image.tobytes()).digest() for image in images]
    order = np.array(sorted(range(len(images)), key=hashes.__getitem__))
    per_class = [order[labels[order] == label][:n_per_class] for label in range(N_CLASSES)]
    return np.stack(per_class, axis=1).reshape(-1)


def write(path: Path, array: NDArray[np.uint8]) -> None:
    """Write an array as a gzip-packed idx file, without a time stamp or a name in it, and print its checksum.

    Args:
        path: The file to write.
        array: The values.
    """
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=9, mtime=0) as packed,
    ):
        packed.write(content)
    print(f"{hashlib.sha256(content).hexdigest()}  {path.name}  {path.stat().st_size:,} bytes")


def main(full_dir: str, out_dir: str) -> None:
    """Read the full set, choose, and write four files.

    Args:
        full_dir: The folder with the four files of the full set.
        out_dir: The folder to write to; it is created where there is none.
    """
    full = data.load("mnist", data_dir=full_dir)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    train = choose(full.train_images, full.train_labels, N_TRAIN_PER_CLASS)
    test = choose(full.test_images, full.test_labels, N_TEST_PER_CLASS)
    write(out / "train-images-idx3-ubyte.gz", full.train_images[train])
    write(out / "train-labels-idx1-ubyte.gz", full.train_labels[train].astype(np.uint8))
    write(out / "t10k-images-idx3-ubyte.gz", full.test_images[test])
    write(out / "t10k-labels-idx1-ubyte.gz", full.test_labels[test].astype(np.uint8))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/make_mnist_mini.py FULL_DIR OUT_DIR")
    try:
        main(sys.argv[1], sys.argv[2])
    except UserError as error:
        sys.exit(str(error))

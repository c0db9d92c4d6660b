"""The binary version of CIFAR-100: records of two labels and a picture, one after another, without a header.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. There is no checksum of the single files that
we could hold them to, only that of the archive they come in. So a file is held to what is known of it: its size, and
how often each label occurs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from samirage.lab.data.files import AbstractDataFile, BadFileError

SIZE: Final = 32  # pixels, height and width
CLASSES: Final = 100
_GROUPS: Final = 20  # of five classes each: the "coarse" labels
_RECORD: Final = 2 + 3 * SIZE * SIZE


@dataclass(frozen=True)
class CifarFile(AbstractDataFile):
    """One of the two files, `train.bin` or `test.bin`.

    Attributes:
        name: Its name.
        images: Number of images, a multiple of 100.

    Example:
        >>> CifarFile("test.bin", 10_000).nbytes
        30740000
    """

    name: str
    images: int

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names under which it is looked for: packed by gzip, or not."""
        return (self.name, f"{self.name}.gz")

    @property
    def nbytes(self) -> int:
        """The size of the unpacked file."""
        return self.images * _RECORD

    def parse(self, content: bytes) -> tuple[NDArray[np.uint8], ...]:
        """Return images and labels; see `AbstractDataFile`.

        Args:
            content: The unpacked content.

        Returns:
            Images, shape (images, 32, 32, 3), and their classes from 0 to 99, shape (images,).

        Raises:
            BadFileError: If this cannot be the file.
        """
        self.check_size(content)
        records = np.frombuffer(content, np.uint8).reshape(self.images, _RECORD)
        group, label = records[:, 0], records[:, 1]
        pairs = np.unique(records[:, :2], axis=0)
        evenly = all(
            values.max() < count and (np.bincount(values, minlength=count) * count == self.images).all()
            for values, count in ((label, CLASSES), (group, _GROUPS))
        )
        if not evenly or len(pairs) != CLASSES:
            raise BadFileError(
                f"is not {self.name} of CIFAR-100 (which has {self.images // CLASSES} images of each of {CLASSES} "
                f"classes, in {_GROUPS} groups of five)"
            )
        # The file has the three colours of an image one after another. Copies, that may be written to.
        images = records[:, 2:].reshape(self.images, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), label.copy()

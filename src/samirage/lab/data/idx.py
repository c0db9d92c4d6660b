"""The idx format of the MNIST files: a header that announces the shape, then unsigned bytes."""

import hashlib
import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samirage.lab.data.files import AbstractDataFile, BadFileError


@dataclass(frozen=True)
class IdxFile(AbstractDataFile):
    """One idx file of unsigned bytes.

    Attributes:
        name: Its canonical name, such as `train-images-idx3-ubyte`.
        shape: Its shape.
        sha256: SHA-256 of its unpacked content, in hexadecimal digits.

    Example:
        >>> IdxFile("labels-idx1-ubyte", (3,), "0" * 64).parse(bytes([0, 0, 8, 2, 0, 0, 0, 3, 7, 1, 9]))
        Traceback (most recent call last):
        ...
        samirage.lab.data.files.BadFileError: is not an idx file of 1-dimensional unsigned bytes (it begins with \
00 00 08 02)
    """

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

    def parse(self, content: bytes) -> tuple[NDArray[np.uint8], ...]:
        """Return the values; see `AbstractDataFile`.

        Args:
            content: The unpacked content.

        Returns:
            One array of the file's shape.

        Raises:
            BadFileError: If this is not the file.
        """
        self.check_size(content)
        # An idx file: bytes 0, 0, 8 (for unsigned bytes), the number of dimensions, each dimension in 4 bytes, the
        # values.
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

"""Sums over vectors in the host's memory: piece by piece, to be exact enough in float32 and to stay in its cache.

A CPU adds float32 numbers up many times faster than it widens them to float64. Over pieces of at most 2¹⁵ entries that
is exact to about 1e-6, and what belongs to one piece of several vectors fits into a cache, so that a number of
operations on it cost one journey to the memory. Small tensors share a piece, and one call for all of them.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Final

import torch
from torch import Tensor

PIECE: Final = 2**15  # entries
_BLOCK: Final = 2**16  # entries that one call treats
SAFE_NORM: Final = (1e-10, 1e15)
"""Norms for which float32 neither loses an entry nor overflows: what underflows is below 1e-9 of the norm for any
tensor that fits in memory. (Squares of 1e-25 or 1e20 leave the range of float32, not that of float64.)"""

Block = tuple[list[Tensor], ...]


def in_blocks(*vectors: Sequence[Tensor]) -> list[Block]:
    """Cut several vectors, each a list of tensors, into blocks of pieces that belong together.

    Args:
        vectors: Lists of contiguous tensors; those at the same place have the same shape.

    Returns:
        For each block, a list of pieces of each vector, in the tensors' own storage.

    Example:
        >>> x, y = [torch.zeros(3), torch.zeros(100_000)], [torch.ones(3), torch.ones(100_000)]
        >>> [[len(piece) for piece in pieces] for pieces, _ in in_blocks(x, y)]
        [[32768, 32768], [32768, 1696], [3]]
    """
    sizes = [tensor.numel() for tensor in vectors[0]]
    if sum(sizes) <= _BLOCK and max(sizes, default=0) <= PIECE:
        return [tuple(map(list, vectors))]
    blocks: list[Block] = []
    small: Block = tuple([] for _ in vectors)
    count = 0
    for entries, *tensors in zip(sizes, *vectors, strict=True):
        if entries > PIECE:
            pieces = [torch.split(tensor.view(-1), PIECE) for tensor in tensors]
            several = _BLOCK // PIECE
            blocks += [tuple(list(p[i : i + several]) for p in pieces) for i in range(0, len(pieces[0]), several)]
            continue
        if count + entries > _BLOCK:
            blocks.append(small)
            small, count = tuple([] for _ in vectors), 0
        count += entries
        for vector, tensor in zip(small, tensors, strict=True):
            vector.append(tensor)
    return [*blocks, small] if count else blocks


def norms_of_pieces(pieces: Sequence[Tensor]) -> list[float]:
    """Return the Euclidean norm of each piece, without overflow or underflow.

    Args:
        pieces: Tensors of at most 2¹⁵ entries, float32 or float64.

    Returns:
        The norms.

    Example:
        >>> norms_of_pieces([torch.tensor([3.0, 4.0]), torch.tensor([1e20, 0.0])])
        [5.0, 1.0000000200408773e+20]
    """
    low, high = SAFE_NORM
    norms = [float(norm) for norm in torch._foreach_norm(list(pieces))]
    for i, norm in enumerate(norms):
        if not low < norm < high:
            norms[i] = float(torch.linalg.vector_norm(pieces[i], dtype=torch.float64))
    return norms


def norm_on_host(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm over all tensors together; see `norms_on_host`.

    Args:
        tensors: Tensors in float32 or float64 in the host's memory.

    Returns:
        The norm.

    Example:
        >>> norm_on_host([torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])])
        13.0
    """
    if max(map(Tensor.numel, tensors)) <= PIECE:
        return math.hypot(*norms_of_pieces(tensors))
    return norms_on_host(tensors)[1]


def norms_on_host(tensors: Sequence[Tensor]) -> tuple[list[float], float]:
    """Return the Euclidean norm of each tensor, and that of all together.

    Args:
        tensors: Tensors in float32 or float64 in the host's memory.

    Returns:
        Both, which do not depend on how many tensors the entries are spread over, but for rounding in float64.

    Example:
        >>> norms_on_host([torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])])
        ([5.0, 12.0], 13.0)
    """
    cut = [torch.split(t.reshape(-1), PIECE) if t.numel() > PIECE else (t,) for t in tensors]
    norms = norms_of_pieces([piece for pieces in cut for piece in pieces])
    left = iter(norms)
    each = [math.hypot(*islice(left, len(pieces))) for pieces in cut]
    return each, math.hypot(*norms)


def reciprocal(magnitude: float) -> float:
    """Return 1/magnitude; 0 where the magnitude is 0, and NaN where it is not finite.

    Args:
        magnitude: A norm.

    Returns:
        The factor that makes a vector of this norm a unit vector.

    Example:
        >>> reciprocal(4.0), reciprocal(0.0), reciprocal(math.inf)
        (0.25, 0.0, nan)
    """
    if not math.isfinite(magnitude):
        return math.nan
    return 1 / magnitude if magnitude else 0.0

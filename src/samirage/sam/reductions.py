"""Norms and inner products over all tensors of a parameter vector: exact enough in float32, and fast.

A CPU adds float32 numbers up many times faster than it widens them to float64. Over pieces of at most 2¹⁵ entries that
is exact to about 1e-6, and what belongs to one piece of several vectors fits into a cache, so that a number of
operations on it cost one journey to the memory. Small tensors share a piece, and one call for all of them.

A `Reductions` object says what is summed up together: one vector (`SINGLE`), each of S members by itself (`BATCHED`),
or the shards of all ranks (in `samirage.optim.distributed`). A formula that takes one is written once for all of them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

PIECE: Final = 2**15  # entries
_BLOCK: Final = 2**16  # entries that one call treats
SAFE_NORM: Final = (1e-10, 1e15)
"""Norms for which float32 neither loses an entry nor overflows: what underflows is below 1e-9 of the norm for any
tensor that fits in memory. (Squares of 1e-25 or 1e20 leave the range of float32, not that of float64.)"""

Block = tuple[list[Tensor], ...]


def can_read_without_sync(tensor: Tensor) -> bool:
    """Tell whether a number can be read at no cost.

    On an accelerator it can not: the host would wait until the device has done all that was queued before, and the
    device would then wait for the host to queue more. In code that `torch.compile` traces there is no number to read.

    Args:
        tensor: Any tensor.

    Returns:
        Whether it lies in the host's memory, now.

    Example:
        >>> can_read_without_sync(torch.ones(()))
        True
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


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
    """Return the Euclidean norm over all tensors together, as a number of the host.

    It does not depend on how many tensors the entries are spread over, but for rounding in float64.

    Args:
        tensors: Tensors in float32 or float64 in the host's memory.

    Returns:
        The norm.

    Example:
        >>> norm_on_host([torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])])
        13.0
    """
    if max(map(Tensor.numel, tensors)) > PIECE:
        tensors = [piece for t in tensors for piece in torch.split(t.reshape(-1), PIECE)]
    return math.hypot(*norms_of_pieces(tensors))


def reciprocal(magnitude: float) -> float:
    """Return 1/magnitude; 0 where the magnitude is 0, and NaN where it is not finite.

    Args:
        magnitude: A norm, as a number of the host. (For a tensor: `reciprocals`.)

    Returns:
        The factor that makes a vector of this norm a unit vector.

    Example:
        >>> reciprocal(4.0), reciprocal(0.0), reciprocal(math.inf)
        (0.25, 0.0, nan)
    """
    if not math.isfinite(magnitude):
        return math.nan
    return 1 / magnitude if magnitude else 0.0


def reciprocals(magnitude: Tensor) -> Tensor:
    """Return 1/magnitude; 0 where the magnitude is 0, and NaN where it is not finite.

    Args:
        magnitude: Norms, any shape.

    Returns:
        Tensor of the same shape.

    Example:
        >>> reciprocals(torch.tensor([4.0, 0.0, torch.inf]))
        tensor([0.2500, 0.0000,    nan])
    """
    inverse = magnitude.reciprocal().nan_to_num(nan=torch.nan, posinf=0.0)
    return inverse + 0 * magnitude  # which is NaN where the magnitude is not finite


def rho_over(length: float | Tensor, rho: float | Tensor) -> float | Tensor:
    """Return `rho/length`, by which a vector of that length is scaled to the radius: 0 at 0, NaN if not finite.

    Args:
        length: A norm, a number or a tensor of shape () or (S,).
        rho: The radius, likewise.

    Returns:
        A number or a tensor.

    Example:
        >>> rho_over(4.0, 0.5), rho_over(torch.tensor([4.0, 0.0]), 0.5)
        (0.125, tensor([0.1250, 0.0000]))
    """
    return reciprocals(length) * rho if isinstance(length, Tensor) else rho * reciprocal(length)


_LARGE: Final = 2**16  # elements from which a float64 reduction on a CPU, which first copies, costs more than a look


def _accumulator(tensor: Tensor) -> torch.dtype:
    """Dtype for sums over the tensor: float64, but for MPS, which has none."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _dot_accumulator(tensor: Tensor) -> torch.dtype:
    """Dtype for sums of products, whose terms are float32 already: a CPU would copy them all to widen them."""
    large = can_read_without_sync(tensor) and tensor.dtype == torch.float32 and tensor.numel() >= _LARGE
    return torch.float32 if large else _accumulator(tensor)


def _fast_norm(tensor: Tensor, dim: int | None) -> Tensor:
    """Norm over all entries or over dimension 1, accumulated in float32 over stretches, in float64 over these."""
    rows = tensor.reshape(1, -1) if dim is None else tensor
    count = rows.shape[1] // PIECE
    parts = torch.linalg.vector_norm(rows[:, count * PIECE :], dim=1, keepdim=True)
    if count:
        stretches = rows[:, : count * PIECE].view(len(rows), count, PIECE)
        parts = torch.cat([parts, torch.linalg.vector_norm(stretches, dim=2)], 1)
    norms: Tensor = torch.linalg.vector_norm(parts, dim=1, dtype=torch.float64)
    return norms[0] if dim is None else norms


def _tensor_norm(tensor: Tensor, dim: int | None) -> Tensor:
    if tensor.dtype == torch.float32 and tensor.numel() >= _LARGE and can_read_without_sync(tensor):
        fast = _fast_norm(tensor, dim)
        if bool(((fast > SAFE_NORM[0]) & (fast < SAFE_NORM[1])).all()):
            return fast
    exact: Tensor = torch.linalg.vector_norm(tensor, dim=dim, dtype=_accumulator(tensor))
    return exact


def _is_short(tensor: Tensor) -> bool:
    """Tell whether a CPU sums the entries up fastest in float32, and exactly enough."""
    return tensor.dtype == torch.float32 and can_read_without_sync(tensor) and tensor.numel() <= PIECE


def norm(tensors: Sequence[Tensor], *, batched: bool = False) -> Tensor:
    """Return the Euclidean norm over all tensors together: in float32 or better, without overflow or underflow.

    Args:
        tensors: At least one tensor.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.

    Returns:
        Shape (), or (S,) when batched.

    Example:
        >>> norm([torch.tensor([3.0]), torch.tensor([[4.0]])]).item()
        5.0
    """
    if batched:
        norms = [_tensor_norm(t.unsqueeze(-1).flatten(1), 1) for t in tensors]
    elif all(t.dtype in (torch.float32, torch.float64) and can_read_without_sync(t) for t in tensors):
        return torch.full((), norm_on_host(tensors), dtype=torch.float64)
    else:
        norms = [_tensor_norm(t, None) for t in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]), dim=0)
    return total


def dot(a: Sequence[Tensor], b: Sequence[Tensor], *, batched: bool = False) -> Tensor:
    """Return the inner product `<a, b>` over all tensors together, accumulated in float32 or better.

    Args:
        a: At least one tensor.
        b: Tensors of the same shapes.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.

    Returns:
        Shape (), or (S,) when batched.

    Example:
        >>> dot([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])]).item()
        1.0
    """
    dim = 1 if batched else 0
    products = [
        torch.dot(p.reshape(-1), q.reshape(-1))
        if not batched and _is_short(p) and _is_short(q)
        else (p * q).unsqueeze(-1).flatten(dim).sum(dim, dtype=_dot_accumulator(p))
        for p, q in zip(a, b, strict=True)
    ]
    return torch.stack([product.to(products[0].device, _accumulator(product)) for product in products]).sum(0)


class Reductions(ABC):
    """What is summed up together: the argument with which a formula is written once for all kinds of lists."""

    @abstractmethod
    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the Euclidean norm over all tensors together; see `norm`.

        Args:
            tensors: At least one tensor.

        Returns:
            Shape (), or (S,).
        """

    @abstractmethod
    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Return the inner product over all tensors together; see `dot`.

        Args:
            a: At least one tensor.
            b: Tensors of the same shapes.

        Returns:
            Shape (), or (S,).
        """

    def together(
        self, norms: Sequence[Sequence[Tensor]], dots: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]] = ()
    ) -> list[Tensor]:
        """Return several norms and inner products, for which ranks exchange their parts once.

        Args:
            norms: Lists of tensors.
            dots: Pairs of lists of tensors.

        Returns:
            The norms, then the inner products, each of shape (), or (S,).

        Example:
            >>> a, b = [torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 0.0])]
            >>> [value.item() for value in SINGLE.together([a, b], [(a, b)])]
            [5.0, 1.0, 3.0]
        """
        return [self.norm(tensors) for tensors in norms] + [self.dot(a, b) for a, b in dots]

    def expand(self, scalar: Tensor, tensor: Tensor) -> Tensor:
        """Return a scalar in the shape, dtype and place in which it multiplies a tensor.

        Half precision cannot hold `1/‖g‖`: beside a tensor that is not in float64 the scalar is in float32, which does
        not change the dtype of the product.

        Args:
            scalar: Shape (), or (S,).
            tensor: The tensor that will be multiplied.

        Returns:
            Shape (), or (S, 1, …).
        """
        dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        return scalar.to(tensor.device, dtype, non_blocking=True)

    def scaled(self, tensors: Sequence[Tensor], factors: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors multiplied by a scalar.

        Args:
            tensors: One tensor per parameter.
            factors: A scalar of shape () or (S,) for all of them, or one for each.

        Returns:
            Tensors of the same shapes and dtypes.

        Example:
            >>> BATCHED.scaled([torch.ones(2, 3)], torch.tensor([2.0, 0.5]))
            [tensor([[2.0000, 2.0000, 2.0000],
                    [0.5000, 0.5000, 0.5000]])]
        """
        if not isinstance(factors, Tensor):
            return [tensor * self.expand(factor, tensor) for tensor, factor in zip(tensors, factors, strict=True)]
        expanded: dict[tuple[torch.device, torch.dtype, int], Tensor] = {}
        scaled = []
        for tensor in tensors:
            key = (tensor.device, tensor.dtype, tensor.dim())
            if key not in expanded:
                expanded[key] = self.expand(factors, tensor)
            scaled.append(tensor * expanded[key])
        return scaled


@dataclass(frozen=True)
class _Single(Reductions):
    """One vector, spread over the tensors of a list."""

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the norm over all entries, shape ()."""
        return norm(tensors)

    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Return the inner product over all entries, shape ()."""
        return dot(a, b)


@dataclass(frozen=True)
class _Batched(Reductions):
    """S vectors, kept apart: the first dimension of every tensor counts them."""

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the norm of each member, shape (S,)."""
        return norm(tensors, batched=True)

    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Return the inner product of each member, shape (S,)."""
        return dot(a, b, batched=True)

    def expand(self, scalar: Tensor, tensor: Tensor) -> Tensor:
        """Return a scalar of shape (S,) in the shape (S, 1, …)."""
        return super().expand(scalar, tensor).view(-1, *[1] * (tensor.dim() - 1))


SINGLE: Final[Reductions] = _Single()
BATCHED: Final[Reductions] = _Batched()

"""A sample of the coordinates of a list of tensors, in which inner products are measured instead of over all of them.

The figures of a window need five vectors of the run (two means of `g`, two of `d`, the last `d`); a seeded sample of
the coordinates keeps them small, whatever the model. It is stratified: each tensor gives the same number of
coordinates, or all that it has, so that small but steep layers are not missed. Weights make inner products right on
average; with a sample of k coordinates their relative standard error is about `sqrt(m/k)`, where m is the kurtosis of
the entries within a tensor (3 for normal ones). A model that fits into the sample is measured exactly.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

DEFAULT_SIZE: Final = 2**15


class CoordinateSample:
    """The same seeded coordinates of any list of tensors of these shapes.

    Args:
        like: Tensors whose shapes, device and dtype say what will come.
        size: Most coordinates to take (of each member, if batched), at least 1.
        seed: Seed of the choice.
        batched: Whether the first dimension of every tensor counts members, to be kept apart.
        shares: For each tensor, the share by which its inner products count, by default 1. Where several ranks hold
            the same tensor and their products are added, it is one over their number.

    Attributes:
        exact: Whether all coordinates are taken.

    Example:
        >>> sample = CoordinateSample([torch.zeros(3), torch.zeros(1000)], size=103)
        >>> values = sample([torch.ones(3), torch.ones(1000)])
        >>> values.shape, values.square().sum().round().item()  # the square of the norm is kept
        (torch.Size([103]), 1003.0)
    """

    def __init__(
        self,
        like: Sequence[Tensor],
        *,
        size: int = DEFAULT_SIZE,
        seed: int = 0,
        batched: bool = False,
        shares: Sequence[float] | None = None,
    ) -> None:
        self._batched = batched
        counts = [t.numel() // len(t) if batched else t.numel() for t in like]
        quotas = _quotas(counts, size)
        self.exact = quotas == counts
        self._device = like[0].device
        wide = any(t.dtype in {torch.float64, torch.complex128} for t in like)
        self._dtype = torch.float64 if wide else torch.float32
        generator = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device
        self._quotas = quotas
        self._indices: list[Tensor | None] = []
        weights = []
        for tensor, count, quota, share in zip(like, counts, quotas, shares or [1.0] * len(counts), strict=True):
            stands_for = torch.ones(quota)
            chosen = None
            if quota < count:
                chosen, stands_for = _chosen(count, quota, generator)
                chosen = chosen.to(tensor.device, non_blocking=True)
            self._indices.append(chosen)
            weights.append((share * stands_for).sqrt().to(self._dtype))
        joined = torch.cat(weights)
        self._weights = None if bool((joined == 1).all()) else joined.to(self._device, non_blocking=True)

    def __call__(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Return the weighted entries, a copy: shape (k,), or (S, k) if batched.

        Args:
            tensors: One for each shape, or None for zeros (not if batched).
        """
        parts = [
            torch.zeros(quota, dtype=self._dtype, device=self._device)
            if tensor is None
            else self._entries(tensor, index).to(self._device, self._dtype)
            for tensor, index, quota in zip(tensors, self._indices, self._quotas, strict=True)
        ]
        values = torch.cat(parts, dim=-1)
        return values if self._weights is None else values.mul_(self._weights)

    def spread(self, values: Sequence[float]) -> Tensor:
        """Return one number for each tensor, repeated for each of its coordinates in the sample; shape (k,).

        Args:
            values: A number for each tensor.
        """
        parts = [torch.full((quota,), value) for quota, value in zip(self._quotas, values, strict=True)]
        return torch.cat(parts).to(self._device, self._dtype, non_blocking=True)

    def _entries(self, tensor: Tensor, index: Tensor | None) -> Tensor:
        if self._batched:
            rows = tensor.reshape(len(tensor), -1)
            return rows if index is None else rows.index_select(1, index)
        # take() knows any layout in memory; reshape() would copy the whole of a channels-last tensor.
        return tensor.reshape(-1) if index is None else torch.take(tensor, index)


def _quotas(counts: Sequence[int], size: int) -> list[int]:
    """Give every tensor the same number of coordinates, but none more than it has, and all together at most `size`."""
    quotas = [0] * len(counts)
    left = size
    by_count = sorted(range(len(counts)), key=lambda i: counts[i])
    for place, i in enumerate(by_count):
        quotas[i] = min(counts[i], left // (len(counts) - place))
        left -= quotas[i]
    return quotas


def _chosen(count: int, quota: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one coordinate from each of `quota` stretches: distinct, ascending; return the lengths of these too."""
    edges = torch.linspace(0, count, quota + 1, dtype=torch.float64).long()
    lengths = edges[1:] - edges[:-1]
    within = torch.rand(quota, generator=generator, dtype=torch.float64)
    return edges[:-1] + (within * lengths).long(), lengths

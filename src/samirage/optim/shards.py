"""m-sharpness (Foret et al., arXiv 2010.01412) in one process: each shard of the batch has its own perturbation."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from samirage.optim.record import StepRecord


def closures_of_shards(closure: Callable[..., Any], shards: int) -> list[Callable[[], Any]]:
    """Return one closure for each shard.

    Args:
        closure: Takes the number of the shard, from 0.
        shards: Number of shards.

    Returns:
        Closures without arguments.

    Raises:
        TypeError: If the closure cannot be called with one argument.
    """
    try:
        inspect.signature(closure).bind(0)
    except TypeError:
        raise TypeError(
            f"with shards={shards} the closure must take the number of the shard, from 0 to {shards - 1}: write "
            "def closure(shard): and use that share of the batch"
        ) from None
    return [partial(closure, shard) for shard in range(shards)]


class MeanOfShards:
    """Takes the gradients of one shard after the other out of `.grad`, and puts their mean there.

    Args:
        shards: Number of shards.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._sums: dict[Tensor, Tensor] = {}

    def take(self, params: Sequence[Tensor]) -> None:
        """Add the gradients of a shard, and drop them from the parameters."""
        for p in params:
            if p.grad is not None:
                share = p.grad / self._shards
                self._sums[p] = self._sums[p] + share if p in self._sums else share
                p.grad = None

    def give(self) -> None:
        """Put the means into the parameters."""
        for p, mean in self._sums.items():
            p.grad = mean


def mean_record(records: Sequence[StepRecord]) -> StepRecord:
    """Return the record of a step over shards: the mean of each figure; skipped if any shard is.

    Args:
        records: One for each shard, at least one.

    Returns:
        The record.
    """
    if len(records) == 1:
        return records[0]
    tensors = {f.name: [getattr(r, f.name) for r in records] for f in fields(StepRecord)}
    skipped, followed = torch.stack(tensors.pop("skipped")).any(), torch.stack(tensors.pop("followed")).all()
    figures = {name: parts for name, parts in tensors.items() if _is_figure(parts[0])}
    means: dict[str, Any] = {name: torch.stack(parts).mean(0) for name, parts in figures.items()}
    return replace(records[0], **means, skipped=skipped, followed=followed)


def mean_loss(losses: Sequence[Any]) -> Any:
    """Return the mean of what the closures returned; None if one returned nothing."""
    if len(losses) == 1:
        return losses[0]
    return None if any(loss is None for loss in losses) else sum(losses) / len(losses)


def _is_figure(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()

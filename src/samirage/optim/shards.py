"""m-sharpness (Foret et al., arXiv 2010.01412) in one process: each shard of the batch has its own perturbation."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from samirage.optim.record import PendingRecord
from samirage.sam import StepFigures
from samirage.sam.reductions import can_read_without_sync

if TYPE_CHECKING:
    from samirage.optim.passes import Passes


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


def run_shards(passes: "Passes", closure: Callable[..., Any], shards: int) -> tuple[PendingRecord, Any]:
    """Run both passes of a step for each shard, and leave the mean of the gradients in `.grad`.

    Args:
        passes: The passes of a step.
        closure: Takes the number of the shard, from 0.
        shards: Number of shards.

    Returns:
        The record so far, of means, and the mean of what the closure returned at `x`.
    """
    mean = MeanOfShards(shards)
    records: list[PendingRecord] = []
    losses: list[Any] = []
    for one in closures_of_shards(closure, shards):
        pending, loss = passes.run(one)
        passes.end_pass()
        records.append(pending)
        losses.append(loss)
        if can_read_without_sync(pending.skipped) and pending.skipped:
            break
        mean.take(passes.params())
    else:
        mean.give()
    return mean_record(records), mean_loss(losses)


def mean_record(records: Sequence[PendingRecord]) -> PendingRecord:
    """Return the record of a step over shards: the mean of each figure; skipped if any shard is.

    Args:
        records: One for each shard, at least one.

    Returns:
        The record.
    """
    if len(records) == 1:
        return records[0]
    parts = [vars(pending.known_figures()) for pending in records]
    means = {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}
    judged = [pending.followed for pending in records if pending.followed is not None]
    aligned = [pending.alignment for pending in records if pending.alignment is not None]
    return replace(
        records[0],
        figures=StepFigures(**means),
        skipped=torch.stack([pending.skipped for pending in records]).any(),
        followed=torch.stack(judged).all() if judged else None,
        alignment=torch.stack(aligned).mean(0) if aligned else None,
    )


def mean_loss(losses: Sequence[Any]) -> Any:
    """Return the mean of what the closures returned; None if one returned nothing."""
    if len(losses) == 1:
        return losses[0]
    return None if any(loss is None for loss in losses) else sum(losses) / len(losses)

"""Gradient accumulation: one closure over several micro-batches, which both passes can run."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from samirage.optim.sam import SAM


def accumulated(
    optimizer: SAM,
    loss_of: Callable[[Any], Tensor],
    batches: Iterable[Any],
    *,
    weights: Sequence[float] | None = None,
) -> Callable[[], Tensor]:
    """Return a closure that runs forward and backward on each micro-batch, for SAM to run in both passes.

    The loss is `sum_i w_i·loss_i` with `w_i = 1/k`, or the weights given: with a loss that is a mean over examples,
    equal micro-batches give the gradient of the whole batch. Use it as `optimizer.step(closure)`, or call it before
    and inside `with optimizer.perturbed():`. The gradients are zeroed first, the loss is scaled by `optimizer.scaler`
    if there is one, and a DistributedDataParallel `optimizer.model` synchronises in the last backward pass only.

    Args:
        optimizer: The optimizer.
        loss_of: Runs the forward pass on one micro-batch and returns its loss, of shape ().
        batches: The micro-batches, at least one; they are kept until the closure is dropped.
        weights: A weight for each micro-batch, such as its share of the examples where they differ in size.

    Returns:
        A closure that returns the weighted loss, without its graph.

    Raises:
        ValueError: If there is no micro-batch, or not one weight for each.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
        >>> data = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> closure = accumulated(optimizer, lambda x: (w * x).square().mean(), data.chunk(2))
        >>> optimizer.step(closure).item()
        7.5
    """
    kept = list(batches)
    shares = [1 / len(kept)] * len(kept) if weights is None and kept else list(weights or [])
    if not kept:
        raise ValueError("accumulated() needs at least one micro-batch; got none: a generator may have been used up")
    if len(shares) != len(kept):
        raise ValueError(f"weights must have one number for each micro-batch; got {len(shares)} for {len(kept)}")

    def closure() -> Tensor:
        optimizer.zero_grad()
        parallel = optimizer.model if isinstance(optimizer.model, DistributedDataParallel) else None
        total: Tensor | None = None
        for i, (batch, share) in enumerate(zip(kept, shares, strict=True)):
            waits = parallel is not None and i + 1 < len(kept)
            with parallel.no_sync() if parallel is not None and waits else nullcontext(), torch.enable_grad():
                loss = share * loss_of(batch)
                torch.autograd.backward(loss if optimizer.scaler is None else optimizer.scaler.scale(loss))
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    return closure

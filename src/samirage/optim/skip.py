"""Skipping a step whose gradient is not finite, without a look at it where a look would have to wait for a device.

Where the number is at hand, as on a CPU, the base optimizer is not called. On an accelerator the decision is left to
the device. The fused optimizers of torch can drop a step there: they take the attribute `found_inf`, as a
`torch.amp.GradScaler` sets it. Any other is given a zero gradient, so that nothing that is not finite reaches the
weights and the state; momentum, weight decay and moving averages then act as on any zero gradient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from samirage.optim.distributed import local
from samirage.optim.record import NO
from samirage.sam.reductions import can_read_without_sync


def drops_by_itself(base: Optimizer) -> bool:
    """Tell whether the optimizer takes `found_inf`: if so, its step can be dropped on the device, with its state.

    Args:
        base: The optimizer.

    Returns:
        Whether all its groups are fused.

    Example:
        >>> w = torch.ones(1, requires_grad=True)
        >>> drops_by_itself(torch.optim.AdamW([w])), drops_by_itself(torch.optim.AdamW([w], fused=True))
        (False, True)
    """
    return bool(getattr(base, "_step_supports_amp_scaling", False)) and all(g.get("fused") for g in base.param_groups)


def step_unless(bad: Tensor, base: Optimizer, *, may_wait: bool) -> bool:
    """Let the base optimizer step, unless a gradient was not finite.

    Args:
        bad: Whether one was not finite, shape ().
        base: The optimizer; where the step is dropped on the device, it may get new gradients in `.grad`.
        may_wait: Whether to read `bad` even from an accelerator, if the base optimizer cannot drop the step by itself.

    Returns:
        Whether its `step()` was called.

    Example:
        >>> w = torch.ones(1, requires_grad=True)
        >>> w.grad = torch.tensor([torch.nan])
        >>> step_unless(torch.tensor(True), torch.optim.SGD([w], lr=0.1), may_wait=False)
        False
    """
    if bad is NO or can_read_without_sync(bad) or (may_wait and not drops_by_itself(base)):
        if bad:
            return False
        base.step()
    elif drops_by_itself(base):
        _step_fused(bad, base)
    else:
        for group in base.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = masked(p.grad, bad, 0.0)
        base.step()
    return True


# As torch does with its fused optimizers: an attribute that is set in traced code would not be seen in theirs.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _step_fused(bad: Tensor, base: Optimizer) -> None:
    known = {id(value) for state in base.state.values() for value in state.values() if isinstance(value, Tensor)}
    base.found_inf = bad.float()  # type: ignore[attr-defined]
    try:
        base.step()
    finally:
        del base.found_inf  # type: ignore[attr-defined]
    # The momentum that a fused SGD creates in a dropped step is memory that nobody has written to.
    for state in base.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and id(value) not in known:
                part = local(value)
                part.masked_fill_(bad.to(part.device, non_blocking=True), 0.0)


def poison_gradients(params: Sequence[Tensor], bad: Tensor) -> None:
    """Make pass 2's gradients as unusable as pass 1's, so that a scaler that comes later finds the overflow.

    Args:
        params: The parameters that have a gradient.
        bad: Whether pass 1 had a gradient that was not finite, shape ().
    """
    if params:
        p = sorted(params, key=torch.numel)[0]  # torch.compile cannot trace min
        assert p.grad is not None
        p.grad = masked(p.grad, bad, torch.nan)


def masked(grad: Tensor, bad: Tensor, value: float) -> Tensor:
    """Return the gradient, or the value throughout; a copy, for the gradient may belong to someone else.

    Args:
        grad: A gradient, dense, sparse, or a shard.
        bad: Whether to return the value, shape ().
        value: The value.

    Returns:
        Tensor of the same kind; of a sparse gradient, the entries that it stores.

    Example:
        >>> masked(torch.tensor([torch.inf, 1.0]), torch.tensor(True), 0.0)
        tensor([0., 0.])
    """
    bad = bad.to(grad.device, non_blocking=True)
    if grad.is_sparse:
        grad = grad.coalesce()
        values = grad.values().masked_fill(bad, value)
        return torch.sparse_coo_tensor(grad.indices(), values, grad.shape, is_coalesced=True, check_invariants=False)
    if local(grad) is grad:
        return grad.masked_fill(bad, value)
    copy = grad.clone()
    local(copy).masked_fill_(bad, value)
    return copy

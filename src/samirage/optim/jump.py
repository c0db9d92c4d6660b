"""The remedy at a confirmed hallucinated minimizer: move to `x⁺`, and stay."""

from collections.abc import Callable
from typing import Any

import torch

from samirage.optim.sam import SAM


def jump(optimizer: SAM, closure: Callable[[], Any]) -> None:
    """Set `x ← x⁺ = x + rho·u(x)` for good, and let the base optimizer forget its moments.

    At a hallucinated minimizer `x⁺` is a minimizer of the loss, which SAM sees and never reaches. Ask
    `diagnose(optimizer, confirm=…)` first: at a hallucinated saddle or plateau there is nothing to jump to. Lower `rho`
    afterwards or give the optimizer a `Guard`, since SAM at the same radius may leave the minimizer again.

    Args:
        optimizer: The optimizer, between two steps.
        closure: Zeroes the gradients, runs forward and backward and returns the loss, as for `step(closure)`.

    Raises:
        RuntimeError: If the coming step takes no perturbed pass, as during a warm start, or the weights are perturbed.

    Example:
        >>> from samirage import SAM
        >>> w = torch.tensor([0.5, 0.0], requires_grad=True)  # hallucinated: the minimizers have norm 1
        >>> optimizer = SAM(torch.optim.SGD([w], lr=0.05), rho=1.5)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (w.square().sum() - 1).square() / 4
        ...     loss.backward()
        ...     return loss
        >>> jump(optimizer, closure)
        >>> w.norm().item(), closure().item()
        (1.0, 0.0)
    """
    if not optimizer.two_pass:
        raise RuntimeError(
            "jump() goes where the perturbed pass looks, and the coming step has none: wait for the end of the warm "
            "start or for a step of two passes"
        )
    with torch.enable_grad():
        closure()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    with optimizer.perturbed():
        there = [p.detach().clone() for p in params]
    optimizer.zero_grad()
    with torch.no_grad():
        for p, plus in zip(params, there, strict=True):
            p.copy_(plus)
    optimizer.state.clear()

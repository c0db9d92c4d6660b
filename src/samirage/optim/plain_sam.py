"""SAM in plain lines, to be read: what `samirage.SAM` computes where nothing else is asked for (arXiv 2010.01412)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer


def plain_sam_step(base: Optimizer, closure: Callable[[], Tensor], rho: float) -> Tensor:
    """Make one step of plain SAM: `x⁺ = x + rho·g/‖g‖`, and `base` steps from `x` with the gradient taken at `x⁺`.

    It is for reading and for tests: `samirage.SAM` gives the same weights, and is what survives mixed precision,
    several processes, exceptions, batch norm and the rest.

    Args:
        base: Any optimizer that steps without a closure.
        closure: Zeroes the gradients, runs forward and backward, and returns the loss.
        rho: Radius of the perturbation, at least 0.

    Returns:
        The loss at `x`.

    Example:
        >>> w = torch.tensor([2.0], requires_grad=True)
        >>> base = torch.optim.SGD([w], lr=0.5)
        >>> def closure():
        ...     base.zero_grad()
        ...     loss = w.square().sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> plain_sam_step(base, closure, rho=1.0).item(), w.item()  # g⁺ = 3, at x⁺ = 3
        (2.0, 0.5)
    """
    # Pass 1: the loss and the gradient at x.
    loss = closure().detach().clone()
    params = [p for group in base.param_groups for p in group["params"] if p.grad is not None]
    grads = [p.grad for p in params if p.grad is not None]

    with torch.no_grad():
        # One norm over all parameters, not one for each: SAM's direction is that of the whole gradient.
        norm = math.sqrt(sum(grad.double().square().sum().item() for grad in grads))
        if not math.isfinite(norm):
            return loss  # there is no direction, and nothing to step along
        scale = rho / norm if norm > 0 else 0.0  # at g = 0 there is nothing to perturb along; no epsilon is needed

        # Perturb. x is kept as a copy: subtracting the perturbation again would be off by a rounding error each step.
        x = [p.clone() for p in params]
        for p, grad in zip(params, grads, strict=True):
            p.add_(grad, alpha=scale)

    # Pass 2: the gradient at x⁺ takes the place of the gradient at x.
    try:
        closure()
    finally:  # whatever happens, the weights come back
        with torch.no_grad():
            for p, copy in zip(params, x, strict=True):
                p.copy_(copy)

    # The base optimizer never learns that it was given the gradient of another place.
    if all(bool(p.grad.isfinite().all()) for p in params if p.grad is not None):
        base.step()
    return loss

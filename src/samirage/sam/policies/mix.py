"""Clipped mixing: follow `g⁺`, no longer than `g`, together with more of `g` than of it.

For any direction `d` with `d·g ≥ a‖g‖²` and `‖d‖ ≤ b‖g‖`, `a, b > 0`, and an L-smooth loss `f`, a plain step of
learning rate `eta` gives `f(x − eta·d) ≤ f(x) − eta·(a − L·eta·b²/2)·‖g‖²`: with `eta < 2a/(L·b²)` the loss falls in
every full-batch step, and `g → 0` if `f` is bounded below, whatever the radius is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samirage.sam.checks import checked_number
from samirage.sam.figures import StepFigures
from samirage.sam.policies.guard import AbstractGuard, Decision, GuardState


@dataclass(frozen=True)
class Mix(AbstractGuard):
    """Follow `d = (1 − share)·min(1, ‖g‖/‖g⁺‖)·g⁺ + share·g`, which descends at any radius.

    `d·g ≥ (2·share − 1)·‖g‖²` and `‖d‖ ≤ ‖g‖`, so that `d = 0` only where `g = 0`: no hallucinated point exists, and
    with plain steps of `eta < 2·(2·share − 1)/L` a full-batch loss falls in every step. With minibatches the
    inequalities hold for the gradient of the batch, with momentum for what enters the buffer.

    It keeps a copy of `g` during pass 2, takes no further pass, and leaves the radius as it is.

    Attributes:
        share: Share of `g`, above 1/2 and at most 1. At 1/2 there is no theorem: `d = 0` where `g⁺` points against `g`
            and is at least as long. At 1 the step is plain.

    Raises:
        ValueError: If the share is out of its range.

    Example:
        >>> import torch
        >>> from samirage import SAM, Mix
        >>> w = torch.tensor([0.5], requires_grad=True)  # x⁺ = 1.0 is the minimizer of (w² − 1)²: plain SAM stays here
        >>> optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5, guard=Mix(share=0.75))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = -(w.square().sum() - 1).square()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)
        >>> w.item() < 0.5
        True
    """

    share: float = 0.6

    def __post_init__(self) -> None:
        try:
            checked_number("Mix share", self.share, above=0.5, most=1)
        except ValueError as error:
            raise ValueError(f"{error}: with half of g or less, a step can vanish although g does not") from None

    @property
    def bounds(self) -> tuple[float, float]:
        """The constants `a` and `b` of `d·g ≥ a‖g‖²` and `‖d‖ ≤ b‖g‖`."""
        return 2 * self.share - 1, 1.0

    def begin(self, like: Tensor) -> GuardState:
        """Return the state before the first step; see `AbstractGuard.begin`."""
        return GuardState.fresh(like)

    def decide(self, figures: StepFigures) -> Decision:
        """Return the mixture; accepted where `g⁺` was not clipped."""
        kept = clipped_share(figures, 1.0)
        return Decision(kept == 1, torch.full_like(kept, self.share), (1 - self.share) * kept)

    def after(self, state: GuardState, accepted: Tensor) -> GuardState:
        """Return the state after a step, in which clipping counts as a rejection; the radius stays."""
        return state.counted(accepted)


def clipped_share(figures: StepFigures, cap: float) -> Tensor:
    """Return `min(1, cap·‖g‖/‖g⁺‖)`, what is left of `g⁺` when it may not be longer than `cap·‖g‖`.

    Args:
        figures: The figures of a step.
        cap: Largest `‖g⁺‖/‖g‖` that is left as it is.

    Returns:
        Tensor in the shape of the figures, from 0 to 1: 1 where `g⁺ = 0`, and 0 where it is not finite.
    """
    share = (cap * figures.grad_norm / figures.grad_plus_norm).clamp(max=1.0)
    share = torch.where(figures.grad_plus_norm == 0, torch.ones_like(share), share)
    return torch.where(figures.grad_plus_norm.isfinite(), share, torch.zeros_like(share))

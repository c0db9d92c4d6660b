"""The lift: follow `g⁺`, and add the least along the ascent direction that makes the step descend."""

from dataclasses import dataclass
from math import hypot

import torch
from torch import Tensor

from samirage.sam.checks import checked_number
from samirage.sam.figures import StepFigures
from samirage.sam.policies.guard import AbstractGuard, Decision, GuardState
from samirage.sam.policies.mix import clipped_share


@dataclass(frozen=True)
class Lift(AbstractGuard):
    """Follow `d = q + max(0, kappa‖g‖ − u·q)·u` with `q = g⁺·min(1, tau‖g‖/‖g⁺‖)`, which descends at any radius.

    `d·g ≥ kappa‖g‖²` and `‖d‖ ≤ sqrt(tau² + kappa²)·‖g‖`; see `samirage.sam.policies.mix` for what follows from that. A
    step with `‖g⁺‖ ≤ tau‖g‖` and `u·g⁺ ≥ kappa‖g‖` is SAM's own, bit for bit but for the rounding of a product with 1.

    It keeps a copy of `g` during pass 2, takes no further pass, and leaves the radius as it is.

    Attributes:
        kappa: Least slope along the ascent direction, relative to `‖g‖`; above 0 and at most 1.
        tau: Largest `‖g⁺‖/‖g‖` that is followed whole, at least 1.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> import torch
        >>> from samirage.sam import step_figures
        >>> g, g_plus = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])  # nothing of g⁺ descends along g
        >>> figures = step_figures(loss=g[1], loss_plus=g[1], grad_norm=g.norm(), predicted_gain=g[0],
        ...     displacement=[g], grads_plus=[g_plus])
        >>> decision = Lift(kappa=0.5).decide(figures)
        >>> decision.weight * g + decision.weight_plus * g_plus
        tensor([1., 1.])
    """

    kappa: float = 0.5
    tau: float = 1.5

    def __post_init__(self) -> None:
        checked_number("Lift kappa", self.kappa, above=0, most=1)
        checked_number("Lift tau", self.tau, least=1)

    @property
    def bounds(self) -> tuple[float, float]:
        """The constants `a` and `b` of `d·g ≥ a‖g‖²` and `‖d‖ ≤ b‖g‖`."""
        return self.kappa, hypot(self.tau, self.kappa)

    def begin(self, like: Tensor) -> GuardState:
        """Return the state before the first step; see `AbstractGuard.begin`."""
        return GuardState.fresh(like)

    def decide(self, figures: StepFigures) -> Decision:
        """Return what is left of `g⁺`, and what is added of `g`; accepted where neither changes the step."""
        kept = clipped_share(figures, self.tau)
        slope = torch.where(kept > 0, figures.slope_plus, torch.zeros_like(kept))  # not finite where g⁺ is not
        missing = (self.kappa - kept * slope / figures.grad_norm).clamp(min=0.0)
        missing = torch.where(figures.grad_norm > 0, missing, torch.zeros_like(missing))
        return Decision((kept == 1) & (missing == 0), missing, kept)

    def after(self, state: GuardState, accepted: Tensor) -> GuardState:
        """Return the state after a step, in which a change counts as a rejection; the radius stays."""
        return state.counted(accepted)

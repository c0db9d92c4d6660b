"""The guard: follow the shifted gradient only where it agrees with the gradient.

The test on the slope is the Wolfe curvature condition turned around, as a trust region in the radius; see Nocedal and
Wright, "Numerical Optimization", 2nd ed., sections 3.1 and 4.1. The test on the cosine is there for losses that are
unbounded: far from `x` the shifted gradient of such a loss does not vanish, but points elsewhere.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.sam.checks import checked_number
from samirage.sam.figures import StepFigures, agreement

_SMALLEST_FACTOR: Final = 2.0**-40  # below any useful radius, and far above underflow


@dataclass(frozen=True)
class GuardState:
    """What a guard remembers from step to step; tensors of shape (), or (S,) for a batch of members.

    Attributes:
        factor: Effective radius over `rho`, above 0 and at most 1.
        rejections: Number of passes at `x⁺` that were rejected.
        consecutive: Number of the last such passes in a row that were rejected.
    """

    factor: Tensor
    rejections: Tensor
    consecutive: Tensor

    @classmethod
    def fresh(cls, like: Tensor) -> "GuardState":
        """Return the state before the first step: the whole radius, and no rejection yet.

        Args:
            like: A tensor such as `‖g‖`, whose shape, () or (S,), dtype and device the factor shall have.

        Returns:
            The state.
        """
        zero = torch.zeros_like(like, dtype=torch.int64)
        return cls(torch.ones_like(like), zero, zero)

    def counted(self, accepted: Tensor, factor: Tensor | None = None) -> "GuardState":
        """Return the state after another pass.

        Args:
            accepted: Whether it was accepted.
            factor: The radius factor of the next; None for the same.

        Returns:
            The state.
        """
        return GuardState(
            self.factor if factor is None else factor,
            self.rejections + (~accepted).long(),
            torch.where(accepted, 0, self.consecutive + 1),
        )


@dataclass(frozen=True)
class Decision:
    """What a step follows: `d = weight·g + weight_plus·g⁺`; tensors of shape (), or (S,) for a batch of members.

    Attributes:
        accepted: Whether the rule left SAM's own step as it is, boolean.
        weight: Weight of `g`. None, with `weight_plus`, for `d = g⁺` where accepted and `d = g` elsewhere, bit for bit.
        weight_plus: Weight of `g⁺`.
    """

    accepted: Tensor
    weight: Tensor | None = None
    weight_plus: Tensor | None = None


class AbstractGuard(ABC):
    """A rule for what to follow once both gradients are known; it needs `g` to be kept during pass 2."""

    @abstractmethod
    def begin(self, like: Tensor) -> GuardState:
        """Return the state before the first step.

        Args:
            like: A tensor such as `‖g‖`, whose shape, () or (S,), dtype and device the factor shall have.
        """

    @abstractmethod
    def decide(self, figures: StepFigures) -> Decision:
        """Return what to follow in a step.

        Args:
            figures: The figures of the step.
        """

    @abstractmethod
    def after(self, state: GuardState, accepted: Tensor) -> GuardState:
        """Return the state after a step.

        Args:
            state: The state before it.
            accepted: What `decide` said.
        """


@dataclass(frozen=True)
class Guard(AbstractGuard):
    """Follow `g⁺` only if `u·g⁺ ≥ kappa·max(‖g‖, ‖g⁺‖)`; otherwise step along the known `g`, and look less far next.

    With `s = u·g⁺` the test says two things. `s ≥ kappa‖g‖`: the loss still rises at `x⁺`, so that `‖g⁺‖ ≥ kappa‖g‖`,
    and a hallucinated point, at which `g⁺` vanishes although `g` does not, is impossible. `s ≥ kappa‖g⁺‖`: the cosine
    between the gradients is at least `kappa`, so that `−g⁺` is a direction of descent of the loss.

    A rejected step costs no further pass. The effective radius is `factor·rho`: a rejection multiplies the factor by
    `shrink`, an accepted step by `growth`, up to 1. In balance, one step in `1 + log(1/shrink)/log(growth)` is rejected
    at most: 1 in 15 with the defaults.

    It is not a promise that the loss falls in every step, which depends on the learning rate too.

    Attributes:
        kappa: Smallest agreement, above 0 and below 1. Smaller values leave SAM more of its radius, and the loss more
            often without descent.
        shrink: Factor of the radius after a rejection, above 0 and below 1.
        growth: Factor of the radius after an accepted step, at least 1.
        cap: Largest `‖g⁺‖/‖g‖` that is accepted, at least 1; None for any. With a cap `‖d‖ ≤ max(1, cap)·‖g‖` besides
            `d·g ≥ kappa‖g‖²`, so that a plain full-batch step of `eta < 2·kappa/(L·cap²)` descends at any radius.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> from samirage.sam import step_figures
        >>> def figures(grad_plus):  # of a step from a point with g = (2, 0)
        ...     return step_figures(loss=torch.tensor(1.0), loss_plus=torch.tensor(1.2), grad_norm=torch.tensor(2.0),
        ...         predicted_gain=torch.tensor(0.2), displacement=[torch.tensor([0.1, 0.0])], grads_plus=[grad_plus])
        >>> guard = Guard(kappa=0.5)
        >>> follow = [guard.accepts(figures(torch.tensor(g))).item() for g in ([2.5, 1.0], [1e-4, 0.0], [2.5, 9.0])]
        >>> follow
        [True, False, False]
        >>> guard.after(guard.begin(torch.tensor(1.0)), torch.tensor(False)).factor.item()
        0.5
    """

    kappa: float = 0.7
    shrink: float = 0.5
    growth: float = 1.05
    cap: float | None = None

    def __post_init__(self) -> None:
        checked_number("Guard kappa", self.kappa, above=0, below=1)
        checked_number("Guard shrink", self.shrink, above=0, below=1)
        checked_number("Guard growth", self.growth, least=1)
        if self.cap is not None:
            checked_number("Guard cap", self.cap, least=1)

    def begin(self, like: Tensor) -> GuardState:
        """Return the state before the first step; see `AbstractGuard.begin`."""
        return GuardState.fresh(like)

    def accepts(self, figures: StepFigures) -> Tensor:
        """Tell whether to follow the shifted gradient: `s ≥ kappa·max(‖g‖, ‖g⁺‖)`, or `g = 0`, where both are the same.

        Args:
            figures: The figures of the step.

        Returns:
            Boolean tensor in the shape of the figures; False where one is not finite.
        """
        accepted = agreement(figures) >= self.kappa
        if self.cap is None:
            return accepted
        return accepted & (figures.grad_plus_norm <= self.cap * figures.grad_norm)

    def decide(self, figures: StepFigures) -> Decision:
        """Return the decision for `g⁺` where `accepts` says so, and for `g` elsewhere; see `AbstractGuard.decide`."""
        return Decision(self.accepts(figures))

    def after(self, state: GuardState, accepted: Tensor) -> GuardState:
        """Return the state after a pass at `x⁺`.

        Args:
            state: The state before it.
            accepted: What `accepts` said.

        Returns:
            The state, with the radius factor that the next such pass takes.
        """
        factor = torch.where(accepted, state.factor * self.growth, state.factor * self.shrink)
        return state.counted(accepted, factor.clamp(_SMALLEST_FACTOR, 1.0))

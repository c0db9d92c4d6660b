"""The guard: follow the shifted gradient only where it agrees with the gradient.

The test on the slope is the Wolfe curvature condition turned around, as a trust region in the radius; see Nocedal and
Wright, "Numerical Optimization", 2nd ed., sections 3.1 and 4.1. The test on the cosine is there for losses that are
unbounded: far from `x` the shifted gradient of such a loss does not vanish, but points elsewhere.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Guard:
    """Follow `g⁺` only if `u·g⁺ ≥ kappa·max(‖g‖, ‖g⁺‖)`; otherwise step along the known `g`, and look less far next.

    With `s = u·g⁺` the test says two things. `s ≥ kappa‖g‖`: the loss still rises at `x⁺`, so that `‖g⁺‖ ≥ kappa‖g‖`,
    and a hallucinated point, at which `g⁺` vanishes although `g` does not, is impossible. `s ≥ kappa‖g⁺‖`: the cosine
    between the gradients is at least `kappa`, so that `−g⁺` is a direction of descent of the loss.

    A rejected step costs no further pass. The effective radius is `factor·rho`: a rejection multiplies the factor by
    `shrink`, an accepted step by `growth`, up to 1. In balance, one step in `1 + log(1/shrink)/log(growth)` is rejected
    at most: 1 in 15 with the defaults.

    With `retries` a rejected step searches instead: it takes pass 2 again at the smaller radius, up to so many times,
    and follows `g` only if none of them is accepted. That costs a pass for each, and more than it brings: see
    docs/guard.md.

    It is not a promise that the loss falls in every step, which depends on the learning rate too.

    Attributes:
        kappa: Smallest agreement, above 0 and below 1. Smaller values leave SAM more of its radius, and the loss more
            often without descent.
        shrink: Factor of the radius after a rejection, above 0 and below 1.
        growth: Factor of the radius after an accepted step, at least 1.
        retries: How often a step takes pass 2 again, at least 0.

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
    retries: int = 0

    def __post_init__(self) -> None:
        _check("kappa", self.kappa, 0 < self.kappa < 1, "above 0 and below 1")
        _check("shrink", self.shrink, 0 < self.shrink < 1, "above 0 and below 1")
        _check("growth", self.growth, 1 <= self.growth < math.inf, "finite and at least 1")
        if not isinstance(self.retries, int) or self.retries < 0:
            raise ValueError(f"Guard retries must be a whole number of at least 0; got {self.retries!r}")

    def begin(self, like: Tensor) -> GuardState:
        """Return the state before the first step: the whole radius, and no rejection yet.

        Args:
            like: A tensor such as `‖g‖`, whose shape, () or (S,), dtype and device the factor shall have.

        Returns:
            The state.
        """
        one = torch.ones_like(like)
        zero = torch.zeros_like(like, dtype=torch.int64)
        return GuardState(one, zero, zero)

    def accepts(self, figures: StepFigures) -> Tensor:
        """Tell whether to follow the shifted gradient: `s ≥ kappa·max(‖g‖, ‖g⁺‖)`, or `g = 0`, where both are the same.

        Args:
            figures: The figures of the step.

        Returns:
            Boolean tensor in the shape of the figures; False where one is not finite.
        """
        return agreement(figures) >= self.kappa

    def after(self, state: GuardState, accepted: Tensor) -> GuardState:
        """Return the state after a pass at `x⁺`.

        Args:
            state: The state before it.
            accepted: What `accepts` said.

        Returns:
            The state, with the radius factor that the next such pass takes.
        """
        factor = torch.where(accepted, state.factor * self.growth, state.factor * self.shrink)
        return GuardState(
            factor.clamp(_SMALLEST_FACTOR, 1.0),
            state.rejections + (~accepted).long(),
            torch.where(accepted, 0, state.consecutive + 1),
        )


def _check(name: str, value: float, legal: bool, range_: str) -> None:
    if not legal:
        raise ValueError(f"Guard {name} must be {range_}; got {value!r}")

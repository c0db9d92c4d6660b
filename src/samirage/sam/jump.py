"""The jump: move to `x⁺` where a run stands at a hallucinated minimizer, for that is the minimizer it has found."""

from dataclasses import dataclass

import torch
from torch import Tensor

from samirage.sam.figures import StepFigures


@dataclass(frozen=True)
class JumpState:
    """What a jump remembers from step to step; tensors of shape (), or (S,) for a batch of members.

    Attributes:
        consecutive: Number of the last steps in a row that stood at a hallucinated minimizer.
        factor: What the radius is multiplied by, above 0 and at most 1.
    """

    consecutive: Tensor
    factor: Tensor


@dataclass(frozen=True)
class Jump:
    """Set `x ← x⁺` after `patience` steps in a row with `‖g⁺‖ < ratio·‖g‖` and `f⁺ < f`; look less far from then on.

    `f⁺ < f` says that SAM looks across a ridge, and that `x⁺` is the better place. At a hallucinated saddle or plateau,
    where `f⁺ ≥ f`, there is nothing to jump to. Momentum is dropped, since it belongs to the place that is left. With
    the old radius SAM might look across the ridge from the other side, and leave `x⁺` again.

    Attributes:
        ratio: Largest shift ratio, above 0 and below 1.
        patience: Number of steps, at least 1.
        shrink: Factor of the radius after a jump, above 0 and at most 1.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> from samirage.sam import step_figures
        >>> stuck = step_figures(loss=torch.tensor(1.0), loss_plus=torch.tensor(0.2), grad_norm=torch.tensor(2.0),
        ...     predicted_gain=torch.tensor(2.0), displacement=[torch.tensor([1.0])], grads_plus=[torch.tensor([1e-3])])
        >>> jump, state = Jump(patience=2), Jump().begin(torch.tensor(1.0))
        >>> for _ in range(2):
        ...     state = jump.after(state, stuck)
        >>> jump.is_due(state).item(), jump.after_jump(state).factor.item()
        (True, 0.5)
    """

    ratio: float = 0.1
    patience: int = 20
    shrink: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ValueError(f"Jump ratio must be above 0 and below 1; got {self.ratio!r}")
        if not isinstance(self.patience, int) or self.patience < 1:
            raise ValueError(f"Jump patience must be a whole number of at least 1; got {self.patience!r}")
        if not 0 < self.shrink <= 1:
            raise ValueError(f"Jump shrink must be above 0 and at most 1; got {self.shrink!r}")

    def begin(self, like: Tensor) -> JumpState:
        """Return the state before the first step.

        Args:
            like: A tensor whose shape, () or (S,), dtype and device the factor shall have.

        Returns:
            The state.
        """
        return JumpState(torch.zeros_like(like, dtype=torch.int64), torch.ones_like(like))

    def after(self, state: JumpState, figures: StepFigures) -> JumpState:
        """Return the state after another step.

        Args:
            state: The state before it.
            figures: The figures of the step.

        Returns:
            The state.
        """
        stuck = (figures.shift_ratio < self.ratio) & (figures.loss_plus < figures.loss)
        return JumpState(torch.where(stuck, state.consecutive + 1, 0), state.factor)

    def is_due(self, state: JumpState) -> Tensor:
        """Tell whether to jump instead of stepping.

        Args:
            state: The state after the step's figures are known.

        Returns:
            Boolean tensor in the shape of the state.
        """
        return state.consecutive >= self.patience

    def after_jump(self, state: JumpState) -> JumpState:
        """Return the state with all due jumps done.

        Args:
            state: The state before them.

        Returns:
            The state.
        """
        due = self.is_due(state)
        return JumpState(
            torch.where(due, 0, state.consecutive), torch.where(due, state.factor * self.shrink, state.factor)
        )

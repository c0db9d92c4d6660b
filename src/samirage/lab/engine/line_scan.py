"""What SAM would see from where networks are: the loss and its slope along the gradient, at many distances."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samirage.criteria import HALLUCINATED_GRAD_FRACTION, HALLUCINATED_SHIFT_RATIO
from samirage.lab.engine.stacked import AbstractMembers
from samirage.sam import is_at_hallucinated_point, norm, perturb, step_figures


@dataclass(frozen=True)
class Rays:
    """The ray of ascent `x + rho·u` of every member.

    Attributes:
        rhos: The radii, ascending, shape (R,).
        loss: Loss at `x`, shape (S,).
        grad_norm: `‖g‖`, shape (S,).
        shift_ratio: `‖g⁺‖/‖g‖` at every radius, shape (R, S).
        slope_ratio: `s/‖g‖`, the slope along `u` over that at `x`, shape (R, S).
    """

    rhos: Tensor
    loss: Tensor
    grad_norm: Tensor
    shift_ratio: Tensor
    slope_ratio: Tensor

    def within(self, rho: float) -> "Rays":
        """Return the part up to a radius.

        Args:
            rho: The radius.
        """
        near = self.rhos <= rho * (1 + 1e-6)
        return Rays(self.rhos[near], self.loss, self.grad_norm, self.shift_ratio[near], self.slope_ratio[near])

    @property
    def ridge(self) -> Tensor:
        """Smallest radius of these at which the loss no longer rises along `u`; infinite where it always does.

        At a hallucinated point with radius `rho` the slope at distance `rho` is 0. So short of its ridge no `x` is one
        (as far as the radii are dense enough to see it). Shape (S,).
        """
        return self._nearest(self.slope_ratio <= 0)

    @property
    def mirage(self) -> Tensor:
        """Smallest radius of these at which `g⁺` vanishes beside the gradient; infinite where it never does.

        With this radius, the point would be taken for a hallucinated one; see `is_at_hallucinated_point`. Shape (S,).
        """
        found = is_at_hallucinated_point(
            self.shift_ratio,
            self.grad_norm,
            self.grad_norm,
            max_shift_ratio=HALLUCINATED_SHIFT_RATIO,
            min_grad_fraction=HALLUCINATED_GRAD_FRACTION,
        )
        return self._nearest(found)

    def _nearest(self, found: Tensor) -> Tensor:
        far = torch.full_like(self.slope_ratio, torch.inf)
        return torch.where(found, self.rhos.unsqueeze(1).expand_as(found), far).amin(0)


def look(members: AbstractMembers, rhos: Sequence[float]) -> Rays:
    """Look along the ascent direction of every member; nothing moves.

    Args:
        members: The members, at their present parameters.
        rhos: Radii above 0, ascending.

    Returns:
        What is seen.

    Example:
        >>> from samirage.lab.engine.functions import Particles
        >>> from samirage.landscape import Ring
        >>> at = Particles(Ring(), torch.tensor([[0.5, 0.0]], dtype=torch.float64))
        >>> look(at, [0.5, 1.0, 1.4, 1.6, 2.0]).ridge.tolist()  # the ridge is the centre, at distance 0.5
        [0.5]
    """
    params = members.params
    grads, grads_plus = ([torch.empty_like(p) for p in params] for _ in range(2))
    loss = members.loss_and_grads(params, grads)
    grad_norm = norm(grads, batched=True)
    ratios, slopes = [], []
    for rho in rhos:
        step = perturb(params, grads, rho, batched=True)
        plus = torch._foreach_add(params, step.displacement)
        loss_plus = members.loss_and_grads(list(plus), grads_plus)
        seen = step_figures(
            loss=loss, loss_plus=loss_plus, grad_norm=grad_norm, predicted_gain=step.predicted_gain,
            displacement=step.displacement, grads_plus=grads_plus, batched=True,
        )  # fmt: skip
        ratios.append(seen.shift_ratio)
        slopes.append(seen.slope_plus / grad_norm)
    return Rays(
        torch.tensor(rhos, dtype=loss.dtype, device=loss.device),
        loss.clone(),
        grad_norm,
        torch.stack(ratios),
        torch.stack(slopes),
    )

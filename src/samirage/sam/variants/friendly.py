"""Friendly SAM: Li, Zhou, He, Cheng and Huang, "Friendly Sharpness-Aware Minimization", CVPR 2024, arXiv 2403.12350.

The gradient of a minibatch is that of the whole data and noise of its own. SAM gains from looking along the noise, and
loses along the rest; so this variant takes an estimate of the full gradient, the average `m` of the gradients of the
steps before, off the direction in which it looks: `e = rho·v/‖v‖` with `v = g − sigma·m`. Then
`m ← lmbda·m + (1 − lmbda)·g`. The first step looks along `g`, and begins the average with it.

Departure: there is no epsilon in the denominator. An average that is zero throughout counts as none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from samirage.sam.checks import checked_number
from samirage.sam.reductions import SINGLE, Reductions
from samirage.sam.variants.base import AbstractVariant, Rho, State, radial


@dataclass(frozen=True)
class FriendlySAM(AbstractVariant):
    """SAM that looks along the noise of the minibatch; it keeps one more copy of the parameters, the average `m`.

    Attributes:
        sigma: How much of the average is taken off, finite and at least 0; 0 is plain SAM.
        lmbda: How much of the average each step keeps, at least 0 and below 1.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> friendly, x, g = FriendlySAM(sigma=1.0, lmbda=0.9), [torch.zeros(2)], [torch.tensor([3.0, 4.0])]
        >>> e, state = friendly.perturbation(x, g, 0.5, {})
        >>> e, state["m"]
        ([tensor([0.3000, 0.4000])], [tensor([3., 4.])])
        >>> e, state = friendly.perturbation(x, [torch.tensor([3.0, 6.0])], 0.5, state)  # v = (0, 2)
        >>> e, state["m"]
        ([tensor([0.0000, 0.5000])], [tensor([3.0000, 4.2000])])
    """

    sigma: float = 1.0
    lmbda: float = 0.9

    state_names: ClassVar[tuple[str, ...]] = ("m",)

    def __post_init__(self) -> None:
        checked_number("FriendlySAM sigma", self.sigma, least=0)
        checked_number("FriendlySAM lmbda", self.lmbda, least=0, below=1)

    def perturbation(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], rho: Rho, state: State, reduce: Reductions = SINGLE
    ) -> tuple[list[Tensor], State]:
        """Return `e = rho·v/‖v‖` with `v = g − sigma·m`, and the next `m`; see `AbstractVariant.perturbation`."""
        average = state.get("m")
        if average is None:
            vectors, kept = list(grads), [g.clone() for g in grads]
        else:
            vectors = [g - self.sigma * m for g, m in zip(grads, average, strict=True)]
            # Zero is what a parameter begins with, in a checkpoint too: then the average begins with this gradient.
            weight = torch.where(reduce.norm(average) > 0, 1 - self.lmbda, 1.0)
            kept = [torch.lerp(m, g, reduce.expand(weight, g).to(g.dtype)) for g, m in zip(grads, average, strict=True)]
        return radial(vectors, reduce.norm(vectors), rho, reduce), {"m": kept}

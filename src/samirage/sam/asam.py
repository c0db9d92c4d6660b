"""ASAM with the options of its paper.

Kwon, Kim, Park and Choi, "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks", arXiv 2102.11600: `e = rho·T²∘g/‖T∘g‖` with the normalisation operator `T = |x| + eta`, elementwise, and
`T = 1` for biases.

Departure: the authors' program takes everything for a bias whose name does not hold "weight"; here a bias is what has
"bias" in its name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from samirage.sam.perturbation import Variant


@dataclass(frozen=True)
class ASAM:
    """ASAM, with the paper's treatment of small weights and of biases.

    The variant `"asam"` is `ASAM(eta=0.0, biases=True)`. For `eta → ∞` the perturbation tends to plain SAM's with the
    radius `rho·eta`.

    Attributes:
        eta: What is added to `|x|`, so that weights near 0 move too; finite, at least 0, in units of the parameters.
        biases: Whether biases are normalised like all other parameters.

    Raises:
        ValueError: If `eta` is out of its range.

    Example:
        >>> ASAM(eta=0.5).operators([torch.tensor([-2.0, 0.0]), torch.tensor([3.0])], [False, True])
        [tensor([2.5000, 0.5000]), tensor([1.])]
    """

    eta: float = 0.01
    biases: bool = False

    rule: ClassVar[Variant] = "asam"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise ValueError(f"ASAM eta must be finite and at least 0; got {self.eta!r}")

    def operators(self, params: Sequence[Tensor], are_biases: Sequence[bool]) -> list[Tensor]:
        """Return `T`, which stands for `x` in `perturb(…, variant="asam")`.

        Args:
            params: `x`, one tensor per parameter.
            are_biases: For each parameter, whether it is a bias.

        Returns:
            One tensor per parameter, of its shape.
        """
        return [
            torch.ones_like(p) if is_bias and not self.biases else p.abs().add_(self.eta)
            for p, is_bias in zip(params, are_biases, strict=True)
        ]

"""ASAM with the options of its paper.

Kwon, Kim, Park and Choi, "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks", arXiv 2102.11600: `e = rho·T²∘g/‖T∘g‖` with the normalisation operator `T = |x| + eta`, elementwise, and
`T = 1` for biases.

Departure: the authors' program takes everything for a bias whose name does not hold "weight"; here a bias is what has
"bias" in its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from samirage.sam.checks import checked_number
from samirage.sam.reductions import SINGLE, Reductions
from samirage.sam.variants.base import AbstractVariant, Rho, State, radial
from samirage.sam.variants.sam import off, unit


@dataclass(frozen=True)
class ASAM(AbstractVariant):
    """ASAM, with the paper's treatment of small weights and of biases; the base optimizer follows `g⁺`.

    `variant="asam"` stands for `ASAM(eta=0.0, biases=True)`. For `eta → ∞` the perturbation tends to plain SAM's with
    the radius `rho·eta`.

    Attributes:
        eta: What is added to `|x|`, so that weights near 0 move too; finite, at least 0, in units of the parameters.
        biases: Whether biases are normalised like all other parameters.
        are_biases: For each parameter, whether it is a bias; None for parameters without names. See `for_names`.

    Raises:
        ValueError: If `eta` is out of its range.

    Example:
        >>> asam = ASAM(eta=0.5).for_names(["0.weight", "0.bias"])
        >>> asam.operators([torch.tensor([-2.0, 0.0]), torch.tensor([3.0])])
        [tensor([2.5000, 0.5000]), tensor([1.])]
    """

    eta: float = 0.01
    biases: bool = False
    are_biases: tuple[bool, ...] | None = None

    scale_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_number("ASAM eta", self.eta, least=0)

    def __repr__(self) -> str:
        return f"ASAM(eta={self.eta!r}, biases={self.biases!r})"

    @property
    def needs_names(self) -> bool:  # type: ignore[override]
        """Whether biases are treated in another way than other parameters."""
        return not self.biases

    def for_names(self, names: Sequence[str]) -> Self:
        """Return ASAM for parameters of these names: a bias is what has "bias" in the last part of its name.

        Args:
            names: A name for each parameter.

        Returns:
            The variant with `are_biases`.
        """
        return replace(self, are_biases=tuple("bias" in name.rpartition(".")[2] for name in names))

    def operators(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return `T`.

        Args:
            params: `x`, one tensor per parameter.

        Returns:
            One tensor per parameter, of its shape. With `eta = 0`, `x` itself, whose signs make no difference.

        Raises:
            ValueError: If biases are to be left alone, and nobody has said which parameters are.
        """
        are_biases: Sequence[bool] = [False] * len(params)
        if not self.biases:
            if self.are_biases is None:
                raise ValueError(
                    "ASAM(biases=False) must know which parameters are biases: give it their names by "
                    "ASAM(…).for_names(names), or treat all alike with ASAM(biases=True)"
                )
            are_biases = self.are_biases
        return [
            torch.ones_like(p) if is_bias else p if self.eta == 0 else p.abs().add_(self.eta)
            for p, is_bias in zip(params, are_biases, strict=True)
        ]

    def perturbation(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], rho: Rho, state: State, reduce: Reductions = SINGLE
    ) -> tuple[list[Tensor], State]:
        """Return `e = rho·T²∘g/‖T∘g‖`; see `AbstractVariant.perturbation`."""
        operators = self.operators(params)
        weighted = [t * g for t, g in zip(operators, grads, strict=True)]
        length = reduce.norm(weighted)
        return radial([t * w for t, w in zip(operators, weighted, strict=True)], length, rho, reduce), state

    def displacement_product(self, x: Tensor, grad: Tensor, hvp_v: Tensor, v: Tensor, rho: float) -> Tensor:
        """Return `De·v`; by automatic differentiation unless `T = x`.

        With `h = x∘g` and `e = rho·x∘h/‖h‖` it is `rho·(v∘h + x∘Q·(x∘Hv + g∘v))/‖h‖`, `Q = I − ĥ·ĥᵀ`.
        """
        if self.eta != 0 or not self.biases:
            return super().displacement_product(x, grad, hvp_v, v, rho)
        along, size = unit(x * grad)
        return rho * (v * along + x / size * off(along, x * hvp_v + grad * v))

    def displacement_transpose_product(
        self, x: Tensor, grad: Tensor, v: Tensor, rho: float
    ) -> tuple[Tensor | None, Tensor]:
        """Return `p` and `q` with `Deᵀ·v = p + H·q`; by automatic differentiation unless `T = x`."""
        if self.eta != 0 or not self.biases:
            return super().displacement_transpose_product(x, grad, v, rho)
        along, size = unit(x * grad)
        across = off(along, x * v / size)
        return rho * (v * along + grad * across), rho * x * across

"""The spectra at a point that a certificate reports: of both Hessians, of the level set, of `A` and of `M`.

Here they are computed from products alone, for many parameters; see `samirage.points.certificates.spectrum`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from samirage.points.certificates.spectrum import (
    Spectrum,
    VectorMap,
    leading_spectrum,
    random_start,
    symmetric_ends,
)
from samirage.points.certificates.zero_modes import Modes, product_modes
from samirage.sam import Jacobian, variant_of

_LEADING, _LEFTMOST = 4, 2
_PROBES: Final = 3  # random vectors that measure the asymmetry: to about 1/sqrt(3·d)


@dataclass(frozen=True, eq=False)
class Curvature:
    """Spectra at a point, on the CPU.

    Attributes:
        hessian: Smallest and largest eigenvalue of `H`.
        hessian_plus: Those of `H⁺`.
        tangent: Eigenvalues of `P·H·P` on the tangent space of the level set, ascending: all, or the two ends.
        a: Eigenvalues of `A`: on the tangent space for plain SAM, else of the whole; all, or the two ends.
        mu: Eigenvalues of `M`, by decreasing size: all, or the largest and the leftmost.
        symmetric_residual: Largest residual among those of `H`, `H⁺` and `P·H·P`, relative to each one's size.
        asymmetry: `‖M − Mᵀ‖/(2·‖M‖)`, Frobenius norms.
        complete: Whether all eigenvalues are there.
        products: Hessian-vector products that it took.
        modes_plus: Returns the zero modes of `H⁺`, those up to a size relative to the largest; of products alone, one.
        modes_update: Returns those of `M`.
    """

    hessian: tuple[float, float]
    hessian_plus: tuple[float, float]
    tangent: Tensor
    a: Tensor
    mu: Spectrum
    symmetric_residual: float
    asymmetry: float
    complete: bool
    products: int
    modes_plus: Callable[[float], Modes]
    modes_update: Callable[[float], Modes]


def iterative_curvature(jacobian: Jacobian, *, tolerance: float, seed: int) -> Curvature:
    """Compute the ends of all spectra from products alone.

    Args:
        jacobian: The SAM map, linearized.
        tolerance: Residual at which to stop, relative to the largest eigenvalue.
        seed: Seed of the start vectors.

    Returns:
        The spectra, their ends only.
    """
    counted = _Counted(jacobian)
    start = random_start(jacobian.x, seed)
    u = jacobian.grad / torch.linalg.vector_norm(jacobian.grad)

    def off(v: Tensor) -> Tensor:
        return torch.sub(v, u * torch.dot(u, v))

    hessian = symmetric_ends(counted.here, start, tolerance=tolerance)
    hessian_plus = symmetric_ends(counted.there, start, tolerance=tolerance)
    # On u itself P·H·P is 0, which may lie outside its other eigenvalues; a value from among them hides there.
    level = off(start) / torch.linalg.vector_norm(off(start))
    inside = torch.dot(level, counted.here(level))
    # The ends lie between those of H, and in many dimensions next to them: H's eigenvectors are a good start.
    begin = level if hessian.direction is None else off(hessian.direction) + 0.1 * level
    tangent = symmetric_ends(
        lambda v: off(counted.here(off(v))) + inside * torch.dot(u, v) * u, begin, tolerance=tolerance
    )
    rule = variant_of(jacobian.variant)
    if rule.is_radial:
        a = _of_tangent(jacobian, tangent.values)
    elif rule.is_constant_multiple:
        a = 1 + float(rule.multiple(1.0, jacobian.rho) or 0.0) * hessian.values
    else:
        top, left = leading_spectrum(counted.own.perturbed, start, leading=1, leftmost=1, tolerance=tolerance)
        a = torch.cat([left.values[:1], top.values[:1]])
    leading, leftmost = leading_spectrum(
        counted.own.update, start, leading=_LEADING, leftmost=_LEFTMOST, tolerance=tolerance
    )
    mu = _merged(leading, leftmost, tolerance)
    return Curvature(
        hessian=_pair(hessian.values),
        hessian_plus=_pair(hessian_plus.values),
        tangent=tangent.values,
        a=a,
        mu=mu,
        symmetric_residual=max(_relative(s) for s in (hessian, hessian_plus, tangent)),
        asymmetry=_asymmetry(counted.own, start, seed),
        complete=False,
        products=counted.products,
        modes_plus=lambda _: product_modes(jacobian.hvp_plus, jacobian.hvp_plus, hessian_plus),
        modes_update=lambda _: product_modes(jacobian.update, jacobian.update_transpose, mu),
    )


class _Counted:
    """A Jacobian whose Hessian products are counted."""

    def __init__(self, jacobian: Jacobian) -> None:
        self.products = 0
        self.here, self.there = self._counting(jacobian.hvp), self._counting(jacobian.hvp_plus)
        self.own = replace(jacobian, hvp=self.here, hvp_plus=self.there)

    def _counting(self, product: VectorMap) -> VectorMap:
        def counting(v: Tensor) -> Tensor:
            self.products += 1
            return product(v)

        return counting


def _pair(values: Tensor) -> tuple[float, float]:
    low, high = values.tolist()
    return low, high


def _of_tangent(jacobian: Jacobian, tangent: Tensor) -> Tensor:
    return tangent * (jacobian.rho / float(torch.linalg.vector_norm(jacobian.grad))) + 1


def _relative(spectrum: Spectrum) -> float:
    size = float(spectrum.values.abs().max())
    return float(spectrum.residuals.max()) / size if size > 0 else 0.0


def _merged(leading: Spectrum, leftmost: Spectrum, tolerance: float) -> Spectrum:
    """Put both together, without those of the leftmost that are among the leading."""
    near = tolerance * leading.values.abs().max()
    new = torch.tensor([bool(((v - leading.values).abs() > near).all()) for v in leftmost.values], dtype=torch.bool)
    values = torch.cat([leading.values, leftmost.values[new]])
    residuals = torch.cat([leading.residuals, leftmost.residuals[new]])
    order = values.abs().argsort(descending=True, stable=True)
    last = min((leading, leftmost), key=lambda part: float(part.values.abs().min()))
    return Spectrum(values[order], residuals[order], leading.products + leftmost.products, nearest_0=last.nearest_0)


def _asymmetry(jacobian: Jacobian, like: Tensor, seed: int) -> float:
    apart = whole = 0.0
    for probe in range(_PROBES):
        v = random_start(like, seed + 1 + probe)
        forth, back = jacobian.update(v), jacobian.update_transpose(v)
        apart += float((forth - back).square().sum())
        whole += float(forth.square().sum())
    return (apart / whole) ** 0.5 / 2 if whole > 0 else 0.0

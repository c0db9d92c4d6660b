"""What is known of a hallucinated point: a frozen record of figures, from which its kind follows."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.certificates.verdict import HALLUCINATED, attracts_small_steps, critical_point
from samirage.points.certificates.zero_modes import follow, matrix_modes
from samirage.points.equation import DENSE_DIM, at_rest, dense_perturbed
from samirage.points.find.sphere import SphereKind, sphere_curvatures, sphere_kind
from samirage.sam import Status
from samirage.sam.map import displacement

ZERO_MODE: Final = 1e-7
"""Relative size up to which a curvature, or an eigenvalue of M, counts as 0."""


@dataclass(frozen=True, eq=False)
class HallucinatedPoint:
    """A point at which SAM's gradient vanishes although the gradient does not, with the evidence.

    Attributes:
        x: The point, shape (d,), float64.
        rho: Perturbation radius.
        kind: `HALLUCINATED_MINIMIZER` where no curvature of `f` at `x⁺` is negative, whether or not SAM is attracted;
            `HALLUCINATED_SADDLE` where one is; `HALLUCINATED_PLATEAU` where all of them vanish.
        x_plus: `x⁺ = x + rho·u`, the critical point that SAM sees, shape (d,).
        loss: `f(x)`.
        loss_plus: `f(x⁺)`.
        grad_norm: `‖g(x)‖`.
        grad_plus_norm: `‖g(x⁺)‖`, which is 0 but for rounding.
        found_by: The methods that found it.
        on_sphere: What `f` has here on the sphere about `x⁺`; None where this was not computed (many coordinates).
        a: Eigenvalues `a_i` of `A` on the tangent space, shape (d − 1,), ascending; None as above.
        mu: Eigenvalues of `M = H⁺·A`, shape (d,), complex; None as above.
        attracts: Whether SAM is attracted for small learning rates: all `mu` but zero modes lie right of 0. None where
            this was not computed; `certify` computes it in any dimension.
        max_stable_lr: Learning rate below which SAM is attracted; 0 if it never is, None as above.
    """

    x: Tensor
    rho: float
    kind: Status
    x_plus: Tensor
    loss: float
    loss_plus: float
    grad_norm: float
    grad_plus_norm: float
    found_by: tuple[str, ...]
    on_sphere: SphereKind | None
    a: Tensor | None
    mu: Tensor | None
    attracts: bool | None
    max_stable_lr: float | None

    @property
    def shift_ratio(self) -> float:
        """`r = ‖g⁺‖/‖g‖`."""
        return self.grad_plus_norm / self.grad_norm

    def __str__(self) -> str:
        attraction = "attraction not computed"
        if self.attracts is not None:
            attraction = "repels SAM at every learning rate"
            if self.max_stable_lr:
                attraction = f"attracts SAM for lr < {self.max_stable_lr:.2g}"
        return (
            f"{self.kind.value} at rho = {self.rho:g}: ‖g‖ = {self.grad_norm:.3g}, f = {self.loss:.3g}, "
            f"f⁺ = {self.loss_plus:.3g}; {attraction}"
        )


def evidence(f: Smooth, x: Tensor, rho: float, *, found_by: tuple[str, ...] = ()) -> HallucinatedPoint:
    """Compute the evidence for a polished point.

    Args:
        f: The function.
        x: The point, shape (d,), float64.
        rho: Perturbation radius.
        found_by: The methods that found it.

    Returns:
        The record.
    """
    loss, grad = f.value_and_grad(x)
    x_plus = x + displacement(x, grad, rho)
    loss_plus, grad_plus = f.value_and_grad(x_plus)
    seen = critical_point(f, x_plus, unit=float(grad.norm()) / rho, length=rho, tolerance=ZERO_MODE)
    size = float(grad.norm())
    a = mu = attracts = lr = on_sphere = None
    if f.dim <= DENSE_DIM:
        hessian, hessian_plus = f.hessian(x), f.hessian(x_plus)
        curvatures = sphere_curvatures(grad, hessian, rho)
        a, on_sphere = curvatures * rho / size, sphere_kind(curvatures)
        matrix = hessian_plus @ dense_perturbed(grad, hessian, rho)
        mu = torch.linalg.eigvals(matrix)
        attracts, lr = attracts_small_steps(
            mu,
            tolerance=ZERO_MODE,
            is_manifold=lambda: (
                not seen.is_degenerate
                and follow(
                    at_rest(f, rho),
                    x,
                    matrix_modes(matrix, ZERO_MODE),
                    length=min(rho, size / float(torch.linalg.matrix_norm(hessian, 2))),
                    tolerance=ZERO_MODE,
                    multiplicity=int((mu.abs() <= ZERO_MODE * mu.abs().max()).sum()),
                ).stays
            ),
        )
    return HallucinatedPoint(
        x=x,
        rho=rho,
        kind=HALLUCINATED[seen.kind],
        x_plus=x_plus,
        loss=float(loss),
        loss_plus=float(loss_plus),
        grad_norm=size,
        grad_plus_norm=float(grad_plus.norm()),
        found_by=found_by,
        on_sphere=on_sphere,
        a=a,
        mu=mu,
        attracts=attracts,
        max_stable_lr=lr,
    )

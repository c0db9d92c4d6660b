"""What is known of a hallucinated point: a frozen record of figures, from which its kind follows."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.equation import DENSE_DIM, dense_perturbed
from samirage.points.spectrum import random_start, symmetric_ends
from samirage.points.sphere import SphereKind, sphere_curvatures, sphere_kind
from samirage.sam import Status
from samirage.sam.map import displacement
from samirage.sam.stability import max_stable_lr

_ZERO_MODE: Final = 1e-7  # relative size below which a curvature, or an eigenvalue of M, counts as 0
_LANCZOS_TOLERANCE: Final = 1e-4


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
    size = float(grad.norm())
    a = mu = attracts = lr = on_sphere = None
    if f.dim <= DENSE_DIM:
        hessian, hessian_plus = f.hessian(x), f.hessian(x_plus)
        curvatures = sphere_curvatures(grad, hessian, rho)
        a, on_sphere = curvatures * rho / size, sphere_kind(curvatures)
        mu = torch.linalg.eigvals(hessian_plus @ dense_perturbed(grad, hessian, rho))
        attracts, lr = attraction(mu)
    return HallucinatedPoint(
        x=x,
        rho=rho,
        kind=kind_of(*ends_of_hessian(f, x_plus), size / rho),
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


def kind_of(lowest: float, highest: float, unit: float, *, tolerance: float = _ZERO_MODE) -> Status:
    """Name a hallucinated point by the extreme curvatures of `f` at `x⁺`.

    Args:
        lowest: Smallest eigenvalue of `H⁺`.
        highest: Largest eigenvalue of `H⁺`.
        unit: A curvature to compare with: `‖g‖/rho`.
        tolerance: Relative size below which a curvature counts as 0.

    Returns:
        The kind.

    Example:
        >>> kind_of(-1.0, 2.0, unit=1.0), kind_of(0.0, 1e-12, unit=1.0)
        (<Status.HALLUCINATED_SADDLE: 'hallucinated saddle'>, <Status.HALLUCINATED_PLATEAU: 'hallucinated plateau'>)
    """
    largest = max(abs(lowest), abs(highest))
    if largest <= tolerance * unit:
        return Status.HALLUCINATED_PLATEAU
    return Status.HALLUCINATED_SADDLE if lowest < -tolerance * largest else Status.HALLUCINATED_MINIMIZER


def attraction(mu: Tensor) -> tuple[bool, float]:
    """Tell whether small SAM steps are attracted, and up to which learning rate, from all eigenvalues of `M`.

    Zero modes, along a manifold of hallucinated points, do not count.

    Args:
        mu: The eigenvalues, shape (d,), complex.

    Returns:
        Whether all others lie right of 0, and the largest stable learning rate (0 if not).

    Example:
        >>> attraction(torch.tensor([4.0, 1.0, 0.0]) + 0j)
        (True, 0.5)
    """
    size = mu.abs()
    counted = mu[size > _ZERO_MODE * size.max()]
    if not len(counted):
        return False, 0.0
    lr = float(max_stable_lr(counted).min())
    return lr > 0, lr


def ends_of_hessian(f: Smooth, x: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of the Hessian at a point.

    Args:
        f: The function; up to `DENSE_DIM` coordinates its Hessian is formed, beyond, Lanczos' method is used.
        x: The point, shape (d,).

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> ends_of_hessian(DoubleWell(stiffness=1.0, coupling=0.0), torch.zeros(2))
        (-1.0, 2.0)
    """
    if f.dim <= DENSE_DIM:
        values = torch.linalg.eigvalsh(f.hessian(x))
        return float(values[0]), float(values[-1])
    ends = symmetric_ends(f.linearize(x).hvp, random_start(x, seed=0), tolerance=_LANCZOS_TOLERANCE)
    return float(ends.values[0]), float(ends.values[-1])

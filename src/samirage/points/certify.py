"""Certify what a point is to SAM: the spectra that decide, and the residuals that say how far to trust them.

The attractor test: with `mu` the eigenvalues of `M = H⁺·A`, a point that rests attracts SAM if and only if every
`|1 − lr·mu| < 1`, that is `Re mu > 0` and `lr < 2·Re(mu)/|mu|²`; with momentum, see `samirage.sam.stability`. Along a
manifold of such points `mu` vanishes, which does not count against it.

Hallucinated points are those of Park, Jang, Ryu and Yang (arXiv 2509.21818).
"""

import math
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Linearized, Smooth
from samirage.points.attraction import decide
from samirage.points.certificate import Certificate
from samirage.points.curvature import dense_curvature, iterative_curvature
from samirage.points.equation import check_rho
from samirage.points.evidence import kind_of
from samirage.sam import AbstractVariant, Jacobian, Status, Variant, displacement, variant_of
from samirage.sam.variants import variant_of_map

DENSE_DIM: Final = 500
"""Number of parameters up to which all eigenvalues are computed."""

_MATRIX_FREE_TOLERANCE: Final = 1e-4  # which iterations reach in a few dozen products, even within a cluster
_UNPOLISHED: Final = 10  # times ‖d‖/‖g‖: how far, relatively, eigenvalues are from those at the very point of rest
_STATIONARY: Final = 1e-6  # ‖g‖, relative to what the curvature makes of it within ‖e‖, that counts as 0
_KINK: Final = 0.02  # relative difference between a Hessian product and the difference quotient of the gradient
_NOISE: Final = 50  # rounding units of the gradient that its difference quotient may be off
_REPEATS: Final = 1000  # rounding units by which two evaluations may differ, where sums are reordered


def certify(
    f: Smooth,
    x: Tensor,
    rho: float,
    lr: float | None = None,
    *,
    variant: Variant | AbstractVariant = "sam",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    max_shift_ratio: float = 1e-3,
    tolerance: float | None = None,
    dense: bool | None = None,
    seed: int = 0,
) -> Certificate:
    """Certify what the point `x` is to SAM: hallucinated or not, and whether it attracts.

    Up to 500 parameters all eigenvalues are computed. Beyond, only products with Hessians are used: those of largest
    size and the leftmost, up to some ten million parameters. An eigenvalue in between that has a large imaginary part
    and a small real one would then be missed.

    It computes in the dtype of `x`; float64 is advised for points that were polished.

    Args:
        f: The function: analytic, or an `Objective`.
        x: The point, shape (d,), float32 or float64.
        rho: Perturbation radius, above 0.
        lr: Learning rate, above 0; by default, attraction is that of small enough steps.
        variant: `"sam"`, `"asam"`, `"unnormalized"`, or an object that remembers nothing and follows `g⁺`.
        momentum: Coefficient of the heavy ball, from 0 to below 1.
        weight_decay: Coefficient of the coupled weight decay, at least 0.
        max_shift_ratio: Largest `‖d‖/‖g‖` at which the point counts as resting, above 0.
        tolerance: Size below which an eigenvalue counts as 0, relative to the largest, and residual that is allowed;
            between 0 and 1. By default four times the square root of the rounding unit (6e-8 in float64, 1.4e-3 in
            float32), but at least 1e-4 beyond 500 parameters, and at least `10·‖d‖/‖g‖` where the point rests but was
            not polished, so that the zero modes of a manifold near by are recognised.
        dense: Whether to compute all eigenvalues; by default up to 500 parameters.
        seed: Seed of the random vectors with which iterations begin.

    Returns:
        The certificate.

    Raises:
        TypeError: If `x` is not a float32 or float64 tensor.
        ValueError: If an argument is out of its range, the gradient is 0 at `x`, or `f` is not finite, not
            deterministic or not twice differentiable there.

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> x = torch.tensor([0.470934443, -0.022196625], dtype=torch.float64)
        >>> certificate = certify(DoubleWell(), x, rho=1.5, lr=0.02)
        >>> certificate.kind.value, certificate.attractor, certificate.mu, round(certificate.max_stable_lr, 3)
        ('hallucinated minimizer', True, tensor([3.9189, 1.8006], dtype=torch.float64), 0.51)
    """
    rho = check_rho(rho)
    _check_settings(lr, variant, momentum, weight_decay, max_shift_ratio, tolerance)
    _check_point(f, x)
    x = x.detach()
    loss, grad = _checked_gradient(f, x, "x")
    grad_norm = float(torch.linalg.vector_norm(grad))
    e = displacement(x, grad, rho, variant=variant)
    radius = float(torch.linalg.vector_norm(e))
    if grad_norm == 0 or radius == 0:
        raise ValueError(
            "the gradient is 0 at x, where SAM has no direction to look in: x is a stationary point of f itself"
        )
    x_plus = x + e
    loss_plus, grad_plus = _checked_gradient(f, x_plus, "the perturbed point")
    here, there = f.linearize(x), f.linearize(x_plus)
    _check_smooth(f, x, here, grad_norm, radius, seed, "x")
    _check_smooth(f, x_plus, there, grad_norm, radius, seed, "the perturbed point")

    jacobian = Jacobian(x, grad, here.hvp, there.hvp, rho, variant, weight_decay)
    dense = f.dim <= DENSE_DIM if dense is None else dense
    update_norm = float(torch.linalg.vector_norm(grad_plus + weight_decay * x))
    rests = update_norm <= max_shift_ratio * grad_norm
    if tolerance is None:
        rounding = 4 * math.sqrt(torch.finfo(x.dtype).eps)
        tolerance = rounding if dense else max(rounding, _MATRIX_FREE_TOLERANCE)
        tolerance = max(tolerance, min(_UNPOLISHED * update_norm / grad_norm, 0.1) if rests else 0.0)
    if dense:
        curvature = dense_curvature(jacobian, f.hessian(x), f.hessian(x_plus))
    else:
        curvature = iterative_curvature(jacobian, tolerance=tolerance, seed=seed)

    length = radius if not variant_of(variant).is_constant_multiple else float(torch.linalg.vector_norm(x)) or 1.0
    largest = float(torch.cat([curvature.hessian, curvature.hessian_plus]).abs().max())
    if grad_norm <= _STATIONARY * length * largest:
        kind, why = Status.STATIONARY, "x is, or almost is, a stationary point of f, where SAM's map is not smooth"
    elif not rests:
        kind = Status.UNDECIDED
        why = f"SAM does not rest here: its update is {update_norm / grad_norm:.2g} times the gradient"
    elif curvature.symmetric_residual > tolerance:
        kind = Status.UNDECIDED
        why = f"the residuals of the Hessians' eigenvalues, {curvature.symmetric_residual:.1e}, exceed the tolerance"
    else:
        low, high = curvature.hessian_plus.tolist()
        kind, why = kind_of(low, high, grad_norm / radius, tolerance=tolerance), ""
    attraction = decide(curvature.mu, lr=lr, momentum=momentum, tolerance=tolerance)
    hallucinated = kind.is_hallucinated
    return Certificate(
        kind=kind,
        attractor=attraction.attracts if hallucinated else None,
        mu=_real_if_possible(curvature.mu.values),
        a=_real_if_possible(curvature.a[curvature.a.real.argsort()]),
        max_stable_lr=attraction.max_stable_lr if hallucinated else None,
        reason=attraction.reason if hallucinated else why,
        rho=rho,
        lr=lr,
        variant=variant,
        momentum=momentum,
        weight_decay=weight_decay,
        x=x,
        x_plus=x_plus,
        loss=float(loss),
        loss_plus=float(loss_plus),
        grad_norm=grad_norm,
        grad_plus_norm=float(torch.linalg.vector_norm(grad_plus)),
        update_norm=update_norm,
        level_set_curvatures=(-curvature.tangent / grad_norm).flip(0),
        hessian_ends=_pair(curvature.hessian),
        hessian_plus_ends=_pair(curvature.hessian_plus),
        contraction=attraction.contraction if hallucinated else None,
        zero_modes=attraction.zero_modes,
        tolerance=tolerance,
        residual=max(attraction.residual, curvature.symmetric_residual),
        asymmetry=curvature.asymmetry,
        complete=curvature.complete,
        products=curvature.products,
    )


# --- what is checked ---------------------------------------------------------------------------------


def _check_settings(
    lr: float | None,
    variant: Variant | AbstractVariant,
    momentum: float,
    weight_decay: float,
    max_shift_ratio: float,
    tolerance: float | None,
) -> None:
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be None or a finite number above 0; got {lr!r}")
    variant_of_map(variant)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1; got {momentum!r}")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay must be a finite number of at least 0; got {weight_decay!r}")
    if not (math.isfinite(max_shift_ratio) and max_shift_ratio > 0):
        raise ValueError(f"max_shift_ratio must be a finite number above 0; got {max_shift_ratio!r}")
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be None or between 0 and 1; got {tolerance!r}")


def _check_point(f: Smooth, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dtype not in {torch.float32, torch.float64}:
        given = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a float32 or float64 tensor; got {given}")
    if x.shape != (f.dim,):
        raise ValueError(f"x must be one point of shape ({f.dim},); got shape {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError(f"x must hold finite numbers only; got {int((~x.isfinite()).sum())} that are not")


def _checked_gradient(f: Smooth, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    loss, grad = f.value_and_grad(x)
    if not bool(loss.isfinite() & grad.isfinite().all()):
        raise ValueError(f"f or its gradient is not finite at {name}: choose another point or a smaller rho")
    apart = float(torch.linalg.vector_norm(f.grad(x) - grad))
    if apart > _REPEATS * torch.finfo(x.dtype).eps * float(torch.linalg.vector_norm(grad)):
        raise ValueError(
            f"f is not deterministic: two gradients at {name} differ by {apart:.1e}; take out dropout, random "
            "augmentation and the like"
        )
    return loss, grad


def _check_smooth(
    f: Smooth, x: Tensor, linearized: Linearized, grad_norm: float, radius: float, seed: int, name: str
) -> None:
    """Compare a Hessian product with a difference quotient, which sees kinks nearby that derivatives do not.

    Raises:
        ValueError: If they differ.
    """
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(f.dim, generator=generator, dtype=torch.float64).to(x)
    size = torch.linalg.vector_norm(linearized.grad)
    v = v / torch.linalg.vector_norm(v) + (linearized.grad / size if size > 0 else 0)
    v = v / torch.linalg.vector_norm(v)
    rounding = torch.finfo(x.dtype).eps
    step = rounding ** (1 / 3) * radius
    ahead, behind = f.grad(x + step * v), f.grad(x - step * v)
    quotient, product = (ahead - behind) / (2 * step), linearized.hvp(v)
    apart, larger, around = (
        max(float(torch.linalg.vector_norm(w)) for w in vectors)
        for vectors in ([quotient - product], [quotient, product], [ahead, behind])
    )
    if not apart <= _KINK * larger + _NOISE * rounding * max(grad_norm, around) / step:
        raise ValueError(
            f"f is not twice differentiable near {name}, as far as differences of its gradient show: it has a kink (a "
            "ReLU, an absolute value, a maximum) or breaks the graph of its derivatives; use a smooth function such as "
            "tanh"
        )


# --- how it is reported ------------------------------------------------------------------------------


def _pair(values: Tensor) -> tuple[float, float]:
    low, high = values.tolist()
    return low, high


def _real_if_possible(values: Tensor) -> Tensor:
    if not values.is_complex() or not len(values):
        return values
    real: Tensor = values.real
    return real if bool((values.imag.abs() <= 1e-12 * values.abs().max()).all()) else values

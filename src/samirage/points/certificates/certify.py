"""Certify what a point is to SAM: the spectra that decide, and the residuals that say how far to trust them.

The attractor test: with `mu` the eigenvalues of `M = H⁺·A`, a point that rests attracts SAM if and only if every
`|1 − lr·mu| < 1`, that is `Re mu > 0` and `lr < 2·Re(mu)/|mu|²`; with momentum, see `samirage.sam.stability`. Along a
manifold of such points `mu` vanishes, which does not count against it; that it is a manifold is verified, see
`samirage.points.certificates.zero_modes`.

In order: the point is evaluated and checked (`samirage.points.equation`), the spectra are computed (here from matrices,
in `samirage.points.certificates.curvature` from products alone), and read (`samirage.points.certificates.verdict`).

Hallucinated points are those of Park, Jang, Ryu and Yang (arXiv 2509.21818).
"""

import math
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.certificates.certificate import Certificate, Numerics, Point, Settings, Spectra, Stability
from samirage.points.certificates.curvature import Curvature, iterative_curvature
from samirage.points.certificates.spectrum import Spectrum
from samirage.points.certificates.verdict import DEGENERATE, HALLUCINATED, critical_kind, decide
from samirage.points.certificates.zero_modes import follow, matrix_modes, settled
from samirage.points.equation import (
    SPECTRUM_DIM,
    Place,
    at_rest,
    check_differentiable,
    check_gradient,
    check_point,
    check_rho,
    stationary,
)
from samirage.sam import AbstractVariant, Jacobian, Status, Variant, displacement, variant_of
from samirage.sam.map import VectorMap
from samirage.sam.variants import variant_of_map

_MATRIX_FREE_TOLERANCE: Final = 1e-4  # which iterations reach in a few dozen products, even within a cluster
_UNPOLISHED: Final = 10  # times ‖d‖/‖g‖: how far, relatively, eigenvalues are from those at the very point of rest
_UNCERTAIN: Final = 0.1  # no larger eigenvalue, relatively, counts as 0, however rough the point
_NEAR: Final = 0.1  # of the radius: how far the point of rest may be from one that is not polished
_STATIONARY: Final = 1e-6  # ‖g‖, relative to what the curvature makes of it within ‖e‖, that counts as 0


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
    settings = Settings(rho, lr, variant, momentum, weight_decay)
    _check_settings(settings, max_shift_ratio, tolerance)
    rho = check_rho(rho)
    settings = replace(settings, rho=rho)
    x = check_point(f, x, keep_dtype=True)
    loss, grad = check_gradient(f, x)
    e = displacement(x, grad, rho, variant=variant)
    grad_norm, radius = float(torch.linalg.vector_norm(grad)), float(torch.linalg.vector_norm(e))
    if grad_norm == 0 or radius == 0:
        raise ValueError(
            "the gradient is 0 at x, where SAM has no direction to look in: x is a stationary point of f itself"
        )
    loss_plus, grad_plus = check_gradient(f, x + e, "the perturbed point")
    plus_norm, update_norm = (float(torch.linalg.vector_norm(v)) for v in (grad_plus, grad_plus + weight_decay * x))
    point = Point(x, x + e, float(loss), float(loss_plus), grad_norm, plus_norm, update_norm)

    dense = len(x) <= SPECTRUM_DIM if dense is None else dense
    hvp: VectorMap
    hvp_plus: VectorMap
    if dense:
        matrices = f.hessian(torch.stack([x, point.x_plus]))
        hvp, hvp_plus = (partial(torch.mv, matrix) for matrix in matrices)
    else:
        hvp, hvp_plus = (f.linearize(y).hvp for y in (x, point.x_plus))
    places = [Place("x", x, grad, hvp), Place("the perturbed point", point.x_plus, grad_plus, hvp_plus)]
    check_differentiable(f, places, radius=radius, scale=grad_norm, seed=seed)

    rests, ratio = update_norm <= max_shift_ratio * grad_norm, update_norm / grad_norm
    finest = max(4 * math.sqrt(torch.finfo(x.dtype).eps), 0.0 if dense else _MATRIX_FREE_TOLERANCE)
    used = tolerance or max(finest, min(_UNPOLISHED * ratio, _UNCERTAIN) if rests else 0.0)
    jacobian = Jacobian(x, grad, hvp, hvp_plus, rho, variant, weight_decay)
    if dense:
        curvature = _from_matrices(jacobian, *matrices)
    else:
        curvature = iterative_curvature(jacobian, tolerance=used, seed=seed)

    closer = None
    if dense and tolerance is None and rests and _may_be_degenerate(curvature, grad_norm / radius, ratio):
        closer = _closer(f, settings, point, radius, max_shift_ratio, finest, seed)
    kind, stability, residual = _judged(f, settings, point, radius, curvature, rests, used, closer)
    return Certificate(
        kind=kind,
        settings=settings,
        point=point,
        spectra=Spectra(
            mu=_real_if_possible(curvature.mu.values),
            a=_real_if_possible(curvature.a[curvature.a.real.argsort()]),
            level_set_curvatures=(-curvature.tangent / grad_norm).flip(0),
            hessian_ends=curvature.hessian,
            hessian_plus_ends=curvature.hessian_plus,
            asymmetry=curvature.asymmetry,
        ),
        stability=stability,
        numerics=Numerics(
            tolerance=used,
            residual=max(residual, curvature.symmetric_residual),
            complete=curvature.complete,
            products=curvature.products,
        ),
    )


def _check_settings(settings: Settings, max_shift_ratio: float, tolerance: float | None) -> None:
    if settings.lr is not None and not (math.isfinite(settings.lr) and settings.lr > 0):
        raise ValueError(f"lr must be None or a finite number above 0; got {settings.lr!r}")
    variant_of_map(settings.variant)
    if not 0 <= settings.momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1; got {settings.momentum!r}")
    if not (math.isfinite(settings.weight_decay) and settings.weight_decay >= 0):
        raise ValueError(f"weight_decay must be a finite number of at least 0; got {settings.weight_decay!r}")
    if not (math.isfinite(max_shift_ratio) and max_shift_ratio > 0):
        raise ValueError(f"max_shift_ratio must be a finite number above 0; got {max_shift_ratio!r}")
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be None or between 0 and 1; got {tolerance!r}")


# --- all eigenvalues, from matrices ------------------------------------------------------------------


def _from_matrices(jacobian: Jacobian, hessian: Tensor, hessian_plus: Tensor) -> Curvature:
    dim = len(hessian)
    x, grad = jacobian.x.to("cpu", torch.float64), jacobian.grad.to("cpu", torch.float64)
    h, h_plus = hessian.to("cpu", torch.float64), hessian_plus.to("cpu", torch.float64)
    # Products with all rows of the identity at once; the Hessians are symmetric.
    rows = replace(
        jacobian,
        x=x.expand(dim, dim),
        grad=grad.expand(dim, dim),
        hvp=partial(torch.matmul, other=h),
        hvp_plus=partial(torch.matmul, other=h_plus),
    )
    identity = torch.eye(dim, dtype=torch.float64)
    m = rows.update(identity).mT
    size = torch.linalg.matrix_norm(m)
    frame = torch.linalg.qr(torch.cat([(grad / grad.norm())[:, None], identity], 1)).Q[:, 1:]
    tangent = torch.linalg.eigvalsh(frame.mT @ h @ frame)
    if variant_of(jacobian.variant).is_radial:
        a = tangent * (jacobian.rho / float(torch.linalg.vector_norm(jacobian.grad))) + 1
    else:
        a = dense_spectrum(rows.perturbed(identity).mT).values
    h_values, plus_values = torch.linalg.eigvalsh(h).tolist(), torch.linalg.eigvalsh(h_plus).tolist()
    return Curvature(
        hessian=(h_values[0], h_values[-1]),
        hessian_plus=(plus_values[0], plus_values[-1]),
        tangent=tangent,
        a=a,
        mu=dense_spectrum(m),
        symmetric_residual=0.0,
        asymmetry=float(torch.linalg.matrix_norm(m - m.mT) / (2 * size)) if size > 0 else 0.0,
        complete=True,
        products=2 * dim,
        modes_plus=lambda tolerance: matrix_modes(hessian_plus, tolerance),
        modes_update=lambda tolerance: matrix_modes(m.to(jacobian.x), tolerance),
    )


def dense_spectrum(matrix: Tensor) -> Spectrum:
    """Return all eigenvalues of a matrix, by decreasing size.

    Args:
        matrix: Shape (d, d), not necessarily symmetric.

    Returns:
        Eigenvalues and residuals, shape (d,).

    Example:
        >>> dense_spectrum(torch.tensor([[0.0, -2.0], [2.0, 0.0]])).values.imag.sort().values
        tensor([-2.0000,  2.0000], dtype=torch.float64)
    """
    wide = matrix.to("cpu", torch.float64)
    values, vectors = torch.linalg.eig(wide)
    residuals = torch.linalg.vector_norm(wide.to(vectors.dtype) @ vectors - vectors * values, dim=0)
    order = values.abs().argsort(descending=True, stable=True)
    return Spectrum(values[order], residuals[order], 0)


def _real_if_possible(values: Tensor) -> Tensor:
    if not values.is_complex() or not len(values):
        return values
    real: Tensor = values.real
    return real if bool((values.imag.abs() <= 1e-12 * values.abs().max()).all()) else values


# --- what they say -----------------------------------------------------------------------------------


def _judged(
    f: Smooth,
    settings: Settings,
    point: Point,
    radius: float,
    curvature: Curvature,
    rests: bool,
    tolerance: float,
    closer: Certificate | None,
) -> tuple[Status, Stability, float]:
    """Name the point and decide on attraction; where there is a closer certificate, by what that says."""
    variant, weight_decay = settings.variant, settings.weight_decay
    length = float(torch.linalg.vector_norm(point.x)) or 1.0 if variant_of(variant).is_constant_multiple else radius
    largest = max(map(abs, curvature.hessian + curvature.hessian_plus))
    degenerate = False
    if point.grad_norm <= _STATIONARY * length * largest:
        kind, why = Status.STATIONARY, "x is, or almost is, a stationary point of f, where SAM's map is not smooth"
    elif not rests:
        kind = Status.UNDECIDED
        why = f"SAM does not rest here: its update is {point.update_norm / point.grad_norm:.2g} times the gradient"
    elif curvature.symmetric_residual > tolerance:
        kind = Status.UNDECIDED
        why = f"the residuals of the Hessians' eigenvalues, {curvature.symmetric_residual:.1e}, exceed the tolerance"
    elif closer is not None:
        kind, why = closer.kind, closer.reason
    else:
        seen = critical_kind(
            stationary(f, -weight_decay * point.x),
            point.x_plus,
            curvature.hessian_plus,
            partial(curvature.modes_plus, tolerance),
            unit=point.grad_norm / radius,
            length=radius,
            tolerance=tolerance,
        )
        kind, degenerate = HALLUCINATED[seen.kind], seen.is_degenerate
        why = DEGENERATE if seen.kind == "degenerate" else ""

    def is_manifold() -> bool:
        if closer is not None or degenerate or not kind.is_hallucinated:
            return closer is not None
        sizes = curvature.mu.values.abs()
        return follow(
            at_rest(f, settings.rho, variant=variant, weight_decay=weight_decay),
            point.x,
            curvature.modes_update(tolerance),
            length=min(radius, point.grad_norm / max(map(abs, curvature.hessian))),
            tolerance=tolerance,
            multiplicity=int((sizes <= tolerance * sizes.max()).sum()) if curvature.complete else 0,
        ).stays

    stability, residual = decide(
        curvature.mu, lr=settings.lr, momentum=settings.momentum, tolerance=tolerance, is_manifold=is_manifold
    )
    if not kind.is_hallucinated:
        stability = Stability(None, None, None, stability.zero_modes, why)
    elif closer is not None and not closer.attractor:
        stability = replace(closer.stability, contraction=stability.contraction, zero_modes=stability.zero_modes)
    return kind, stability, residual


def _degenerate_below(ratio: float) -> float:
    """Relative size of curvatures that a degenerate solution may have at a distance at which its update is left.

    If a curvature `λ = L·δ` is 0 at the distance δ, the update here is `L·δ²/2`: `λ` is like its root.
    """
    return min(4 * math.sqrt(ratio), _UNCERTAIN)


def _may_be_degenerate(curvature: Curvature, unit: float, ratio: float) -> bool:
    """Tell whether some curvatures, but not all, may be 0 at the point of rest near by, or 0 only here."""
    low, high = sorted(map(abs, curvature.hessian_plus))
    mu, below = curvature.mu.values.abs(), _degenerate_below(ratio)
    return high > below * unit and (low <= below * high or bool(mu.min() <= below * mu.max()))


def _closer(
    f: Smooth, settings: Settings, point: Point, radius: float, max_shift_ratio: float, finest: float, seed: int
) -> Certificate | None:
    """Certify the point of rest next to one that is not polished; None where there is none so near."""
    equation = at_rest(f, settings.rho, variant=settings.variant, weight_decay=settings.weight_decay)
    x = settled(equation, point.x)
    ratio = float(torch.linalg.vector_norm(equation.residual(x[None]))) / point.grad_norm
    if not float(torch.linalg.vector_norm(x - point.x)) <= _NEAR * radius:
        return None
    return certify(
        f,
        x,
        settings.rho,
        variant=settings.variant,
        weight_decay=settings.weight_decay,
        max_shift_ratio=max_shift_ratio,
        tolerance=max(finest, _degenerate_below(ratio)),
        dense=True,
        seed=seed,
    )

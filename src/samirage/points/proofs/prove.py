"""Prove that a hallucinated point exists: ball arithmetic, so that rounding is part of the theorem.

The box about the point holds exactly one zero of `g(x + rho·u(x))` (Krawczyk's operator); the gradient does not vanish
in it; and `H⁺` is positive definite, so that `x⁺` is a strict minimizer of `f`. On request also: SAM converges to the
point from everywhere near it, because its map contracts in a norm that a Lyapunov equation gives.

Where `x⁺` belongs to a whole manifold of minimizers, no zero is isolated. Two such families are reduced, and the proof
says so: functions of the distance from the origin, along a ray; and sums of squares that vanish at `x⁺`, in a slice.

Hallucinated points are those of Park, Jang, Ryu and Yang (arXiv 2509.21818).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from torch import Tensor

from samirage.landscape import Smooth
from samirage.points.equation import check_gradient, check_point, check_rho
from samirage.points.proofs.balls import (
    PRECISION_BITS,
    Floats,
    Matrix,
    bounds,
    box,
    identity,
    is_finite,
    is_positive_definite,
    matrix,
    middle,
    precision,
    widened,
)
from samirage.points.proofs.contraction import prove_attraction
from samirage.points.proofs.enclosure import Enclose, SamBox, enclose, over_box
from samirage.points.proofs.families import Ray, Slice, is_rotation_invariant, residuals_of
from samirage.points.proofs.krawczyk import newton_shift, reach
from samirage.points.proofs.proof import Proof, rounded_down
from samirage.points.proofs.record import Reduction, Theorem

_WIDEST: Final = 1e-8  # half-width of the box, relative to the size of the point, that is tried first
_NARROWEST: Final = 1e-13
_ROOM: Final = 0.999


def prove(
    f: Smooth,
    x: Tensor,
    rho: float,
    *,
    lr: float | None = None,
    radius: float | None = None,
    bits: int = PRECISION_BITS,
) -> Proof:
    """Prove that a small box about `x` holds exactly one hallucinated point, and that it sees a strict minimizer.

    Args:
        f: An analytic function with a formula (built in, or a `SymPyFunction`), or a `TanhNetwork`.
        x: The point, shape (d,), polished: it is the centre of the box, and is not improved here.
        rho: Perturbation radius, above 0; exactly the number that the float holds.
        lr: Learning rate at which to prove attraction, too; above 0.
        radius: Half-width of the box; by default the widest of 1e-8, 1e-9, …, 1e-13 (times the largest coordinate, if
            that exceeds 1) for which the proof succeeds.
        bits: Precision of the balls' middles, at least 53.

    Returns:
        The proof. It is `proved` only if all that was asked is; else `reason` says what could not be shown. What is not
        proved may still be true.

    Raises:
        TypeError: If balls cannot evaluate `f`.
        ValueError: If an argument is out of its range, `f` is not finite or not deterministic at `x`, or its gradient
            is 0 there.

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> from samirage.points import find_hallucinated
        >>> f = DoubleWell()
        >>> x = find_hallucinated(f, f.minimizers[0], rho=1.5)[0].x
        >>> proof = prove(f, x, rho=1.5, lr=0.1)
        >>> print(proof.statement.split(". ")[0])
        The box of half-width 1e-08 about the given point (0.4709..., -0.0222...) holds exactly one zero of \
g(x + 1.5·g(x)/‖g(x)‖)
        >>> prove(f, x + 1e-4, rho=1.5).proved
        False
    """
    rho = check_rho(rho)
    lr, radius = _positive("lr", lr), _positive("radius", radius)
    if isinstance(bits, bool) or not isinstance(bits, int) or bits < 53:
        raise ValueError(f"bits must be a whole number of at least 53; got {bits!r}")
    derive = enclose(f)
    point = check_point(f, x)
    _, grad = check_gradient(f, point)
    if float(grad.norm()) == 0:
        raise ValueError("the gradient is 0 at x, where SAM has no direction: x is a stationary point of f itself")
    centre: Floats = point.cpu().numpy()
    radii = [radius] if radius is not None else _radii(centre)
    with precision(bits):
        plain = _Attempt(derive, matrix(centre), centre, "none", rho, radii, lr).proof()
        if plain.proved or plain.grad_norm is None:
            return plain
        if is_rotation_invariant(f):
            ray = Ray(f)
            return _Attempt(enclose(ray), ray.distance(centre), centre, "rotation", rho, radii, lr).proof()
        residuals = residuals_of(f)
        if residuals is not None:
            return _within_slice(Slice(residuals, derive, centre, rho), radii, lr)
        return plain


def _positive(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be None or a finite number above 0; got {value!r}")
    return float(value)


def _radii(centre: Floats) -> list[float]:
    scale = max(1.0, float(np.abs(centre).max()))
    count = round(math.log10(_WIDEST / _NARROWEST)) + 1
    return [float(f"{_WIDEST * scale * 10.0**-i:.1e}") for i in range(count)]  # numbers that are short to print


@dataclass(frozen=True)
class _Attempt:
    """The proof about one isolated zero of a function, in the coordinates in which it is isolated.

    Attributes:
        derive: Encloses gradient and Hessian of the function.
        middle: Encloses the centre of the boxes, a column: the point itself, or its distance from the origin.
        point: The given point.
        reduction: What the coordinates are.
        rho: Perturbation radius.
        radii: Half-widths to be tried, widest first.
        lr: Learning rate at which attraction is to be proved, or None.
    """

    derive: Enclose
    middle: Matrix
    point: Floats
    reduction: Reduction
    rho: float
    radii: list[float]
    lr: float | None

    def proof(self) -> Proof:
        best = _failure(self.point, self.rho, self.radii[-1], "the gradient may vanish in the box")
        at = over_box(self.derive, self.middle, self.rho)
        if at is None:
            return best
        for radius in self.radii:
            inside = over_box(self.derive, widened(self.middle, radius), self.rho)
            if inside is None or not _stated(inside) > 0:
                continue
            if not reach(at.grad_plus, inside.update, radius) < 1:
                if best.theorem is not None:
                    continue  # what was proved in a wider box stays, with the bounds of that box
                shift = newton_shift(middle(at.grad_plus)[:, 0], middle(at.update))
                best = replace(
                    best,
                    grad_norm=_ends(inside.grad_norm),
                    reason=(
                        f"no box of half-width {radius!r} or more about x could be shown to hold exactly one zero of "
                        f"g⁺: Newton's step goes {shift:.1e} away; polish x, or there is none, or M = H⁺A is singular"
                    ),
                )
                continue
            found = self._described(inside, radius)
            # A narrower box may let attraction be proved; what cannot be proved at any width is reported at the widest.
            if found.proved or self.lr is None or found.min_curvature is None:
                return found
            best = found if best.theorem is None else best
        return best

    def _described(self, inside: SamBox, radius: float) -> Proof:
        hessian = middle(inside.hessian_plus) if is_finite(inside.hessian_plus) else None
        lowest = -1.0 if hessian is None else float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[0])
        bound = rounded_down(0.5 * lowest)
        strict = bound > 0 and is_positive_definite(inside.hessian_plus - identity(self.middle.nrows()) * bound)
        reason, attraction = "", None
        if not strict:
            reason = (
                f"H⁺ could not be shown to be positive definite (its smallest eigenvalue is about {lowest:.2g}): x⁺ is "
                "not a strict minimizer, or not provably so"
            )
        if self.lr is not None:
            attraction = prove_attraction(self.derive, self.middle, self.rho, self.lr, radius)
            if attraction is None:
                reason = reason or f"the SAM map with lr = {self.lr!r} could not be shown to contract about the point"
        theorem = Theorem(
            reduction=self.reduction,
            rho=self.rho,
            centre=tuple(self.point.tolist()),
            half_width=radius,
            free=tuple(range(len(self.point))),
            grad_norm_above=_stated(inside),
            min_curvature=bound if strict else None,
            attraction=attraction,
        )
        return Proof(
            proved=not reason,
            reason=reason,
            rho=self.rho,
            centre=self.point,
            box=bounds(box(self.point, radius)),
            x_plus_box=bounds(inside.x_plus) if self.reduction == "none" else None,
            grad_norm=_ends(inside.grad_norm),
            theorem=theorem,
        )


def _within_slice(sliced: Slice, radii: list[float], lr: float | None) -> Proof:
    """Prove that a sum of squares vanishes at `x⁺`, for a point in the slice in which most coordinates are held."""
    centre, rho = sliced.centre, sliced.rho
    for radius in radii:
        found = sliced.over(radius)
        if found is None or not (_stated(found.inside) > 0 and reach(found.value, found.derivative, radius) < 1):
            continue
        reason = "" if lr is None else "attraction to a manifold of hallucinated points is not proved here"
        ends = np.stack([centre, centre], 1)
        ends[list(sliced.free)] = bounds(box(centre[list(sliced.free)], radius))
        return Proof(
            proved=not reason,
            reason=reason,
            rho=rho,
            centre=centre,
            box=ends,
            x_plus_box=bounds(found.inside.x_plus),
            grad_norm=_ends(found.inside.grad_norm),
            theorem=Theorem(
                reduction="least squares",
                rho=rho,
                centre=tuple(centre.tolist()),
                half_width=radius,
                free=sliced.free,
                grad_norm_above=_stated(found.inside),
            ),
        )
    return _failure(centre, rho, radii[-1], "no box about x could be shown to hold a zero of the residuals at x⁺")


def _failure(centre: Floats, rho: float, radius: float, reason: str) -> Proof:
    return Proof(False, reason, rho, centre, bounds(box(centre, radius)), None, None, None)


def _ends(ball: Any) -> tuple[float, float]:
    return float(np.nextafter(float(ball.lower()), -np.inf)), float(np.nextafter(float(ball.upper()), np.inf))


def _stated(inside: SamBox) -> float:
    """The lower bound of `‖g‖` that is stated: less than what is proved, for checkers with wider enclosures."""
    return rounded_down(_ROOM * _ends(inside.grad_norm)[0])

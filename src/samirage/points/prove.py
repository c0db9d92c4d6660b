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
from samirage.points.balls import (
    PRECISION_BITS,
    Floats,
    bounds,
    box,
    identity,
    is_finite,
    is_positive_definite,
    matrix,
    middle,
    precision,
)
from samirage.points.contraction import prove_attraction
from samirage.points.enclosure import Enclose, SamBox, enclose, over_box
from samirage.points.equation import check_gradient, check_point, check_rho
from samirage.points.families import Ray, Slice, is_rotation_invariant, residuals_of
from samirage.points.krawczyk import newton_shift, reach
from samirage.points.proof import Attraction, Proof, Reduction

_WIDEST: Final = 1e-8  # half-width of the box, relative to the size of the point, that is tried first
_NARROWEST: Final = 1e-13


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
        The box of half-width 1e-08 about the given point holds exactly one zero of g(x + 1.5·g(x)/‖g(x)‖)
        >>> prove(f, x + 1e-4, rho=1.5).proved
        False
    """
    rho = check_rho(rho)
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be None or a finite number above 0; got {lr!r}")
    if radius is not None and not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be None or a finite number above 0; got {radius!r}")
    if isinstance(bits, bool) or not isinstance(bits, int) or bits < 53:
        raise ValueError(f"bits must be a whole number of at least 53; got {bits!r}")
    point = check_point(f, x)
    _, grad = check_gradient(f, point)
    if float(grad.norm()) == 0:
        raise ValueError("the gradient is 0 at x, where SAM has no direction: x is a stationary point of f itself")
    derive = enclose(f)
    centre: Floats = point.cpu().numpy()
    radii = [radius] if radius is not None else _radii(centre)
    with precision(bits):
        plain = _Attempt(derive, centre, rho, radii, lr).proof()
        if plain.proved or plain.grad_norm is None:
            return plain
        if f.dim > 1 and is_rotation_invariant(f):
            return _along_ray(f, centre, rho, radii, lr)
        residuals = residuals_of(f)
        if residuals is not None:
            return _within_slice(f, Slice(residuals, derive, centre, rho), radii, lr)
        return plain


def _radii(centre: Floats) -> list[float]:
    scale = max(1.0, float(np.abs(centre).max()))
    count = round(math.log10(_WIDEST / _NARROWEST)) + 1
    return [_WIDEST * scale * 10.0**-i for i in range(count)]


@dataclass(frozen=True)
class _Attempt:
    """The proof about one isolated point."""

    derive: Enclose
    centre: Floats
    rho: float
    radii: list[float]
    lr: float | None

    def proof(self) -> Proof:
        best = _failure(self.centre, self.rho, self.radii[-1], "the gradient may vanish in the box")
        at = over_box(self.derive, matrix(self.centre), self.rho)
        if at is None:
            return best
        for radius in self.radii:
            inside = over_box(self.derive, box(self.centre, radius), self.rho)
            if inside is None:
                continue
            if not reach(at.grad_plus, inside.update, radius) < 1:
                shift = newton_shift(middle(at.grad_plus)[:, 0], middle(at.update))
                best = replace(
                    best,
                    grad_norm=_ends(inside.grad_norm),
                    reason=(
                        f"no box of half-width {radius:.0e} or more about x could be shown to hold exactly one zero of "
                        f"g⁺: Newton's step goes {shift:.1e} away; polish x, or there is none, or M = H⁺A is singular"
                    ),
                )
                continue
            found = self._described(inside, radius)
            # A narrower box may let attraction be proved; what cannot be proved at any width is reported at the widest.
            if found.proved or self.lr is None or found.min_curvature is None:
                return found
            best = found if best.x_plus_box is None else best
        return best

    def _described(self, inside: SamBox, radius: float) -> Proof:
        hessian = middle(inside.hessian_plus) if is_finite(inside.hessian_plus) else None
        lowest = -1.0 if hessian is None else float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[0])
        bound = 0.5 * lowest
        strict = bound > 0 and is_positive_definite(inside.hessian_plus - identity(len(self.centre)) * bound)
        low, high = _ends(inside.grad_norm)
        statement = (
            f"The box of half-width {radius:.3g} about the given point holds exactly one zero of "
            f"g(x + {self.rho:g}·g(x)/‖g(x)‖). There ‖g‖ is above {_down(low)}"
        )
        reason, attraction = "", None
        if strict:
            statement += f", and x⁺ is a strict minimizer of f: every eigenvalue of H⁺ exceeds {_down(bound)}."
        else:
            statement += "."
            reason = (
                f"H⁺ could not be shown to be positive definite (its smallest eigenvalue is about {lowest:.2g}): x⁺ is "
                "not a strict minimizer, or not provably so"
            )
        if self.lr is not None:
            attraction = prove_attraction(self.derive, self.centre, self.rho, self.lr, radius)
            if attraction is None:
                reason = reason or f"the SAM map with lr = {self.lr:g} could not be shown to contract about the point"
            else:
                statement += " " + _attraction_text(attraction)
        return Proof(
            proved=not reason,
            statement=statement,
            reason=reason,
            rho=self.rho,
            centre=self.centre,
            box=bounds(box(self.centre, radius)),
            x_plus_box=bounds(inside.x_plus),
            grad_norm=(low, high),
            min_curvature=bound if strict else None,
            attraction=attraction,
            reduction="none",
            free=tuple(range(len(self.centre))),
        )


def _along_ray(f: Smooth, centre: Floats, rho: float, radii: list[float], lr: float | None) -> Proof:
    """Reduce a function of the distance from the origin to one dimension."""
    ray = Ray(f)
    proof = _Attempt(enclose(ray), ray.distance(centre), rho, radii, lr).proof()
    radius = float(proof.box[0, 1] - proof.box[0, 0]) / 2
    lifted = replace(proof, centre=centre, box=bounds(box(centre, radius)), reduction="rotation", x_plus_box=None)
    lifted = replace(lifted, free=tuple(range(len(centre))))
    if not proof.proved:
        return lifted
    distance = 0.5 * float(proof.box.sum())
    text = (
        "f depends on the distance from the origin alone (checked symbolically), so the proof is about that distance: "
        f"in {distance:.17g} ± {radius:.3g} there is exactly one t such that every x with ‖x‖ = t is a hallucinated "
        f"point; one of them lies in the box of half-width {radius:.3g} about the given point. There ‖g‖ is above "
        f"{_down(proof.grad_norm[0] if proof.grad_norm else 0.0)}, and x⁺ is a minimizer of f, strict across the "
        f"sphere of its kind: the curvature along the ray exceeds {_down(proof.min_curvature or 0.0)}."
    )
    if proof.attraction is not None:
        text += " Of the distance ‖x‖: " + _attraction_text(proof.attraction)
    return replace(lifted, statement=text)


def _within_slice(f: Smooth, sliced: Slice, radii: list[float], lr: float | None) -> Proof:
    """Prove that a sum of squares vanishes at `x⁺`, for a point in the slice in which most coordinates are held."""
    centre, rho = sliced.centre, sliced.rho
    proof = _failure(centre, rho, radii[-1], "no box about x could be shown to hold a zero of the residuals at x⁺")
    for radius in radii:
        found = sliced.over(radius)
        if found is None or not reach(found.value, found.derivative, radius) < 1:
            continue
        low, high = _ends(found.inside.grad_norm)
        held = [str(i) for i in range(len(centre)) if i not in sliced.free]
        text = (
            "f is a sum of squares, so the proof is about its residuals: the box of half-width "
            f"{radius:.3g} about the given point, with the coordinates {', '.join(held)} held, has exactly one x at "
            f"which they all vanish at x⁺ = x + {rho:g}·u(x). Then x⁺ is a global minimizer of f, not an isolated "
            f"one, and g⁺ = 0. There ‖g‖ is above {_down(low)}."
        )
        reason = "" if lr is None else "attraction to a manifold of hallucinated points is not proved here"
        ends = np.stack([centre, centre], 1)
        ends[list(sliced.free)] = bounds(box(centre[list(sliced.free)], radius))
        return Proof(
            not reason, text, reason, rho, centre, ends, bounds(found.inside.x_plus), (low, high), None, None,
            "least squares", sliced.free,
        )  # fmt: skip
    return replace(proof, reduction="least squares", free=sliced.free)


def _failure(centre: Floats, rho: float, radius: float, reason: str, reduction: Reduction = "none") -> Proof:
    free = tuple(range(len(centre)))
    return Proof(False, "", reason, rho, centre, bounds(box(centre, radius)), None, None, None, None, reduction, free)


def _ends(ball: Any) -> tuple[float, float]:
    return float(np.nextafter(float(ball.lower()), -np.inf)), float(np.nextafter(float(ball.upper()), np.inf))


def _down(bound: float) -> str:
    """A lower bound, cut to five digits: never rounded up."""
    if bound <= 0:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(bound)) - 4)
    return f"{math.floor(bound / unit) * unit:.5g}"


def _attraction_text(attraction: Attraction) -> str:
    return (
        f"With lr = {attraction.lr:g}, SAM converges to it from every start within {_down(attraction.basin_radius)} "
        f"of it; in the norm of a Lyapunov equation every step multiplies the distance by {attraction.factor:.6g} or "
        "less."
    )

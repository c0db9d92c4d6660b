"""Zero modes: directions along which the first derivative of an equation `F(z) = 0` vanishes, and what they lead to.

A zero mode has two possible reasons. Along a *manifold* of solutions the derivative vanishes, and `F` stays 0. At a
*degenerate* solution, such as an inflection or a quartic minimum, it vanishes at the one point only, and higher
derivatives decide what happens there. The derivative alone cannot tell them apart, so `F` is followed: from `z` by a
finite length `t` both ways along the mode, then by Newton steps at right angles to all modes, until `F` vanishes there
or nothing but its part along the modes is left (the reduction of Lyapunov and Schmidt). On a manifold nothing is left;
else what is left has the order of the first derivative that does not vanish: `t²` at an inflection, `t³` at a quartic.
Where these steps do not converge, since the derivative changes too fast, Levenberg-Marquardt steps look for any
solution nearer to the point than `t/2`: at an isolated solution there is none.

A random combination of all modes is followed, so that one degenerate mode among them shows: a polynomial that is not 0
vanishes at almost no point.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from samirage.points.certificates.spectrum import Spectrum
from samirage.points.equation import Equation
from samirage.points.polish import least_squares
from samirage.sam.map import VectorMap

FRACTIONS: Final = (0.1, 0.01, 0.001)
"""How far a mode is followed, in units of the length on which `F` changes: the next where Newton's method fails."""

_DIRECTIONS: Final = 3  # random combinations of the modes
_NEWTON_STEPS: Final = 40
_DAMPED_STEPS: Final = 10
_SETTLING_STEPS: Final = 60  # for a degenerate solution is approached by halves only
_DAMPING: Final = (1e-3, 1e-16, 1e3)  # at first, least and most, relative to the square of the derivative
_NEAR: Final = 0.5  # of the distance followed: how far another solution may be from the point that was followed to
_SLOWEST: Final = 0.9  # factor by which a Newton step is to be shorter than the one before
_PRODUCTS: Final = 20  # per solution without a matrix; Newton's method needs no exact one
_BUDGET: Final = 300  # products in all
_INEXACT: Final = 1e-3  # where a solution without a matrix may stop, relative to its right-hand side


@dataclass(frozen=True)
class Modes:
    """The zero modes of a linear map `J`, and how to solve with it at right angles to them.

    Attributes:
        directions: Unit vectors in the span of the modes, shape (m, d).
        solve: Maps residuals, shape (n, d), to the shortest `s` that minimize `‖J·s − residual‖`, of the same shape and
            at right angles to the modes.
        size: Size of the map, above 0: its largest singular value, or an estimate.
        count: Dimension of the span; for maps that are known by their products only, of the part that was found.
    """

    directions: Tensor
    solve: VectorMap
    size: float
    count: int


@dataclass(frozen=True)
class Course:
    """What `F` does along zero modes.

    Attributes:
        stays: Whether `F` stays 0, so that the modes are those of a manifold of solutions.
        rises: Whether, where `F` is a gradient, its function rises along a mode.
        falls: Whether it falls along one.
    """

    stays: bool
    rises: bool = False
    falls: bool = False


def matrix_modes(matrix: Tensor, tolerance: float, *, seed: int = 0) -> Modes:
    """Return the zero modes of a matrix, and its pseudoinverse without them.

    Args:
        matrix: `J`, shape (d, d).
        tolerance: Singular values up to this part of the largest count as 0.
        seed: Seed of the combinations that are followed.

    Example:
        >>> modes = matrix_modes(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), 1e-6)
        >>> modes.count, modes.directions.abs(), modes.solve(torch.tensor([[1.0, 1.0]]))
        (1, tensor([[0., 1.]]), tensor([[0.5000, 0.0000]]))
    """
    u, values, vt = torch.linalg.svd(matrix)
    zero = values <= tolerance * values[0]
    null, inverse = vt[zero], torch.where(zero, torch.zeros_like(values), 1 / values)
    return Modes(_combined(null, seed), lambda rows: ((rows @ u) * inverse) @ vt, float(values[0]), len(null))


def product_modes(product: VectorMap, transpose: VectorMap, spectrum: Spectrum) -> Modes:
    """Return one zero mode of a linear map that is known by its products, and a solution with it by iteration.

    Args:
        product: Maps `v` of shape (d,) to `J·v`.
        transpose: Maps `v` to `Jᵀ·v`.
        spectrum: Its outer eigenvalues, with the eigenvector of the one next to 0.

    Returns:
        The mode. Its `solve` gives NaN once some 300 products were spent.
    """
    assert spectrum.nearest_0 is not None
    v = spectrum.nearest_0 / spectrum.nearest_0.norm()
    spent = 0

    def counted(s: Tensor) -> Tensor:
        nonlocal spent
        spent += 1
        return product(s)

    def one(residual: Tensor) -> Tensor:
        if spent >= _BUDGET:
            return torch.full_like(residual, torch.nan)
        s = least_squares(counted, transpose, residual, max_products=_PRODUCTS, tolerance=_INEXACT)
        across: Tensor = s - v * (v @ s)
        return across

    return Modes(v[None], lambda rows: torch.stack(list(map(one, rows))), float(spectrum.values.abs().max()), 1)


def all_modes(like: Tensor, size: float, *, seed: int = 0) -> Modes:
    """Return modes where the whole derivative vanishes: any direction is one, and nothing is left to solve.

    Args:
        like: A point, shape (d,), whose dtype and device the directions are to have.
        size: The size with which the derivative is compared.
        seed: Seed of the directions.
    """
    count = min(len(like), _DIRECTIONS)
    random = torch.randn(count, len(like), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Modes((random / random.norm(dim=1, keepdim=True)).to(like), torch.zeros_like, size, len(like))


def follow(
    equation: Equation, z: Tensor, modes: Modes, *, length: float, tolerance: float, multiplicity: int = 1
) -> Course:
    """Follow zero modes of an equation from a solution, both ways.

    Args:
        equation: The equation.
        z: The solution, shape (d,).
        modes: The zero modes of the derivative of `F` there.
        length: A length on which `F` changes, above 0; modes are followed by `FRACTIONS` of it.
        tolerance: The mean derivative along the way that counts as 0, relative to the size of the derivative.
        multiplicity: Number of eigenvalues of the derivative that are 0. Where it exceeds the number of modes, the
            derivative itself leads away along some (it has a Jordan block), and nothing is followed.

    Returns:
        Whether `F` stays 0, and else what its function does; neither rising nor falling where no step converges.

    Example:
        >>> from samirage.landscape import TorchFunction
        >>> from samirage.points.equation import stationary
        >>> f, x = TorchFunction(lambda x: x[0] ** 3 + x[1] ** 2, dim=2), torch.zeros(2)
        >>> follow(stationary(f), x, matrix_modes(f.hessian(x), 1e-6), length=1.0, tolerance=1e-6)
        Course(stays=False, rises=True, falls=True)
    """
    if multiplicity > modes.count:
        return Course(False)
    outward = torch.cat([modes.directions, -modes.directions])
    for fraction in FRACTIONS:
        distance = fraction * length
        small = tolerance * modes.size * distance
        points = z + distance * outward
        residual = _reduced(equation.residual, points, modes.solve, distance, small, tolerance)
        if residual is None:
            if all(_has_solution(equation, point, distance, small) for point in points[:: len(modes.directions)]):
                return Course(True)
            continue
        if bool((residual.norm(dim=1) <= small).all()):
            return Course(True)
        slopes = (residual * outward).sum(1)
        return Course(False, bool((slopes > small).any()), bool((slopes < -small).any()))
    return Course(False)


def _reduced(
    equation: VectorMap, points: Tensor, solve: VectorMap, distance: float, small: float, tolerance: float
) -> Tensor | None:
    """Return what is left of `F` after Newton steps at right angles to the modes; None where they do not converge."""
    begin, last = points, math.inf
    for _ in range(_NEWTON_STEPS):
        residual = equation(points)
        if not bool(residual.isfinite().all()):
            return None
        if bool((residual.norm(dim=1) <= small).all()):
            return residual
        step = solve(residual)
        longest = float(step.norm(dim=1).max())
        if longest <= tolerance * distance:
            return residual
        points = points - step
        if not longest <= _SLOWEST * last or float((points - begin).norm(dim=1).max()) > distance:
            return None
        last = longest
    return None


def _has_solution(equation: Equation, point: Tensor, distance: float, small: float) -> bool:
    """Look for a solution near a point, not back where it was followed from."""
    for z, residual in _damped_steps(equation, point, _DAMPED_STEPS):
        if not float((z - point).norm()) <= _NEAR * distance:
            return False
        if float(residual.norm()) <= small:
            return True
    return False


def settled(equation: Equation, z: Tensor) -> Tensor:
    """Return a solution that is nearly one as nearly as a few Levenberg-Marquardt steps make it.

    Args:
        equation: The equation.
        z: About a solution, shape (d,).
    """
    for better, _ in _damped_steps(equation, z, _SETTLING_STEPS):
        z = better
    return z


def _damped_steps(equation: Equation, z: Tensor, most_steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Take Levenberg-Marquardt steps for as long as they lower the residual; yield the points and their residuals."""
    damping, least, most = _DAMPING
    residual = equation.residual(z[None])[0]
    yield z, residual
    for _ in range(most_steps):
        product, transpose = equation.linearized(z)
        steepest = transpose(residual)
        scale = float(product(steepest).norm() / steepest.norm().clamp(min=torch.finfo(z.dtype).tiny)) ** 2
        while damping <= most:
            step = least_squares(product, transpose, -residual, damping=damping * scale, max_products=_PRODUCTS)
            new = equation.residual((z + step)[None])[0]
            if float(new.norm()) < float(residual.norm()):
                z, residual, damping = z + step, new, max(damping / 10, least)
                yield z, residual
                break
            damping *= 10
        else:
            return


def _combined(null: Tensor, seed: int) -> Tensor:
    """Random unit vectors in the span of orthonormal rows; the row itself where there is only one."""
    if len(null) <= 1:
        return null
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(min(len(null), _DIRECTIONS), len(null), generator=generator, dtype=torch.float64)
    combined: Tensor = (weights / weights.norm(dim=1, keepdim=True)).to(null) @ null
    return combined

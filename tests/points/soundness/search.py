"""Points to ask the prover about: true hallucinated ones, those that a lie would make hallucinated, and others.

The search is small and quick, and not that of the package: a few steps of SAM, then Newton's method, in batches.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from tests.points.soundness.cases import Case
from tests.points.soundness.functions import TreeFunction, formula_of, make

Origin = Literal["hallucinated", "planted", "other"]

_DESCENTS: Final = 2
_STARTS: Final = 16
_SAM_STEPS: Final = 20
_NEWTON_STEPS: Final = (12, 6)  # of all points, and of those that come near
_PER_FUNCTION: Final = 2


@dataclass(frozen=True)
class Candidate:
    """A point with a radius, and where it comes from.

    `hallucinated` is a verdict in float64: `g⁺` vanishes there to rounding, and `g` does not. `regular` says that `H⁺`
    is positive definite, and it and `M` are far from singular: the prover should succeed.
    """

    x: Tensor
    rho: float
    origin: Origin
    regular: bool = False
    max_stable_lr: float | None = None


def candidates(case: Case, f: Any) -> Iterator[Candidate]:
    """Yield points of a function."""
    rng = random.Random(case.seed)
    targets = _minimizers(f, case.seed)
    found: list[Candidate] = []
    for rho in (case.rho, 1.4 * case.rho):
        found = found or hallucinated(f, targets, rho, case.seed)
    yield from found[:_PER_FUNCTION]
    if not case.honest:
        for x in _planted(case, f, rng):
            yield Candidate(x, case.rho, "planted")
    if rng.random() < 0.3:
        x = torch.tensor([rng.gauss(0, 1) for _ in range(f.dim)], dtype=torch.float64)
        if found and rng.random() < 0.7:
            # Near a true one: the box may hold it or not.
            x = found[0].x + x * 10 ** rng.uniform(-14, -3)
        yield Candidate(x, found[0].rho if found else case.rho, "other")


def _minimizers(f: Any, seed: int) -> Tensor:
    """Find a minimizer or two, to a few digits; shape (n, d)."""
    rng = np.random.default_rng(seed)

    def value_and_grad(x: Any) -> tuple[float, Any]:
        value, grad = f.value_and_grad(torch.from_numpy(np.array(x, dtype=np.float64)))
        return float(value), grad.numpy()

    ends = [
        minimize(value_and_grad, rng.normal(size=f.dim), jac=True, method="BFGS", options={"maxiter": 50}).x
        for _ in range(_DESCENTS)
    ]
    kept = [x for x in ends if np.isfinite(x).all() and np.abs(x).max() < 20]
    return torch.from_numpy(np.array(kept, dtype=np.float64).reshape(len(kept), f.dim))


def hallucinated(f: Any, targets: Tensor, rho: float, seed: int) -> list[Candidate]:
    """Find zeros of `g(x + rho·g/‖g‖)` about minimizers, those first that see minimizers."""
    if not len(targets):
        return []
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(_STARTS, f.dim, dtype=torch.float64, generator=generator)
    spread = torch.rand(_STARTS, 1, dtype=torch.float64, generator=generator)
    x = targets[torch.arange(_STARTS) % len(targets)] + 1.3 * rho * spread * noise / noise.norm(dim=1, keepdim=True)
    half = x[: _STARTS // 2]
    for step in range(_SAM_STEPS):
        half = half - _clipped(0.2 * 0.9**step * f.grad(_plus(f, half, rho)), 0.3 * rho)
    x = torch.cat([half, x[_STARTS // 2 :]])
    x = x[x.isfinite().all(1)]
    for step in range(sum(_NEWTON_STEPS)):
        value, matrix = _equation(f, x, rho)
        good = value.isfinite().all(1) & matrix.isfinite().all((1, 2))
        if step >= _NEWTON_STEPS[0]:
            good &= value.norm(dim=1) < 1e-3
        x, value, matrix = x[good], value[good], matrix[good]
        if not len(x):
            return []
        x = x - _clipped((torch.linalg.pinv(matrix, rtol=1e-9) @ value[:, :, None])[:, :, 0], 0.5 * rho)
    points = [p for p in x if bool(f.grad(p).norm() > 1e-3) and bool(f.grad(_plus(f, p, rho)).norm() < 1e-11)]
    distinct: list[Tensor] = []
    for point in points:
        if all(float((point - other).norm()) > 1e-6 for other in distinct):
            distinct.append(point)
    found = [_described(f, point, rho) for point in distinct]
    return sorted(found, key=lambda c: (not c.regular, c.max_stable_lr is None))


def _clipped(step: Tensor, most: float) -> Tensor:
    return step * (most / step.norm(dim=1, keepdim=True).clamp(min=most))


def _plus(f: Any, x: Tensor, rho: float) -> Tensor:
    grad = f.grad(x)
    return x + rho * grad / grad.norm(dim=-1, keepdim=True)


def _equation(f: Any, x: Tensor, rho: float) -> tuple[Tensor, Tensor]:
    """Return `g⁺` and its derivative `H⁺·(I + (rho/‖g‖)·(I − u·uᵀ)·H)`."""
    grad = f.grad(x)
    size = grad.norm(dim=-1, keepdim=True)
    u = (grad / size)[..., None]
    hessian, plus = f.hessian(x), x + rho * grad / size
    perturbed = torch.eye(f.dim, dtype=x.dtype) + rho / size[..., None] * (hessian - u @ (u.mT @ hessian))
    return f.grad(plus), f.hessian(plus) @ perturbed


def _described(f: Any, x: Tensor, rho: float) -> Candidate:
    curvatures = torch.linalg.eigvalsh(f.hessian(_plus(f, x, rho)))
    matrix = _equation(f, x, rho)[1]
    values, mu = torch.linalg.svdvals(matrix), torch.linalg.eigvals(matrix)
    regular = bool(curvatures[0] > 1e-3 and values[-1] > 1e-4 * values[0] and values[0] < 1e4)
    mu = mu[mu.abs() > 1e-6 * mu.abs().max()]  # along a family of points nothing moves
    attracts = len(mu) and bool((mu.real > 0).all())
    bound = float((2 * mu.real / mu.abs() ** 2).min()) if attracts else None
    return Candidate(x, rho, "hallucinated", regular, bound)


def _planted(case: Case, f: Any, rng: random.Random) -> Iterator[Tensor]:
    """Yield points at which a lie would be true."""
    arguments = {**case.arguments}
    if "tree" in arguments:
        arguments["tree"] = _as_rounded(arguments["tree"])
    if case.name in {"soundness:claimed-squares", "soundness:penalized-squares"}:
        start = torch.tensor([rng.gauss(0, 0.7) for _ in range(f.dim)], dtype=torch.float64)
        for begin in (start, 0.3 * start):
            x = _residuals_vanish(make(case.name, arguments), begin, case.rho)
            if x is not None:
                yield x
    elif case.family == "nearly rotation-invariant":
        ray = TreeFunction(1, _on_axis(arguments["tree"]))
        for point in hallucinated(ray, _minimizers(ray, case.seed), case.rho, case.seed)[:2]:
            direction = torch.tensor([rng.gauss(0, 1) for _ in range(f.dim)], dtype=torch.float64)
            axis = torch.eye(f.dim, dtype=torch.float64)[0]
            for e in (axis, direction / direction.norm()):
                yield abs(float(point.x)) * e
    else:
        face = formula_of(case.name, case.arguments)
        for point in hallucinated(face, _minimizers(face, case.seed), case.rho, case.seed)[:2]:
            yield point.x


def _as_rounded(tree: Any) -> Any:
    """Return a tree without the terms `(big·m + c·m) − big·m`, which arithmetic of 53 bits loses, but for noise."""
    if not isinstance(tree, list) or tree[0] == "x":
        return tree
    match tree:
        case ["-", ["+", ["*", float(big), monomial], _], ["*", float(other), _]] if big == other and big >= 1e15:
            return ["*", 0.0, monomial]
    return [tree[0], *(_as_rounded(child) for child in tree[1:])]


def _on_axis(tree: Any) -> Any:
    """Return a tree on the first axis: every other coordinate is `0·x_0`."""
    if not isinstance(tree, list):
        return tree
    if tree[0] == "x":
        return tree if tree[1] == 0 else ["*", 0.0, ["x", 0]]
    return [tree[0], *(child if tree[0] == "^" and i else _on_axis(child) for i, child in enumerate(tree[1:]))]


def _residuals_vanish(f: Any, x: Tensor, rho: float) -> Tensor | None:
    """Solve `residuals(x⁺) = 0` by the method of Gauss and Newton, with the gradient of the function itself."""

    def equations(point: Tensor) -> Tensor:
        return torch.stack(list(f.residuals(_plus(f, point, rho).unbind())))

    for _ in range(40):
        value = equations(x)
        if not bool(value.isfinite().all()):
            return None
        if float(value.norm()) < 1e-14:
            break
        slopes = torch.func.jacrev(equations)(x)
        step = torch.linalg.lstsq(slopes, -value[:, None], driver="gelsd").solution[:, 0]
        x = x + step * min(1.0, 0.5 / float(step.norm() + 1e-300))
    return x if float(equations(x).norm()) < 1e-12 else None

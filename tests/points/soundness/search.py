"""Points to ask the prover about: true hallucinated ones, those that a lie would make hallucinated, and others."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from samirage.points import find_hallucinated
from samirage.points.equation import dense_update
from samirage.sam.map import displacement
from soundness.formulas import Case
from soundness.functions import TreeFunction, formula_of, make

Origin = Literal["hallucinated", "planted", "other"]

_STARTS: Final = 3
_PER_FUNCTION: Final = 2


@dataclass(frozen=True)
class Candidate:
    """A point with a radius, and where it comes from.

    `hallucinated` is a float64 verdict: `g⁺` vanishes there to rounding, and `g` does not. `regular` says that `M` and
    `H⁺` are far from singular and `H⁺` is positive definite, or that the function is of a family that can be reduced:
    the prover should succeed.
    """

    x: Tensor
    rho: float
    origin: Origin
    regular: bool
    max_stable_lr: float | None


def candidates(case: Case, f: Any) -> Iterator[Candidate]:
    """Yield points of a function."""
    rng = random.Random(case.seed)
    targets = _minimizers(f, case.seed)
    found: list[Any] = []
    for rho in (case.rho, 1.4 * case.rho, 0.7 * case.rho):
        found = found or _found(f, targets, rho, case.seed)
    for point in found[:_PER_FUNCTION]:
        yield Candidate(point.x, point.rho, "hallucinated", _is_regular(f, point.x, point.rho), point.max_stable_lr)
    if not case.honest:
        for x in _planted(case, f, rng):
            yield Candidate(x, case.rho, "planted", False, None)
    if rng.random() < 0.3:
        x = torch.tensor([rng.gauss(0, 1) for _ in range(f.dim)], dtype=torch.float64)
        if found and rng.random() < 0.7:
            # Near a true one: the box may hold it or not.
            x = found[0].x + x * 10 ** rng.uniform(-14, -3)
        yield Candidate(x, found[0].rho if found else case.rho, "other", False, None)


def _found(f: Any, targets: list[Tensor], rho: float, seed: int) -> list[Any]:
    found: list[Any] = []
    for target in targets:
        try:
            points = find_hallucinated(f, target, rho=rho, methods=["sphere", "sam"], starts=6, steps=50, seed=seed)
        except (ValueError, RuntimeError):
            continue
        found += [p for p in points if p.grad_plus_norm < 1e-11]
        if len(found) >= _PER_FUNCTION:
            break
    return sorted(found, key=lambda p: p.attracts is not True)


def _minimizers(f: Any, seed: int) -> list[Tensor]:
    known = [m.double() for m in getattr(f, "minimizers", [])]
    if known:
        return known[:2]
    rng = np.random.default_rng(seed)
    found: list[Tensor] = []

    def value_and_grad(x: Any) -> tuple[float, Any]:
        value, grad = f.value_and_grad(torch.from_numpy(np.asarray(x, dtype=np.float64).copy()))
        return float(value), grad.numpy()

    for _ in range(_STARTS):
        end = minimize(value_and_grad, rng.normal(size=f.dim), jac=True, method="BFGS", options={"gtol": 1e-10})
        x = torch.from_numpy(np.asarray(end.x, dtype=np.float64))
        near = np.isfinite(end.x).all() and np.abs(end.x).max() < 20 and float(f.grad(x).norm()) < 1e-6
        if near and all(float((x - other).norm()) > 1e-3 for other in found):
            found.append(x)
    return found[:2]


def _is_regular(f: Any, x: Tensor, rho: float) -> bool:
    plus = x + displacement(x, f.grad(x), rho)
    curvatures = torch.linalg.eigvalsh(f.hessian(plus))
    values = torch.linalg.svdvals(dense_update(f, x, rho))
    return bool(curvatures[0] > 1e-3 and values[-1] > 1e-4 * values[0] and values[0] < 1e4)


def _planted(case: Case, f: Any, rng: random.Random) -> Iterator[Tensor]:
    """Yield points at which a lie would be true."""
    if case.name in {"soundness:claimed-squares", "soundness:penalized-squares"}:
        start = torch.tensor([rng.gauss(0, 0.7) for _ in range(f.dim)], dtype=torch.float64)
        for begin in (start, 0.3 * start):
            x = _residuals_vanish(f, begin, case.rho)
            if x is not None:
                yield x
    elif case.family == "nearly rotation-invariant":
        ray = TreeFunction(1, _on_axis(case.arguments["tree"]))
        for point in _found(ray, _minimizers(ray, case.seed), case.rho, case.seed)[:2]:
            direction = torch.tensor([rng.gauss(0, 1) for _ in range(f.dim)], dtype=torch.float64)
            axis = torch.eye(f.dim, dtype=torch.float64)[0]
            for e in (axis, direction / direction.norm()):
                yield abs(float(point.x)) * e
    else:
        face = formula_of(case.name, case.arguments)
        for point in _found(face, _minimizers(face, case.seed), case.rho, case.seed)[:2]:
            yield point.x


def _on_axis(tree: Any) -> Any:
    """Return a tree on the first axis: every other coordinate is `0·x_0`."""
    if not isinstance(tree, list):
        return tree
    if tree[0] == "x":
        return tree if tree[1] == 0 else ["*", 0.0, ["x", 0]]
    return [tree[0], *(child if tree[0] == "^" and i else _on_axis(child) for i, child in enumerate(tree[1:]))]


def _residuals_vanish(f: Any, x: Tensor, rho: float) -> Tensor | None:
    """Solve `residuals(x⁺) = 0` by Gauss and Newton's method, with the gradient of the function itself."""

    def equations(point: Tensor) -> Tensor:
        return torch.stack(list(f.residuals((point + displacement(point, f.grad(point), rho)).unbind())))

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


def function_of(case: Case) -> Any:
    """Return the function of a case."""
    return make(case.name, case.arguments)

"""Eigenvalues of operators that are known by their products only, each with its residual.

On a CPU the implicitly restarted methods of ARPACK (Lehoucq, Sorensen and Yang, 1998) do the work, through SciPy; on an
accelerator a short Arnoldi iteration that keeps its vectors there. Residuals of what ARPACK returns are computed from a
product of their own; Arnoldi's follow from its last vector.

ARPACK stops when a residual is small against the eigenvalue; at 0 it never does. So the ends of a spectrum are computed
for the operator plus a multiple of the identity that moves all eigenvalues away from 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
from torch import Tensor

from samirage.errors import require

VectorMap = Callable[[Tensor], Tensor]

_SHIFT: Final = 3.0  # in units of the largest eigenvalue found so far, which may still be too small by a half
_PROBES: Final = 12  # Arnoldi steps from which the size of the spectrum is estimated
_BASIS: Final = 16  # ARPACK's vectors, besides two per eigenvalue; with more, networks took no fewer products
_PRODUCTS: Final = 600  # that ARPACK may take, about
_DEVICE_STEPS: Final = 80


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Some or all eigenvalues of an operator.

    Attributes:
        values: Eigenvalues, shape (k,), on the CPU: float64 for a symmetric operator, else complex128.
        residuals: `‖B·v − value·v‖` for the unit eigenvector `v`, shape (k,): for a symmetric operator, the distance to
            an eigenvalue at most; for others, the size of a change of the operator that makes the value exact.
        products: Products with the operator that it took.
        direction: The sum of the eigenvectors, shape (d,), where ARPACK found them: a start for a similar operator.
        nearest_0: The eigenvector, shape (d,), of the value next to 0, its real part; None where only values are known.
    """

    values: Tensor
    residuals: Tensor
    products: int
    direction: Tensor | None = None
    nearest_0: Tensor | None = None


def arnoldi(product: VectorMap, start: Tensor, steps: int) -> Spectrum:
    """Return the Ritz values of a short Arnoldi iteration with full reorthogonalisation, on the device of its start.

    The outer ones approximate outer eigenvalues. Where the start lies in an invariant subspace, the iteration ends
    early, and its values are exact.

    Args:
        product: Maps `v` of shape (d,) to `B·v`.
        start: Start vector, shape (d,), not 0.
        steps: Most steps, at least 1: that many vectors are kept.

    Returns:
        Ritz values by decreasing size, with the residuals that the iteration itself knows.

    Example:
        >>> diagonal = torch.tensor([5.0, 3.0, -1.0, 0.5], dtype=torch.float64)
        >>> arnoldi(lambda v: diagonal * v, torch.ones(4, dtype=torch.float64), steps=4).values.real
        tensor([ 5.0000,  3.0000, -1.0000,  0.5000], dtype=torch.float64)
    """
    steps = min(steps, len(start))
    basis = start.new_empty(steps + 1, len(start))
    basis[0] = start / torch.linalg.vector_norm(start)
    projected = torch.zeros(steps + 1, steps, dtype=torch.float64)
    done = 0
    for j in range(steps):
        w = product(basis[j])
        size = float(torch.linalg.vector_norm(w))
        known = basis[: j + 1]
        for _ in range(2):  # twice is enough
            parts = known @ w
            w = w - parts @ known
            projected[: j + 1, j] += parts.to("cpu", torch.float64)
        left = float(torch.linalg.vector_norm(w))
        done = j + 1
        if left <= 10 * torch.finfo(start.dtype).eps * size:
            break
        projected[j + 1, j] = left
        basis[j + 1] = w / left
    values, vectors = torch.linalg.eig(projected[:done, :done])
    residuals = projected[done, done - 1] * vectors[-1].abs()
    order = values.abs().argsort(descending=True, stable=True)
    nearest_0 = vectors[:, order[-1]].real.to(start) @ basis[:done]
    return Spectrum(values[order], residuals[order], done, nearest_0=nearest_0)


def random_start(like: Tensor, seed: int) -> Tensor:
    """Return a random unit vector, the same on every device.

    Args:
        like: A tensor of shape (d,), whose dtype and device it is to have.
        seed: Its seed.

    Returns:
        Shape (d,).

    Example:
        >>> torch.equal(random_start(torch.zeros(3), seed=1), random_start(torch.zeros(3), seed=1))
        True
    """
    v = torch.randn(len(like), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit: Tensor = v / torch.linalg.vector_norm(v)
    return unit.to(like)


def symmetric_ends(product: VectorMap, start: Tensor, *, tolerance: float) -> Spectrum:
    """Return the smallest and the largest eigenvalue of a symmetric operator.

    Args:
        product: Maps `v` of shape (d,) to `B·v`.
        start: Start vector, shape (d,), not 0; its dtype and device are those of the computation.
        tolerance: Residual at which to stop, relative to the largest eigenvalue in size.

    Returns:
        The two eigenvalues, float64, the smallest first. Where the solver did not get so far in a few hundred
        products, they are the best that it has, which their residuals show.

    Example:
        >>> diagonal = torch.linspace(-1, 7, 50, dtype=torch.float64)
        >>> symmetric_ends(lambda v: diagonal * v, random_start(diagonal, seed=0), tolerance=1e-8).values
        tensor([-1.0000,  7.0000], dtype=torch.float64)
    """
    probe = _probe(product, start)
    ends = torch.stack([probe.values.real.argmin(), probe.values.real.argmax()])
    known = Spectrum(probe.values.real[ends], probe.residuals[ends], probe.products, nearest_0=probe.nearest_0)
    scale = float(probe.values.abs().max())
    if start.device.type != "cpu" or bool((known.residuals <= tolerance * scale).all()):
        return known
    found = _arpack(product, start, which="BE", count=2, shift=_SHIFT * scale, tolerance=tolerance / (_SHIFT + 1))
    products = probe.products + found.products
    if len(found.values) < 2:
        return replace(known, products=products)
    order = found.values.real.argsort()
    return Spectrum(found.values.real[order], found.residuals[order], products, found.direction, found.nearest_0)


def leading_spectrum(
    product: VectorMap, start: Tensor, *, leading: int, leftmost: int, tolerance: float
) -> tuple[Spectrum, Spectrum]:
    """Return the eigenvalues of an operator that decide on stability: the largest in size, and the leftmost.

    Args:
        product: Maps `v` of shape (d,) to `B·v`.
        start: Start vector, shape (d,), not 0; its dtype and device are those of the computation.
        leading: How many of the largest in size, at least 1.
        leftmost: How many of the smallest real part, at least 1.
        tolerance: Residual at which to stop, relative to the largest eigenvalue in size.

    Returns:
        The largest, by decreasing size; and the leftmost, by increasing real part. Both may hold one more, to complete
        a conjugate pair, or fewer, where the solver did not converge in a few hundred products.

    Example:
        >>> diagonal = torch.linspace(-1, 7, 50, dtype=torch.float64)
        >>> top, left = leading_spectrum(
        ...     lambda v: diagonal * v, random_start(diagonal, seed=0), leading=1, leftmost=1, tolerance=1e-8)
        >>> top.values.real, left.values.real
        (tensor([7.0000], dtype=torch.float64), tensor([-1.0000], dtype=torch.float64))
    """
    probe = _probe(product, start)
    scale = float(probe.values.abs().max())
    by_real = probe.values.real.argsort()[:leftmost]
    probed = (
        Spectrum(probe.values[:leading], probe.residuals[:leading], probe.products, nearest_0=probe.nearest_0),
        Spectrum(probe.values[by_real], probe.residuals[by_real], 0, nearest_0=probe.nearest_0),
    )
    if start.device.type != "cpu" or scale == 0:
        return probed
    top = _arpack(product, start, which="LM", count=leading, shift=0.0, tolerance=tolerance)
    scale = max([scale, *top.values.abs().tolist()])
    left = _arpack(product, start, which="SR", count=leftmost, shift=_SHIFT * scale, tolerance=tolerance / (_SHIFT + 1))
    found = []
    for solved, known in zip((top, left), probed, strict=True):
        best = solved if len(solved.values) else known
        found.append(replace(best, products=known.products + solved.products))
    order = found[1].values.real.argsort()
    return found[0], replace(found[1], values=found[1].values[order], residuals=found[1].residuals[order])


def _probe(product: VectorMap, start: Tensor) -> Spectrum:
    """Run Arnoldi's method: on a CPU just long enough to learn the size of the spectrum, elsewhere to the end."""
    return arnoldi(product, start, _PROBES if start.device.type == "cpu" else _DEVICE_STEPS)


def _arpack(
    product: VectorMap,
    start: Tensor,
    *,
    which: Literal["LM", "SR", "BE"],
    count: int,
    shift: float,
    tolerance: float,
) -> Spectrum:
    """Run ARPACK on `B + shift·I`, and compute the residuals of the pairs that it finds; none, if none converged."""
    linalg = require("lab", "scipy.sparse.linalg")
    spent = 0

    def of(v: Any) -> Tensor:
        nonlocal spent
        spent += 1
        return product(torch.as_tensor(v).reshape(-1).to(start))

    def shifted(v: Any) -> Any:
        return torch.add(of(v), torch.as_tensor(v).reshape(-1).to(start), alpha=shift).cpu().numpy()

    begin = start.cpu().numpy()
    operator = linalg.LinearOperator((len(start), len(start)), matvec=shifted, dtype=begin.dtype)
    solve = linalg.eigsh if which == "BE" else linalg.eigs
    basis = min(len(start), _BASIS + 2 * count)
    restarts = _PRODUCTS // max(basis - count, 1)
    tolerance = max(tolerance, float(torch.finfo(start.dtype).eps))
    try:
        values, vectors = solve(operator, k=count, which=which, v0=begin, ncv=basis, tol=tolerance, maxiter=restarts)
    except linalg.ArpackNoConvergence as partial:
        values, vectors = partial.eigenvalues, partial.eigenvectors
    found = torch.as_tensor(values, dtype=torch.complex128) - shift
    residuals: dict[complex, float] = {}
    for value, vector in zip(found.tolist(), torch.as_tensor(vectors).T, strict=True):
        if value.conjugate() in residuals:  # the other of a conjugate pair, with the conjugate vector
            residuals[value] = residuals[value.conjugate()]
            continue
        v = vector.to(torch.complex128)
        image = of(vector.real).double() + (1j * of(vector.imag).double() if value.imag else 0)
        residuals[value] = float(torch.linalg.vector_norm(image.cpu() - value * v) / torch.linalg.vector_norm(v))
    order = found.abs().argsort(descending=True, stable=True)
    true = torch.tensor([residuals[value] for value in found[order].tolist()], dtype=torch.float64)
    direction = torch.as_tensor(vectors.real.sum(1)).to(start) if len(found) else None
    nearest_0 = torch.as_tensor(vectors.real[:, int(order[-1])]).to(start) if len(found) else None
    return Spectrum(found[order], true, spent, direction, nearest_0)

"""Extreme eigenvalues and eigenvectors of a symmetric matrix that is known by its products alone (C. Lanczos, 1950).

With full reorthogonalization, which at this size costs little and needs no care for ghost eigenvalues (B. N. Parlett,
"The Symmetric Eigenvalue Problem", section 6.6).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor], like: Tensor, *, steps: int = 30, seed: int = 0
) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue that `steps` products find.

    Both lie between the true extremes, and approach them as the steps grow; with as many steps as there are
    coordinates they are exact.

    Args:
        product: Maps a vector of shape (d,) to the product of the matrix with it.
        like: A vector of shape (d,) with the dtype and device to compute in.
        steps: Most products to take, at least 1.
        seed: Seed of the start vector.

    Returns:
        The smallest and the largest Ritz value.

    Example:
        >>> diagonal = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)
        >>> low, high = extreme_eigenvalues(lambda v: diagonal * v, diagonal)
        >>> round(low, 9), round(high, 9)
        (-1.0, 3.0)
    """
    *_, (_, tridiagonal, _) = _steps(product, like, steps, seed)
    values = torch.linalg.eigvalsh(tridiagonal)
    return float(values[0]), float(values[-1])


def top_eigenvector(
    product: Callable[[Tensor], Tensor], like: Tensor, *, steps: int = 60, tolerance: float = 1e-4, seed: int = 0
) -> tuple[float, Tensor]:
    """Return the eigenvalue of largest size, with its eigenvector.

    Args:
        product: Maps a vector of shape (d,) to the product of the matrix with it.
        like: A vector of shape (d,) with the dtype and device to compute in.
        steps: Most products to take, at least 1.
        tolerance: Residual at which it is taken, relative to the eigenvalue.
        seed: Seed of the start vector.

    Returns:
        The Ritz value, and the Ritz vector of length 1.

    Example:
        >>> diagonal = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)
        >>> value, vector = top_eigenvector(lambda v: diagonal * v, diagonal)
        >>> round(value, 9), vector.abs().round(decimals=6)
        (3.0, tensor([0., 0., 1.], dtype=torch.float64))
    """
    value, vector = 0.0, like
    for basis, tridiagonal, length in _steps(product, like, steps, seed):
        values, weights = torch.linalg.eigh(tridiagonal)
        best = int(values.abs().argmax())
        value, vector = float(values[best]), weights[:, best].to(like) @ basis
        if length * abs(float(weights[-1, best])) <= tolerance * abs(value):
            break
    return value, vector / torch.linalg.vector_norm(vector)


def _steps(
    product: Callable[[Tensor], Tensor], like: Tensor, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield after each of k = 1, 2, … products: k basis vectors as rows, the matrix in this basis, what is left over.

    The matrix is tridiagonal, shape (k, k), float64; what is left over is the length of the part of the last image that
    lies outside of the basis. It ends early where nothing is.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    basis = (start / torch.linalg.vector_norm(start))[None]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for _ in range(min(steps, like.numel())):
        image = product(basis[-1])
        diagonal.append(float(torch.dot(basis[-1], image)))
        for _ in range(2):  # twice is enough (Kahan)
            image = image - basis.t() @ (basis @ image)
        length = float(torch.linalg.vector_norm(image))
        tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        for i, entry in enumerate(off_diagonal):
            tridiagonal[i, i + 1] = tridiagonal[i + 1, i] = entry
        yield basis, tridiagonal, length
        if not length > torch.finfo(like.dtype).eps * 10 * max(map(abs, diagonal)):
            break
        off_diagonal.append(length)
        basis = torch.cat([basis, (image / length)[None]])

"""Extreme eigenvalues of a symmetric matrix that is known by its products alone (C. Lanczos, 1950).

With full reorthogonalization, which at this size costs little and needs no care for ghost eigenvalues (B. N. Parlett,
"The Symmetric Eigenvalue Problem", section 6.6).
"""

from collections.abc import Callable

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
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    basis = [start / torch.linalg.vector_norm(start)]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for _ in range(min(steps, like.numel())):
        image = product(basis[-1])
        diagonal.append(float(torch.dot(basis[-1], image)))
        known = torch.stack(basis)
        for _ in range(2):  # twice is enough (Kahan)
            image = image - known.t() @ (known @ image)
        length = float(torch.linalg.vector_norm(image))
        scale = max(map(abs, diagonal))
        if not length > torch.finfo(like.dtype).eps * 10 * scale:
            break
        off_diagonal.append(length)
        basis.append(image / length)
    size = len(diagonal)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for i, entry in enumerate(off_diagonal[: size - 1]):
        tridiagonal[i, i + 1] = tridiagonal[i + 1, i] = entry
    values = torch.linalg.eigvalsh(tridiagonal)
    return float(values[0]), float(values[-1])

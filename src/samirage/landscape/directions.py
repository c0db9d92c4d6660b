"""Directions worth looking along: random ones at the scale of the weights, the gradient, the sharpest curvature.

Filter normalisation is that of Li, Xu, Taylor, Studer and Goldstein (arXiv 1712.09913): every filter of a random
direction gets the norm of the same filter of the network, so that the scale of the axes means the same for all layers;
biases and the like, whose "filters" have one entry, get 0. The second direction is made orthogonal to the first filter
by filter before it is scaled, so that the two are orthogonal as a whole, which independent ones are only about.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from samirage.landscape.planes import Line, Plane, Span, check_vectors, line, orthonormal, plane
from samirage.landscape.smooth import Smooth
from samirage.sam import top_eigenvector


def random_plane(f: Smooth, x: Tensor, *, seed: int = 0, spans: tuple[Span, Span] | Span | None = None) -> Plane:
    """Lay a plane through a point along two random directions, orthogonal, and filter-normalised for a network.

    Args:
        f: An `Objective`, whose parameters have filters; or an analytic function, for which the directions have
            length 1.
        x: The point, shape (d,).
        seed: Seed of the directions, which are the same on every device.
        spans: Smallest and largest coordinate of both axes, or of each; −1 to 1 by default: for a network, changes as
            large as its weights.

    Returns:
        The plane.

    Raises:
        ValueError: If `f` is a network without any filter of two entries or more that is not 0.

    Example:
        >>> from samirage.landscape import Quadratic
        >>> at = random_plane(Quadratic([4.0, 1.0, 1.0]), torch.zeros(3))
        >>> (at.basis @ at.basis.mT).round(decimals=5).abs()
        tensor([[1., 0.],
                [0., 1.]])
    """
    check_vectors({"x": x})
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(len(x), generator=generator, dtype=torch.float64).to(x) for _ in range(2))
    unflatten: Callable[[Tensor], dict[str, Tensor]] | None = getattr(f, "unflatten", None)
    if unflatten is None:
        directions = orthonormal(first, second)
        return plane(x, directions=directions, spans=spans, labels=("random direction 1", "random direction 2"))
    for size, one, other in zip(*(_filters(unflatten(v)) for v in (x, first, second)), strict=True):
        if one.shape[1] < 2:
            one.zero_(), other.zero_()
            continue
        one.mul_(size.norm(dim=1, keepdim=True) / one.norm(dim=1, keepdim=True))
        square = one.square().sum(1, keepdim=True)
        for _ in range(2):  # twice, against rounding
            other.sub_(one * ((one * other).sum(1, keepdim=True) / square.where(square > 0, 1.0)))
        other.mul_(size.norm(dim=1, keepdim=True) / other.norm(dim=1, keepdim=True))
    if not float(first.norm()) > 0:
        raise ValueError("no filter of the network has two entries that are not all 0: give two directions instead")
    labels = ("random direction 1 (filter-normalised)", "random direction 2 (filter-normalised)")
    return plane(x, directions=(first, second), spans=spans, labels=labels)


def _filters(parameters: dict[str, Tensor]) -> Iterator[Tensor]:
    """Yield views of the parameters as matrices whose rows are the filters; a vector is filters of one entry."""
    for value in parameters.values():
        yield value.view(value.shape[0], -1) if value.dim() > 1 else value.view(-1, 1)


def gradient_plane(f: Smooth, x: Tensor, *, seed: int = 0, spans: tuple[Span, Span] | Span | None = None) -> Plane:
    """Lay a plane through a point along its gradient and the top eigenvector of its Hessian, made orthogonal to it.

    Args:
        f: The function.
        x: The point, shape (d,), at which the gradient is not 0.
        seed: Seed of the start of the iteration for the eigenvector.
        spans: Smallest and largest coordinate of both axes, or of each; −1 to 1 by default.

    Returns:
        The plane; its coordinates are distances.

    Raises:
        ValueError: If the gradient is 0, or parallel to the eigenvector.

    Example:
        >>> from samirage.landscape import Quadratic
        >>> gradient_plane(Quadratic([9.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])).basis.abs().round(decimals=3)
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """
    check_vectors({"x": x})
    linearized = f.linearize(x)
    if not float(linearized.grad.norm()) > 0:
        raise ValueError(
            "the gradient is 0 at x, which is no direction: use random_plane, or two directions of your own"
        )
    _, top = top_eigenvector(linearized.hvp, x, seed=seed)
    unit = linearized.grad / linearized.grad.norm()
    if not float((top - (unit @ top) * unit).norm()) > 1e-6:
        raise ValueError("the gradient at x is an eigenvector of the Hessian, so that both span a line and no plane")
    labels = ("along the gradient", "along the top eigenvector, at right angles")
    return plane(x, directions=orthonormal(linearized.grad, top), spans=spans, labels=labels)


def ascent_line(f: Smooth, x: Tensor, *, rho: float, span: Span | None = None) -> Line:
    """Lay the line along which SAM looks from a point: `x + t·u`, from before 0 to beyond `rho`.

    Args:
        f: The function.
        x: The point, shape (d,), at which the gradient is not 0.
        rho: Perturbation radius, above 0.
        span: Smallest and largest `t`; from −rho/2 to 3·rho/2 by default.

    Returns:
        The line; its coordinates are distances, and `rho` is marked.

    Raises:
        ValueError: If the gradient is 0, or the radius not above 0.

    Example:
        >>> from samirage.landscape import Ring
        >>> ascent_line(Ring(), torch.tensor([0.5, 0.0]), rho=1.5).points(torch.tensor([1.5]))  # across the maximizer
        tensor([-1.,  0.])
    """
    if not 0 < rho < float("inf"):
        raise ValueError(f"rho must be a finite number above 0; got {rho!r}")
    check_vectors({"x": x})
    grad = f.grad(x)
    if not float(grad.norm()) > 0:
        raise ValueError("the gradient is 0 at x, where SAM has no direction to look in")
    reach = (-rho / 2, 1.5 * rho) if span is None else span
    return line(x, grad, span=reach, label="distance t along the ascent direction u", rho=rho)

"""The SAM map `T(x) = x − lr·d(x)` as a dynamical system, with the products of its Jacobian in closed form.

The update `d(x) = g(x + e(x)) + weight_decay·x` takes the gradient at the perturbed point; `e` is the perturbation of
the variant, which must be a function of the point. With `A = I + De`, the derivative of `x⁺ = x + e(x)`,

`Dd = M = H⁺·A + weight_decay·I`, `DT = I − lr·M`, and the true gradient of `f^SAM(x) = f(x + e(x))` is `Aᵀ·g⁺`.

| variant | `De·v` |
|---|---|
| `"sam"` | `(rho/‖g‖)·P·H·v` with `P = I − u·uᵀ` |
| `"asam"` | `(rho/S)·(x²∘Hv + 2·x∘g∘v) − (rho/S³)·x²∘g·<x∘g² + H(x²∘g), v>` with `S = ‖x∘g‖` |
| `"unnormalized"` | `rho·H·v` |

No function here forms a matrix: a Hessian enters as its product with a vector. `M` is not symmetric. Points are vectors
of shape (d,), or (…, d) for many at once.

SAM is that of Foret et al. (arXiv 2010.01412); the heavy ball is `torch.optim.SGD`'s momentum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from samirage.sam.perturbation import perturb
from samirage.sam.variants import AbstractVariant, Variant, variant_of_map

VectorMap = Callable[[Tensor], Tensor]


def displacement(x: Tensor, grad: Tensor, rho: float, *, variant: Variant | AbstractVariant = "sam") -> Tensor:
    """Return the perturbation `e`, for points given as vectors.

    Args:
        x: Points, shape (…, d).
        grad: `g` at these points, same shape.
        rho: Perturbation radius, at least 0.
        variant: A name, or an object that remembers nothing and follows `g⁺`.

    Returns:
        `x⁺ − x`, same shape; 0 where `g = 0`.

    Raises:
        ValueError: If the variant is unknown, or its steps depend on more than the point.

    Example:
        >>> displacement(torch.zeros(2), torch.tensor([0.0, 7.0]), 0.5)
        tensor([0.0000, 0.5000])
    """
    rows = x.reshape(-1, x.shape[-1])
    rule = variant_of_map(variant)
    (e,) = perturb([rows], [grad.reshape(rows.shape)], rho, variant=rule, batched=True).displacement
    return e.reshape(x.shape)


def update_vector(
    grad_fn: VectorMap, x: Tensor, *, rho: float, variant: Variant | AbstractVariant = "sam", weight_decay: float = 0.0
) -> Tensor:
    """Return the full update vector `d(x) = g(x + e(x)) + weight_decay·x`: two gradients.

    Args:
        grad_fn: Maps points (…, d) to gradients of that shape.
        x: Points, shape (…, d).
        rho: Perturbation radius, at least 0.
        variant: A name, or an object that remembers nothing and follows `g⁺`.
        weight_decay: Coefficient of the coupled decay, at least 0.

    Returns:
        `d`, shape (…, d).

    Example:
        >>> update_vector(lambda x: 2 * x, torch.tensor([3.0]), rho=0.5)  # f = x²
        tensor([7.])
    """
    decayed = grad_fn(x + displacement(x, grad_fn(x), rho, variant=variant))
    return decayed + weight_decay * x if weight_decay else decayed


def sam_map(
    grad_fn: VectorMap,
    x: Tensor,
    *,
    rho: float,
    lr: float,
    variant: Variant | AbstractVariant = "sam",
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    previous: Tensor | None = None,
) -> Tensor:
    """Take one step: `T(x) = x − lr·d(x) + momentum·(x − previous)`.

    With momentum this is the companion form of `torch.optim.SGD`'s heavy ball at a constant learning rate: the state is
    the pair `(x, previous)`, and the step maps it to `(T(x), x)`.

    Args:
        grad_fn: Maps points (…, d) to gradients of that shape.
        x: Points, shape (…, d).
        rho: Perturbation radius, at least 0.
        lr: Learning rate, above 0.
        variant: A name, or an object that remembers nothing and follows `g⁺`.
        weight_decay: Coefficient of the coupled decay, at least 0.
        momentum: Coefficient of the heavy ball, from 0 to below 1.
        previous: The points one step before, same shape; by default they were the same (no velocity yet).

    Returns:
        The next points, shape (…, d).

    Example:
        >>> sam_map(lambda x: 2 * x, torch.tensor([3.0]), rho=0.5, lr=0.1)
        tensor([2.3000])
    """
    following = x - lr * update_vector(grad_fn, x, rho=rho, variant=variant, weight_decay=weight_decay)
    return following if previous is None else following + momentum * (x - previous)


def surrogate(
    value_fn: VectorMap, grad_fn: VectorMap, x: Tensor, *, rho: float, variant: Variant | AbstractVariant = "sam"
) -> Tensor:
    """Return `f^SAM(x) = f(x + e(x))`, which SAM's steps do not quite descend: they leave out a factor `Aᵀ`.

    Args:
        value_fn: Maps points (…, d) to values (…).
        grad_fn: Maps points (…, d) to gradients of that shape.
        x: Points, shape (…, d).
        rho: Perturbation radius, at least 0.
        variant: A name, or an object that remembers nothing and follows `g⁺`.

    Returns:
        Values, shape (…).

    Example:
        >>> surrogate(lambda x: x.square().sum(-1), lambda x: 2 * x, torch.tensor([3.0]), rho=0.5)
        tensor(12.2500)
    """
    return value_fn(x + displacement(x, grad_fn(x), rho, variant=variant))


def displacement_product(
    x: Tensor, grad: Tensor, hvp: VectorMap, v: Tensor, rho: float, *, variant: Variant | AbstractVariant = "sam"
) -> Tensor:
    """Return `De·v`, how the perturbation changes along `v`; the equations stand at the top of this module.

    Args:
        x: Points, shape (…, d); only `"asam"` reads it.
        grad: `g` at these points, same shape; not 0.
        hvp: Maps `v` of that shape to `H(x)·v`.
        v: Directions, same shape.
        rho: Perturbation radius, at least 0.
        variant: A name, or an object that remembers nothing and follows `g⁺`.

    Returns:
        `De·v`, shape (…, d).

    Example:
        >>> x, v = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])  # f = ‖x‖²/2: the perturbation turns with x
        >>> displacement_product(x, x, lambda v: v, v, rho=1.0)
        tensor([ 0.1280, -0.0960])
    """
    return variant_of_map(variant).displacement_product(x, grad, hvp(v), v, rho)


def displacement_transpose_product(
    x: Tensor, grad: Tensor, hvp: VectorMap, v: Tensor, rho: float, *, variant: Variant | AbstractVariant = "sam"
) -> Tensor:
    """Return `Deᵀ·v`, at the same price and with the same arguments as `displacement_product`.

    Args:
        x: Points, shape (…, d); only `"asam"` reads it.
        grad: `g` at these points, same shape; not 0.
        hvp: Maps `v` of that shape to `H(x)·v`.
        v: Directions, same shape.
        rho: Perturbation radius, at least 0.
        variant: A name, or an object that remembers nothing and follows `g⁺`.

    Returns:
        `Deᵀ·v`, shape (…, d).

    Example:
        >>> x, v = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])  # f = ‖x‖²/2
        >>> displacement_transpose_product(x, x, lambda v: v, v, rho=1.0)
        tensor([ 0.1280, -0.0960])
    """
    p, q = variant_of_map(variant).displacement_transpose_product(x, grad, v, rho)
    return hvp(q) if p is None else p + hvp(q)


@dataclass(frozen=True)
class Jacobian:
    """The SAM map linearized at one point: products with `A`, `M`, `DT` and their transposes, two HVPs each at most.

    Attributes:
        x: The point, shape (d,).
        grad: `g` there, same shape; not 0.
        hvp: Maps `v` to `H(x)·v`.
        hvp_plus: Maps `v` to `H(x⁺)·v`.
        rho: Perturbation radius.
        variant: A name, or an object that remembers nothing and follows `g⁺`.
        weight_decay: Coefficient of the coupled decay.

    Example:
        >>> x = torch.tensor([3.0, 4.0])  # f = ‖x‖²/2: x⁺ = (1 + rho/‖x‖)·x
        >>> jacobian = Jacobian(x, x, hvp=lambda v: v, hvp_plus=lambda v: v, rho=1.0)
        >>> jacobian.update(x), jacobian.update(torch.tensor([4.0, -3.0]))
        (tensor([3., 4.]), tensor([ 4.8000, -3.6000]))
    """

    x: Tensor
    grad: Tensor
    hvp: VectorMap
    hvp_plus: VectorMap
    rho: float
    variant: Variant | AbstractVariant = "sam"
    weight_decay: float = 0.0

    def perturbed(self, v: Tensor) -> Tensor:
        """Return `A·v`, the derivative of `x⁺` along `v`."""
        return v + displacement_product(self.x, self.grad, self.hvp, v, self.rho, variant=self.variant)

    def perturbed_transpose(self, v: Tensor) -> Tensor:
        """Return `Aᵀ·v`; of `v = g⁺` it is the true gradient of `f^SAM`."""
        return v + displacement_transpose_product(self.x, self.grad, self.hvp, v, self.rho, variant=self.variant)

    def update(self, v: Tensor) -> Tensor:
        """Return `M·v = H⁺·A·v + weight_decay·v`, the derivative of the update along `v`."""
        product = self.hvp_plus(self.perturbed(v))
        return product + self.weight_decay * v if self.weight_decay else product

    def update_transpose(self, v: Tensor) -> Tensor:
        """Return `Mᵀ·v = Aᵀ·H⁺·v + weight_decay·v`."""
        product = self.perturbed_transpose(self.hvp_plus(v))
        return product + self.weight_decay * v if self.weight_decay else product

    def map(self, v: Tensor, *, lr: float) -> Tensor:
        """Return `DT·v = v − lr·M·v`, the derivative of the step without momentum."""
        return v - lr * self.update(v)

    def companion(self, v: Tensor, *, lr: float, momentum: float) -> Tensor:
        """Return the derivative of the heavy ball's step `(x, previous) ↦ (T(x), x)` along `v`, shape (2·d,)."""
        now, before = v.chunk(2)
        return torch.cat([(1 + momentum) * now - lr * self.update(now) - momentum * before, now])

"""What a variant of SAM is: where it looks, what it follows, and what it remembers.

A variant is a frozen dataclass of hyperparameters with pure functions of lists of tensors, one tensor per parameter.
The same functions serve the optimizer (a `Reductions` sums over one vector, or over the shards of all ranks), the
ensemble engine (each tensor has a leading dimension of S members), the SAM map and the certificates. To add a variant,
write a class in a file of its own, and export it from `samirage.sam.variants`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from samirage.sam.reductions import BATCHED, SINGLE, Reductions, reciprocals

Rho = float | Tensor | Sequence[float] | Sequence[float | Tensor]
State = Mapping[str, list[Tensor]]
Use = Literal["ranks", "shards", "every", "sparse", "map", "engine"]


class AbstractVariant(ABC):
    """A variant of SAM; a subclass is a frozen dataclass of its hyperparameters.

    A step takes the gradient `g` at `x`, moves to `x⁺ = x + e` with the `perturbation` `e`, takes the gradient `g⁺`
    there, and lets the base optimizer follow the `direction` `d`, which is `g⁺` unless a subclass says otherwise.

    What a variant remembers from step to step is its state: lists of tensors by name, in the shapes and dtypes of the
    parameters. It is `{}` at the start, saved and loaded with the optimizer, and zero for a parameter that is new.

    Attributes:
        state_names: The names of the lists in the state.
        scale_free: Whether a gradient c times as long, with c above 0, leaves `e` as it is and only multiplies `d` by
            c, so that a loss scale does not matter. Otherwise the loss scale is taken out of the gradients first.
        needs_names: Whether the variant treats parameters by their names, so that `for_names` must be asked.

    Example:
        >>> from dataclasses import dataclass
        >>> from samirage.sam import perturb
        >>> @dataclass(frozen=True)
        ... class SignSAM(AbstractVariant):  # looks as far along every coordinate: e = rho·sign(g)
        ...     scale_free = True
        ...
        ...     def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        ...         return radial([g.sign() for g in grads], torch.ones(()), rho, reduce), state
        >>> perturb([torch.zeros(2)], [torch.tensor([3.0, -4.0])], 0.5, variant=SignSAM()).displacement
        [tensor([ 0.5000, -0.5000])]
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    scale_free: ClassVar[bool] = False
    needs_names: bool = False

    @abstractmethod
    def perturbation(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], rho: Rho, state: State, reduce: Reductions = SINGLE
    ) -> tuple[list[Tensor], State]:
        """Return `e`.

        Args:
            params: `x`, one tensor per parameter.
            grads: `g`, likewise; must not be changed.
            rho: Perturbation radius: a number, a tensor of shape () or (S,), or one number or tensor per parameter,
                which scales its own tensor.
            state: The state before the step; must not be changed.
            reduce: Sums over all tensors.

        Returns:
            `e`, tensors in the shapes and dtypes of the gradients: 0 where there is no direction, NaN throughout where
            a gradient is not finite. And the state after it.
        """

    def direction(
        self, grads: Sequence[Tensor], grads_plus: Sequence[Tensor] | None, state: State, reduce: Reductions = SINGLE
    ) -> tuple[Sequence[Tensor], State]:
        """Return `d`, which the base optimizer is given in place of the gradient: `g⁺`, or `g` in a step of one pass.

        A subclass that overrides this has a copy of `g` kept during pass 2.

        Args:
            grads: `g`, one tensor per parameter; must not be changed.
            grads_plus: `g⁺`, likewise; None in a step of one pass between two of SAM's.
            state: The state that `perturbation` returned; in a step of one pass, that before the step.
            reduce: Sums over all tensors.

        Returns:
            `d`, tensors of the same shapes and dtypes, and the state after the step.
        """
        return (grads if grads_plus is None else grads_plus), state

    def passes(self, step: int) -> int:
        """Return how many gradients a step takes, 1 or 2.

        Args:
            step: Number of the step, counted from the end of the warm start.

        Returns:
            2, unless a subclass says otherwise.
        """
        return 2

    def multiple(self, grad_norm: float | Tensor, rho: float | Tensor) -> float | Tensor | None:
        """Return the factor that makes `e` of `g`, where `e` is a multiple of `g`; then `e` is never stored.

        Args:
            grad_norm: `‖g‖`, a number or a tensor of shape () or (S,).
            rho: Perturbation radius, a number or a tensor of shape () or (S,).

        Returns:
            A number or tensor accordingly; None where `e` is not a multiple of `g`.
        """
        return None

    def for_names(self, names: Sequence[str]) -> Self:
        """Return the variant for parameters of these names; asked where `needs_names`.

        Args:
            names: A name for each parameter, in order.

        Returns:
            A variant.
        """
        return self

    def refuses(self, use: Use) -> str | None:
        """Return why the variant cannot be used so, in one sentence; None if it can.

        Args:
            use: `"ranks"` (`scope="local"` over ranks), `"shards"` (over shards in one process), `"every"` (another
                period than 1), `"sparse"` (gradients), `"map"` (`samirage.sam.sam_map` and certificates), or
                `"engine"` (stacks of networks, whose parameters have no names).
        """
        name = type(self).__name__
        keeps = " and ".join(self.state_names)
        if use in {"ranks", "shards"} and keeps:
            return (
                f"{name} keeps {keeps} for the whole batch, and scope 'local' has a perturbation for each share of it: "
                "use scope='global'"
            )
        if use == "ranks" and not self.follows_grad_plus:
            return (
                f"{name} compares the gradients of both passes, and with scope 'local' the ranks average only the "
                "second: use scope='global', or shards in one process"
            )
        if use == "engine" and self.needs_names:
            return f"{name} treats parameters by their names, and in the ensemble engine they have none: train by SAM"
        if use == "sparse" and (keeps or not self.follows_grad_plus):
            return f"{name} needs dense gradients, and one is sparse: build the embedding with sparse=False"
        if use == "map" and (keeps or not self.follows_grad_plus):
            why = f"remembers {keeps} from step to step" if keeps else "follows another direction than g⁺"
            return (
                f"{name} {why}, so that its steps are not the SAM map x − lr·g⁺(x) of the point alone: take a variant "
                "that has one, such as 'sam'"
            )
        return None

    @property
    def is_multiple(self) -> bool:
        """Whether `e` is a multiple of `g`."""
        return self.multiple(1.0, 1.0) is not None

    @property
    def is_radial(self) -> bool:
        """Whether `e = rho·u`, along `u = g/‖g‖`, wherever `g` is not 0."""
        near, far = self.multiple(1.0, 1.0), self.multiple(2.0, 1.0)
        return near is not None and far is not None and bool(near == 2 * far)

    @property
    def is_constant_multiple(self) -> bool:
        """Whether `e` is the same multiple of `g` for all `g`."""
        near, far = self.multiple(1.0, 1.0), self.multiple(2.0, 1.0)
        return near is not None and far is not None and bool(near == far)

    @property
    def follows_grad_plus(self) -> bool:
        """Whether `d` is the gradient of the last pass, so that `g` need not be kept."""
        return type(self).direction is AbstractVariant.direction

    # How the perturbation of a single vector changes, for the SAM map; a subclass may know a closed form.

    def displacement_product(self, x: Tensor, grad: Tensor, hvp_v: Tensor, v: Tensor, rho: float) -> Tensor:
        """Return `De·v`, how `e(x) = e(x, g(x))` changes along `v`; by automatic differentiation unless overridden.

        Args:
            x: Points, shape (…, d).
            grad: `g` there, same shape; not 0.
            hvp_v: `H(x)·v`, same shape.
            v: Directions, same shape.
            rho: Perturbation radius.

        Returns:
            Shape (…, d).
        """
        # The product with the transpose is linear in its argument, and the transpose of that is the product wanted.
        # (Forward mode would load decompositions that warn of torch's own deprecations.)
        pull: Any = torch.func.vjp(partial(self._of_vectors, rho=rho), x, grad)[1]
        product: Tensor = torch.func.vjp(pull, torch.zeros_like(v))[1]((v, hvp_v))[0]
        return product

    def displacement_transpose_product(
        self, x: Tensor, grad: Tensor, v: Tensor, rho: float
    ) -> tuple[Tensor | None, Tensor]:
        """Return `p` and `q` with which `Deᵀ·v = p + H(x)·q`; by automatic differentiation unless overridden.

        Args:
            x: Points, shape (…, d).
            grad: `g` there, same shape; not 0.
            v: Directions, same shape.
            rho: Perturbation radius.

        Returns:
            `p`, None for 0, and `q`, of shape (…, d).
        """
        p, q = torch.func.vjp(partial(self._of_vectors, rho=rho), x, grad)[1](v)
        return p, q

    def _of_vectors(self, x: Tensor, grad: Tensor, *, rho: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        (e,), _ = self.perturbation([rows], [grad.reshape(rows.shape)], rho, {}, BATCHED)
        return e.reshape(x.shape)


class AbstractMultiple(AbstractVariant):
    """A variant whose perturbation is a multiple of the gradient; a subclass says which, by `multiple`."""

    def perturbation(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], rho: Rho, state: State, reduce: Reductions = SINGLE
    ) -> tuple[list[Tensor], State]:
        """Return `e = c·g` with the factor `c` of `multiple`; see `AbstractVariant.perturbation`."""
        length = reduce.norm(grads)
        radii = list(rho) if isinstance(rho, Sequence) else [rho] * len(grads)
        factors = [self.multiple(length, radius) for radius in radii]
        return reduce.scaled(grads, [torch.as_tensor(factor) for factor in factors]), state

    @abstractmethod
    def multiple(self, grad_norm: float | Tensor, rho: float | Tensor) -> float | Tensor:
        """Return the factor that makes `e` of `g`; see `AbstractVariant.multiple`."""


def radial(vectors: Sequence[Tensor], length: Tensor, rho: Rho, reduce: Reductions) -> list[Tensor]:
    """Return `rho·v/length`, for a vector that is spread over a list of tensors.

    Args:
        vectors: `v`, one tensor per parameter.
        length: The norm that divides, shape () or (S,); 0 gives 0, and what is not finite NaN throughout.
        rho: The radius; see `AbstractVariant.perturbation`.
        reduce: Sums over all tensors.

    Returns:
        One tensor per parameter.

    Example:
        >>> radial([torch.tensor([3.0, 4.0])], torch.tensor(5.0), 0.5, SINGLE)
        [tensor([0.3000, 0.4000])]
    """
    unit = reciprocals(length)
    if isinstance(rho, Sequence):
        return reduce.scaled(vectors, [unit * radius for radius in rho])
    return reduce.scaled(vectors, unit * rho)


def checked_result(
    variant: AbstractVariant, what: str, found: object, like: Sequence[Tensor]
) -> tuple[list[Tensor], State]:
    """Return what a method of a variant has returned, if it has the form that it promises.

    Args:
        variant: The variant.
        what: The method's name.
        found: What it returned.
        like: Tensors whose number, shapes, dtypes and devices they must have.

    Returns:
        The tensors and the state.

    Raises:
        TypeError: If this is not a pair of tensors and a state.
        ValueError: If a tensor has another shape, dtype or device, or the state another name.
    """
    where = f"{type(variant).__name__}.{what}"
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"{where} must return a pair of tensors and a state; got a {type(found).__name__}")
    tensors, state = found
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{where} must return a pair of tensors and a state, a dictionary; got a {type(state).__name__}"
        )
    unknown = set(state) - set(variant.state_names)
    if unknown:
        raise ValueError(f"{where} returned a state with {min(unknown)!r}, which is not in state_names: name it there")
    for name, values in {what: tensors, **state}.items():
        told = where if name == what else f"the state {name!r} of {where}"
        if not isinstance(values, Sequence) or len(values) != len(like):
            raise TypeError(f"{told} must be a list of {len(like)} tensors, one per parameter; got {_told(values)}")
        for i, (value, wanted) in enumerate(zip(values, like, strict=True)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{told} must be a list of tensors; got {type(value).__name__} for parameter {i}")
            if (value.shape, value.dtype, value.device) != (wanted.shape, wanted.dtype, wanted.device):
                raise ValueError(
                    f"{told} must have the shape {tuple(wanted.shape)}, dtype {wanted.dtype} and device "
                    f"{wanted.device} of the gradient of parameter {i}; got {tuple(value.shape)}, {value.dtype}, "
                    f"{value.device}"
                )
    return tensors, state


def _told(values: object) -> str:
    return f"{len(values)}" if isinstance(values, Sequence) else type(values).__name__

"""The ensemble engine: many networks of one architecture trained at once by plain, SAM and warm-started steps.

One computation trains all members, so that 80 seeds of full-batch MNIST are a few wide matrix products per step
instead of 80 small programs. Members share the examples and the order of the batches, and never mix.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from samirage.lab.stacked import AbstractStack
from samirage.sam import VARIANTS, StepFigures, Variant, WarmStart, norm, perturb, plain_figures, step_figures

FIGURES: Final = tuple(field.name for field in fields(StepFigures))


@dataclass(frozen=True)
class Recipe:
    """How to train: gradient steps `x ← x − lr·d`, with `d = g⁺` for SAM, and `d = g` for plain and warm-up steps.

    Attributes:
        steps: Number of steps, at least 1.
        lr: Learning rate, above 0.
        rho: Perturbation radius, at least 0; 0 trains without SAM.
        variant: Perturbation rule; see `samirage.sam.perturb`.
        warm_start: Plain steps before SAM, if any.
        batch_size: Examples per step, at least 1; None takes all examples at every step.
        batch_seed: Seed of the order of the minibatches.

    Raises:
        ValueError: If a value is out of its range.
    """

    steps: int
    lr: float
    rho: float = 0.0
    variant: Variant = "sam"
    warm_start: WarmStart | None = None
    batch_size: int | None = None
    batch_seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1; got {self.steps}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be a finite number above 0; got {self.lr}")
        if not (math.isfinite(self.rho) and self.rho >= 0):
            raise ValueError(f"rho must be a finite number of at least 0; got {self.rho}")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}; got {self.variant!r}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, or None for the full batch; got {self.batch_size}")

    def perturbs(self, step: int) -> bool:
        """Tell whether the step of this number (the first is 0) takes two passes."""
        return self.rho > 0 and not (self.warm_start is not None and self.warm_start.covers(step))


def train(
    members: AbstractStack, recipe: Recipe, after_step: Callable[[int], None] = lambda step: None
) -> dict[str, Tensor]:
    """Train all members of a stack, in place.

    A member whose loss is no longer finite goes on with NaN, and its figures say so; the others are unaffected.

    Args:
        members: The networks with their training examples; `members.params` is updated.
        recipe: How to train.
        after_step: Called after every step with its number; an exception that it raises ends the training.

    Returns:
        For each of `FIGURES` its course, shape (steps, S), in the dtype and on the device of the parameters. The
        figures of a step are those at the parameters before it.

    Example:
        >>> from samirage.lab.models import MLP, softmax_squared
        >>> from samirage.lab.stacked import stack
        >>> members = stack([MLP([4, 3, 2]) for _ in range(5)], softmax_squared, torch.rand(7, 4), torch.ones(7).long())
        >>> train(members, Recipe(steps=20, lr=0.1, rho=0.05))["shift_ratio"].shape
        torch.Size([20, 5])
    """
    params = members.params
    grads = [torch.empty_like(p) for p in params]
    course = params[0].new_empty(len(FIGURES), recipe.steps, len(params[0]))
    for step, rows in zip(range(recipe.steps), _batches(members.size, recipe, params[0].device), strict=False):
        take = _sam_step if recipe.perturbs(step) else _plain_step
        figures = take(members, grads, rows, recipe)
        for row, name in zip(course, FIGURES, strict=True):
            row[step] = getattr(figures, name)
        after_step(step)
    return dict(zip(FIGURES, course, strict=True))


def _plain_step(members: AbstractStack, grads: list[Tensor], rows: Tensor | None, recipe: Recipe) -> StepFigures:
    loss = members.loss_and_grads(members.params, grads, rows)
    figures = plain_figures(loss=loss, grad_norm=norm(grads, batched=True))
    torch._foreach_add_(members.params, grads, alpha=-recipe.lr)
    return figures


def _sam_step(members: AbstractStack, grads: list[Tensor], rows: Tensor | None, recipe: Recipe) -> StepFigures:
    params = members.params
    loss = members.loss_and_grads(params, grads, rows)
    perturbation = perturb(params, grads, recipe.rho, variant=recipe.variant, batched=True)
    # One buffer serves as e, then x⁺, then the realised x⁺ − x; and g⁺ takes the place of g, where g is not needed
    # any more: what the step touches should fit into the cache.
    plus = perturbation.displacement
    torch._foreach_add_(plus, params)
    ascent = grads if recipe.variant == "asam" else None
    grads_plus = [torch.empty_like(g) for g in grads] if ascent else grads
    loss_plus = members.loss_and_grads(plus, grads_plus, rows)
    torch._foreach_sub_(plus, params)
    figures = step_figures(
        loss=loss,
        loss_plus=loss_plus,
        grad_norm=perturbation.grad_norm,
        predicted_gain=perturbation.predicted_gain,
        displacement=plus,
        grads_plus=grads_plus,
        ascent=ascent,
        batched=True,
    )
    torch._foreach_add_(params, grads_plus, alpha=-recipe.lr)
    return figures


def _batches(size: int, recipe: Recipe, device: torch.device) -> Iterator[Tensor | None]:
    """Yield the rows of every batch, without end: epochs of shuffled examples, each of them once an epoch."""
    if recipe.batch_size is None or recipe.batch_size >= size:
        while True:
            yield None
    # Drawn on the CPU, so that the order is the same on every device.
    generator = torch.Generator().manual_seed(recipe.batch_seed)
    while True:
        order = torch.randperm(size, generator=generator).to(device)
        for start in range(0, size, recipe.batch_size):
            yield order[start : start + recipe.batch_size]

"""The ensemble engine: many networks of one architecture trained at once by plain, SAM, warm-started or guarded steps.

One computation trains all members, so that 80 seeds of full-batch MNIST are a few wide matrix products per step
instead of 80 small programs. Members share the examples and the order of the batches, and never mix.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Final, TypeVar

import torch
from torch import Tensor

from samirage.lab.stacked import AbstractMembers
from samirage.monitor import Watch
from samirage.sam import (
    VARIANTS,
    Guard,
    GuardState,
    Jump,
    JumpState,
    Schedule,
    StepFigures,
    Variant,
    WarmStart,
    check_lengths,
    norm,
    perturb,
    plain_figures,
    radius_factor,
    step_figures,
)

FIGURES: Final = tuple(field.name for field in fields(StepFigures))


@dataclass(frozen=True)
class Recipe:
    """How to train: `v ← momentum·v + d`, `x ← x − lr·v`, with `d = g⁺` for SAM, and `d = g` for plain steps.

    Plain steps are those of the warm start, those whose radius the schedule makes 0, and those that the guard rejects.

    Attributes:
        steps: Number of steps, at least 1.
        lr: Learning rate, above 0.
        rho: Perturbation radius, at least 0; 0 trains without SAM.
        variant: Perturbation rule; see `samirage.sam.perturb`.
        warm_start: Plain steps before SAM, if any.
        schedule: What the radius of every step is multiplied by, if anything.
        guard: Which shifted gradients not to follow, and how far to look next; judged for every member on its own.
        jump: When to move to `x⁺` instead of stepping, if ever; judged for every member on its own.
        momentum: Heavy-ball momentum, at least 0 and below 1.
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
    schedule: Schedule | None = None
    guard: Guard | None = None
    jump: Jump | None = None
    momentum: float = 0.0
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
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1; got {self.momentum}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, or None for the full batch; got {self.batch_size}")
        check_lengths(self.warm_start, self.schedule, steps=self.steps)

    def radius(self, step: int) -> float:
        """Return the radius of the step of this number (the first is 0), before the guard; 0 if it takes one pass."""
        return self.rho * radius_factor(step, warm_start=self.warm_start, schedule=self.schedule)

    @property
    def passes(self) -> int:
        """Gradient evaluations that are planned for one member: two where it takes a radius, else one."""
        return sum(2 if self.radius(step) > 0 else 1 for step in range(self.steps))


def train(
    members: AbstractMembers,
    recipe: Recipe,
    after_step: Callable[[int, int], None] = lambda step, passes: None,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """Train all members of a stack, in place.

    A member whose loss is no longer finite goes on with NaN, and its figures say so; the others are unaffected.

    Args:
        members: The networks with their training examples; `members.params` is updated.
        recipe: How to train.
        after_step: Called after every step with its number and the passes that it took; an exception that it raises
            ends the training.
        watch: A batched watch, which sees every step and alters none.

    Returns:
        For each of `FIGURES` its course, shape (steps, S), in the dtype and on the device of the parameters;
        `followed`, whether the member followed `g⁺`, boolean: not in plain steps, in the probes of a warm start, where
        its guard rejected the step, and where it jumped; and `passes`, the number of gradients that it needed. The
        figures of a step are those at the parameters before it.

    Example:
        >>> from samirage.lab.models import MLP, softmax_squared
        >>> from samirage.lab.stacked import stack
        >>> members = stack([MLP([4, 3, 2]) for _ in range(5)], softmax_squared, torch.rand(7, 4), torch.ones(7).long())
        >>> train(members, Recipe(steps=20, lr=0.1, rho=0.05))["shift_ratio"].shape
        torch.Size([20, 5])
    """
    training = _Training(members, recipe, watch)
    like = training.like
    course = like.new_empty(len(FIGURES), recipe.steps, len(like))
    followed = torch.zeros(recipe.steps, len(like), dtype=torch.bool, device=like.device)
    passes = torch.ones_like(followed, dtype=torch.int64)
    for step, rows in zip(range(recipe.steps), _batches(members.size, recipe, like.device), strict=False):
        radius = training.radius(step)
        if radius == 0:
            figures = training.plain_step(rows)
        else:
            figures = training.sam_step(step, rows, radius, followed[step], passes[step])
        for row, name in zip(course, FIGURES, strict=True):
            row[step] = getattr(figures, name)
        after_step(step, 1 if radius == 0 else 2)
    return {**dict(zip(FIGURES, course, strict=True)), "followed": followed, "passes": passes}


class _Training:
    """The steps of one training, and the buffers that they share."""

    def __init__(self, members: AbstractMembers, recipe: Recipe, watch: Watch | None) -> None:
        self._members, self._recipe, self._watch = members, recipe, watch
        self._params = members.params
        self._grads = [torch.empty_like(p) for p in self._params]
        self.like = norm(self._params, batched=True).to(self._params[0])
        precise = norm(self._params, batched=True)
        self._guard_state: GuardState | None = None if recipe.guard is None else recipe.guard.begin(precise)
        self._jump_state: JumpState | None = None if recipe.jump is None else recipe.jump.begin(precise)
        warm_start = recipe.warm_start
        self._criterion = warm_start if warm_start is not None and warm_start.until is not None else None
        self._agreed = None if self._criterion is None else self._criterion.begin(precise)
        self._some_are_over = False
        # Where g is needed beyond pass 1, g⁺ has buffers of its own; otherwise it takes the place of g, for what the
        # step touches should fit into the cache.
        keeps_grads = recipe.guard is not None or self._criterion is not None or recipe.jump is not None
        keeps_grads |= recipe.variant == "asam"
        self._grads_plus = [torch.empty_like(g) for g in self._grads] if keeps_grads else self._grads
        self._velocity = [torch.zeros_like(p) for p in self._params] if recipe.momentum else None

    def radius(self, step: int) -> float:
        """Return the radius of a step, before the guard; 0 if it takes one pass, for no member looks."""
        criterion = self._criterion
        if criterion is not None and (self._some_are_over or criterion.probes_at(step)):
            return replace(self._recipe, warm_start=None).radius(step)
        return self._recipe.radius(step)

    def plain_step(self, rows: Tensor | None) -> StepFigures:
        loss = self._members.loss_and_grads(self._params, self._grads, rows)
        figures = plain_figures(loss=loss, grad_norm=norm(self._grads, batched=True))
        if self._watch is not None:
            self._watch.saw_plain_step(figures)
        self._move_along(self._grads)
        return figures

    def sam_step(self, step: int, rows: Tensor | None, rho: float, followed: Tensor, passes: Tensor) -> StepFigures:
        """Take a step of two passes; write which members followed `g⁺`, and how many passes each of them needed."""
        loss = self._members.loss_and_grads(self._params, self._grads, rows)
        if self._watch is not None:
            self._watch.saw_gradient(self._grads)
        passes.fill_(2)
        figures, displacement = self._look(rows, rho, loss, self._grads_plus)
        if self._recipe.guard is not None and self._recipe.guard.retries:
            figures = self._search(rows, rho, loss, figures, displacement, passes)
        direction = self._grads_plus
        self._judge(step, figures, followed)
        if direction is not self._grads:
            _choose(followed, direction, self._grads, out=direction)
        if self._watch is not None:
            judged = followed if self._recipe.guard is not None else None
            self._watch.saw_step(direction, figures, followed=judged)
        jumping = self._is_jumping(figures)
        if jumping is not None:
            # Where a member jumps, its step is the displacement, once the learning rate has been taken out of it.
            torch._foreach_mul_(displacement, -1 / self._recipe.lr)
            _choose(jumping, displacement, direction, out=direction)
            torch.logical_and(followed, ~jumping, out=followed)
        self._move_along(direction, afresh=jumping)
        return figures

    def _look(
        self, rows: Tensor | None, rho: float, loss: Tensor, grads_plus: list[Tensor]
    ) -> tuple[StepFigures, list[Tensor]]:
        """Take pass 2 at the radius that guard and jump leave; write `g⁺`, and return figures and `x⁺ − x`."""
        params, grads = self._params, self._grads
        radius: float | Tensor = rho
        for state in (self._guard_state, self._jump_state):
            radius = radius if state is None else radius * state.factor
        perturbation = perturb(params, grads, radius, variant=self._recipe.variant, batched=True)
        # One buffer serves as e, then x⁺, then the realised x⁺ − x.
        plus = perturbation.displacement
        torch._foreach_add_(plus, params)
        loss_plus = self._members.loss_and_grads(plus, grads_plus, rows)
        torch._foreach_sub_(plus, params)
        figures = step_figures(
            loss=loss,
            loss_plus=loss_plus,
            grad_norm=perturbation.grad_norm,
            predicted_gain=perturbation.predicted_gain,
            displacement=plus,
            grads_plus=grads_plus,
            ascent=grads if self._recipe.variant == "asam" else None,
            batched=True,
        )
        return figures, plus

    def _search(
        self,
        rows: Tensor | None,
        rho: float,
        loss: Tensor,
        figures: StepFigures,
        displacement: list[Tensor],
        passes: Tensor,
    ) -> StepFigures:
        """Take pass 2 again, nearer to `x`, while a member's guard rejects it and has retries left."""
        guard, nearer = self._recipe.guard, [torch.empty_like(g) for g in self._grads]
        assert guard is not None
        assert self._guard_state is not None
        for _ in range(guard.retries):
            again = ~guard.accepts(figures)
            if not bool(again.any()):
                break
            passes += again
            self._guard_state = _chosen(again, guard.after(self._guard_state, ~again), self._guard_state)
            closer, way = self._look(rows, rho, loss, nearer)
            figures = _chosen(again, closer, figures)
            _choose(again, way, displacement, out=displacement)
            _choose(again, nearer, self._grads_plus, out=self._grads_plus)
        return figures

    def _is_jumping(self, figures: StepFigures) -> Tensor | None:
        """Tell which members jump instead of stepping; None where there is no such remedy."""
        jump = self._recipe.jump
        if jump is None or self._jump_state is None:
            return None
        state = jump.after(self._jump_state, figures)
        self._jump_state = jump.after_jump(state)
        return jump.is_due(state)

    def _judge(self, step: int, figures: StepFigures, followed: Tensor) -> None:
        """Write which members follow the shifted gradient: those whose warm start is over and whose guard agrees."""
        guard, criterion = self._recipe.guard, self._criterion
        followed.fill_(True)
        if criterion is not None and self._agreed is not None and criterion.covers(step):
            torch.logical_and(followed, criterion.is_over(self._agreed), out=followed)
            if criterion.probes_at(step):
                self._agreed = criterion.after_probe(self._agreed, figures)
                self._some_are_over = bool(criterion.is_over(self._agreed).any())
        if guard is not None and self._guard_state is not None:
            accepted = guard.accepts(figures)
            self._guard_state = guard.after(self._guard_state, accepted)
            torch.logical_and(followed, accepted, out=followed)

    def _move_along(self, direction: list[Tensor], afresh: Tensor | None = None) -> None:
        """Move all members; the velocity of those that begin `afresh` is that of this step alone, and does not last."""
        if self._velocity is not None:
            torch._foreach_mul_(self._velocity, self._recipe.momentum)
            if afresh is not None:
                for v in self._velocity:
                    v[afresh] = 0
            torch._foreach_add_(self._velocity, direction)
            direction = self._velocity
        torch._foreach_add_(self._params, direction, alpha=-self._recipe.lr)
        if self._velocity is not None and afresh is not None:
            for v in self._velocity:
                v[afresh] = 0


def _choose(which: Tensor, yes: list[Tensor], no: list[Tensor], *, out: list[Tensor]) -> None:
    """Write for every member the one or the other."""
    for a, b, c in zip(yes, no, out, strict=True):
        torch.where(which.view(-1, *[1] * (a.dim() - 1)), a, b, out=c)


T = TypeVar("T", StepFigures, GuardState)


def _chosen(which: Tensor, yes: T, no: T) -> T:
    """Return for every member the one or the other."""
    pairs = {field.name: (getattr(yes, field.name), getattr(no, field.name)) for field in fields(yes)}
    return replace(yes, **{name: torch.where(which, *pair) for name, pair in pairs.items()})


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

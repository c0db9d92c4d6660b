"""The ensemble engine: many networks of one architecture trained at once by plain, SAM, warm-started or guarded steps.

One computation trains all members, so that 80 seeds of full-batch MNIST are a few wide matrix products per step
instead of 80 small programs. Members share the examples and the order of the batches, and never mix.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from samirage.lab.engine.stacked import AbstractMembers
from samirage.sam import (
    AbstractGuard,
    AbstractVariant,
    Plan,
    Policy,
    Schedule,
    StepFigures,
    Variant,
    WarmStart,
    check_lengths,
    follow,
    norm,
    perturb,
    plain_figures,
    step_figures,
    variant_of,
)
from samirage.sam.checks import checked_count, checked_number
from samirage.sam.reductions import BATCHED
from samirage.sam.variants import State

if TYPE_CHECKING:  # only runs that are diagnosed load the diagnosis
    from samirage.diagnosis import Watch

FIGURES: Final = tuple(field.name for field in fields(StepFigures))


@dataclass(frozen=True)
class Recipe:
    """How to train: `v ← momentum·v + d`, `x ← x − lr·v`, with `d = g⁺` for SAM, and `d = g` for plain steps.

    Plain steps are those of the warm start, those whose radius the schedule makes 0, and those that the guard rejects.

    Attributes:
        steps: Number of steps, at least 1.
        lr: Learning rate, above 0.
        rho: Perturbation radius, at least 0; 0 trains without SAM.
        variant: A variant's name, or an object; see `samirage.sam.variants`.
        warm_start: Plain steps before SAM, if any.
        schedule: What the radius of every step is multiplied by, if anything.
        guard: What to follow once both gradients are known, and how far to look next; for every member on its own.
        momentum: Heavy-ball momentum, at least 0 and below 1.
        batch_size: Examples per step, at least 1; None takes all examples at every step.
        batch_seed: Seed of the order of the minibatches.

    Raises:
        ValueError: If a value is out of its range.
    """

    steps: int
    lr: float
    rho: float = 0.0
    variant: Variant | AbstractVariant = "sam"
    warm_start: WarmStart | None = None
    schedule: Schedule | None = None
    guard: AbstractGuard | None = None
    momentum: float = 0.0
    batch_size: int | None = None
    batch_seed: int = 0

    def __post_init__(self) -> None:
        checked_count("steps", self.steps)
        checked_number("lr", self.lr, above=0)
        checked_number("rho", self.rho, least=0)
        checked_number("momentum", self.momentum, least=0, below=1)
        refusal = variant_of(self.variant).refuses("engine")
        if refusal is not None:
            raise ValueError(refusal)
        if self.batch_size is not None:
            checked_count("batch_size", self.batch_size)
        check_lengths(self.warm_start, self.schedule, steps=self.steps)

    @property
    def policy(self) -> Policy:
        """Which steps perturb and how far, and what they follow."""
        return Policy(warm_start=self.warm_start, schedule=self.schedule, guard=self.guard)

    def takes(self, plan: Plan) -> int:
        """Return how many gradients a step takes, 1 or 2.

        Args:
            plan: Its plan.
        """
        return variant_of(self.variant).passes(plan.since) if self.is_sam(plan) else 1

    def is_sam(self, plan: Plan) -> bool:
        """Tell whether a step is one of SAM's, with one pass or two.

        Args:
            plan: Its plan.
        """
        return self.rho * plan.factor > 0 and plan.due

    @property
    def alternates(self) -> bool:
        """Whether some of SAM's steps take one pass and others two, as those of LookSAM do."""
        return any(variant_of(self.variant).passes(step) == 1 for step in range(self.steps))

    @property
    def passes(self) -> int:
        """Gradient evaluations that are planned for one member.

        A warm start by criterion counts as long as it may last, since when it will be over is not known.
        """
        policy = self.policy
        state = policy.begin(torch.zeros(()))
        return sum(self.takes(policy.plan(step, state)) for step in range(self.steps))


def train(
    members: AbstractMembers,
    recipe: Recipe,
    after_step: Callable[[int, int], None] = lambda step, passes: None,
    watch: "Watch | None" = None,
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
        `followed`, whether the member followed `g⁺`, boolean: not in plain steps, in the probes of a warm start, and
        where its guard rejected the step; and `passes`, the number of gradients that it needed. The figures of a step
        are those at the parameters before it.

    Example:
        >>> from samirage.lab.engine.models import MLP, softmax_squared
        >>> from samirage.lab.engine.stacked import stack
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
        taken, figures = training.step(step, rows, followed[step])
        passes[step] = taken
        for row, name in zip(course, FIGURES, strict=True):
            row[step] = getattr(figures, name)
        after_step(step, taken)
    return {**dict(zip(FIGURES, course, strict=True)), "followed": followed, "passes": passes}


class _Training:
    """The steps of one training, and the buffers that they share."""

    def __init__(self, members: AbstractMembers, recipe: Recipe, watch: "Watch | None") -> None:
        self._members, self._recipe, self._watch = members, recipe, watch
        self._policy, self._variant = recipe.policy, variant_of(recipe.variant)
        self._params = members.params
        self._grads = [torch.empty_like(p) for p in self._params]
        precise = norm(self._params, batched=True)
        self.like = precise.to(self._params[0])
        self._state = self._policy.begin(precise)
        self._memory: State = {}  # the variant's
        # Where g is needed beyond pass 1, g⁺ has buffers of its own; otherwise it takes the place of g, for what the
        # step touches should fit into the cache.
        keeps_grads = self._policy.learns or not (self._variant.is_multiple and self._variant.follows_grad_plus)
        self._grads_plus = [torch.empty_like(g) for g in self._grads] if keeps_grads else self._grads
        self._velocity = [torch.zeros_like(p) for p in self._params] if recipe.momentum else None

    def step(self, step: int, rows: Tensor | None, followed: Tensor) -> tuple[int, StepFigures]:
        """Take a step, and write which members followed `g⁺`; return how many passes it took, and its figures."""
        plan = self._policy.plan(step, self._state)
        taken = self._recipe.takes(plan)
        if taken == 2:
            return taken, self._sam_step(step, rows, self._recipe.rho * plan.factor, followed)
        return taken, self._step_of_one_pass(rows, reuses=self._recipe.is_sam(plan))

    def _step_of_one_pass(self, rows: Tensor | None, *, reuses: bool) -> StepFigures:
        loss = self._members.loss_and_grads(self._params, self._grads, rows)
        figures = plain_figures(loss=loss, grad_norm=norm(self._grads, batched=True))
        if self._watch is not None:
            self._watch.saw_plain_step(figures)
        direction: Sequence[Tensor] = self._grads
        if reuses:  # what the variant remembers of an earlier step
            direction, self._memory = self._variant.direction(self._grads, None, self._memory, BATCHED)
        self._move_along(list(direction))
        return figures

    def _sam_step(self, step: int, rows: Tensor | None, rho: float, followed: Tensor) -> StepFigures:
        """Take a step of two passes, and write which members followed `g⁺`."""
        loss = self._members.loss_and_grads(self._params, self._grads, rows)
        if self._watch is not None:
            self._watch.saw_gradient(self._grads)
        figures = self._look(rows, rho, loss)
        decision = self._policy.decide(step, self._state, figures)
        self._state = self._policy.after(step, self._state, figures)
        followed.copy_(decision.accepted)
        if not self._variant.follows_grad_plus:
            direction, self._memory = self._variant.direction(self._grads, self._grads_plus, self._memory, BATCHED)
            for out, d in zip(self._grads_plus, direction, strict=True):
                out.copy_(d)
        if self._policy.learns:
            follow(decision, self._grads, self._grads_plus)
        if self._watch is not None:
            judged = followed if self._policy.guard is not None else None
            self._watch.saw_step(self._grads_plus, figures, followed=judged)
        self._move_along(self._grads_plus)
        return figures

    def _look(self, rows: Tensor | None, rho: float, loss: Tensor) -> StepFigures:
        """Take pass 2 at the radius that the guard leaves; write `g⁺`."""
        params, grads = self._params, self._grads
        radius = rho if self._state.guard is None else rho * self._state.guard.factor
        perturbation = perturb(params, grads, radius, variant=self._variant, batched=True, state=self._memory)
        self._memory = perturbation.state
        # One buffer serves as e, then x⁺, then the realised x⁺ − x.
        plus = perturbation.displacement
        torch._foreach_add_(plus, params)
        loss_plus = self._members.loss_and_grads(plus, self._grads_plus, rows)
        torch._foreach_sub_(plus, params)
        return step_figures(
            loss=loss,
            loss_plus=loss_plus,
            grad_norm=perturbation.grad_norm,
            predicted_gain=perturbation.predicted_gain,
            displacement=plus,
            grads_plus=self._grads_plus,
            ascent=None if self._variant.is_multiple else grads,
            batched=True,
        )

    def _move_along(self, direction: list[Tensor]) -> None:
        if self._velocity is not None:
            torch._foreach_mul_(self._velocity, self._recipe.momentum)
            torch._foreach_add_(self._velocity, direction)
            direction = self._velocity
        torch._foreach_add_(self._params, direction, alpha=-self._recipe.lr)


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

"""The policy of a training: which steps perturb and how far, what they follow, and what is learnt from them.

One driver for the optimizer, whose scalars have the shape (), and for the ensemble engine, where they have the shape
(S,) and every member is judged on its own. It is pure: a state goes in, and another comes out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from samirage.sam.checks import checked_count
from samirage.sam.figures import StepFigures
from samirage.sam.policies.guard import AbstractGuard, Decision, GuardState
from samirage.sam.policies.schedule import Schedule, check_lengths, factor_at
from samirage.sam.policies.warm_start import WarmStart

_GUARD_KEYS: Final = {"sam_guard_factor": 1.0, "sam_guard_rejections": 0.0, "sam_guard_consecutive": 0.0}


@dataclass(frozen=True)
class Plan:
    """What is known of a step before its first pass.

    Attributes:
        factor: What the schedule and the warm start multiply the radii by, at least 0; with 0 the step is plain.
        probe: Whether a warm start looks at the shifted gradient in this step, for members that are still in it.
        due: Whether the period (`every`) lets the step take two passes.
        since: Number of steps since the end of the warm start, from which periods are counted; below 0 before it.
    """

    factor: float
    probe: bool
    due: bool
    since: int


@dataclass(frozen=True)
class PolicyState:
    """What a policy remembers from step to step.

    Attributes:
        guard: The guard's state; None without a guard.
        agreed: Number of probes in a row that agreed, shape () or (S,); None without a warm start by criterion.
        warm_end: Number of the first step after the warm start, of the first member for which it is over; None while
            that is not known. A number of the host, for what the host runs depends on it.
    """

    guard: GuardState | None
    agreed: Tensor | None
    warm_end: int | None


@dataclass(frozen=True)
class Policy:
    """When to perturb, how far, and what to follow.

    Attributes:
        warm_start: First steps that follow the plain gradient, if any.
        schedule: What the radius of every step is multiplied by, if anything.
        guard: What to follow once both gradients are known; None for `g⁺`.
        every: One step in so many perturbs, at least 1.

    Raises:
        ValueError: If a value is out of its range, or warm start and schedule disagree about the training's length.

    Example:
        >>> policy = Policy(warm_start=WarmStart(steps=2), every=3)
        >>> state = policy.begin(torch.tensor(1.0))
        >>> [policy.plan(step, state).factor * policy.plan(step, state).due for step in range(6)]
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    warm_start: WarmStart | None = None
    schedule: Schedule | None = None
    guard: AbstractGuard | None = None
    every: int = 1

    def __post_init__(self) -> None:
        checked_count("every", self.every)
        check_lengths(self.warm_start, self.schedule)

    @property
    def learns(self) -> bool:
        """Whether anything is learnt from a step of two passes."""
        return self.guard is not None or self._criterion is not None

    @property
    def _criterion(self) -> WarmStart | None:
        return self.warm_start if self.warm_start is not None and self.warm_start.until is not None else None

    def begin(self, like: Tensor) -> PolicyState:
        """Return the state before the first step.

        Args:
            like: A tensor such as `‖g‖`, whose shape, () or (S,), dtype and device the state shall have.

        Returns:
            The state.
        """
        return PolicyState(
            guard=None if self.guard is None else self.guard.begin(like),
            agreed=None if self._criterion is None else self._criterion.begin(like),
            warm_end=None if self.warm_start is None else self.warm_start.length,
        )

    def plan(self, step: int, state: PolicyState) -> Plan:
        """Return the plan of a step; it reads nothing from a device.

        Args:
            step: Number of the step; the first is 0.
            state: The state before it.

        Returns:
            The plan.

        Raises:
            TypeError: If the schedule returned no number.
            ValueError: If the number is negative or not finite.
        """
        if self.warm_start is None:
            factor = 1.0 if self.schedule is None else factor_at(self.schedule, step)
            return Plan(factor, probe=False, due=step % self.every == 0, since=step)
        warming = self.warm_start.covers(step) and (state.warm_end is None or step < state.warm_end)
        probe = self.warm_start.probes_at(step)
        factor = 0.0 if warming and not probe else factor_at(self.schedule, step)
        since = step - (state.warm_end or 0)
        return Plan(factor, probe=probe, due=since % self.every == 0 or (probe and warming), since=since)

    def keeps_grad(self, plan: Plan) -> bool:
        """Tell whether a step of two passes may follow `g`, so that it must be kept during pass 2.

        Args:
            plan: The plan of the step.
        """
        return self.guard is not None or plan.probe

    def decide(self, step: int, state: PolicyState, figures: StepFigures) -> Decision:
        """Return what a step of two passes follows: `g` in a warm start, and what the guard says after it.

        Args:
            step: Number of the step.
            state: The state before it.
            figures: The figures of the step.

        Returns:
            The decision, in the shape of the figures.
        """
        criterion = self._criterion
        if self.guard is None:
            decision = Decision(torch.ones_like(figures.grad_norm, dtype=torch.bool))
        else:
            decision = self.guard.decide(figures)
        if criterion is None or state.agreed is None or not criterion.covers(step):
            return decision
        over = criterion.is_over(state.agreed)
        if decision.weight is None or decision.weight_plus is None:
            return Decision(decision.accepted & over)
        return Decision(
            decision.accepted & over,
            torch.where(over, decision.weight, 1.0),
            torch.where(over, decision.weight_plus, 0.0),
        )

    def after(
        self, step: int, state: PolicyState, figures: StepFigures, decision: Decision | None = None
    ) -> PolicyState:
        """Return the state after a step of two passes; in a probe of a warm start the host reads one number.

        Args:
            step: Number of the step.
            state: The state before it.
            figures: The figures of the step.
            decision: What `decide` returned for it, so that it need not be computed again; None if nobody knows.

        Returns:
            The state.
        """
        criterion = self._criterion
        if self.guard is not None and state.guard is not None:
            # A warm start by criterion has its say in the decision, which is not the guard's own then.
            known = decision is not None and criterion is None
            judged = decision if known and decision is not None else self.guard.decide(figures)
            state = replace(state, guard=self.guard.after(state.guard, judged.accepted))
        if criterion is not None and state.agreed is not None and criterion.probes_at(step):
            agreed = criterion.after_probe(state.agreed, figures)
            state = replace(state, agreed=agreed)
            if (state.warm_end is None or step + 1 < state.warm_end) and bool(criterion.is_over(agreed).any()):
                state = replace(state, warm_end=step + 1)
        return state

    def save(self, state: PolicyState) -> dict[str, float]:
        """Return the state of a single training, of shape (), as numbers under keys that begin with `sam_`.

        Args:
            state: The state.

        Returns:
            What `load` takes.

        Example:
            >>> policy = Policy(warm_start=WarmStart(until="slope"))
            >>> policy.save(policy.begin(torch.tensor(1.0)))
            {'sam_probes_agreed': 0, 'sam_warm_end': -1}
        """
        saved: dict[str, float] = {}
        if state.guard is not None:
            numbers = (state.guard.factor, state.guard.rejections, state.guard.consecutive)
            saved |= dict(zip(_GUARD_KEYS, map(float, numbers), strict=True))
        if state.agreed is not None:
            saved |= {
                "sam_probes_agreed": int(state.agreed),
                "sam_warm_end": -1 if state.warm_end is None else state.warm_end,
            }
        return saved

    def load(self, saved: Mapping[str, float], like: Tensor) -> PolicyState:
        """Return the state that `save` was given; what is missing begins anew.

        Args:
            saved: What `save` returned.
            like: A tensor of shape (), whose dtype and device the state shall have.

        Returns:
            The state.
        """
        state = self.begin(like)
        if state.guard is not None:
            factor, *counts = (float(saved.get(key, start)) for key, start in _GUARD_KEYS.items())
            tensors = [torch.full_like(like, count, dtype=torch.int64) for count in counts]
            state = replace(state, guard=GuardState(torch.full_like(like, factor), *tensors))
        if state.agreed is not None:
            end = int(saved.get("sam_warm_end", -1))
            agreed = torch.full_like(like, int(saved.get("sam_probes_agreed", 0)), dtype=torch.int64)
            state = replace(state, agreed=agreed, warm_end=state.warm_end if end < 0 else end)
        return state


def follow(decision: Decision, grads: Sequence[Tensor], grads_plus: Sequence[Tensor]) -> None:
    """Write `d` in place of `g⁺`.

    Args:
        decision: What to follow, of shape (), or (S,) for tensors with a leading dimension of S members.
        grads: `g`, one tensor per parameter.
        grads_plus: `g⁺`, likewise; overwritten.

    Example:
        >>> g, g_plus = [torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])]
        >>> follow(Decision(torch.tensor(False), torch.tensor(0.5), torch.tensor(0.25)), g, g_plus)
        >>> g_plus
        [tensor([1.2500, 2.0000])]
    """
    for grad, grad_plus in zip(grads, grads_plus, strict=True):
        if decision.weight is None or decision.weight_plus is None:
            torch.where(_expand(decision.accepted, grad_plus), grad_plus, grad, out=grad_plus)
            continue
        weight, weight_plus = (_expand(w, grad_plus).to(grad_plus) for w in (decision.weight, decision.weight_plus))
        # With weight 0 nothing of g⁺ is left, also where it is not finite.
        part = torch.where(weight_plus == 0, torch.zeros_like(grad_plus), weight_plus * grad_plus)
        torch.add(weight * grad, part, out=grad_plus)


def _expand(scalar: Tensor, tensor: Tensor) -> Tensor:
    """Return a scalar of shape () or (S,) in a shape that multiplies `tensor`, on its device."""
    return scalar.to(tensor.device, non_blocking=True).view(scalar.shape + (1,) * (tensor.dim() - scalar.dim()))

"""The order of a step: plan → pass 1 → perturb → pass 2 → restore → choose the direction → base step → record.

`SAM` calls these in the order that its three calling styles have in common; what a part of them does stands in the
collaborators, which are None where they are off.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samirage.optim._validate import checked_rho
from samirage.optim.amp import AbstractLossScale, GivenScaler, ScalerOfStep, unscaled
from samirage.optim.distributed import LocalPass, Resharding, real, reductions_of
from samirage.optim.half_precision import RoundingAlarm, wide
from samirage.optim.move import AbstractMove
from samirage.optim.move_general import GeneralMove
from samirage.optim.move_host import HostMove, is_on_host
from samirage.optim.record import YES, PendingRecord, as_scalar
from samirage.optim.side_effects import SideEffects
from samirage.optim.skip import poison_gradients, step_unless
from samirage.optim.step_state import Phase, StepPlan, StepState
from samirage.optim.variant_state import VariantInUse
from samirage.sam import Policy, PolicyState, StepFigures, follow, plain_figures


@dataclass(eq=False)
class Passes:
    """The passes of a step.

    Attributes:
        optimizer: The optimizer that the user holds, on which a gradient scaler sets its attributes.
        base: The optimizer that steps.
        now: Where the step stands.
        variant: The variant.
        policy: When to perturb, how far, and what to follow; None for always, with the radii of the groups.
        side_effects: Buffers and random numbers; None if they are to be left alone.
        given_scale: The gradient scaler of the constructor, or None.
        resharding: What FSDP2 needs after the weights have moved; None without it.
        local_pass: Keeps pass 1 of each rank to itself; None if it is synchronised.
    """

    optimizer: Optimizer
    base: Optimizer
    now: StepState
    variant: VariantInUse
    policy: Policy | None
    side_effects: SideEffects | None
    given_scale: GivenScaler | None
    resharding: Resharding | None
    local_pass: LocalPass | None

    # Before pass 1.

    def plan(self) -> StepPlan:
        """Return the plan of the coming step; it reads nothing from a device."""
        step = since = self.now.steps
        radii = [group["rho"] for group in self.base.param_groups]
        for i, rho in enumerate(radii):
            if type(rho) is not float or not 0 <= rho < math.inf:
                radii[i] = checked_rho(rho, f'param_groups[{i}]["rho"]')
        due, probe = True, False
        if self.policy is not None:
            state = self.policy_state()
            plan = self.policy.plan(step, state)
            radii = [plan.factor * rho for rho in radii]
            due, since = plan.due, plan.since
            probe = plan.probe and (state.warm_end is None or step < state.warm_end)
        is_on = max(radii) > 0
        two_pass = is_on and due and (probe or self.variant.always_two_passes or self.variant.rule.passes(since) == 2)
        return StepPlan(radii, is_on, two_pass, probe)

    def policy_state(self, device: torch.device | None = None) -> PolicyState:
        """Return what the policy remembers; moved to a device, if one is given."""
        assert self.policy is not None
        state = self.now.policy or self.policy.begin(torch.ones((), dtype=torch.float64))
        known = state.agreed if state.guard is None else state.guard.factor
        if device is not None and known is not None and known.device != device:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            state = self.policy.load(self.policy.save(state), torch.ones((), dtype=dtype, device=device))
        self.now.policy = state
        return state

    def before_forward(self) -> None:
        """Prepare for a forward pass of the model, at `x` or at `x⁺`."""
        now = self.now
        if now.phase is Phase.AT_REST and (self.local_pass is not None or not now.in_closure):
            two_pass = self.plan().two_pass
            if self.local_pass is not None:
                self.local_pass.begin(two_pass)
            if self.side_effects is not None and two_pass and not now.in_closure:
                self.side_effects.before_forward_at_x(self.params())
        elif now.phase is Phase.PERTURBED and self.side_effects is not None and not now.in_closure:
            self.side_effects.before_forward_at_x_plus()

    # With a closure: both passes in a row.

    def run(self, closure: Callable[[], Any]) -> tuple[PendingRecord, Any]:
        """Run the closure at `x`, and at `x⁺` if the step takes two passes.

        Returns:
            The record so far, and what the closure returned at `x`.

        Raises:
            RuntimeError: If the closure leaves the weights at `x⁺`, or adds to gradients from before it.
        """
        now, plan, scale = self.now, self.plan(), self.loss_scale()
        if scale is not None:
            scale.require_fresh(closure=True)
        if self.side_effects is not None and plan.two_pass:
            self.side_effects.before_closure(self.params())
        before = [] if now.old_grads else [(p, p.grad, p.grad._version) for p in self.params() if p.grad is not None]
        now.zeroed = False
        loss = _with_grad(closure)
        if now.waiting is not None:  # the closure has made the perturbed pass itself
            return now.waiting, loss
        if now.phase is Phase.PERTURBED:
            now.require_unperturbed("the end of the closure")
        if plan.two_pass and not now.zeroed and any(p.grad is g and g._version != v for p, g, v in before):
            raise RuntimeError(
                "the closure added to gradients from before it, which its second call would miss: let it zero the "
                "gradients, and accumulate with samirage.optim.accumulated, or under Lightning with the callback "
                "samirage.trainers.lightning.SAMCallback"
            )
        if not (plan.two_pass and self.has_grads()):
            return self.plain_record(loss), loss
        # A copy, for the closure may write its next loss to the same storage, as a captured CUDA graph does.
        value = loss.detach().clone() if isinstance(loss, Tensor) else loss
        now.phase = Phase.PERTURBED
        loss_plus = _with_grad(closure) if self.perturb(plan, drop_grads=True) else None
        pending = self.finish_pass_2(plan, value, loss_plus)
        return pending, value if loss_plus is loss else loss

    # Without one: the caller runs both passes.

    def begin_pass_2(self, call: str, *, shards: int, drop_grads: bool) -> None:
        """Move to `x⁺`, after the caller's `backward()`; `call` names what is told to have come at a wrong time."""
        now = self.now
        if now.phase is not Phase.AT_REST or shards > 1 or not self.has_grads():
            now.require_beginning(call, shards=shards, has_grads=self.has_grads())
        now.phase, now.by_first_step = Phase.PERTURBED, call == "first_step()"
        if not now.by_first_step:
            now.in_closure = False  # a closure that makes the perturbed pass itself is called once
        try:
            with torch.no_grad():
                self.perturb(self.plan(), drop_grads=drop_grads)
        except BaseException:
            self.abort()
            raise

    def end_pass_2(self) -> None:
        """Move back to `x`, after the caller's second `backward()`; the step is due."""
        try:
            with torch.no_grad():
                pending = self.finish_pass_2(self.plan())
        except BaseException:
            self.abort()
            raise
        self.now.phase, self.now.waiting = Phase.RETURNED, pending

    def abort(self) -> None:
        """Move back to `x` from wherever the pass has come to, and drop all gradients; harmless at rest."""
        if self.now.phase is not Phase.AT_REST:
            with torch.no_grad():
                self.undo_pass_2()
            self.end_pass()
            self.drop_grads()

    # The parts of a step, under `torch.no_grad()`.

    def perturb(self, plan: StepPlan, *, drop_grads: bool) -> bool:
        """Move to `x⁺` with the gradients of pass 1; return whether there is a perturbed pass to run."""
        now, move, scale = self.now, None, self.loss_scale()
        if scale is not None and not now.in_closure:
            scale.require_fresh(closure=False)
        if plan.two_pass:
            inverse = None if scale is None else scale.inverse()
            move = self._move(plan, inverse)
            if self.local_pass is not None:
                move.finite = self.local_pass.everywhere(move.finite)
            if move.is_readable and not move.finite:
                now.bad_grad_norm = move.grad_norm
                if now.in_closure:  # there will be no pass 2; the scaler shall find these gradients
                    return False
            for observer in now.observers.values():
                observer.saw_gradient(inverse)
        if self.local_pass is not None:
            self.local_pass.end()
        if drop_grads:
            self.drop_grads()
        if self.side_effects is not None:
            self.side_effects.before_pass_2(self.params())
        if move is not None and now.bad_grad_norm is None:
            now.move = move  # before the weights move, so that the way back is known
            move.go(seed=now.steps)
            if self.resharding is not None:
                self.resharding.after_move()
        return now.move is not None

    def _move(self, plan: StepPlan, inverse: Tensor | None) -> AbstractMove:
        """Return the move to `x⁺`: the fast one for dense tensors of full precision in the host's memory, if it can."""
        params = self.params_with_grad()
        rho: float | list[float] = plan.radii[0]
        if len(plan.radii) > 1 and len(set(plan.radii)) > 1:
            radius = {
                p: r for group, r in zip(self.base.param_groups, plan.radii, strict=True) for p in group["params"]
            }
            rho = [radius[p] for p in params]
        factor, keep_grads = None, plan.probe or not self.variant.follows_grad_plus
        if self.policy is not None and self.policy.guard is not None:
            guard, keep_grads = self.policy_state(params[0].device).guard, True
            factor = None if guard is None else guard.factor
        if inverse is None and isinstance(rho, float) and is_on_host(params):
            rho = rho if factor is None else rho * factor.item()
            return HostMove(params, rho, self.variant, keep_grads=keep_grads)
        return GeneralMove(params, rho, self.variant, factor=factor, inverse_scale=inverse, keep_grads=keep_grads)

    def finish_pass_2(self, plan: StepPlan, loss: Any = None, loss_plus: Any = None) -> PendingRecord:
        """Move back to `x` with the gradients of pass 2, turn them into the direction; return the record so far."""
        now, move = self.now, self.now.move
        if now.bad_grad_norm is not None:
            # Where each rank has a gradient of its own, this rank's may be finite.
            pending = self._record_of_one_pass(loss, now.bad_grad_norm)
            pending.skipped = torch.ones_like(now.bad_grad_norm, dtype=torch.bool)
            if not now.in_closure:
                poison_gradients(self.params_with_grad(), pending.skipped)
        elif move is None:
            pending = self.plain_record(loss)
        else:
            scale = self.loss_scale()
            inverse = None if scale is None else scale.inverse()
            found = move.measure(self.params(), loss=loss, loss_plus=loss_plus, inverse_scale=inverse)
            pending = PendingRecord(now.steps, True, found.skipped, found.figures, alignment=move.alignment)
            if move.kept is not None:
                self._choose_direction(plan, pending, move, inverse)
            if not move.is_readable and not now.in_closure:
                poison_gradients(self.params_with_grad(), ~move.finite)
            if move.alignment is not None and not torch.compiler.is_compiling():
                now.rounding = now.rounding or RoundingAlarm()
                now.rounding.look(now.steps, pending.known_figures().radius, move.alignment)
            now.move = None  # `measure` has brought the weights back
            if self.resharding is not None:
                self.resharding.after_move()
        if self.side_effects is not None:
            self.side_effects.undo_pass_2()
        return pending

    def undo_pass_2(self) -> None:
        """Move back to `x` from wherever the pass has come to, with all that it changed; harmless at `x`."""
        if self.now.move is not None:
            self.now.move.restore()
            if self.resharding is not None:
                self.resharding.after_move()
        if self.side_effects is not None:
            self.side_effects.undo_pass_2()

    def _choose_direction(
        self, plan: StepPlan, pending: PendingRecord, move: AbstractMove, inverse: Tensor | None
    ) -> None:
        """Turn `.grad` from `g⁺` into what the variant and the policy follow."""
        assert move.kept is not None
        params, grads, grads_plus = move.kept
        if not self.variant.follows_grad_plus:
            self.variant.follow(params, grads, [wide(g) for g in grads_plus], inverse)
        if self.policy is None or not (plan.probe or self.policy.guard is not None):
            return
        figures = pending.known_figures()
        state = self.policy_state(figures.grad_norm.device)
        decision = self.policy.decide(self.now.steps, state, figures)
        # A gradient that is not finite stays, for those who skip the step, and for a scaler that must see it.
        pending.decision = decision
        bad = ~figures.grad_plus_norm.isfinite()
        decision = replace(decision, accepted=decision.accepted | bad)
        if decision.weight is not None and decision.weight_plus is not None:
            weight, weight_plus = decision.weight, decision.weight_plus
            decision = replace(decision, weight=weight.where(~bad, 0.0), weight_plus=weight_plus.where(~bad, 1.0))
        pending.followed = decision.accepted
        pending.tell_guard(state.guard)
        if decision.weight is None and move.is_readable and decision.accepted:
            return
        pairs = [(real(p.grad), g) for p, g in zip(params, grads, strict=True) if p.grad is not None]
        follow(decision, [g.to(target.dtype) for target, g in pairs], [target for target, _ in pairs])

    # The end of a step.

    def complete(self, pending: PendingRecord) -> None:
        """Let the base optimizer step, unless a gradient was not finite, and record the step."""
        now, scale, late = self.now, self.loss_scale(), None
        self.end_pass()
        now.old_grads = True
        if scale is not None:
            if pending.perturbed and self.given_scale is None and not now.in_closure:
                late = scale.inverse()
                if late is not None:
                    self.variant.require_scale_free()
                    pending.figures = unscaled(pending.known_figures(), late)
            overflow = scale.overflow(closure=now.in_closure)
            if overflow is not None:
                pending.skipped = pending.skipped | overflow
            scale.unscale()
            scale.report_overflow(pending.skipped)
        if pending.followed is not None and self.policy is not None:
            figures = pending.figures if isinstance(pending.figures, StepFigures) else pending.figures()
            now.policy = self.policy.after(now.steps, self.policy_state(), figures, pending.decision)
            if now.policy.guard is not None:
                pending.rejections = now.policy.guard.rejections  # this one included
        for observer in now.observers.values():
            observer.saw_step(pending.record(), late)
        self._step_base(pending, may_wait=scale is not None)
        now.steps += 1
        now.last = pending
        now.history.add(pending)

    def _step_base(self, pending: PendingRecord, *, may_wait: bool) -> None:
        variant, params = self.variant, self.params_with_grad()
        if not variant.follows_grad_plus and not pending.perturbed:
            plan = self.plan()
            if plan.is_on and not plan.two_pass:
                variant.follow(params, [wide(real(p.grad)) for p in params if p.grad is not None], None, None)
        if step_unless(pending.skipped, self.base, may_wait=may_wait):
            if variant.rule.state_names:
                variant.commit(params, pending.skipped)
        elif hasattr(self.base.step, "_wrapped_by_lr_sched"):
            # A scheduler on the base optimizer would warn that it runs before the first step.
            self.base._opt_called = True  # type: ignore[attr-defined]
        if variant.rule.state_names:
            variant.forget()

    def create_state(self) -> None:
        """Let the base optimizer and the variant create their state, while all gradients are zero."""
        self.base.step()
        self.variant.commit(self.params_with_grad(), ~YES)

    def end_pass(self) -> None:
        """Forget all about the pass that has ended."""
        self.now.end_pass()
        if self.side_effects is not None and self.side_effects.in_use:
            self.side_effects.forget()
        if self.local_pass is not None:
            self.local_pass.end()

    def plain_record(self, loss: Any) -> PendingRecord:
        """Return the record of a step that takes one pass, from the gradients at `x`."""
        grads = [p.grad for p in self.params() if p.grad is not None]
        values = [real(g.coalesce().values() if g.is_sparse else g) for g in grads]
        grad_norm = reductions_of(grads).norm(values) if values else torch.zeros(())
        scale = self.loss_scale()
        inverse = None if scale is None else scale.inverse()
        return self._record_of_one_pass(loss, grad_norm if inverse is None else grad_norm * inverse.to(grad_norm))

    def _record_of_one_pass(self, loss: Any, grad_norm: Tensor) -> PendingRecord:
        figures = plain_figures(loss=as_scalar(loss, grad_norm), grad_norm=grad_norm)
        pending = PendingRecord(self.now.steps, False, ~(grad_norm < math.inf), figures)
        if self.policy is not None and self.policy.guard is not None:
            pending.tell_guard(self.policy_state(grad_norm.device).guard)
        return pending

    def loss_scale(self) -> AbstractLossScale | None:
        """Return what is known of the loss scale; None where nothing scales the loss."""
        if self.given_scale is not None:
            return self.given_scale
        return ScalerOfStep(self.optimizer) if "found_inf" in self.optimizer.__dict__ else None

    # The parameters.

    def params(self) -> list[Tensor]:
        """Return all parameters."""
        return [p for group in self.base.param_groups for p in group["params"]]

    def params_with_grad(self) -> list[Tensor]:
        """Return the parameters that have a gradient."""
        return [p for group in self.base.param_groups for p in group["params"] if p.grad is not None]

    def has_grads(self) -> bool:
        """Tell whether any parameter has a gradient."""
        for group in self.base.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    return True
        return False

    def drop_grads(self) -> None:
        """Set all gradients to None."""
        for group in self.base.param_groups:
            for p in group["params"]:
                p.grad = None


def _with_grad(closure: Callable[[], Any]) -> Any:
    """Call a closure from within a step, where gradients are off."""
    torch.set_grad_enabled(True)  # a context manager would take longer
    try:
        return closure()
    finally:
        torch.set_grad_enabled(False)

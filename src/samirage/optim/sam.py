"""`SAM`, the optimizer: what its two passes do, around any base optimizer.

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", arXiv
2010.01412. Departures: a gradient that is not finite skips the whole step; a zero gradient perturbs by zero (there is
no epsilon in the denominator).
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from samirage.optim._validate import (
    Scope,
    checked_every,
    checked_guard,
    checked_instance,
    checked_schedule,
    checked_scope,
    checked_variant,
    checked_warm_start,
)
from samirage.optim.alarm import RoundingAlarm
from samirage.optim.direction import direction_of
from samirage.optim.excursion import Excursion, gradient_norm
from samirage.optim.loss_scale import LossScale, unscaled_late
from samirage.optim.notes import Phase
from samirage.optim.operators import Operators
from samirage.optim.plain import PlainExcursion, excursion_of
from samirage.optim.planned import PLAN, Planned
from samirage.optim.ranks import LocalPass, reshard
from samirage.optim.record import StepRecord, as_scalar, late_record, make_record
from samirage.optim.restraint import Restraint, hold_back
from samirage.optim.skip import spoil, step_unless
from samirage.optim.traces import Buffers, ForwardWatcher, random_state, set_random_state
from samirage.sam import (
    Guard,
    Schedule,
    StepFigures,
    Variant,
    VariantOptions,
    WarmStart,
    perturbation_of,
    plain_figures,
)
from samirage.sam.host import is_at_hand

_OPTIONS = (*PLAN, "model", "scope", "shards", "scaler", "replay_rng")


class SAM(Planned):
    """Sharpness-Aware Minimization around any optimizer: it steps from `x` with the gradient taken at `x⁺`.

    `x⁺ = x + e`, where `e` follows from the gradient `g` at `x` and the radius `rho`, one norm over all parameters:

    | `variant` | `e` |
    |---|---|
    | `"sam"` | `rho·g/‖g‖` |
    | `"asam"` | `rho·x²∘g/‖x∘g‖` (elementwise) |
    | `"unnormalized"` | `rho·g` |

    Three variants have options and are given as objects: `samirage.sam.ASAM` (the paper's `eta` and treatment of
    biases), `GSAM` and `LookSAM`; the last two perturb like `"sam"`, and follow another direction than `g⁺`.

    The base optimizer then takes its own step, from `x`, with `g⁺ = grad f(x⁺)` in place of `g`. The two objects share
    `param_groups`, `state` and `defaults`, and a learning-rate scheduler may be built on either. `rho` is an entry of
    every parameter group, and may differ between groups: it scales its own group's part of `e`. With `rho = 0`
    everywhere, during a warm start, and where a schedule is 0, a step takes one pass and is the base optimizer's, bit
    for bit.

    There are three ways to make a step; they give the same numbers.

    1. `loss = optimizer.step(closure)`: the closure zeroes the gradients, runs forward and backward, and returns the
       loss. It is called twice; the loss at `x` is returned.
    2. `backward()`, then `with optimizer.perturbed():` around a second forward and backward, then `optimizer.step()`.
    3. `backward()`, then `optimizer.first_step(zero_grad=True)`, a second forward and backward, and
       `optimizer.second_step(zero_grad=True)`.

    Between the two passes one copy of the perturbed parameters is kept, and `.grad` of pass 1 is dropped (set to None).
    The weights come back to `x` bit for bit, also after an exception in pass 2 (in the third way call `restore()`),
    which leaves no gradient behind. A gradient that holds an infinity or a NaN, in either pass, skips the whole
    step: neither the weights nor the base optimizer's state change. Hooks of the model run in both passes, step hooks
    once per step.

    Weights in bfloat16 or float16 are moved to `x⁺` with random rounding, which is right on average: rounded to the
    nearest, most would not move at all. `record.radius` and `record.alignment` tell what became of the perturbation.

    Args:
        base: The optimizer that steps, an instance; it must be able to step without a closure.
        rho: Radius of the perturbation, finite and at least 0, in the units of the parameters (for `"asam"` relative
            to them, for `"unnormalized"` per unit of gradient). A group of `base` with an entry `"rho"` keeps it.
        variant: `"sam"`, `"asam"` (arXiv 2102.11600), `"unnormalized"` (arXiv 2206.06232), or an instance of `ASAM`,
            `GSAM` or `LookSAM`.
        model: The model that is trained, as the loop calls it. With it, pass 2 leaves no trace in its buffers, such as
            batch-norm statistics, which are those of one plain forward pass.
        warm_start: First steps that follow the plain gradient, as `WarmStart(steps=…)`; with a criterion, one number
            is read from the device for each of its probes.
        schedule: What the radii of a step are multiplied by: any callable from the number of the step to a factor of at
            least 0, such as those in `samirage.sam` and their products. It counts from 0 at the start of the
            training, also after a warm start.
        guard: When not to follow the shifted gradient, and how far to look next, as `Guard()`. A copy of `g` is then
            kept during pass 2. A gradient that is not finite counts as one rejected.
        scope: Over which ranks the gradient of pass 1 is averaged. `"global"`: over all, as the model does it (a
            DistributedDataParallel, or FSDP2's `fully_shard`); the perturbation is the same everywhere. `"local"`: each
            rank perturbs along the gradient of its own share of the batch (m-sharpness), and nothing is synchronised
            in pass 1; this needs `model`, a DistributedDataParallel, or `shards`.
        shards: Number of shares of the batch in this process that are perturbed each on its own, as m ranks would do
            it; at least 1. `step` then takes a closure of one argument, the number of the shard. The record holds
            the means over the shards.
        every: Perturb in one of so many steps, at least 1; the others take one pass.
        scaler: The `torch.amp.GradScaler` that scales the loss. `scaler.step(optimizer)` works without it; it is
            needed for `optimizer.step(closure)` or `scaler.step(optimizer, closure)` with a scaled loss, for the
            variant `"unnormalized"`, and for figures in the loss's own units where `scaler.unscale_` is called. Call
            `scaler.update()` after each step as usual: an overflow in either pass skips the step and lowers the scale
            once.
        replay_rng: Whether pass 2 sees the random numbers of pass 1 again, so that dropout masks are equal, and leaves
            the generators as after one pass. Without a closure this needs `model`.

    Raises:
        TypeError: If an argument is of the wrong type, or `base` cannot step without a closure.
        ValueError: If an argument is out of its range, or `base` has a hyperparameter of its own that is called `rho`.

    Example:
        >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = SAM(torch.optim.SGD([w], lr=1.0), rho=1.0)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = w.pow(3).sum() / 3  # g = w², here (9, 16)
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure).item()
        30.33333396911621
        >>> e = torch.tensor([9.0, 16.0]) / torch.tensor([9.0, 16.0]).norm()
        >>> torch.allclose(w.detach(), torch.tensor([3.0, 4.0]) - (torch.tensor([3.0, 4.0]) + e) ** 2)
        True
    """

    # Tells GradScaler.step to call step() in any case, with `grad_scale` and `found_inf` set; see loss_scale.py.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        variant: Variant | VariantOptions = "sam",
        model: nn.Module | None = None,
        warm_start: WarmStart | None = None,
        schedule: Schedule | None = None,
        guard: Guard | None = None,
        scope: Scope = "global",
        shards: int = 1,
        every: int = 1,
        scaler: GradScaler | None = None,
        replay_rng: bool = True,
    ) -> None:
        self.variant = checked_variant(variant, scope=scope, shards=shards, every=every)
        self.model = checked_instance(model, "model", nn.Module, "the module that is trained")
        self.warm_start = checked_warm_start(warm_start)
        self.schedule = checked_schedule(schedule, self.warm_start)
        self.guard = checked_guard(guard, scope=scope)
        self.scope: Scope = checked_scope(scope, self.model, shards)
        self.shards = shards
        self.every = checked_every(every)
        self.scaler = checked_instance(scaler, "scaler", GradScaler, 'such as torch.amp.GradScaler("cuda")')
        self.replay_rng = replay_rng
        super().__init__(base, rho)
        self._set_up()

    def _set_up(self) -> None:
        self._loss_scale = LossScale(self, self.scaler)
        # Shards in one process are local too, and there the model may be any: it has no ranks to synchronise.
        ranks = self.scope == "local" and isinstance(self.model, DistributedDataParallel)
        self._local_pass = LocalPass(self.model if ranks else None)
        self._rounding_alarm = RoundingAlarm()
        self._direction = direction_of(self.variant)
        self._restraint = Restraint(self.guard, self.warm_start)
        self._operators = Operators(self.variant, self, self.model)
        self._enter_rest()
        if self.model is not None and (self.replay_rng or self.scope == "local"):
            self.model.register_forward_pre_hook(ForwardWatcher(self._before_forward))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in (*PLAN, "scope", "shards"))
        return f"SAM({options}, base={self.base!r})"

    def __getstate__(self) -> dict[str, Any]:
        self._require_unperturbed("pickling or copying")
        options = {name: getattr(self, name) for name in ("base", *_OPTIONS)}
        noted = {"steps": self._notes.steps, "record": self._notes.record}
        return {**options, "noted": noted, "restraint": self._restraint.save()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        restraint, noted = state.pop("restraint"), state.pop("noted")
        self.__dict__.update(state)
        self._notes.__dict__.update(noted)
        self._set_up()
        self._restraint.load(restraint)
        super().__setstate__({})

    # The parts of a step; the calls of TwoPass put them in order.

    def _before_closure(self, two_pass: bool) -> None:
        self._loss_scale.require_fresh(closure=True)
        if self.replay_rng and two_pass:
            self._notes.random_before = random_state(self._devices())

    def _before_forward(self) -> None:
        """Remember the random numbers of each forward pass at `x`, and give them to the same one at `x⁺`."""
        if self._notes.phase is Phase.AT_REST:
            self._local_pass.begin(self.two_pass)
        if self._notes.in_closure or not self.replay_rng:  # a closure is replayed as a whole
            return
        if self._notes.phase is Phase.AT_REST and self.two_pass:
            self._notes.random_forwards.append(random_state(self._devices()))
        elif self._notes.phase is Phase.PERTURBED and self._notes.random_forwards:
            set_random_state(self._notes.random_forwards.popleft())
            self._notes.replayed = True

    def _depart(self, drop_grads: bool, two_pass: bool) -> bool:
        if not self._notes.in_closure:
            self._loss_scale.require_fresh(closure=False)
            self._restraint.require_no_retries()
        excursion = None
        if two_pass:
            params = self._params_with_grad()
            inverse = self._loss_scale.inverse()
            excursion = excursion_of(
                params,
                self._radii(params),
                perturbation_of(self.variant),
                inverse,
                factor=self._restraint.factor(params[0].device),
                operators=self._operators.of(params),
                keep_grads=self._direction is not None or self._restraint.needs_grads(self._notes.steps),
            )
            excursion.finite = self._local_pass.everywhere(excursion.finite)
            if is_at_hand(excursion.finite) and not excursion.finite:
                self._notes.bad_grad_norm = excursion.grad_norm
                if self._notes.in_closure:  # there will be no pass 2; the scaler shall find these gradients
                    return False
            if not self._notes.retries:
                self._show_gradient(inverse)
        self._local_pass.end()
        if drop_grads:
            self._drop_grads()
        if self.model is not None:
            self._notes.buffers = Buffers(self.model)
        if self.replay_rng:
            self._notes.random_after = random_state(self._devices())
            if self._notes.random_before is not None:
                set_random_state(self._notes.random_before)
                self._notes.replayed = True
        if excursion is not None and self._notes.bad_grad_norm is None:
            self._notes.excursion = excursion  # before the weights move, so that the way back is known
            excursion.go(seed=self._notes.steps)
            reshard(self.model)
        return self._notes.excursion is not None

    def _come_back(self, loss: Any, loss_plus: Any) -> StepRecord:
        if self._notes.bad_grad_norm is not None:
            # Where each rank has a gradient of its own, this rank's may be finite.
            bad = torch.ones_like(self._notes.bad_grad_norm, dtype=torch.bool)
            record = replace(self._record_of_one_pass(loss, self._notes.bad_grad_norm), skipped=bad)
            if not self._notes.in_closure:
                spoil(self._params_with_grad(), bad)
        elif self._notes.excursion is None:
            record = self._plain_record(loss)
        elif isinstance(self._notes.excursion, PlainExcursion):
            late = self._notes.excursion.come_back(self._params(), loss=loss, loss_plus=loss_plus)
            if self._notes.excursion.kept is None:
                record = late_record(step=self._notes.steps, skipped=not late.finite, figures=late.compute)
            else:
                figures = late.compute()
                followed = self._redirect(self._notes.excursion, figures)
                record = self._make_record(figures, figures.grad_plus_norm, followed=followed)
        else:
            like = self._notes.excursion.grad_norm
            figures = self._notes.excursion.come_back(
                self._params(),
                loss=as_scalar(loss, like),
                loss_plus=as_scalar(loss_plus, like),
                inverse_scale=self._loss_scale.inverse(),
            )
            followed = self._redirect(self._notes.excursion, figures)
            alignment = self._notes.excursion.alignment
            record = self._make_record(figures, figures.grad_plus_norm, followed=followed, alignment=alignment)
            if not is_at_hand(like):
                bad = ~self._notes.excursion.finite
                record = replace(record, skipped=record.skipped | bad)
                if not self._notes.in_closure:
                    spoil(self._params_with_grad(), bad)
            if alignment is not None and not torch.compiler.is_compiling():
                self._rounding_alarm.look(self._notes.steps, record.radius, alignment)
        self._retreat()
        return record

    def _redirect(self, excursion: Excursion | PlainExcursion, figures: StepFigures) -> Tensor:
        """Turn `.grad` from `g⁺` into what the variant follows, or back into `g`; tell whether `g⁺` is followed."""
        followed = self._restraint.follows(self._notes.steps, figures)
        if excursion.kept is not None:
            params, grads, grads_plus = excursion.kept
            if self._direction is not None:
                self._direction.after_pass_2(params, grads, grads_plus)
            if self._restraint.needs_grads(self._notes.steps):
                hold_back(followed, params, grads)
        return followed

    def _tries_again(self, record: StepRecord) -> bool:
        again = record.perturbed and self._restraint.tries_again(self._notes.steps, self._notes.retries, record)
        self._notes.retries += again
        return again

    def _retreat(self) -> None:
        if self._notes.excursion is not None:
            self._notes.excursion.restore()
            reshard(self.model)
        if self._notes.buffers is not None:
            self._notes.buffers.restore()
        if self._notes.replayed and self._notes.random_after is not None:
            set_random_state(self._notes.random_after)

    def _rest(self) -> None:
        notes = self._notes
        notes.excursion = notes.bad_grad_norm = notes.buffers = notes.random_before = notes.random_after = None
        notes.random_forwards.clear()
        notes.replayed, notes.retries = False, 0
        self._local_pass.end()

    def _step_failed(self) -> None:
        self._loss_scale.forget()

    def _finish(self, record: StepRecord) -> None:
        late = None
        if self._loss_scale.is_known:
            if record.perturbed and self.scaler is None and not self._notes.in_closure:
                late = self._loss_scale.inverse()
                record = record if late is None else unscaled_late(record, late, self.variant)
            overflow = self._loss_scale.overflow(closure=self._notes.in_closure)
            if overflow is not None:
                record = replace(record, skipped=record.skipped | overflow)
            self._loss_scale.unscale()
            self._loss_scale.report_overflow(record.skipped)
        if record.perturbed and self._restraint.is_at_work:
            self._restraint.after(self._notes.steps, record)
            record = replace(record, rejections=self._restraint.counters(record.grad_norm)[0])
        self._show_step(record, late)
        if not self._follow(record) and hasattr(self.base.step, "_wrapped_by_lr_sched"):
            # A scheduler on the base optimizer would warn that it runs before the first step.
            self.base._opt_called = True  # type: ignore[attr-defined]
        self._notes.steps += 1
        self._remember(record)

    def _follow(self, record: StepRecord) -> bool:
        """Let the base optimizer step along the variant's direction, unless it is skipped; tell whether it stepped."""
        step_base = partial(step_unless, record.skipped, self.base, may_wait=self._loss_scale.is_known)
        if self._direction is None:
            return step_base()
        params = self._params_with_grad()
        if not record.perturbed and not self.two_pass and self._is_on():
            self._direction.before_plain_step(params, self.state)
        stepped = step_base()
        if stepped:
            self._direction.after_step(params, self.state, perturbed=record.perturbed)
        return stepped

    def _create_state(self) -> None:
        self.base.step()
        if self._direction is not None:
            self._direction.after_step(self._params_with_grad(), self.state, perturbed=False)

    def _plain_record(self, loss: Any) -> StepRecord:
        grad_norm = gradient_norm(self._params())
        inverse = self._loss_scale.inverse()
        return self._record_of_one_pass(loss, grad_norm if inverse is None else grad_norm * inverse.to(grad_norm))

    def _record_of_one_pass(self, loss: Any, grad_norm: Tensor) -> StepRecord:
        figures = plain_figures(loss=as_scalar(loss, grad_norm), grad_norm=grad_norm)
        return self._make_record(figures, grad_norm, followed=None)

    def _make_record(
        self, figures: StepFigures, decisive: Tensor, *, followed: Tensor | None, alignment: Tensor | None = None
    ) -> StepRecord:
        step, counters = self._notes.steps, self._restraint.counters(decisive)
        return make_record(
            figures, step=step, decisive=decisive, counters=counters, followed=followed, alignment=alignment
        )

    def _devices(self) -> set[torch.device]:
        return {p.device for p in self._params()}

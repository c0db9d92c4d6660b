"""`SAM`, the optimizer: its arguments, and the three ways to call it.

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", arXiv
2010.01412. Departures: a gradient that is not finite skips the whole step; a zero gradient perturbs by zero (there is
no epsilon in the denominator). The order of a step stands in `samirage.optim.passes`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer, optimizer

from samirage.optim._validate import Scope, checked_instance, checked_policy, checked_scope, checked_variant
from samirage.optim.amp import GivenScaler, forget_scaler_of_step
from samirage.optim.checkpoint import load_state, saved_state
from samirage.optim.distributed import LocalPass, resharding_of
from samirage.optim.passes import Passes
from samirage.optim.policy_part import PolicyPart
from samirage.optim.shards import run_shards
from samirage.optim.side_effects import ForwardWatcher, SideEffects
from samirage.optim.step_state import NO_GRADIENT_OF_PASS_2, NO_PASS_2, Phase
from samirage.optim.variant_state import VariantInUse
from samirage.optim.wrapper import Wrapper
from samirage.sam import AbstractGuard, AbstractVariant, Schedule, Variant, WarmStart, variant_of

_PLAN: Final = ("variant", "warm_start", "schedule", "guard", "every")
_OPTIONS: Final = (*_PLAN, "model", "scope", "shards", "scaler", "replay_rng")


class SAM(Wrapper):
    """Sharpness-Aware Minimization around any optimizer: it steps from `x` with the gradient taken at `x⁺`.

    `x⁺ = x + e`, where `e` follows from the gradient `g` at `x` and the radius `rho`, one norm over all parameters:

    | `variant` | `e` |
    |---|---|
    | `"sam"` | `rho·g/‖g‖` |
    | `"asam"` | `rho·x²∘g/‖x∘g‖` (elementwise) |
    | `"unnormalized"` | `rho·g` |

    Others are given as objects: those in `samirage.sam.variants`, such as `ASAM` (the paper's `eta` and treatment of
    biases), `GSAM` and `LookSAM`, which follow another direction than `g⁺`, or an `AbstractVariant` of your own.

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
        variant: `"sam"`, `"asam"` (arXiv 2102.11600), `"unnormalized"` (arXiv 2206.06232), or an instance of an
            `AbstractVariant`.
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
            needed for `optimizer.step(closure)` or `scaler.step(optimizer, closure)` with a scaled loss, for variants
            that depend on the length of the gradient (`"unnormalized"`), and for figures in the loss's own units where
            `scaler.unscale_` is called. Call `scaler.update()` after each step as usual: an overflow in either pass
            skips the step and lowers the scale once.
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

    # Tells GradScaler.step to call step() in any case, with `grad_scale` and `found_inf` set; see amp.py.
    _step_supports_amp_scaling = True

    warm_start, schedule, guard, every = PolicyPart(), PolicyPart(), PolicyPart(), PolicyPart()

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        variant: Variant | AbstractVariant = "sam",
        model: nn.Module | None = None,
        warm_start: WarmStart | None = None,
        schedule: Schedule | None = None,
        guard: AbstractGuard | None = None,
        scope: Scope = "global",
        shards: int = 1,
        every: int = 1,
        scaler: GradScaler | None = None,
        replay_rng: bool = True,
    ) -> None:
        self.variant = checked_variant(variant, scope=scope, shards=shards, every=every)
        self.model = checked_instance(model, "model", nn.Module, "the module that is trained")
        self.warm_start, self.schedule, self.guard, self.every = warm_start, schedule, guard, every
        checked_policy(warm_start, schedule, guard, every, scope=scope)
        self.scope: Scope = checked_scope(scope, self.model, shards)
        self.shards = shards
        self.scaler = checked_instance(scaler, "scaler", GradScaler, 'such as torch.amp.GradScaler("cuda")')
        self.replay_rng = replay_rng
        super().__init__(base, rho)
        self._set_up()

    def _set_up(self) -> None:
        """Build the collaborators; None for what is off."""
        model, scaler = self.model, self.scaler
        # Shards in one process are local too, and there the model may be any: it has no ranks to synchronise.
        over_ranks = self.scope == "local" and isinstance(model, DistributedDataParallel)
        self._passes = Passes(
            optimizer=self,
            base=self.base,
            now=self._now,
            variant=VariantInUse(variant_of(self.variant), self.base, model),
            policy=checked_policy(self.warm_start, self.schedule, self.guard, self.every, scope=self.scope),
            side_effects=SideEffects(model, self.replay_rng) if self.replay_rng or model is not None else None,
            given_scale=GivenScaler(self, scaler) if scaler is not None and scaler.is_enabled() else None,
            resharding=resharding_of(model),
            local_pass=LocalPass(model) if over_ranks and model is not None else None,
        )
        if model is not None and (self.replay_rng or self.scope == "local"):
            model.register_forward_pre_hook(ForwardWatcher(self._passes.before_forward))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in (*_PLAN, "scope", "shards"))
        return f"SAM({options}, base={self.base!r})"

    def __getstate__(self) -> dict[str, Any]:
        self._now.require_unperturbed("pickling or copying")
        options = {name: getattr(self, name) for name in ("base", *_OPTIONS)}
        return {**options, "now": self._now.save(), "own": self._own_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        now, own = state.pop("now"), state.pop("own")
        for name, value in state.items():
            setattr(self, name, value)
        self._set_up()
        self._load_own_state(own)
        self._now.load(now)
        super().__setstate__({})

    @property
    def two_pass(self) -> bool:
        """Whether the coming step perturbs the weights; if not, an explicit loop may skip its second pass.

        Example:
            >>> w = torch.ones(1, requires_grad=True)
            >>> optimizer = SAM(torch.optim.SGD([w], lr=0.1), warm_start=WarmStart(steps=1))
            >>> for _ in range(2):
            ...     optimizer.zero_grad()
            ...     w.square().sum().backward()
            ...     if optimizer.two_pass:
            ...         with optimizer.perturbed():
            ...             w.square().sum().backward()
            ...     optimizer.step()
            ...     print(optimizer.record.perturbed)
            False
            True
        """
        return self._passes.plan().two_pass

    def step(self, closure: Callable[..., Any] | None = None) -> Any:
        """Make a step: both passes with a closure; without one, the base optimizer's step on the perturbed gradient.

        Args:
            closure: Zeroes the gradients, runs forward and backward, and returns the loss; called twice, or once when
                the step takes one pass. None after `perturbed()`, or when the step takes one pass. With `shards`, it
                takes the number of the shard, is called so for each of them, and returns the loss of the shard.

        Returns:
            What the closure returned at `x` (with `shards`, the mean of that); None without a closure.

        Raises:
            RuntimeError: If the weights are at `x⁺`, or the perturbed pass is missing or not yet used.
        """
        if (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or optimizer._global_optimizer_pre_hooks
            or optimizer._global_optimizer_post_hooks
            or torch.compiler.is_compiling()  # which knows torch's wrapper, but not how to look for a profiler
            or torch._C._autograd._profiler_enabled()
        ):
            return self._watched_step(closure)
        return self._unwatched_step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch shall not wrap it, which takes time

    def _unwatched_step(self, closure: Callable[..., Any] | None) -> Any:
        try:
            with torch.no_grad():
                if self._now.phase is not Phase.AT_REST:
                    self._now.require_step_due(closure=closure is not None)
                return self._step_without_closure() if closure is None else self._step_with(closure)
        except BaseException:
            forget_scaler_of_step(self)
            raise

    # What torch makes of any optimizer's step: it calls hooks, and is seen by torch.profiler.
    _watched_step = Optimizer.profile_hook_step(_unwatched_step)

    def _step_with(self, closure: Callable[..., Any]) -> Any:
        now, passes = self._now, self._passes
        now.in_closure = True
        try:
            pending, loss = passes.run(closure) if self.shards == 1 else run_shards(passes, closure, self.shards)
            passes.complete(pending)
        except BaseException:
            self.restore()
            passes.end_pass()
            raise
        finally:
            now.in_closure = False
        return loss

    def _step_without_closure(self) -> None:
        now, passes = self._now, self._passes
        if now.phase is Phase.RETURNED:
            assert now.waiting is not None
            if not passes.has_grads():
                passes.end_pass()
                raise RuntimeError(NO_GRADIENT_OF_PASS_2)
            passes.complete(now.waiting)
        elif not self.two_pass:
            passes.complete(passes.plain_record(None))
        elif passes.has_grads() and not any(bool(p.grad.any()) for p in passes.params() if p.grad is not None):
            # So does torch.distributed.checkpoint call an optimizer, with learning rate 0, to give it its state. A
            # zero gradient perturbs by zero; this is no step of the training, and does not count as one.
            passes.create_state()
        else:
            raise RuntimeError(NO_PASS_2)

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Hold the weights at `x⁺` inside a `with` block, and bring them back to `x` at its end, whatever happens.

        Enter it after the first `backward()`, run the second forward and backward inside, and call `step()` after it.
        The gradients of the first pass are dropped from `.grad` at the entry. When the step takes one pass (see
        `two_pass`), the weights stay at `x`.

        Yields:
            Nothing.

        Raises:
            RuntimeError: If the weights are perturbed already, a perturbed pass still waits for its `step()`, or no
                parameter has a gradient.

        Example:
            >>> from samirage import SAM
            >>> w = torch.tensor([2.0], requires_grad=True)
            >>> optimizer = SAM(torch.optim.SGD([w], lr=0.5), rho=1.0)
            >>> (w.square().sum() / 2).backward()
            >>> with optimizer.perturbed():
            ...     print(w.item())
            ...     (w.square().sum() / 2).backward()
            3.0
            >>> optimizer.step()
            >>> w.item()
            0.5
        """
        self._passes.begin_pass_2("perturbed()", shards=self.shards, drop_grads=True)
        try:
            yield
        except BaseException:
            self.restore()
            raise
        self._passes.end_pass_2()

    def first_step(self, zero_grad: bool = False) -> None:
        """Move the weights to `x⁺`, after the first `backward()`.

        Args:
            zero_grad: Whether to drop the gradients. If not, drop them yourself before the second `backward()`, which
                would otherwise add to them.

        Raises:
            RuntimeError: If the weights are perturbed already, a perturbed pass still waits for its `step()`, or no
                parameter has a gradient.
        """
        self._passes.begin_pass_2("first_step()", shards=self.shards, drop_grads=zero_grad)

    def second_step(self, zero_grad: bool = False) -> None:
        """Move the weights back to `x` and let the base optimizer step, after the second `backward()`.

        Args:
            zero_grad: Whether to drop the gradients afterwards.

        Raises:
            RuntimeError: If there was no `first_step()`, or no gradient since.
        """
        self._now.require_first_step()
        self._passes.end_pass_2()
        self.step()  # through the attribute, for learning-rate schedulers count the steps there
        if zero_grad:
            self.zero_grad()

    def restore(self) -> None:
        """Give the step up: bring the weights back to `x`, bit for bit, and drop all gradients; harmless at `x`.

        `step(closure)` and `perturbed()` do this by themselves when an exception passes through them. Between
        `first_step()` and `second_step()` only the caller can.
        """
        self._passes.abort()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, and with them a perturbed pass that still waits for its `step()`.

        Args:
            set_to_none: Whether to set them to None, or to zero in place.
        """
        now, passes = self._now, self._passes
        at_rest = now.phase is Phase.AT_REST and not now.in_closure
        drops_a_pass = at_rest and not now.old_grads and passes.has_grads()
        now.old_grads, now.zeroed = False, True
        if set_to_none and type(self.base).zero_grad is Optimizer.zero_grad and not torch.compiler.is_compiling():
            passes.drop_grads()  # what that does, many times faster
        else:
            super().zero_grad(set_to_none=set_to_none)
        if drops_a_pass or now.phase is Phase.RETURNED:
            passes.end_pass()

    def _own_state(self) -> dict[str, Any]:
        return saved_state(self._passes, self._plan())

    def _load_own_state(self, own: dict[str, Any]) -> None:
        load_state(self._passes, own, self._plan())

    def _plan(self) -> str:
        """Say which steps perturb and how, in words that are the same in every run: without addresses."""
        return re.sub(" at 0x[0-9a-fA-F]+", "", ", ".join(f"{name}={getattr(self, name)!r}" for name in _PLAN))

"""The step of two passes in its three calling styles: which call is due when, and the way back from each place."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, optimizer

from samirage.optim.closure import with_grad
from samirage.optim.notes import Phase
from samirage.optim.record import StepRecord
from samirage.optim.shards import MeanOfShards, closures_of_shards, mean_loss, mean_record
from samirage.optim.wrapper import Wrapper
from samirage.sam.host import is_at_hand


class TwoPass(Wrapper):
    """An optimizer whose step takes two passes; what the passes do is the subclass's."""

    shards: int = 1

    @property
    @abstractmethod
    def two_pass(self) -> bool:
        """Whether the coming step takes two passes."""

    @abstractmethod
    def _before_closure(self, two_pass: bool) -> None:
        """Prepare for pass 1 of a step with a closure, which takes two passes or one."""

    @abstractmethod
    def _depart(self, drop_grads: bool, two_pass: bool) -> bool:
        """Move to `x⁺` with the gradients of pass 1; return whether there is a perturbed pass to run.

        This and the next two are called under `torch.no_grad()`.
        """

    @abstractmethod
    def _come_back(self, loss: Any, loss_plus: Any) -> StepRecord:
        """Move back to `x` with the gradients of pass 2; return the record of the step that is now due."""

    @abstractmethod
    def _tries_again(self, record: StepRecord) -> bool:
        """Tell whether pass 2 is to be taken again, from the gradients that are there."""

    @abstractmethod
    def _retreat(self) -> None:
        """Move back to `x` from wherever the pass has come to, with all that it changed; harmless at `x`."""

    @abstractmethod
    def _plain_record(self, loss: Any) -> StepRecord:
        """Return the record of a step that takes one pass, from the gradients at `x`."""

    @abstractmethod
    def _finish(self, record: StepRecord) -> None:
        """Let the base optimizer step, unless a gradient was not finite."""

    @abstractmethod
    def _create_state(self) -> None:
        """Let the base optimizer create its state, while all gradients are zero."""

    @abstractmethod
    def _rest(self) -> None:
        """Forget all about the pass that has ended."""

    @abstractmethod
    def _step_failed(self) -> None:
        """Clean up after an exception in `step`."""

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
                return self._step(closure)
        except BaseException:
            self._step_failed()
            raise

    # What torch makes of any optimizer's step: it calls hooks, and is seen by torch.profiler.
    _watched_step = Optimizer.profile_hook_step(_unwatched_step)

    def _step(self, closure: Callable[..., Any] | None) -> Any:
        self._require_unperturbed("step()")
        if closure is not None:
            if self._notes.phase is Phase.RETURNED:
                raise RuntimeError(
                    "step(closure) would lose the gradient of the perturbed pass: after perturbed() call step() "
                    "without a closure (Lightning always gives one; there call step(closure) alone, which makes both "
                    "passes), or zero_grad() to drop that gradient"
                )
            return self._step_with(closure)
        if self._notes.phase is Phase.RETURNED:
            record = self._notes.waiting
            assert record is not None
            if not self._has_grads():
                self._enter_rest()
                raise RuntimeError(
                    "step() found no gradient from the perturbed pass: call backward() between the entry and the exit "
                    "of perturbed(), or between first_step() and second_step()"
                )
            self._complete(record)
        elif self.two_pass:
            if self._all_zero():
                # So does torch.distributed.checkpoint call an optimizer, with learning rate 0, to give it its state. A
                # zero gradient perturbs by zero; this is no step of the training, and does not count as one.
                self._create_state()
                return None
            raise RuntimeError(
                "step() has no gradient of a perturbed pass: give it a closure, or run a second forward and backward "
                "within `with optimizer.perturbed():` (or between first_step() and second_step()) before each step()"
            )
        else:
            self._complete(self._plain_record(None))
        return None

    def _step_with(self, closure: Callable[..., Any]) -> Any:
        self._notes.in_closure = True
        try:
            if self.shards == 1:
                record, loss = self._passes(closure, self.two_pass)
            else:
                record, loss = self._passes_over_shards(closure)
            self._complete(record)
        except BaseException:
            self.restore()
            self._enter_rest()
            raise
        finally:
            self._notes.in_closure = False
        return loss

    def _passes_over_shards(self, closure: Callable[..., Any]) -> tuple[StepRecord, Any]:
        two_pass, mean = self.two_pass, MeanOfShards(self.shards)
        records: list[StepRecord] = []
        losses: list[Any] = []
        for one in closures_of_shards(closure, self.shards):
            record, loss = self._passes(one, two_pass)
            self._enter_rest()
            records.append(record)
            losses.append(loss)
            if is_at_hand(record.skipped) and record.skipped:
                break
            mean.take(self._params())
        else:
            mean.give()
        return mean_record(records), mean_loss(losses)

    def _passes(self, closure: Callable[[], Any], two_pass: bool) -> tuple[StepRecord, Any]:
        notes = self._notes
        self._before_closure(two_pass)
        before = [] if notes.old_grads else [(p, p.grad, p.grad._version) for p in self._params() if p.grad is not None]
        notes.zeroed = False
        loss = with_grad(closure)
        if notes.waiting is not None:  # the closure has made the perturbed pass itself
            return notes.waiting, loss
        self._require_unperturbed("the end of the closure")
        if two_pass and not notes.zeroed and any(p.grad is g and g._version != version for p, g, version in before):
            raise RuntimeError(
                "the closure added to gradients from before it, which its second call would miss: let it zero the "
                "gradients, and accumulate with samirage.optim.accumulated, or under Lightning with the callback "
                "samirage.trainers.lightning.SAMCallback"
            )
        if not (two_pass and self._has_grads()):
            return self._plain_record(loss), loss
        # A copy, for the closure may write its next loss to the same storage, as a captured CUDA graph does.
        value = loss.detach().clone() if isinstance(loss, Tensor) else loss
        self._notes.phase = Phase.PERTURBED
        loss_plus = None
        if self._depart(drop_grads=True, two_pass=two_pass):
            loss_plus = with_grad(closure)
        record = self._come_back(value, loss_plus)
        while self._tries_again(record):  # from the same gradients
            self._depart(drop_grads=True, two_pass=True)
            record = self._come_back(value, with_grad(closure))
        return record, value if loss_plus is loss else loss

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
        self._require_beginning("perturbed()")
        self._notes.in_closure = False  # a closure that makes the perturbed pass itself is called once
        try:
            self._notes.phase = Phase.PERTURBED
            with torch.no_grad():
                self._depart(drop_grads=True, two_pass=self.two_pass)
            yield
            self._return()
        except BaseException:
            self.restore()
            raise

    def first_step(self, zero_grad: bool = False) -> None:
        """Move the weights to `x⁺`, after the first `backward()`.

        Args:
            zero_grad: Whether to drop the gradients. If not, drop them yourself before the second `backward()`, which
                would otherwise add to them.

        Raises:
            RuntimeError: If the weights are perturbed already, a perturbed pass still waits for its `step()`, or no
                parameter has a gradient.

        Example:
            >>> from samirage import SAM
            >>> w = torch.tensor([2.0], requires_grad=True)
            >>> optimizer = SAM(torch.optim.SGD([w], lr=0.5), rho=1.0)
            >>> (w.square().sum() / 2).backward()
            >>> optimizer.first_step(zero_grad=True)
            >>> w.item()
            3.0
            >>> (w.square().sum() / 2).backward()
            >>> optimizer.second_step(zero_grad=True)
            >>> w.item()
            0.5
        """
        self._require_beginning("first_step()")
        try:
            self._notes.phase = Phase.PERTURBED
            self._notes.by_first_step = True
            with torch.no_grad():
                self._depart(drop_grads=zero_grad, two_pass=self.two_pass)
        except BaseException:
            self.restore()
            raise

    def second_step(self, zero_grad: bool = False) -> None:
        """Move the weights back to `x` and let the base optimizer step, after the second `backward()`.

        Args:
            zero_grad: Whether to drop the gradients afterwards.

        Raises:
            RuntimeError: If there was no `first_step()`, or no gradient since.
        """
        if self._notes.phase is not Phase.PERTURBED or not self._notes.by_first_step:
            raise RuntimeError(
                "second_step() needs a first_step() before it: call backward(), first_step(zero_grad=True), run "
                "forward and backward again, then second_step(zero_grad=True); after `with perturbed():` call step()"
            )
        try:
            self._return()
        except BaseException:
            self.restore()
            raise
        self.step()  # through the attribute, for learning-rate schedulers count the steps there
        if zero_grad:
            self.zero_grad()

    def restore(self) -> None:
        """Give the step up: bring the weights back to `x`, bit for bit, and drop all gradients; harmless at `x`.

        `step(closure)` and `perturbed()` do this by themselves when an exception passes through them. Between
        `first_step()` and `second_step()` only the caller can.

        Example:
            >>> from samirage import SAM
            >>> w = torch.tensor([2.0], requires_grad=True)
            >>> optimizer = SAM(torch.optim.SGD([w], lr=0.5), rho=1.0)
            >>> w.square().sum().backward()
            >>> optimizer.first_step()
            >>> optimizer.restore()
            >>> w.item(), w.grad
            (2.0, None)
        """
        if self._notes.phase is Phase.AT_REST:
            return
        with torch.no_grad():
            self._retreat()
        self._enter_rest()
        self._drop_grads()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, and with them a perturbed pass that still waits for its `step()`.

        Args:
            set_to_none: Whether to set them to None, or to zero in place.
        """
        at_rest = self._notes.phase is Phase.AT_REST and not self._notes.in_closure
        drops_a_pass = at_rest and not self._notes.old_grads and self._has_grads()
        self._notes.old_grads, self._notes.zeroed = False, True
        if set_to_none and type(self.base).zero_grad is Optimizer.zero_grad and not torch.compiler.is_compiling():
            self._drop_grads()  # what that does, many times faster
        else:
            super().zero_grad(set_to_none=set_to_none)
        if drops_a_pass or self._notes.phase is Phase.RETURNED:
            self._enter_rest()

    def _return(self) -> None:
        with torch.no_grad():
            record = self._come_back(None, None)
        self._enter_rest()
        self._notes.phase, self._notes.waiting = Phase.RETURNED, record

    def _complete(self, record: StepRecord) -> None:
        self._enter_rest()
        self._notes.old_grads = True
        self._finish(record)

    def _enter_rest(self) -> None:
        self._notes.phase, self._notes.by_first_step, self._notes.waiting = Phase.AT_REST, False, None
        self._rest()

    def _params(self) -> list[Tensor]:
        return [p for group in self.base.param_groups for p in group["params"]]

    def _params_with_grad(self) -> list[Tensor]:
        return [p for group in self.base.param_groups for p in group["params"] if p.grad is not None]

    def _has_grads(self) -> bool:
        for group in self.base.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    return True
        return False

    def _all_zero(self) -> bool:
        grads = [p.grad for p in self._params_with_grad()]
        return bool(grads) and not any(bool(g.any()) for g in grads if g is not None)

    def _drop_grads(self) -> None:
        for group in self.base.param_groups:
            for p in group["params"]:
                p.grad = None

    def _require_unperturbed(self, call: str) -> None:
        if self._notes.phase is Phase.PERTURBED:
            way_out = "second_step() or restore()" if self._notes.by_first_step else "the end of `with perturbed():`"
            raise RuntimeError(f"{call} is not possible while the weights are at x⁺: it must wait for {way_out}")

    def _require_beginning(self, call: str) -> None:
        self._require_unperturbed(call)
        if self._notes.phase is Phase.RETURNED:
            raise RuntimeError(
                f"{call} came before the last perturbed pass was used: call step() first, or zero_grad() to drop it"
            )
        if self.shards > 1:
            raise RuntimeError(
                f"{call} makes one perturbation, but shards={self.shards} needs one for each: use step(closure) with a "
                "closure that takes the number of the shard"
            )
        if not self._has_grads():
            raise RuntimeError(f"{call} found no gradient in any parameter: call backward() before it")

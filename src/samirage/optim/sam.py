"""`SAM`, the optimizer: one step of two passes around any base optimizer.

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", arXiv
2010.01412. Departures: a gradient that is not finite skips the whole step; a zero gradient perturbs by zero (there is
no epsilon in the denominator).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samirage.optim._validate import checked_rho, checked_variant, checked_warm_start
from samirage.optim.passes import Excursion, gradient_values
from samirage.optim.record import StepRecord
from samirage.optim.wrapper import Wrapper
from samirage.sam import StepFigures, Variant, WarmStart, norm, plain_figures


class _Phase(Enum):
    """Where a step stands; the value says so to the user."""

    AT_REST = "no step has begun"
    PERTURBED = "the weights are at x⁺"
    RETURNED = "the gradient of the perturbed pass waits for step()"


class SAM(Wrapper):
    """Sharpness-Aware Minimization around any optimizer: it steps from `x` with the gradient taken at `x⁺`.

    `x⁺ = x + e`, where `e` follows from the gradient `g` at `x` and the radius `rho`, one norm over all parameters:

    | `variant` | `e` |
    |---|---|
    | `"sam"` | `rho·g/‖g‖` |
    | `"asam"` | `rho·x²∘g/‖x∘g‖` (elementwise) |
    | `"unnormalized"` | `rho·g` |

    The base optimizer then takes its own step, from `x`, with `g⁺ = grad f(x⁺)` in place of `g`. The two objects share
    `param_groups`, `state` and `defaults`, and a learning-rate scheduler may be built on either. `rho` is an entry of
    every parameter group, and may differ between groups: it scales its own group's part of `e`. With `rho = 0`
    everywhere, and during a warm start, a step takes one pass and is the base optimizer's, bit for bit.

    There are three ways to make a step; they give the same numbers.

    1. `loss = optimizer.step(closure)`: the closure zeroes the gradients, runs forward and backward, and returns the
       loss. It is called twice; the loss at `x` is returned.
    2. `backward()`, then `with optimizer.perturbed():` around a second forward and backward, then `optimizer.step()`.
    3. `backward()`, then `optimizer.first_step(zero_grad=True)`, a second forward and backward, and
       `optimizer.second_step(zero_grad=True)`.

    Between the two passes one copy of the perturbed parameters is kept, and `.grad` of pass 1 is dropped (set to None).
    The weights come back to `x` bit for bit, also after an exception in pass 2 (in the third way call `restore()`),
    which leaves no gradient behind. A gradient that holds an infinity or a NaN, in either pass, skips the whole
    step: neither the weights nor the base optimizer's state change.

    Args:
        base: The optimizer that steps, an instance; it must be able to step without a closure.
        rho: Radius of the perturbation, finite and at least 0, in the units of the parameters (for `"asam"` relative
            to them, for `"unnormalized"` per unit of gradient). A group of `base` with an entry `"rho"` keeps it.
        variant: `"sam"`, `"asam"` (arXiv 2102.11600) or `"unnormalized"` (arXiv 2206.06232).
        warm_start: Number of first steps that follow the plain gradient, as `WarmStart(steps=…)`.

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

    _excursion: Excursion | None
    _bad_grad_norm: Tensor | None
    _waiting: StepRecord | None

    def __init__(
        self, base: Optimizer, *, rho: float = 0.05, variant: Variant = "sam", warm_start: WarmStart | None = None
    ) -> None:
        self.variant: Variant = checked_variant(variant)
        self.warm_start = checked_warm_start(warm_start)
        self._steps = 0
        self._record: StepRecord | None = None
        self._enter_rest()
        super().__init__(base, rho)

    # What it says about itself.

    @property
    def record(self) -> StepRecord | None:
        """The figures of the last step, or None before the first."""
        return self._record

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
        if self.warm_start is not None and self.warm_start.covers(self._steps):
            return False
        return any(radius > 0 for radius in self._radii().values())

    def __repr__(self) -> str:
        return f"SAM(variant={self.variant!r}, warm_start={self.warm_start!r}, base={self.base!r})"

    # The three ways to make a step.

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step: both passes with a closure; without one, the base optimizer's step on the perturbed gradient.

        Args:
            closure: Zeroes the gradients, runs forward and backward, and returns the loss; called twice, or once when
                the step takes one pass. None after `perturbed()`, or when the step takes one pass.

        Returns:
            What the closure returned at `x`; None without a closure.

        Raises:
            RuntimeError: If the weights are at `x⁺`, or the perturbed pass is missing or not yet used.
        """
        self._require_unperturbed("step()")
        if closure is not None:
            if self._phase is _Phase.RETURNED:
                raise RuntimeError(
                    "step(closure) would lose the gradient of the perturbed pass: after perturbed() call step() "
                    "without a closure, or zero_grad() to drop that gradient"
                )
            return self._step_with(torch.enable_grad()(closure))
        if self._phase is _Phase.RETURNED:
            if not self._params_with_grad():
                self._enter_rest()
                raise RuntimeError(
                    "step() found no gradient from the perturbed pass: call backward() between the entry and the exit "
                    "of perturbed(), or between first_step() and second_step()"
                )
            self._finish()
        elif self.two_pass:
            raise RuntimeError(
                "step() has no gradient of a perturbed pass: give it a closure, or run a second forward and backward "
                "within `with optimizer.perturbed():` (or between first_step() and second_step()) before each step()"
            )
        else:
            self._step_plain(None)
        return None

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
        try:
            self._depart(drop_grads=True)
            yield
            self._come_back(None, None)
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
            self._depart(drop_grads=zero_grad)
        except BaseException:
            self.restore()
            raise
        self._by_first_step = True

    def second_step(self, zero_grad: bool = False) -> None:
        """Move the weights back to `x` and let the base optimizer step, after the second `backward()`.

        Args:
            zero_grad: Whether to drop the gradients afterwards.

        Raises:
            RuntimeError: If there was no `first_step()`, or no gradient since.
        """
        if self._phase is not _Phase.PERTURBED or not self._by_first_step:
            raise RuntimeError(
                "second_step() needs a first_step() before it: call backward(), first_step(zero_grad=True), run "
                "forward and backward again, then second_step(zero_grad=True); after `with perturbed():` call step()"
            )
        try:
            self._come_back(None, None)
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
            >>> w = torch.tensor([2.0], requires_grad=True)
            >>> optimizer = SAM(torch.optim.SGD([w], lr=0.5), rho=1.0)
            >>> w.square().sum().backward()
            >>> optimizer.first_step()
            >>> optimizer.restore()
            >>> w.item(), w.grad
            (2.0, None)
        """
        if self._phase is _Phase.AT_REST:
            return
        if self._excursion is not None:
            self._excursion.restore()
        self._enter_rest()
        self._drop_grads()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, and with them a perturbed pass that still waits for its `step()`.

        Args:
            set_to_none: Whether to set them to None, or to zero in place.
        """
        self.base.zero_grad(set_to_none=set_to_none)
        if self._phase is _Phase.RETURNED:
            self._enter_rest()

    # State.

    def _own_state(self) -> dict[str, Any]:
        return {"sam_step": self._steps}

    def _load_own_state(self, own: dict[str, Any]) -> None:
        self._steps = int(own.get("sam_step", 0))
        self._record = None
        self._enter_rest()

    def __getstate__(self) -> dict[str, Any]:
        self._require_unperturbed("pickling or copying")
        return {
            "base": self.base,
            "variant": self.variant,
            "warm_start": self.warm_start,
            "_steps": self._steps,
            "_record": self._record,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._enter_rest()
        super().__setstate__({})

    # The step itself.

    def _step_with(self, closure: Callable[[], Any]) -> Any:
        two_pass = self.two_pass
        loss = closure()
        if not two_pass or not self._params_with_grad():
            self._step_plain(loss)
            return loss
        # A copy, for the closure may write its next loss to the same storage, as a captured CUDA graph does.
        value = loss.detach().clone() if isinstance(loss, Tensor) else loss
        try:
            loss_plus = closure() if self._depart(drop_grads=True) else None
            self._come_back(value, loss_plus)
        except BaseException:
            self.restore()
            raise
        self._finish()
        return value if loss_plus is loss else loss

    def _step_plain(self, loss: Any) -> None:
        self._waiting = self._plain_record(loss, self._grad_norm())
        self._finish()

    def _depart(self, drop_grads: bool) -> bool:
        """Move to `x⁺`; return whether there is a perturbed pass to run."""
        params = self._params_with_grad()
        radii = self._radii()
        excursion = Excursion(params, [radii[id(p)] for p in params], self.variant) if self.two_pass else None
        self._phase = _Phase.PERTURBED
        self._by_first_step = False
        if drop_grads:
            self._drop_grads()
        if excursion is None:
            return False
        if not excursion.is_finite():
            self._bad_grad_norm = excursion.grad_norm
            return False
        self._excursion = excursion  # before the weights move, so that restore() finds the way back
        excursion.go()
        return True

    def _come_back(self, loss: Any, loss_plus: Any) -> None:
        """Move back to `x`, with the record of the step that is now due."""
        if self._bad_grad_norm is not None:
            record = self._plain_record(loss, self._bad_grad_norm)
        elif self._excursion is None:
            record = self._plain_record(loss, self._grad_norm())
        else:
            like = self._excursion.grad_norm
            losses = {"loss": _scalar(loss, like), "loss_plus": _scalar(loss_plus, like)}
            figures = self._excursion.come_back(self._params(), **losses)
            record = self._make_record(figures, figures.grad_plus_norm, perturbed=True)
        self._enter_rest()
        self._phase = _Phase.RETURNED
        self._waiting = record

    def _finish(self) -> None:
        """Let the base optimizer step, unless a gradient was not finite."""
        record = self._waiting
        assert record is not None
        self._enter_rest()
        if not record.skipped:
            self.base.step()
        elif hasattr(self.base.step, "_wrapped_by_lr_sched"):
            # A scheduler on the base optimizer would warn that it runs before the first step.
            self.base._opt_called = True  # type: ignore[attr-defined]
        self._steps += 1
        self._record = record

    def _enter_rest(self) -> None:
        self._phase = _Phase.AT_REST
        self._by_first_step = False
        self._excursion = None
        self._bad_grad_norm = None
        self._waiting = None

    def _plain_record(self, loss: Any, grad_norm: Tensor) -> StepRecord:
        figures = plain_figures(loss=_scalar(loss, grad_norm), grad_norm=grad_norm)
        return self._make_record(figures, grad_norm, perturbed=False)

    def _make_record(self, figures: StepFigures, decisive: Tensor, *, perturbed: bool) -> StepRecord:
        skipped = not bool(torch.isfinite(decisive))
        return StepRecord(**vars(figures), step=self._steps, perturbed=perturbed, skipped=skipped)

    def _grad_norm(self) -> Tensor:
        grads = gradient_values(self._params())
        return norm(grads) if grads else torch.zeros(())

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _params_with_grad(self) -> list[Tensor]:
        return [p for p in self._params() if p.grad is not None]

    def _radii(self) -> dict[int, float]:
        radii = {}
        for i, group in enumerate(self.param_groups):
            radius = checked_rho(group["rho"], f'param_groups[{i}]["rho"]')
            radii.update(dict.fromkeys(map(id, group["params"]), radius))
        return radii

    def _drop_grads(self) -> None:
        for p in self._params():
            p.grad = None

    def _require_unperturbed(self, call: str) -> None:
        if self._phase is _Phase.PERTURBED:
            way_out = "second_step() or restore()" if self._by_first_step else "the end of `with perturbed():`"
            raise RuntimeError(f"{call} is not possible while the weights are at x⁺: it must wait for {way_out}")

    def _require_beginning(self, call: str) -> None:
        self._require_unperturbed(call)
        if self._phase is _Phase.RETURNED:
            raise RuntimeError(
                f"{call} came before the last perturbed pass was used: call step() first, or zero_grad() to drop it"
            )
        if not self._params_with_grad():
            raise RuntimeError(f"{call} found no gradient in any parameter: call backward() before it")


def _scalar(loss: Any, like: Tensor) -> Tensor:
    """Return the loss as a tensor of shape (), NaN if it is no number; a copy, for its storage may be reused."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.detach().reshape(()).to(like.device, copy=True)
    value = loss if isinstance(loss, int | float) else torch.nan
    return torch.tensor(value, dtype=like.dtype, device=like.device)

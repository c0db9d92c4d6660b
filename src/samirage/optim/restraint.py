"""When a step does not follow the shifted gradient that it has computed: the guard, and the probes of a warm start.

The rules are those of `samirage.sam`, the same that the ensemble engine applies. What they decide stays on the device;
only a warm start by criterion reads a number, once for each probe, because what comes next depends on it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from samirage.optim.excursion import real
from samirage.sam import Guard, GuardState, StepFigures, WarmStart


class Restraint:
    """The guard and the warm start of one optimizer, with what they remember.

    Args:
        guard: The guard, or None.
        warm_start: The warm start, or None.

    Attributes:
        warm_end: Number of the first step after the warm start; None while that is not known.
    """

    def __init__(self, guard: Guard | None, warm_start: WarmStart | None) -> None:
        self._guard, self._warm_start = guard, warm_start
        self._by_criterion = warm_start is not None and warm_start.until is not None
        self._state: GuardState | None = None  # on the device, once it is known
        self._loaded: tuple[float, ...] = ()  # what it begins with there
        self._agreed = 0
        self.warm_end: int | None = None
        self.load({})

    @property
    def is_at_work(self) -> bool:
        """Whether there is anything to learn from a step."""
        return self._guard is not None or self._by_criterion

    def is_warming(self, step: int) -> bool:
        """Tell whether a step belongs to the warm start."""
        begun = self._warm_start is not None and self._warm_start.covers(step)
        return begun and (self.warm_end is None or step < self.warm_end)

    def is_probe(self, step: int) -> bool:
        """Tell whether a step takes SAM's gradient without following it."""
        return self._warm_start is not None and self.is_warming(step) and self._warm_start.probes_at(step)

    def needs_grads(self, step: int) -> bool:
        """Tell whether `g` may be followed after pass 2 of a step, so that it must be kept."""
        return self._guard is not None or self.is_probe(step)

    def factor(self, device: torch.device) -> Tensor | None:
        """Return the guard's factor of the radii, shape (); None without a guard."""
        if self._guard is None:
            return None
        if self._state is None:
            like = torch.ones((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
            factor, *counts = (torch.full_like(like, value) for value in self._loaded)
            self._state = GuardState(factor, *(count.long() for count in counts))
        return self._state.factor

    def follows(self, step: int, figures: StepFigures) -> Tensor:
        """Tell whether to follow `g⁺`: in no probe, and only as far as the guard accepts it.

        A gradient that is not finite is left to those who skip the step, and to a gradient scaler that must see it.

        Args:
            step: Number of the step.
            figures: Its figures.

        Returns:
            Boolean tensor of shape ().
        """
        if self.is_probe(step):
            return torch.zeros_like(figures.grad_norm, dtype=torch.bool)
        if self._guard is None:
            return torch.ones_like(figures.grad_norm, dtype=torch.bool)
        return self._guard.accepts(figures) | ~figures.grad_plus_norm.isfinite()

    def after(self, step: int, figures: StepFigures) -> None:
        """Learn from a step of two passes that is complete.

        Args:
            step: Its number.
            figures: Its figures.
        """
        if self._guard is not None:
            self.factor(figures.grad_norm.device)
            assert self._state is not None
            self._state = self._guard.after(self._state, self._guard.accepts(figures))
        if self.is_probe(step):
            assert self._warm_start is not None
            agreed = torch.full_like(figures.grad_norm, self._agreed).long()
            self._agreed = int(self._warm_start.after_probe(agreed, figures))
            if self._agreed >= self._warm_start.probes:
                self.warm_end = step + 1

    def require_no_retries(self) -> None:
        """Refuse a guard that may take pass 2 again where only the caller can run it.

        Raises:
            RuntimeError: If it is one.
        """
        if self._guard is not None and self._guard.retries:
            raise RuntimeError(
                f"Guard(retries={self._guard.retries}) may need pass 2 several times, and here it is run once: use "
                "step(closure), or a Guard() without retries"
            )

    def tries_again(self, step: int, retries: int, figures: StepFigures) -> bool:
        """Tell whether the guard searches on within a step, and learn from the pass that was rejected if so.

        Args:
            step: Number of the step.
            retries: How often it has taken pass 2 again so far.
            figures: The figures of the last pass; to know the answer, the host waits for them.
        """
        if self._guard is None or retries >= self._guard.retries or bool(self.follows(step, figures)):
            return False
        self.after(step, figures)
        return True

    def counters(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of rejections so far and the factor of the next step's radii, each of shape ()."""
        if self._guard is None:
            return torch.zeros_like(like, dtype=torch.int64), torch.ones_like(like)
        self.factor(like.device)
        assert self._state is not None
        return self._state.rejections, self._state.factor

    def save(self) -> dict[str, Any]:
        """Return what is remembered, as numbers under keys that begin with `sam_`."""
        saved: dict[str, Any] = {}
        if self._guard is not None:
            state = self._state
            numbers = self._loaded if state is None else (state.factor, state.rejections, state.consecutive)
            saved |= dict(zip(_GUARD_KEYS, (float(number) for number in numbers), strict=True))
        if self._by_criterion:
            saved |= {"sam_probes_agreed": self._agreed, "sam_warm_end": -1 if self.warm_end is None else self.warm_end}
        return saved

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take what `save` returned; what is missing begins anew."""
        self._state = None
        self._loaded = tuple(float(saved.get(key, start)) for key, start in _GUARD_KEYS.items())
        self._agreed = int(saved.get("sam_probes_agreed", 0))
        end = int(saved.get("sam_warm_end", -1))
        length = None if self._warm_start is None else self._warm_start.length
        self.warm_end = length if end < 0 else end


_GUARD_KEYS = {"sam_guard_factor": 1.0, "sam_guard_rejections": 0.0, "sam_guard_consecutive": 0.0}


def hold_back(follow: Tensor, params: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
    """Put `g` into `.grad`, in its own storage, unless `follow`; a parameter without a gradient stays without one.

    Args:
        follow: Whether to leave `.grad` as it is, shape ().
        params: The parameters.
        grads: `g`, this rank's part of each, real.
    """
    for p, grad in zip(params, grads, strict=True):
        if p.grad is not None:
            target = real(p.grad)
            target.copy_(torch.where(follow.to(target.device, non_blocking=True), target, grad.to(target.dtype)))

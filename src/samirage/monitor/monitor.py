"""The monitor of an optimizer: it observes every step, and never alters one."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from samirage.diagnosis.diagnosis import Diagnosis, judge
from samirage.diagnosis.figures import values_of
from samirage.diagnosis.sample import DEFAULT_SIZE
from samirage.diagnosis.thresholds import Thresholds
from samirage.diagnosis.window_statistics import Watch, Window
from samirage.monitor._validate import checked_optimizer, checked_sinks, checked_thresholds, checked_whole
from samirage.monitor.ranks import ShardedProducts
from samirage.monitor.sinks import Sink
from samirage.optim import SAM, StepRecord
from samirage.optim.distributed import real
from samirage.sam import variant_of


class Monitor:
    """Observes a run of SAM: statistics over windows of steps, from which `diagnose` tells what the run does.

    It adds no pass and leaves weights, gradients and random numbers as they are, bit for bit. Nothing is read from the
    device before `diagnoses` or `diagnose(monitor)` is called, or a sink is written at the end of a half window.

    Vectors are measured in a seeded sample of their coordinates (all of them in small models), of which eleven copies
    are kept: sums over two half windows, and the last direction. The direction is what the base optimizer follows,
    with the weight decay that it adds to the gradient itself (as SGD does; the decoupled one of AdamW does not count).

    Under DistributedDataParallel every rank has the same figures, except for the losses, which are those of its own
    part of the batch. The same holds under FSDP2, where the ranks sum their inner products (an all-reduce) at the end
    of each half window; `diagnose` then returns the diagnosis of the last complete window.

    Args:
        optimizer: The optimizer, a `samirage.SAM`.
        window: Steps of a window, at least 16, rounded down to a multiple of 8. With minibatches, a few hundred.
        sinks: Where each window's diagnosis goes, twice a window; see `samirage.monitor.sinks`. On one rank only.
        thresholds: Thresholds of these diagnoses.
        sample: Most coordinates in which vectors are measured, at least 1.
        seed: Seed of their choice.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, or another monitor watches this optimizer.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.9, 0.0], requires_grad=True)
        >>> optimizer = SAM(torch.optim.SGD([x], lr=0.05), rho=1.5)
        >>> monitor = Monitor(optimizer, window=80)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (x.square().sum() - 1) ** 2 / 4  # a ring of minimizers around a maximizer
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(400):
        ...     loss = optimizer.step(closure)
        >>> monitor.diagnoses[-1].status
        <Status.HALLUCINATED_MINIMIZER: 'hallucinated minimizer'>
    """

    def __init__(
        self,
        optimizer: SAM,
        *,
        window: int = 200,
        sinks: Sequence[Sink] = (),
        thresholds: Thresholds | None = None,
        sample: int = DEFAULT_SIZE,
        seed: int = 0,
    ) -> None:
        self.optimizer = checked_optimizer(optimizer, "Monitor")
        if monitor_of(optimizer) is not None:
            raise ValueError("this optimizer has a monitor already: use that one, or remove() it first")
        self.thresholds = checked_thresholds(thresholds)
        self._sinks = checked_sinks(sinks)
        self._options: dict[str, Any] = {
            "window": checked_whole(window, "window", least=16),
            "sample": checked_whole(sample, "sample", least=1),
            "seed": checked_whole(seed, "seed", least=0),
            "shards": optimizer.shards,
        }
        self._first_step = 0
        self._next_step: int | None = None
        self._layout: tuple[int, ...] = ()
        self._decay: Tensor | None = None
        self._begin()
        self._handle = optimizer.register_observer(self)

    def _begin(self) -> None:
        self._sharded = ShardedProducts(())
        self._watch = Watch(**self._options, joined=lambda products: self._sharded.reduced(products))

    def remove(self) -> None:
        """Stop watching. What was seen so far stays."""
        self._handle.remove()

    # Called by the optimizer, which the monitor observes.

    def saw_gradient(self, inverse_scale: Tensor | None) -> None:
        """Take the gradient `g` of pass 1; called by the optimizer."""
        self._watch.saw_sampled_gradient(self._seen(inverse_scale))

    def saw_step(self, record: StepRecord, inverse_scale: Tensor | None) -> None:
        """Take the direction and the record of a step; called by the optimizer."""
        if self._next_step is None:
            self._first_step = record.step
        elif record.step != self._next_step:  # the optimizer has loaded a state
            self._begin()
            self._first_step = record.step
        self._next_step = record.step + 1
        self._params()
        windows = len(self._watch.windows)
        if record.perturbed:
            if inverse_scale is not None:
                self._watch.scale_gradients(inverse_scale)
            judged = record.followed if self.optimizer.guard is not None else None
            self._watch.saw_sampled_step(self._seen(None), record, followed=judged)
        else:
            self._watch.saw_plain_step(record)
        if len(self._watch.windows) > windows and self._sinks:
            diagnosis = self._judged(self._watch.windows[-1])
            for sink in self._sinks:
                sink.write(diagnosis)

    def _seen(self, inverse_scale: Tensor | None) -> Tensor:
        """Sample what the parameters hold in `.grad`, and add the weight decay that the base optimizer will add."""
        params = self._params()
        values = [None if p.grad is None else real(p.grad.to_dense() if p.grad.is_sparse else p.grad) for p in params]
        sampled = self._watch.sample(values, self._like(params))
        if inverse_scale is not None:
            sampled = sampled * inverse_scale.to(sampled)
        if self._decay is not None:
            sampled = sampled.addcmul(self._decay, self._watch.sample(self._like(params), self._like(params)))
        return sampled

    def _params(self) -> list[Tensor]:
        """Return all parameters; begin a new window if they are others than before."""
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self._layout != tuple(map(id, params)):
            self._lay_out(params)
        return params

    @staticmethod
    def _like(params: Sequence[Tensor]) -> list[Tensor]:
        return [real(p.detach()) for p in params]

    def _lay_out(self, params: Sequence[Tensor]) -> None:
        self._layout = tuple(map(id, params))
        self._sharded = ShardedProducts(params)
        self._watch.restart(self._sharded.weights)
        decays = [float(_coupled_decay(group)) for group in self.optimizer.param_groups for _ in group["params"]]
        self._decay = self._watch.spread(decays, self._like(params)) if any(decays) else None

    # The diagnoses.

    @property
    def windows(self) -> tuple[Window, ...]:
        """The figures of the windows so far, on the device; there are two a window, which overlap by half."""
        return tuple(self._watch.windows)

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """The diagnosis of each window so far: the life of the run. Reads from the device."""
        return [self._judged(window) for window in self._watch.windows]

    def now(self, thresholds: Thresholds | None = None) -> Diagnosis:
        """Diagnose the last steps: between half a window and a window of them, or all if there are fewer.

        Args:
            thresholds: Other thresholds than the monitor's own.

        Raises:
            ValueError: If there were fewer than 16 steps.
        """
        enough = self._watch.steps >= MIN_STEPS and not (self._sharded.sharded and not self._watch.windows)
        if not enough:
            needed = self._watch.window // 2 if self._sharded.sharded else MIN_STEPS
            raise ValueError(
                f"a diagnosis needs at least {needed} steps, and the monitor has seen {self._watch.steps}: train on"
            )
        # Under FSDP2 an incomplete window would need an all-reduce, for which every rank would have to call this.
        window = self._watch.windows[-1] if self._sharded.sharded else self._watch.now()
        return self._judged(window, thresholds)

    def _judged(self, window: Window, thresholds: Thresholds | None = None) -> Diagnosis:
        (values,) = values_of(window)
        values["radius_fraction"] = values["radius"] / intended_radius(self.optimizer)
        notes = []
        if window.steps < self._watch.window // 2:
            notes.append(f"The window of {self._watch.window} steps is not full: this is about {window.steps} steps.")
        return judge(
            values,
            last_step=self._first_step + window.last_step,
            steps=window.steps,
            thresholds=thresholds or self.thresholds,
            notes=tuple(notes),
        )


MIN_STEPS = 16


def monitor_of(optimizer: SAM) -> Monitor | None:
    """Return the monitor that watches an optimizer, or None."""
    return next((one for one in optimizer.observers if isinstance(one, Monitor)), None)


def intended_radius(optimizer: SAM) -> float:
    """Return the radius that every step should realise; NaN where it differs between steps or groups."""
    rhos = {float(group["rho"]) for group in optimizer.param_groups}
    radial = variant_of(optimizer.variant).is_radial
    steady = radial and optimizer.schedule is None and optimizer.guard is None and len(rhos) == 1
    return rhos.pop() or math.nan if steady else math.nan


def _coupled_decay(group: dict[str, Any]) -> float:
    return 0.0 if group.get("decoupled_weight_decay") else group.get("weight_decay", 0.0)

"""`diagnose`: what is this run doing?"""

import math
from dataclasses import fields, replace
from typing import Any, Final

import torch
from torch import Tensor

from samirage.diagnosis.confirm import Loss, confirm_status
from samirage.diagnosis.diagnosis import Diagnosis, judge
from samirage.diagnosis.figures import values_of
from samirage.diagnosis.thresholds import Thresholds
from samirage.diagnosis.window_statistics import Window, stacked
from samirage.monitor._validate import checked_optimizer, checked_thresholds, checked_whole
from samirage.monitor.monitor import MIN_STEPS, Monitor, intended_radius, monitor_of
from samirage.optim import SAM
from samirage.optim.record import History
from samirage.sam import MotionFigures, course_figures, variant_of
from samirage.sam.medians import nanmedian

_SHARE: Final = 4  # the last quarter of the run, unless told otherwise
_ATTACH = (
    "Only the figures of single steps are known: attach a samirage.Monitor to see how the steps add up, and tell "
    "bouncing from progress and noise."
)
_ELSEWHERE: Final = "Extra passes look along the gradient, and {} does not: they were left out."


def diagnose(
    run: SAM | Monitor,
    *,
    window: int | None = None,
    confirm: Loss | None = None,
    thresholds: Thresholds | None = None,
) -> Diagnosis:
    """Say what a run of SAM is doing, from figures that cost nothing.

    With a `Monitor`, given or attached to the optimizer, it knows how the steps add up over the monitor's window. From
    an optimizer alone it knows the records of the last steps, at most 1,000. Some classes look the same to the free
    figures (a saddle at which a run without noise has come to rest, and a minimizer): `confirm` makes extra passes.

    Args:
        run: The optimizer, or its monitor.
        window: Steps to look at, from 16 to 1,000, without a monitor; by default the last quarter of the run.
        confirm: The loss over the whole data as a `samirage.landscape.Objective`, or an analytic function of the
            parameters in one vector. Extra passes over it then confirm or refute the diagnosis.
        thresholds: Other thresholds.

    Returns:
        The diagnosis.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there were too few steps, or the objective does not fit the parameters.

    Example:
        >>> x = torch.tensor([0.3, 0.1], requires_grad=True)
        >>> optimizer = SAM(torch.optim.SGD([x], lr=0.1), rho=0.3)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = 2 * x[0] ** 2 + x[1] ** 2 / 2  # curvatures 4 and 1
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(200):
        ...     loss = optimizer.step(closure)
        >>> diagnose(optimizer).status
        <Status.BOUNCING_MINIMIZER: 'bouncing about a minimizer'>
    """
    optimizer = checked_optimizer(run.optimizer if isinstance(run, Monitor) else run, "diagnose")
    monitor = run if isinstance(run, Monitor) else monitor_of(optimizer)
    if monitor is not None:
        if window is not None:
            raise ValueError("window is the monitor's own, as Monitor(optimizer, window=…): leave it out here")
        diagnosis = monitor.now(None if thresholds is None else checked_thresholds(thresholds))
    else:
        diagnosis = _from_history(optimizer, window, checked_thresholds(thresholds))
    if confirm is None:
        return diagnosis
    return confirmed(diagnosis, confirm, optimizer, checked_thresholds(thresholds))


def _from_history(optimizer: SAM, window: int | None, thresholds: Thresholds) -> Diagnosis:
    history = optimizer.history
    seen = len(history.last)
    total = history.last[-1].step - history.first[0].step + 1 if seen else 0
    if seen < MIN_STEPS:
        raise ValueError(f"a diagnosis needs at least {MIN_STEPS} steps, and the optimizer has taken {seen}: train on")
    if window is None:
        steps = min(seen, max(MIN_STEPS, total // _SHARE))
    else:
        steps = checked_whole(window, "window", least=MIN_STEPS)
        if steps > seen:
            raise ValueError(
                f"window is longer than what the optimizer remembers: {steps} steps were asked for, and it has the "
                f"records of {seen} (at most 1,000 are kept)"
            )
    (values,) = values_of(_window(history, steps, guarded=optimizer.guard is not None))
    values["radius_fraction"] = values["radius"] / intended_radius(optimizer)
    return judge(values, last_step=history.last[-1].step, steps=steps, thresholds=thresholds, notes=(_ATTACH,))


def _window(history: History, steps: int, *, guarded: bool) -> Window:
    records, early = list(history.last)[-steps:], stacked(history.first)
    course = course_figures(
        stacked(records),
        early_loss=nanmedian(early.loss),
        early_grad_norm=nanmedian(early.grad_norm),
        followed=torch.stack([record.followed for record in records]) if guarded else None,
    )
    missing = torch.full_like(course.loss, math.nan)
    return Window(history.last[-1].step, steps, course, MotionFigures(*[missing] * len(fields(MotionFigures))))


def confirmed(diagnosis: Diagnosis, loss: Loss, optimizer: SAM, thresholds: Thresholds) -> Diagnosis:
    """Return the diagnosis with what extra passes say about it.

    Args:
        diagnosis: From the free figures.
        loss: The objective.
        optimizer: The optimizer, which knows the weights, the radius and the learning rate.
        thresholds: The thresholds.

    Raises:
        ValueError: If the objective does not fit the parameters.
    """
    x = _point(loss, optimizer)
    rule = variant_of(optimizer.variant)
    if not rule.is_multiple:
        return replace(diagnosis, notes=(*diagnosis.notes, _ELSEWHERE.format(type(rule).__name__)))
    group = optimizer.param_groups[0]
    radii = (record.radius for record in reversed(optimizer.history.last) if record.perturbed)
    rho = float(next(radii, group["rho"]))
    found = confirm_status(diagnosis.free_status, loss, x, rho=rho, lr=float(group["lr"]), thresholds=thresholds)
    same = found.status is diagnosis.free_status
    return replace(
        diagnosis,
        status=found.status,
        advice=diagnosis.advice if same else found.status.advice,
        confirmation=found,
    )


def _point(loss: Any, optimizer: SAM) -> Tensor:
    params = [p.detach() for group in optimizer.param_groups for p in group["params"]]
    count = sum(p.numel() for p in params)
    dim = getattr(loss, "dim", count)
    if dim != count:
        raise ValueError(
            f"confirm must be a function of the parameters that are trained: it takes {dim}, and the optimizer has "
            f"{count}"
        )
    if hasattr(loss, "flat_parameters"):
        point: Tensor = loss.flat_parameters()
        return point
    return torch.cat([p.reshape(-1) for p in params])

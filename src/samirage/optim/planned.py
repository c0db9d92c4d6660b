"""Which steps perturb, and how far: the warm start, the schedule, the period, and the radii of the groups."""

import math
import re
import warnings
from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor

from samirage.optim._validate import checked_rho
from samirage.optim.observed import Observed
from samirage.optim.restraint import Restraint
from samirage.sam import Guard, LookSAM, Schedule, Variant, VariantOptions, WarmStart, radius_factor

PLAN: Final = ("variant", "warm_start", "schedule", "guard", "every")


class Planned(Observed):
    """An optimizer of two passes that counts its steps, and makes each according to plan."""

    variant: Variant | VariantOptions
    warm_start: WarmStart | None
    schedule: Schedule | None
    guard: Guard | None
    every: int
    _restraint: Restraint

    @property
    def two_pass(self) -> bool:
        """Whether the coming step perturbs the weights; if not, an explicit loop may skip its second pass.

        Example:
            >>> import torch
            >>> from samirage import SAM
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
        if self._restraint.is_probe(self._notes.steps):
            return self._is_on()
        since = self._notes.steps - (self._restraint.warm_end or 0)
        period = self.variant.k if isinstance(self.variant, LookSAM) else self.every
        return since % period == 0 and self._is_on()

    def _is_on(self) -> bool:
        """Tell whether this step is one of SAM's, with one pass or two."""
        return max(self._group_radii()) > 0

    def _radii(self, params: Sequence[Tensor]) -> list[float]:
        """Return the radius of each of these parameters."""
        if len(self.param_groups) == 1:
            return self._group_radii() * len(params)
        radii: dict[int, float] = {}
        for group, radius in zip(self.param_groups, self._group_radii(), strict=True):
            radii |= dict.fromkeys(map(id, group["params"]), radius)
        return [radii[id(p)] for p in params]

    def _group_radii(self) -> list[float]:
        rhos = [group["rho"] for group in self.base.param_groups]
        for i, rho in enumerate(rhos):
            if type(rho) is not float or not 0 <= rho < math.inf:
                rhos[i] = checked_rho(rho, f'param_groups[{i}]["rho"]')
        if self.warm_start is None and self.schedule is None:
            return rhos
        step, restraint = self._notes.steps, self._restraint
        looks = restraint.is_probe(step) or not restraint.is_warming(step)
        factor = radius_factor(step, warm_start=None if looks else self.warm_start, schedule=self.schedule)
        return [factor * rho for rho in rhos]

    def _plan(self) -> str:
        """Say which steps perturb and how, in words that are the same in every run: without addresses."""
        return re.sub(" at 0x[0-9a-fA-F]+", "", ", ".join(f"{name}={getattr(self, name)!r}" for name in PLAN))

    def _own_state(self) -> dict[str, Any]:
        return {"sam_step": self._notes.steps, "sam_plan": self._plan(), **self._restraint.save()}

    def _load_own_state(self, own: dict[str, Any]) -> None:
        saved, plan = own.get("sam_plan"), self._plan()
        if saved not in {None, plan}:
            warnings.warn(
                f"the loaded run had {saved}; this optimizer goes on from step {own['sam_step']} with {plan}",
                stacklevel=3,
            )
        self._notes.steps = int(own.get("sam_step", 0))
        self._restraint.load(own)
        self._notes.record = None
        self._enter_rest()

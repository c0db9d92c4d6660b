"""The attributes of the optimizer that may be assigned at any time: when it perturbs, how far, and what it follows."""

from typing import Any

import torch

from samirage.optim._validate import checked_policy


class PolicyPart:
    """An attribute that may be assigned at any time: the policy is then made anew."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = f"_{name}"

    def __get__(self, sam: Any, owner: type | None = None) -> Any:
        return self if sam is None else getattr(sam, self._key)

    def __set__(self, sam: Any, value: Any) -> None:
        setattr(sam, self._key, value)
        if "_passes" in sam.__dict__:
            policy = checked_policy(sam.warm_start, sam.schedule, sam.guard, sam.every, scope=sam.scope)
            passes = sam._passes
            learnt = {} if passes.policy is None else passes.policy.save(passes.policy_state())
            passes.policy = policy
            # The new policy begins with what the last one has learnt.
            passes.now.policy = None if policy is None else policy.load(learnt, torch.ones((), dtype=torch.float64))

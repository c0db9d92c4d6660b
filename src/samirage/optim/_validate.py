"""Every argument of the optimizer, checked in one place. A complaint says what was given, what is legal, what to do."""

import inspect
import math
from numbers import Real
from typing import Any, Literal, TypeVar, get_args

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from samirage.sam import AbstractGuard, AbstractVariant, Policy, Variant, WarmStart, variant_of
from samirage.sam.checks import checked_count
from samirage.sam.variants.base import Use

Scope = Literal["global", "local"]
T = TypeVar("T")


def checked_base(base: object) -> Optimizer:
    """Return `base` if SAM can wrap it.

    Raises:
        TypeError: If it is not an optimizer, or needs a closure.
        ValueError: If it has a hyperparameter `rho` of its own.
    """
    example = "for example SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)"
    if isinstance(base, type):
        raise TypeError(f"base must be an optimizer instance, not the class {base.__name__}: construct it, {example}")
    if not isinstance(base, Optimizer):
        raise TypeError(f"base must be an instance of a torch.optim.Optimizer; got {type(base).__name__}: {example}")
    name = type(base).__name__
    step = inspect.signature(type(base).step).parameters
    if "closure" in step and step["closure"].default is inspect.Parameter.empty:
        raise TypeError(
            f"base must be able to step without a closure, and {name} is not, because it evaluates the loss itself: "
            "give SAM a first-order optimizer such as SGD or AdamW"
        )
    if "rho" in inspect.signature(type(base).__init__).parameters:
        raise ValueError(
            f"base {name} has a hyperparameter rho of its own, which SAM's radius in param_groups would overwrite: "
            "give SAM another optimizer, such as SGD or AdamW"
        )
    return base


def checked_rho(rho: Any, where: str = "rho") -> float:
    """Return `rho` as a float if it is a radius; `where` names it in the complaint.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is negative or not finite.
    """
    if isinstance(rho, bool) or not isinstance(rho, Real):
        raise TypeError(f"{where} must be a number of at least 0; got {rho!r} of type {type(rho).__name__}")
    if not (math.isfinite(rho) and float(rho) >= 0):
        raise ValueError(f"{where} must be finite and at least 0 (0 switches SAM off); got {rho!r}")
    return float(rho)


def checked_variant(variant: Any, *, scope: Any, shards: Any, every: Any) -> Variant | AbstractVariant:
    """Return `variant` if there is such a one, and the other arguments fit it.

    Raises:
        ValueError: If there is none, or they do not.
    """
    rule = variant_of(variant)
    uses: list[Use] = []
    if scope == "local":
        uses.append("ranks" if shards == 1 else "shards")
    if every != 1:
        uses.append("every")
    for use in uses:
        refusal = rule.refuses(use)
        if refusal is not None:
            raise ValueError(refusal)
    return variant  # type: ignore[no-any-return]


def checked_policy(warm_start: Any, schedule: Any, guard: Any, every: Any, *, scope: Any) -> Policy | None:
    """Return the policy; None where every step perturbs with the radii of the groups.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of its range, or two do not fit each other.
    """
    if warm_start is not None and not isinstance(warm_start, WarmStart):
        raise TypeError(f"warm_start must be a WarmStart or None; got {warm_start!r}: write WarmStart(steps=500)")
    if schedule is not None and (isinstance(schedule, type) or not callable(schedule)):
        raise TypeError(
            "schedule must be a callable from the number of a step to a factor of at least 0, or None; got "
            f"{schedule!r}: write for example Decay(total_steps=1000)"
        )
    if guard is not None and not isinstance(guard, AbstractGuard):
        raise TypeError(f"guard must be a Guard or None; got {guard!r}: write Guard(), or Guard(kappa=0.5)")
    if guard is not None and scope == "local":
        raise ValueError(
            "a guard follows either g or g⁺ of the whole batch, and with scope 'local' no rank knows g: use "
            "scope='global'"
        )
    policy = Policy(warm_start=warm_start, schedule=schedule, guard=guard, every=every)
    return None if warm_start is None and schedule is None and guard is None and every == 1 else policy


def checked_scope(scope: Any, model: nn.Module | None, shards: Any) -> Scope:
    """Return `scope` if there is one of that name, and the model and the number of shards fit it.

    Raises:
        ValueError: If there is none, or they do not.
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be one of {', '.join(map(repr, get_args(Scope)))}; got {scope!r}")
    checked_count("shards", shards)
    if scope == "global" and shards > 1:
        raise ValueError(f"shards perturb each on its own, which is scope='local'; got shards={shards}, scope='global'")
    if scope == "local" and shards == 1 and not isinstance(model, DistributedDataParallel):
        raise ValueError(
            "scope 'local' needs the DistributedDataParallel whose gradients pass 1 must not synchronise, as "
            "SAM(..., model=ddp_model, scope='local'), or shards of at least 2 in one process; got a model of type "
            f"{type(model).__name__}"
        )
    return scope  # type: ignore[no-any-return]


def checked_instance(value: Any, name: str, kind: type[T], hint: str) -> T | None:
    """Return `value` if it is of this kind, or None.

    Raises:
        TypeError: If it is neither.
    """
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, {hint}, or None; got {type(value).__name__}")
    return value

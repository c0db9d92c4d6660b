"""What a checkpoint holds of SAM besides the base optimizer's state: numbers and texts under keys that begin `sam_`."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from samirage.optim.passes import Passes


def saved_state(passes: Passes, plan: str) -> dict[str, Any]:
    """Return what to save.

    Args:
        passes: The passes of a step.
        plan: Which steps perturb and how, in words.

    Returns:
        What `load_state` takes.
    """
    learnt = {} if passes.policy is None else passes.policy.save(passes.policy_state())
    return {"sam_step": passes.now.steps, "sam_plan": plan, **learnt}


def load_state(passes: Passes, own: Mapping[str, Any], plan: str) -> None:
    """Take what `saved_state` returned, or an empty dictionary, and forget any step that has begun.

    Args:
        passes: The passes of a step.
        own: What was saved.
        plan: Which steps perturb now and how, in words; a run that goes on with another plan is warned.
    """
    saved, now = own.get("sam_plan"), passes.now
    if saved not in {None, plan}:
        warnings.warn(
            f"the loaded run had {saved}; this optimizer goes on from step {own['sam_step']} with {plan}", stacklevel=4
        )
    now.steps = int(own.get("sam_step", 0))
    now.policy = None
    if passes.policy is not None:
        now.policy = passes.policy.load(own, torch.ones((), dtype=torch.float64))
    now.last = now.loaded_record = None
    passes.end_pass()

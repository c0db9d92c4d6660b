"""Where a step stands: all that it assigns, in an object beside the optimizer.

While torch.compile traces, it takes an optimizer for something fixed: what a method assigns to an attribute of the
optimizer is lost at the end. (So it is in torch 2.13.) It does keep track of other objects. So all that a step assigns
is kept in one.
"""

from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from torch import Tensor

from samirage.optim.record import History, PendingRecord, StepRecord
from samirage.sam import PolicyState

if TYPE_CHECKING:  # the modules that keep something here import this one
    from samirage.optim.half_precision import RoundingAlarm
    from samirage.optim.move import AbstractMove
    from samirage.optim.observers import Observer


NO_GRADIENT_OF_PASS_2: Final = (
    "step() found no gradient from the perturbed pass: call backward() between the entry and the exit of perturbed(), "
    "or between first_step() and second_step()"
)
NO_PASS_2: Final = (
    "step() has no gradient of a perturbed pass: give it a closure, or run a second forward and backward within "
    "`with optimizer.perturbed():` (or between first_step() and second_step()) before each step()"
)


class Phase(Enum):
    """Where a step stands."""

    AT_REST = auto()  # no perturbed pass has begun
    PERTURBED = auto()  # the weights are at x⁺
    RETURNED = auto()  # the gradient of the perturbed pass waits for step()


class StepPlan(NamedTuple):
    """What is known of a step before its first pass: the radii of the groups, and what it does with them.

    A step that `is_on` but does not take `two_pass` is one of SAM's between two others, in which a variant may reuse
    what it knows. A `probe` computes `g⁺`, and follows `g`.
    """

    radii: list[float]
    is_on: bool
    two_pass: bool
    probe: bool


class StepState:
    """All that a step assigns.

    Attributes:
        phase: Where the step stands.
        by_first_step: Whether `first_step()` began the perturbed pass.
        in_closure: Whether a closure is being run by `step()`.
        old_grads: Whether `.grad` is left over from a step that is complete.
        zeroed: Whether the closure has called `zero_grad()`.
        waiting: The record of a perturbed pass that waits for its `step()`.
        move: The move of the weights to `x⁺` and back.
        bad_grad_norm: `‖g‖` of pass 1, if it was not finite on every rank.
        steps: Number of steps so far.
        policy: What the policy remembers; None without one.
        loaded_record: The record that was copied or unpickled with the optimizer.
        history: The records of the first and of the last steps.
        observers: The observers.
        rounding: The warning about rounding, once weights were rounded.
    """

    phase: Phase = Phase.AT_REST
    by_first_step: bool = False
    in_closure: bool = False
    old_grads: bool = False
    zeroed: bool = False
    waiting: PendingRecord | None = None
    move: "AbstractMove | None" = None
    bad_grad_norm: Tensor | None = None
    steps: int = 0
    policy: PolicyState | None = None
    last: PendingRecord | None = None
    loaded_record: StepRecord | None = None
    rounding: "RoundingAlarm | None" = None

    def __init__(self) -> None:
        self.history = History()
        self.observers: OrderedDict[int, Observer] = OrderedDict()

    def end_pass(self) -> None:
        """Forget all about the pass that has ended."""
        self.phase, self.by_first_step = Phase.AT_REST, False
        self.waiting = self.move = self.bad_grad_norm = None

    def record(self) -> StepRecord | None:
        """Return the record of the last step."""
        return self.loaded_record if self.last is None else self.last.record()

    def save(self) -> dict[str, Any]:
        """Return what is copied and pickled with an optimizer between two steps."""
        return {"steps": self.steps, "loaded_record": self.record()}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take what `save` returned."""
        self.__dict__.update(saved)

    # What may be called when.

    def require_unperturbed(self, call: str) -> None:
        """Check that the order of the calls is kept.

        Raises:
            RuntimeError: If the weights are at `x⁺`.
        """
        if self.phase is Phase.PERTURBED:
            way_out = "second_step() or restore()" if self.by_first_step else "the end of `with perturbed():`"
            raise RuntimeError(f"{call} is not possible while the weights are at x⁺: it must wait for {way_out}")

    def require_beginning(self, call: str, *, shards: int, has_grads: bool) -> None:
        """Check that the order of the calls is kept.

        Raises:
            RuntimeError: If no perturbed pass can begin here.
        """
        self.require_unperturbed(call)
        if self.phase is Phase.RETURNED:
            raise RuntimeError(
                f"{call} came before the last perturbed pass was used: call step() first, or zero_grad() to drop it"
            )
        if shards > 1:
            raise RuntimeError(
                f"{call} makes one perturbation, but shards={shards} needs one for each: use step(closure) with a "
                "closure that takes the number of the shard"
            )
        if not has_grads:
            raise RuntimeError(f"{call} found no gradient in any parameter: call backward() before it")

    def require_step_due(self, *, closure: bool) -> None:
        """Check that the order of the calls is kept.

        Raises:
            RuntimeError: If the weights are at `x⁺`, or a closure would lose the gradient of a perturbed pass.
        """
        self.require_unperturbed("step()")
        if closure and self.phase is Phase.RETURNED:
            raise RuntimeError(
                "step(closure) would lose the gradient of the perturbed pass: after perturbed() call step() "
                "without a closure (Lightning always gives one; there call step(closure) alone, which makes both "
                "passes), or zero_grad() to drop that gradient"
            )

    def require_first_step(self) -> None:
        """Check that the order of the calls is kept.

        Raises:
            RuntimeError: If there is no `first_step()` that `second_step()` could end.
        """
        if self.phase is not Phase.PERTURBED or not self.by_first_step:
            raise RuntimeError(
                "second_step() needs a first_step() before it: call backward(), first_step(zero_grad=True), run "
                "forward and backward again, then second_step(zero_grad=True); after `with perturbed():` call step()"
            )

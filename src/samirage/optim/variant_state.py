"""The variant of an optimizer at work: the names that it asks for, and the state that it keeps from step to step.

The state stands in the base optimizer's state of each parameter, where it is saved, loaded and copied with the rest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samirage.optim.distributed import local, real, reductions_of
from samirage.optim.half_precision import wide
from samirage.sam import AbstractVariant
from samirage.sam.variants import State, checked_result


class VariantInUse:
    """A variant, with the optimizer whose parameters it perturbs.

    Args:
        rule: The variant.
        base: The base optimizer; groups that were built from `model.named_parameters()` know the parameters' names.
        model: The model, which knows them too, or None.

    Attributes:
        rule: The variant.
        follows_grad_plus: Whether the base optimizer follows the gradient of the last pass.
        is_multiple: Whether the perturbation is a multiple of the gradient.
        is_stateless: Whether the variant asks for no names, and keeps nothing.
        always_two_passes: Whether every step takes two passes.

    Raises:
        ValueError: If the variant asks for names, and a parameter has none.
    """

    def __init__(self, rule: AbstractVariant, base: Optimizer, model: nn.Module | None) -> None:
        self.rule, self._base, self._model = rule, base, model
        self.follows_grad_plus = rule.follows_grad_plus
        self.is_multiple = rule.is_multiple
        self.is_stateless = not rule.state_names and not rule.needs_names
        self.always_two_passes = type(rule).passes is AbstractVariant.passes
        # The names of the lists, and the keys under which they stand beside the base optimizer's own.
        self._keys = {name: f"{type(rule).__name__.lower()}_{name}" for name in rule.state_names}
        self._fresh: dict[str, dict[Tensor, Tensor]] = {}  # of a step that is not complete
        self._names: dict[Tensor, str] = {}
        self._bound: dict[tuple[int, ...], AbstractVariant] = {}  # for the parameters of the last step
        self.for_params([p for group in base.param_groups for p in group["params"]])

    def for_params(self, params: Sequence[Tensor]) -> AbstractVariant:
        """Return the variant for a list of parameters, which may depend on their names.

        Args:
            params: The parameters.

        Returns:
            The variant.

        Raises:
            ValueError: If it asks for names, and a parameter has none.
        """
        if not self.rule.needs_names:
            return self.rule
        key = tuple(map(id, params))
        if key not in self._bound:
            self._bound = {key: self.rule.for_names([self._name_of(p) for p in params])}
        return self._bound[key]

    def _name_of(self, param: Tensor) -> str:
        if param not in self._names:
            self._learn_names()
        if param not in self._names:
            raise ValueError(
                f"{self.rule!r} must know the parameters by name, but one of shape {tuple(param.shape)} has no name: "
                "give SAM the model, or build the base optimizer from model.named_parameters()"
            )
        return self._names[param]

    def _learn_names(self) -> None:
        named = [] if self._model is None else [(p, name) for name, p in self._model.named_parameters()]
        for group in self._base.param_groups:
            if "param_names" in group:
                named += zip(group["params"], group["param_names"], strict=True)
        self._names |= dict(named)

    def state_of(self, params: Sequence[Tensor]) -> State:
        """Return the state of a list of parameters: that of the step under way, else that of the steps before.

        Args:
            params: The parameters.

        Returns:
            The lists that exist, this rank's part of each, real, in float32 or better; zero for a parameter without.
        """
        state: dict[str, list[Tensor]] = {}
        for name, key in self._keys.items():
            fresh = self._fresh.get(name, {})
            known = [fresh[p] if p in fresh else self._base.state.get(p, {}).get(key) for p in params]
            if any(value is not None for value in known):
                state[name] = [
                    torch.zeros_like(wide(real(p))) if value is None else wide(real(value))
                    for p, value in zip(params, known, strict=True)
                ]
        return state

    def note(self, params: Sequence[Tensor], state: State) -> None:
        """Remember a state until the step is complete.

        Args:
            params: The parameters.
            state: Their state.
        """
        for name, values in state.items():
            self._fresh.setdefault(name, {}).update(zip(params, values, strict=True))

    def commit(self, params: Sequence[Tensor], skipped: Tensor) -> None:
        """Write the state of a step that is complete, once the base optimizer has set up its own.

        Every parameter gets its place from the first step on, so that a checkpoint always has one for it.

        Args:
            params: The parameters that have a gradient.
            skipped: Whether the step was skipped, shape ().
        """
        for name, key in self._keys.items():
            fresh = self._fresh.get(name, {})
            for p in params:
                place = self._base.state[p]
                if key not in place:
                    place[key] = torch.zeros_like(p)
                if p in fresh:
                    old = real(place[key])
                    old.copy_(torch.where(skipped.to(old.device, non_blocking=True), old, fresh[p].to(old.dtype)))
        self.forget()

    def follow(
        self, params: list[Tensor], grads: list[Tensor], grads_plus: list[Tensor] | None, inverse: Tensor | None
    ) -> None:
        """Write the direction that the variant follows into `.grad`.

        Args:
            params: The parameters that had a gradient in either pass.
            grads: `g`, this rank's part of each, real, in float32 or better.
            grads_plus: `g⁺`, likewise; None in a step of one pass between two of SAM's.
            inverse: What to multiply the gradients by to undo a loss scale, or None.

        Raises:
            TypeError: If the variant does not return tensors and a state.
            ValueError: If it returns tensors of another shape, dtype or device.
        """
        rule, reduce = self.for_params(params), reductions_of(params)
        if inverse is None or rule.scale_free:
            inverse = None
        else:
            grads = reduce.scaled(grads, inverse)
            grads_plus = None if grads_plus is None else reduce.scaled(grads_plus, inverse)
        found = rule.direction(grads, grads_plus, self.state_of(params), reduce)
        direction, state = checked_result(rule, "direction", found, grads)
        self.note(params, state)
        if direction is (grads if grads_plus is None else grads_plus):
            return
        if inverse is not None:
            direction = reduce.scaled(direction, inverse.reciprocal())
        for p, value in zip(params, direction, strict=True):
            if p.grad is not None:
                # In its own storage, as clipping a gradient is done: so captured graphs and the buckets of
                # DistributedDataParallel stay valid.
                target = local(p.grad)
                target.copy_(torch.view_as_complex(value) if target.is_complex() else value)

    def require_scale_free(self) -> None:
        """Refuse a loss scale that has become known after the perturbation.

        Raises:
            RuntimeError: If the perturbation depends on it.
        """
        if not self.rule.scale_free:
            name = type(self.rule).__name__
            raise RuntimeError(
                f"the variant {name} depends on the scale of the gradients: give the scaler to the constructor, as "
                "SAM(..., scaler=scaler)"
            )

    def forget(self) -> None:
        """Drop the state of a step that has ended."""
        self._fresh = {}

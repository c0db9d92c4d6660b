"""ASAM's normalisation operators, and which parameters are biases: those whose name says so."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.optim import Optimizer

from samirage.sam import ASAM, Variant, VariantOptions


class Operators:
    """What the variant normalises the parameters with.

    Args:
        variant: The variant.
        optimizer: The optimizer; groups that were built from `model.named_parameters()` know the parameters' names.
        model: The model, which knows them too, or None.

    Raises:
        ValueError: If the variant asks which parameters are biases, and one has no name.
    """

    def __init__(self, variant: Variant | VariantOptions, optimizer: Optimizer, model: nn.Module | None) -> None:
        self._variant = variant if isinstance(variant, ASAM) else None
        self._optimizer, self._model = optimizer, model
        self._is_bias: dict[Tensor, bool] = {}
        self.of([p for group in optimizer.param_groups for p in group["params"]])

    def of(self, params: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], list[Tensor]] | None:
        """Return what turns the values of these parameters into operators; None if the variant has no options for it.

        Args:
            params: The parameters.

        Returns:
            A function of as many tensors, or None.

        Raises:
            ValueError: If a parameter has no name, and the variant asks which are biases.
        """
        if self._variant is None:
            return None
        are_biases = [False] * len(params) if self._variant.biases else [self._asked(p) for p in params]
        return partial(self._variant.operators, are_biases=are_biases)

    def _asked(self, param: Tensor) -> bool:
        if param not in self._is_bias:
            self._learn()
        if param not in self._is_bias:
            raise ValueError(
                f"ASAM(biases=False) must know which parameters are biases, but one of shape {tuple(param.shape)} has "
                "no name: give SAM the model, or build the base optimizer from model.named_parameters(), or treat all "
                "alike with ASAM(biases=True)"
            )
        return self._is_bias[param]

    def _learn(self) -> None:
        named = [] if self._model is None else [(p, name) for name, p in self._model.named_parameters()]
        for group in self._optimizer.param_groups:
            if "param_names" in group:
                named += zip(group["params"], group["param_names"], strict=True)
        self._is_bias |= {p: "bias" in name.rpartition(".")[2] for p, name in named}

"""Pass 2 of a step whose pass 1 a trainer has made: the same micro-batches, the same random numbers, at `x⁺`."""

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

from samirage.optim import SAM
from samirage.optim.side_effects import RandomState, random_state, set_random_state

T = TypeVar("T")


class Replay(Generic[T]):
    """The micro-batches of one step, kept by `remember` during pass 1, and run again by `second_pass`.

    Example:
        >>> import torch
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer, replay = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5), Replay()
        >>> def run(x, last=True):
        ...     (w * x).square().sum().backward()
        >>> for x in torch.tensor([1.0, 2.0]):
        ...     replay.remember(optimizer, x)
        ...     run(x)
        >>> replay.second_pass(optimizer, run)
        >>> w.grad.item()  # 2·(1 + 4) at w + rho = 1.5
        15.0
    """

    def __init__(self) -> None:
        self._kept: list[tuple[T, RandomState]] = []

    def forget(self) -> None:
        """Drop all micro-batches, at the beginning of a step."""
        self._kept.clear()

    def remember(self, optimizer: SAM, batch: T) -> None:
        """Keep a micro-batch, before its forward pass at `x`.

        Args:
            optimizer: The optimizer.
            batch: The micro-batch; kept only if the coming step perturbs the weights.
        """
        if optimizer.two_pass:
            self._kept.append((batch, random_state(_params(optimizer))))

    def second_pass(self, optimizer: SAM, run: Callable[[T, bool], None]) -> None:
        """Make the perturbed pass over the micro-batches kept; nothing where the step takes one pass.

        Args:
            optimizer: The optimizer, with the gradient of pass 1 in `.grad`. Its `step()` is due afterwards.
            run: Runs forward and backward on a micro-batch; its second argument tells whether it is the last one,
                whose backward pass synchronises the ranks.
        """
        kept, self._kept = self._kept, []
        if not kept or not any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            return
        after = random_state(_params(optimizer))
        with optimizer.perturbed():
            for i, (batch, before) in enumerate(kept):
                if optimizer.replay_rng:
                    set_random_state(before)
                run(batch, i + 1 == len(kept))
        if optimizer.replay_rng:
            set_random_state(after)


def _params(optimizer: SAM) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]

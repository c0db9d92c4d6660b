"""What the probes share: small problems whose SAM step can be computed by hand, and closures around them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.peers.adapters import Closure

Loss = Callable[[], Tensor]


def closure_of(optimizer: torch.optim.Optimizer, loss_of: Loss) -> Closure:
    """Return a closure that zeroes the gradients, runs forward and backward, and returns the loss."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        torch.autograd.backward(loss)
        return loss

    return closure


@dataclass
class Watch:
    """A loss that remembers where it was evaluated.

    Attributes:
        loss_of: The loss.
        params: The parameters.
        seen: Their values at each evaluation.
    """

    loss_of: Loss
    params: Sequence[Tensor]
    seen: list[list[Tensor]] = field(default_factory=list)

    def __call__(self) -> Tensor:
        """Evaluate the loss."""
        self.seen.append([p.detach().clone() for p in self.params])
        return self.loss_of()


def cubic(params: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return `Σ a·w³/3`, whose gradient is `a·w²`."""
    return torch.stack([(a * p.pow(3)).sum() / 3 for p, a in zip(params, weights, strict=True)]).sum()


def sam_step(values: Sequence[Tensor], weights: Sequence[Tensor], rhos: Sequence[float], lr: float) -> list[Tensor]:
    """Return where one SAM step with plain SGD leads on `cubic`, computed by hand in float64."""
    x = [v.double() for v in values]
    a = [w.double() for w in weights]
    grads = [w * v.square() for v, w in zip(x, a, strict=True)]
    length = torch.cat([g.flatten() for g in grads]).norm()
    plus = [v + rho * g / length for v, g, rho in zip(x, grads, rhos, strict=True)]
    return [v - lr * w * p.square() for v, w, p in zip(x, a, plus, strict=True)]


def largest_difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the largest difference between two lists of tensors; NaN counts as infinite."""
    pairs = zip(a, b, strict=True)
    return max((p.detach().double() - q.detach().double()).abs().nan_to_num(torch.inf).max().item() for p, q in pairs)


def length(tensors: Sequence[Tensor]) -> float:
    """Return the norm over all tensors, in float64."""
    return float(torch.cat([t.detach().double().flatten() for t in tensors]).norm())


def cosine(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the cosine between two lists of tensors, in float64."""
    flat_a, flat_b = (torch.cat([t.detach().double().flatten() for t in tensors]) for tensors in (a, b))
    return float(flat_a @ flat_b / (flat_a.norm() * flat_b.norm()))

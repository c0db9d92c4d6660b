"""The loss of a network over a whole data set, as a function of one vector."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from samirage.landscape.batches import (
    Chunk,
    Data,
    check,
    chunks,
    first_examples,
    unchanged_random_states,
    with_progress,
)
from samirage.landscape.network import FlatNetwork, batch_norm_policy, check_deterministic
from samirage.landscape.saved_bytes import SavedBytes
from samirage.landscape.smooth import Linearized

# Points that are evaluated as one batch: measured on a CPU, this is up to ten times as fast as one by one for small
# networks and few examples, and no faster beyond these numbers, where it would cost memory.
_PARAMETERS_AT_ONCE: Final = 2**20
_EXAMPLES_AT_ONCE: Final = 2**16
_ROUNDINGS: Final = 1000  # of one bit, by which two passes over the same data may differ: their sums may be reordered


class Objective:
    """The average loss over a data set, as a function of the trainable parameters in one vector.

    `f(x) = Σ_i loss(model_x(input_i), target_i)/n`, over all n examples, whatever their batches: ragged batches weigh
    by their length. It is a `samirage.landscape.Smooth`. Tensors that it returns carry no autograd history.

    Nothing it does alters the model: weights, gradients, buffers, modes and random states stay as they are. It computes
    in the dtype and on the device of the vector that it is given, so a float32 network can be analysed in float64.

    Layers that are random or mix the examples of a batch are refused by name. ReLU and the like are not twice
    differentiable: gradients hold almost everywhere, and Hessians leave out the kinks.

    Args:
        model: The network, in the mode in which it is to run, mostly `model.eval()`.
        loss_fn: Maps outputs and targets to one number: the mean over the examples it is given.
        batches: Pairs `(x, y)`, that can be iterated over again, always with the same examples: a list, a `DataLoader`.
            `x` goes to the model; in both, every tensor's first dimension counts examples.
        reduction: What `loss_fn` does over the examples, and `f` over the data set: `"mean"` or `"sum"`. A loss that
            weighs classes or leaves out targets averages over something else: use its sum.
        chunk: Most examples to process at once, which bounds the memory; a whole batch by default.
        memory_gb: Memory, in 10⁹ bytes, that `linearize` may fill with activations in order to save time.
        progress: Whether to show a bar during each pass over the data, if rich is installed.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of its range, the model is not deterministic, or there are no examples.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> x, y = torch.tensor([[1.0], [2.0], [3.0]]), torch.zeros(3, 1)
        >>> f = Objective(model, nn.MSELoss(), [(x[:2], y[:2]), (x[2:], y[2:])])  # f(w) = 14/3·w²
        >>> f(torch.tensor([3.0])), f.hvp(torch.tensor([3.0]), torch.tensor([1.0]))
        (tensor(42.), tensor([9.3333]))
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        batches: Iterable[tuple[Data, Data]],
        *,
        reduction: Literal["mean", "sum"] = "mean",
        chunk: int | None = None,
        memory_gb: float = 2.0,
        progress: bool = False,
    ) -> None:
        self._network = FlatNetwork(model)
        if not callable(loss_fn):
            raise TypeError(f"loss_fn must be a function of outputs and targets; got {type(loss_fn).__name__}")
        if reduction not in {"mean", "sum"}:
            raise ValueError(f"reduction must be 'mean' or 'sum'; got {reduction!r}")
        own = getattr(loss_fn, "reduction", reduction)
        if own != reduction:
            raise ValueError(
                f"loss_fn has the reduction {own!r}, and reduction={reduction!r} was given: make them equal"
            )
        check(batches)
        if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
            raise ValueError(f"chunk must be None or a whole number of examples, at least 1; got {chunk!r}")
        if not (math.isfinite(memory_gb) and memory_gb >= 0):
            raise ValueError(f"memory_gb must be a finite number of at least 0; got {memory_gb!r}")
        self._loss_fn = loss_fn
        self._batches = batches
        self._mean = reduction == "mean"
        self._chunk = chunk
        self._memory_bytes = memory_gb * 1e9
        self._progress = progress
        self._vmap_works = True
        self._at_once: int | None = None
        self._examples = self._chunks = 0
        self._measure()

    @property
    def dim(self) -> int:
        """Number of trainable parameters."""
        return self._network.dim

    @property
    def examples(self) -> int:
        """Number of examples in the data set."""
        return self._examples

    def flat_parameters(self) -> Tensor:
        """Return the model's present trainable parameters as one vector, shape (d,): a copy."""
        return self._network.flat_parameters()

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters that a vector stands for, by name: `model.load_state_dict(…, strict=False)` takes them.

        Args:
            x: A vector of shape (d,).

        Returns:
            Views of it, in the shapes of the parameters.
        """
        self._check(x, one=True)
        return self._network.unflatten(x)

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the vector that named parameters stand for, shape (d,), in their dtype: a checkpoint, for example.

        Args:
            parameters: A tensor for every trainable parameter, such as a `state_dict`; others are left out.
        """
        return self._network.flatten(parameters)

    @property
    def batch_norm(self) -> str:
        """What batch norm does while the parameters vary, in a few words."""
        return batch_norm_policy(self._network.model)

    def activation_bytes(self, x: Tensor) -> int:
        """Return how many bytes one point's gradient keeps at a time: activations over the first chunk of the data.

        Args:
            x: One point, shape (d,).
        """
        with self._quiet(x), SavedBytes() as saved:
            next(self._weighted_losses(self._rows(x), "measuring"))
        return saved.total

    def subset(self, examples: int) -> "Objective":
        """Return the same over the first so many examples: a cheaper loss, which is the same in every call.

        Args:
            examples: How many, from 1 to `self.examples`.

        Raises:
            ValueError: If there are not so many.
        """
        if isinstance(examples, bool) or not isinstance(examples, int) or not 1 <= examples <= self.examples:
            raise ValueError(f"examples must be a whole number from 1 to {self.examples}; got {examples!r}")
        smaller = copy.copy(self)
        with unchanged_random_states(self._batches, self.flat_parameters().device, seeded=True):
            smaller._batches = first_examples(self._batches, examples)
        smaller._measure()
        return smaller

    def points_at_once(self, most: int) -> "Objective":
        """Return the same, with another choice of how many points are evaluated as one batch; it shares the data.

        Args:
            most: Most points to evaluate as one batch, at least 1; 1 evaluates one after another.

        Raises:
            ValueError: If the number is out of its range.
        """
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"most must be a whole number of at least 1; got {most!r}")
        other = copy.copy(self)
        other._at_once = most
        return other

    # --- value and derivatives -----------------------------------------------------------------------

    def __call__(self, x: Tensor) -> Tensor:
        """Return `f(x)`, shape (…).

        Args:
            x: Points, shape (…, d), floating-point.
        """
        rows = self._rows(x)
        values = _zeros(len(rows), x)
        with self._quiet(x):
            for part, _, losses in self._weighted_losses(rows, "loss", derivatives=False):
                values[part] += losses
        return values.to(x.dtype).reshape(x.shape[:-1])

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `f(x)` and `g(x)`, shapes (…) and (…, d).

        Args:
            x: Points, shape (…, d), floating-point.
        """
        rows = self._rows(x)
        values, grads = _zeros(len(rows), x), torch.zeros_like(rows)
        with self._quiet(x):
            for part, leaf, losses in self._weighted_losses(rows, "gradient"):
                grads[part] += torch.autograd.grad(losses.sum(), leaf)[0]
                values[part] += losses.detach()
        return values.to(x.dtype).reshape(x.shape[:-1]), grads.reshape(x.shape)

    def grad(self, x: Tensor) -> Tensor:
        """Return the gradient `g(x)`, shape (…, d).

        Args:
            x: Points, shape (…, d), floating-point.
        """
        return self.value_and_grad(x)[1]

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return `H(x)·v`, shape (…, d).

        Args:
            x: Points, shape (…, d), floating-point.
            v: Directions, same shape.
        """
        rows, directions = self._rows(x), self._rows(v)
        products = torch.zeros_like(rows)
        with self._quiet(x):
            for part, leaf, losses in self._weighted_losses(rows, "Hessian product"):
                (grad,) = torch.autograd.grad(losses.sum(), leaf, create_graph=True)
                products[part] += _product(grad, leaf, directions[part].view_as(leaf))
        return products.reshape(x.shape)

    def hessian(self, x: Tensor) -> Tensor:
        """Return the Hessian `H(x)`, shape (…, d, d): d products per point, for small d.

        Args:
            x: Points, shape (…, d), floating-point.
        """
        rows = self._rows(x)
        basis = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        hessians = torch.stack([torch.stack(list(map(self.linearize(row).hvp, basis))) for row in rows])
        return ((hessians + hessians.mT) / 2).reshape(*x.shape, self.dim)

    def linearize(self, x: Tensor) -> Linearized:
        """Return the gradient at `x` with a fast Hessian product, which costs about half as much as `hvp`.

        The graphs of the gradient are kept, up to `memory_gb` of activations, until the product is dropped; what lies
        beyond is computed anew for every product.

        Args:
            x: One point, shape (d,).

        Returns:
            The gradient, and the product with one vector of shape (d,).
        """
        self._check(x, one=True)
        rows = self._rows(x)
        grad = torch.zeros_like(rows[0])
        kept: list[tuple[Tensor, Tensor]] = []
        with self._quiet(x), SavedBytes() as saved:
            for _, leaf, loss in self._weighted_losses(rows, "gradient"):
                fits = saved.total <= self._memory_bytes
                (part,) = torch.autograd.grad(loss, leaf, create_graph=fits)
                grad += part.detach()
                if fits and saved.total <= self._memory_bytes:
                    kept.append((part, leaf))

        def product(v: Tensor) -> Tensor:
            (direction,) = self._rows(v)
            result = torch.zeros_like(direction)
            for part, leaf in kept:
                result += _product(part, leaf, direction)
            if len(kept) < self._chunks:
                with self._quiet(x):
                    for _, leaf, loss in self._weighted_losses(rows, "Hessian product", after=len(kept)):
                        (part,) = torch.autograd.grad(loss, leaf, create_graph=True)
                        result += _product(part, leaf, direction)
            return result

        return Linearized(grad, product)

    # --- one pass over the data ----------------------------------------------------------------------

    def _weighted_losses(
        self, rows: Tensor, label: str, *, derivatives: bool = True, after: int = 0
    ) -> Iterator[tuple[slice | int, Tensor, Tensor]]:
        """Yield the share of every chunk in `f`, for some rows at a time: the rows' place, the leaf, the shares.

        One row alone stands at an index and has the shape (d,), several at a slice.

        Raises:
            ValueError: If the data holds another number of examples than at first.
        """
        fixed = self._network.fixed(rows.device, rows.dtype)
        parts = chunks(self._batches, size=self._chunk, device=rows.device, dtype=rows.dtype)
        only = rows[0].clone().requires_grad_(derivatives) if len(rows) == 1 else None  # all graphs may share it
        seen = 0
        for number, chunk in enumerate(with_progress(parts, label=label, total=self._chunks, shown=self._progress)):
            seen += chunk.count
            if number < after:
                continue
            weight = chunk.count / self._examples if self._mean else 1.0
            at_once = self._at_once or min(_PARAMETERS_AT_ONCE // self.dim, _EXAMPLES_AT_ONCE // chunk.count)
            for first in range(0, len(rows), max(at_once, 1)):
                place = slice(first, first + at_once) if at_once > 1 and len(rows) > 1 else first
                leaf = rows[place] if only is None else only
                if only is None and derivatives:
                    leaf = leaf.clone().requires_grad_()
                with torch.set_grad_enabled(derivatives):
                    losses = weight * self._losses(leaf, fixed, chunk)
                yield place, leaf, losses
        if seen != self._examples:
            raise ValueError(
                f"batches gave {self._examples} examples at first and {seen} now: it must hold the same ones every time"
            )

    def _losses(self, leaf: Tensor, fixed: dict[str, Tensor], chunk: Chunk) -> Tensor:
        def one(x: Tensor) -> Tensor:
            loss = self._loss_fn(self._network.outputs(x, fixed, chunk.inputs), chunk.targets)
            if not isinstance(loss, Tensor) or loss.shape != ():
                given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                raise ValueError(
                    f"loss_fn must return one number for all its examples, a tensor of shape (); got {given}"
                )
            return loss

        if leaf.dim() == 1:
            return one(leaf)
        if self._vmap_works:
            try:
                return torch.func.vmap(one)(leaf)
            except RuntimeError:  # a model that vmap cannot batch, such as one that branches on its values
                self._vmap_works = False
        return torch.stack([one(row) for row in leaf])

    @contextmanager
    def _quiet(self, x: Tensor) -> Iterator[None]:
        """Run with the same random numbers every time, and put them back."""
        check_deterministic(self._network.model)
        with unchanged_random_states(self._batches, x.device, seeded=True):
            yield

    def _measure(self) -> None:
        """Count the examples, and see that two passes agree.

        Raises:
            ValueError: If there are none, or the passes differ by more than rounding.
        """
        check_deterministic(self._network.model)
        x = self.flat_parameters()
        totals = []
        with unchanged_random_states(self._batches, x.device, seeded=False):
            sizes = [c.count for c in chunks(self._batches, size=self._chunk, device=x.device, dtype=x.dtype)]
            self._examples, self._chunks = sum(sizes), len(sizes)
            if not self._examples:
                raise ValueError("batches holds no examples")
            for _ in range(2):
                losses = [loss for _, _, loss in self._weighted_losses(x[None], "checking", derivatives=False)]
                totals.append(float(torch.stack(losses).double().sum()))
        apart = abs(totals[0] - totals[1])
        if apart > _ROUNDINGS * torch.finfo(x.dtype).eps * max(map(abs, totals)):
            raise ValueError(
                f"the model or its data are random: two passes gave the losses {totals[0]!r} and {totals[1]!r}; take "
                "out dropout, random augmentation and the like"
            )

    def _check(self, x: Tensor, *, one: bool = False) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            given = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"Objective takes a floating-point torch tensor; got {given}")
        if x.dim() == 0 or x.shape[-1] != self.dim or (one and x.dim() > 1):
            shape = f"({self.dim},)" if one else f"(…, {self.dim})"
            raise ValueError(f"Objective has {self.dim} parameters and takes shape {shape}; got {tuple(x.shape)}")

    def _rows(self, x: Tensor) -> Tensor:
        self._check(x)
        return x.detach().reshape(-1, self.dim)


def _zeros(count: int, like: Tensor) -> Tensor:
    """Sums of losses: float64, but for MPS, which has none."""
    return torch.zeros(count, device=like.device, dtype=torch.float32 if like.device.type == "mps" else torch.float64)


def _product(grad: Tensor, leaf: Tensor, v: Tensor) -> Tensor:
    """Differentiate `<g, v>` once more; 0 where the gradient does not depend on the parameters."""
    if not grad.requires_grad:
        return torch.zeros_like(leaf)
    (product,) = torch.autograd.grad(grad, leaf, v, retain_graph=True, materialize_grads=True)
    return product

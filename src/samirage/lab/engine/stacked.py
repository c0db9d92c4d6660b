"""Loss and gradient of S networks of one architecture at once, on training examples that they share.

Two implementations of one interface. `ModuleStack` takes any module and lets `torch.func.vmap` batch it.
`MLPStack` turns the first layer of all members, which holds most of the arithmetic, into one wide matrix product
near the speed limit of the hardware.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from samirage.lab.engine.models import MLP, Loss

# Most elements that one layer's activations may have at a time. On a CPU they should stay in the last-level cache
# between the passes over them (2.6 million float32 are 10 MB); on an accelerator, in its memory.
_CPU_CHUNK_ELEMENTS: Final = 2_600_000
_DEVICE_CHUNK_ELEMENTS: Final = 256_000_000

# Rows of the wide matrices are padded to whole cache lines: a matrix product with an odd row length is a third slower.
_ALIGNMENT: Final = 16


class AbstractMembers(ABC):
    """S members with a loss each, as a function of their stacked parameters: what the ensemble engine trains.

    Attributes:
        params: The parameters, each of shape (S, …), to be updated in place.
        size: Number of training examples, of which a batch may take some.
    """

    params: list[Tensor]
    size: int

    @abstractmethod
    def loss_and_grads(self, params: list[Tensor], grads: list[Tensor], rows: Tensor | None = None) -> Tensor:
        """Return the training loss of every member, and write its gradient.

        Args:
            params: Where to evaluate; shapes as `self.params`.
            grads: Where to write the gradient; shapes as `self.params`.
            rows: Indices of the examples that make up the batch; all by default.

        Returns:
            Shape (S,).
        """


class AbstractStack(AbstractMembers):
    """S networks and their training examples, as a function of the networks' stacked parameters.

    Args:
        modules: At least one; all of one architecture, dtype and device. They are copied.
        loss: The training loss, a mean over examples.
        x: Training examples, shape (n, …).
        labels: Class of each example, shape (n,).
    """

    def __init__(self, modules: Sequence[nn.Module], loss: Loss, x: Tensor, labels: Tensor) -> None:
        self._loss = loss
        self._labels = labels
        self._skeleton = modules[0]
        self.size = len(labels)

    @abstractmethod
    def states(self) -> list[dict[str, Tensor]]:
        """Return the parameters of every member by name, in the shapes of the modules: copies."""

    def modules(self) -> list[nn.Module]:
        """Return the members as modules with their present parameters: copies."""
        members = []
        for state in self.states():
            member = deepcopy(self._skeleton)
            member.load_state_dict(state, strict=False)
            members.append(member)
        return members

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Return the outputs of every member at its current parameters.

        Args:
            x: Examples, shape (n, …); need not be training examples.

        Returns:
            Shape (S, n, classes).
        """

    @abstractmethod
    def flops(self, examples: int) -> int:
        """Return the floating-point operations of one `loss_and_grads`; those in matrix products only.

        Args:
            examples: Number of examples in the batch.
        """


def stack(modules: Sequence[nn.Module], loss: Loss, x: Tensor, labels: Tensor) -> AbstractStack:
    """Stack modules of one architecture, on the fastest path that fits them.

    Args:
        modules: At least one; all of one architecture, dtype and device. They are copied.
        loss: The training loss, a mean over examples.
        x: Training examples, shape (n, …).
        labels: Class of each example, shape (n,).

    Returns:
        The stack.

    Raises:
        ValueError: If there is no module, or the architectures differ.

    Example:
        >>> from samirage.lab.engine.models import softmax_squared
        >>> members = stack([MLP([4, 3, 2]) for _ in range(5)], softmax_squared, torch.rand(7, 4), torch.ones(7).long())
        >>> grads = [torch.empty_like(p) for p in members.params]
        >>> members.loss_and_grads(members.params, grads).shape, members.logits(torch.rand(9, 4)).shape
        (torch.Size([5]), torch.Size([5, 9, 2]))
    """
    if not modules:
        raise ValueError("stack needs at least one module; got none")
    shapes = [[(name, p.shape) for name, p in module.named_parameters()] for module in modules]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("stack needs modules of one architecture; the names or shapes of their parameters differ")
    path = MLPStack if all(type(module) is MLP for module in modules) else ModuleStack
    return path(modules, loss, x, labels)


def _slices(n: int, most: int) -> list[slice]:
    """Cut n rows into aligned parts of equal size, but for the last, of at most about `most` rows."""
    rows = _aligned(-(-n // -(-n // most)))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _aligned(n: int) -> int:
    return -(-n // _ALIGNMENT) * _ALIGNMENT


class ModuleStack(AbstractStack):
    """Any module, batched by `torch.func.vmap`; see `AbstractStack`. Buffers are held per member."""

    # Bounds the memory; on a CPU, larger batches are no faster.
    _rows: Final = 1000

    def __init__(self, modules: Sequence[nn.Module], loss: Loss, x: Tensor, labels: Tensor) -> None:
        super().__init__(modules, loss, x, labels)
        state, self._buffers = stack_module_state(list(modules))
        names, skeleton = list(state), modules[0]
        self._names = names
        self.params = [state[name].detach().clone() for name in names]
        self._x = x

        def outputs(params: Sequence[Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            result: Tensor = functional_call(skeleton, {**dict(zip(names, params, strict=True)), **buffers}, (x,))
            return result

        def objective(params: Sequence[Tensor], buffers: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
            return loss(outputs(params, buffers, x), labels)

        self._outputs: Callable[..., Tensor] = vmap(outputs, in_dims=(0, 0, None))
        self._grads_and_loss: Callable[..., tuple[list[Tensor], Tensor]] = vmap(
            grad_and_value(objective), in_dims=(0, 0, None, None)
        )

    def loss_and_grads(self, params: list[Tensor], grads: list[Tensor], rows: Tensor | None = None) -> Tensor:
        """Return the training loss of every member, and write its gradient; see `AbstractStack`."""
        x, labels = (self._x, self._labels) if rows is None else (self._x[rows], self._labels[rows])
        total = torch.zeros(len(params[0]), dtype=params[0].dtype, device=params[0].device)
        torch._foreach_zero_(grads)
        for part in _slices(len(labels), self._rows):
            part_grads, part_loss = self._grads_and_loss(list(params), self._buffers, x[part], labels[part])
            weight = (part.stop - part.start) / len(labels)
            total += weight * part_loss
            torch._foreach_add_(grads, part_grads, alpha=weight)
        return total

    def states(self) -> list[dict[str, Tensor]]:
        """Return the parameters of every member by name; see `AbstractStack`."""
        named = [*zip(self._names, self.params, strict=True), *self._buffers.items()]
        return [{name: tensor[i].clone() for name, tensor in named} for i in range(len(self.params[0]))]

    def logits(self, x: Tensor) -> Tensor:
        """Return the outputs of every member at its current parameters; see `AbstractStack`."""
        with torch.no_grad():
            parts = [self._outputs(self.params, self._buffers, x[part]) for part in _slices(len(x), self._rows)]
        return torch.cat(parts, dim=1)

    def flops(self, examples: int) -> int:
        """Return the floating-point operations of one `loss_and_grads`, counted while running it on one example."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            rows = torch.zeros(1, dtype=torch.long, device=self._labels.device)
            self.loss_and_grads(self.params, [torch.empty_like(p) for p in self.params], rows)
        return int(counter.get_total_flops()) * examples


class MLPStack(AbstractStack):
    """`MLP`s with forward and backward pass written out as matrix products; see `AbstractStack`.

    Activations are held as (S·h, n). The first layer is one product `(S·h, k)·(k, n)` and its gradient one product
    `(S·h, n)·(n, k)`, with the bias as the weight of a constant input. Later layers are small batched products. The
    gradient with respect to the inputs, which nobody needs, is not computed. Inputs that are zero in every training
    example (MNIST has many) have a gradient of exactly zero, so that their weights never move: they stay out of the
    products until `logits` meets other examples.
    """

    def __init__(self, modules: Sequence[nn.Module], loss: Loss, x: Tensor, labels: Tensor) -> None:
        super().__init__(modules, loss, x, labels)
        state, _ = stack_module_state(list(modules))
        self._names = list(state)
        tensors = [t.detach() for t in state.values()]
        weights, biases = tensors[0::2], tensors[1::2]
        self._initial_first = torch.cat([weights[0], biases[0].unsqueeze(-1)], dim=-1)
        live = torch.cat([(x != 0).any(0), torch.ones(1, dtype=torch.bool, device=x.device)])
        self._live = live.nonzero().squeeze(1)
        padding = (0, _aligned(len(self._live)) - len(self._live))
        self._inputs = nn.functional.pad(_with_constant(x)[:, self._live], padding)
        first = nn.functional.pad(self._initial_first[:, :, self._live], padding)
        self.params = [first, *(t.clone() for pair in zip(weights[1:], biases[1:], strict=True) for t in pair)]
        self._hidden = [w.shape[1] for w in weights[:-1]]
        elements = _CPU_CHUNK_ELEMENTS if x.device.type == "cpu" else _DEVICE_CHUNK_ELEMENTS
        self._rows = max(1, elements // (len(first) * max(self._hidden, default=1)))
        self._scratch: dict[tuple[str | int, ...], Tensor] = {}

    def _buffer(self, role: str, like: Tensor, *shape: int) -> Tensor:
        """Reuse one buffer per role and shape: fresh memory costs a page fault per 4 KiB at every step."""
        key: tuple[str | int, ...] = (role, *shape)
        if key not in self._scratch:
            self._scratch[key] = like.new_empty(shape)
        return self._scratch[key]

    def _forward(self, params: Sequence[Tensor], inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (S, classes, n) and the hidden activations, each (S, h, n)."""
        members, n = len(params[0]), len(inputs)
        hidden: list[Tensor] = []
        for layer in range(len(self.params) // 2 + 1):
            # A hidden layer computes 2z, for `_tanh_of_half_`.
            factor = 2 if layer < len(self._hidden) else 1
            if layer == 0:
                first = params[0].flatten(0, 1)
                z = self._buffer("layer 0", first, len(first), n)
                torch.addmm(z, first, inputs.t(), beta=0, alpha=factor, out=z)
                z = z.view(members, -1, n)
            else:
                weight, bias = params[2 * layer - 1], params[2 * layer]
                z = self._buffer(f"layer {layer}", weight, members, weight.shape[1], n)
                torch.baddbmm(bias.unsqueeze(-1), weight, hidden[-1], beta=factor, alpha=factor, out=z)
            if layer < len(self._hidden):
                hidden.append(_tanh_of_half_(z))
        return z, hidden

    def loss_and_grads(self, params: list[Tensor], grads: list[Tensor], rows: Tensor | None = None) -> Tensor:
        """Return the training loss of every member, and write its gradient; see `AbstractStack`."""
        inputs, labels = (self._inputs, self._labels) if rows is None else (self._inputs[rows], self._labels[rows])
        total = torch.zeros(len(params[0]), dtype=params[0].dtype, device=params[0].device)
        for part in _slices(len(labels), self._rows):
            weight = (part.stop - part.start) / len(labels)
            keep = 0 if part.start == 0 else 1  # whether to add to what `grads` holds, which at first may be NaN
            logits, hidden = self._forward(params, inputs[part])
            loss, dz = self._loss_and_slope(logits, labels[part])
            total += weight * loss
            if weight < 1:
                dz *= weight
            for layer in range(len(hidden), 0, -1):
                below = hidden[layer - 1]
                d_weight, d_bias = grads[2 * layer - 1], grads[2 * layer]
                torch.baddbmm(d_weight, dz, below.transpose(1, 2), beta=keep, out=d_weight)
                torch.add(dz.sum(-1), d_bias if keep else 0, out=d_bias)
                d_below = self._buffer(f"slope {layer}", below, *below.shape)
                torch.bmm(params[2 * layer - 1].transpose(1, 2), dz, out=d_below)
                dz = torch.ops.aten.tanh_backward.grad_input(d_below, below, grad_input=d_below)
            d_first = grads[0].flatten(0, 1)
            torch.addmm(d_first, dz.flatten(0, 1), inputs[part], beta=keep, out=d_first)
        return total

    def _loss_and_slope(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits.detach().requires_grad_()
        with torch.enable_grad():
            loss = self._loss(logits, labels, dim=-2)
            (slope,) = torch.autograd.grad(loss.sum(), logits)
        return loss.detach(), slope

    def _full_first(self) -> Tensor:
        """The first layer with all its inputs, the bias last."""
        first = self._initial_first.clone()
        first[:, :, self._live] = self.params[0][:, :, : len(self._live)]
        return first

    def states(self) -> list[dict[str, Tensor]]:
        """Return the parameters of every member by name; see `AbstractStack`."""
        first = self._full_first()
        tensors = [first[..., :-1], first[..., -1], *self.params[1:]]
        return [
            {name: tensor[i].clone() for name, tensor in zip(self._names, tensors, strict=True)}
            for i in range(len(first))
        ]

    def logits(self, x: Tensor) -> Tensor:
        """Return the outputs of every member at its current parameters; see `AbstractStack`."""
        params = [self._full_first(), *self.params[1:]]
        parts = [self._forward(params, _with_constant(x[part]))[0] for part in _slices(len(x), self._rows)]
        return torch.cat([part.transpose(1, 2) for part in parts], dim=1)

    def flops(self, examples: int) -> int:
        """Return the floating-point operations of one `loss_and_grads`, as executed; see `AbstractStack`."""
        members, first_width, _ = self.params[0].shape
        first = 4 * len(self._live) * first_width
        later = sum(6 * weight.shape[1] * weight.shape[2] for weight in self.params[1::2])
        return examples * members * (first + later)


def _with_constant(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _tanh_of_half_(double: Tensor) -> Tensor:
    """Replace 2z by tanh(z) = 2·sigmoid(2z) − 1, in place.

    PyTorch's tanh takes more than twice as long. The error is below 2e-7 of the range in float32, less than that
    of the matrix product before it.
    """
    torch.sigmoid(double, out=double)
    return double.mul_(2).sub_(1)

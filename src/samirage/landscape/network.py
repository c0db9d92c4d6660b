"""A network as a function of one flat vector: which layers forbid it, and its forward pass with other weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from samirage.landscape.batches import Data


def check_deterministic(model: nn.Module) -> None:
    """Refuse layers whose output is random, or depends on the other examples of a batch.

    Args:
        model: The network, with every layer in the mode in which it will run.

    Raises:
        ValueError: If there are such layers; the message names them and says what to do.
    """
    found = [
        f"{name or 'the model itself'} ({type(module).__name__}: {reason})"
        for name, module in model.named_modules()
        if (reason := _objection(module))
    ]
    if found:
        raise ValueError(
            "the loss of this model is not a fixed function of its parameters, because of its layers "
            f"{'; '.join(found)}: call model.eval() first, or replace them"
        )


def batch_norm_policy(model: nn.Module) -> str:
    """Say in a few words what batch norm does while the parameters of a network that was not refused vary.

    Args:
        model: The network.
    """
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        return "running statistics of the model as it is, the same at every point"
    return "none in the model"


def _objection(module: nn.Module) -> str | None:
    if isinstance(module, _BatchNorm):
        if module.training:
            return "training mode, which normalises by the batch"
        return None if module.running_mean is not None else "without running statistics, which normalises by the batch"
    if not module.training:
        return None
    if isinstance(module, _DropoutNd):
        return "random in training mode" if module.p > 0 else None
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return "dropout in training mode" if module.dropout > 0 else None
    return "random in training mode" if isinstance(module, nn.RReLU) else None


class FlatNetwork:
    """The trainable parameters of a module as one vector, and its forward pass at any such vector.

    The module itself is never written to: parameters and buffers are replaced for the time of a call, buffers by
    copies, so that what a forward pass does to them is lost.

    Args:
        model: The network; parameters that do not require gradients stay as they are.

    Raises:
        TypeError: If it is not a module.
        ValueError: If it has no trainable parameter, or they differ in dtype or device.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
        self.model = model
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError("the model has no parameter that requires a gradient")
        kinds = {(p.dtype, p.device) for p in trainable.values()}
        if len(kinds) > 1:
            listed = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(f"all trainable parameters must have one dtype and device; got {listed}")
        self._shapes = {name: p.shape for name, p in trainable.items()}
        # A tied parameter stands in several places, all of which must be replaced; but a module that is used twice must
        # be written to once (named_modules lists it once), or functional_call would not find back to the original.
        names = {id(p): name for name, p in trainable.items()}
        self._places = {
            f"{prefix}.{name}" if prefix else name: names[id(p)]
            for prefix, module in model.named_modules()
            for name, p in module.named_parameters(recurse=False)
            if id(p) in names
        }
        self._sizes = [p.numel() for p in trainable.values()]
        self.dim = sum(self._sizes)

    def flat_parameters(self) -> Tensor:
        """Return the present parameters, copied into one vector of shape (d,)."""
        current = dict(self.model.named_parameters())
        return torch.cat([current[name].detach().reshape(-1) for name in self._shapes])

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the vector that named parameters stand for, shape (d,).

        Args:
            parameters: A tensor for every trainable parameter; others are left out.

        Raises:
            ValueError: If one is missing or has another shape.
        """
        for name, shape in self._shapes.items():
            given = parameters.get(name)
            if given is None or given.shape != shape:
                what = "none" if given is None else f"shape {tuple(given.shape)}"
                raise ValueError(f"parameters must hold {name!r} of shape {tuple(shape)}; got {what}")
        return torch.cat([parameters[name].detach().reshape(-1) for name in self._shapes])

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters that a vector stands for, by name, as views.

        Args:
            x: A vector of shape (d,).
        """
        parts = torch.split(x, self._sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def fixed(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return what is not trained, parameters and buffers, moved and cast.

        Args:
            device: Where the forward pass runs.
            dtype: What floating-point tensors are cast to.
        """
        found: dict[str, Tensor] = {}
        for prefix, module in self.model.named_modules():
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                place = f"{prefix}.{name}" if prefix else name
                if place not in self._places:
                    found[place] = tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype)
        return found

    def outputs(self, x: Tensor, fixed: dict[str, Tensor], inputs: Data) -> Data:
        """Return the outputs of the network with the parameters `x`.

        Args:
            x: A vector of shape (d,).
            fixed: What `fixed` returned.
            inputs: What the model takes.
        """
        weights = self.unflatten(x)
        everything = {place: weights[name] for place, name in self._places.items()}
        everything |= {name: tensor.clone() for name, tensor in fixed.items()}
        return torch.func.functional_call(self.model, everything, (inputs,), tie_weights=False)

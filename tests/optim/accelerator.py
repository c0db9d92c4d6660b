"""A pretended accelerator, for machines without one: it computes on the CPU, and nobody may look at its numbers.

Its tensors say that their device is "meta", so that the code under test takes its way for accelerators. Within
`Accelerator()` the host fails where it would have to wait for a real one: when it reads a number, and when it copies to
or from the device without `non_blocking`. Tensors of the two sides do not mix, except for single numbers of the host,
as on a real accelerator.
"""

import sys

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = torch.device("meta")
aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
}
COPIES = {aten._to_copy.default, aten.copy_.default}


class Waited(AssertionError):
    """The host would have had to wait for the device."""


class OnDevice(torch.Tensor):
    """A tensor of the accelerator; the numbers are in `inner`."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class Accelerator(TorchDispatchMode):
    """Fails where the host would wait for the device, unless it `may_wait`; counts how often it does."""

    def __init__(self, may_wait=False):
        super().__init__()
        self.may_wait, self.waits = may_wait, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = pytree.tree_leaves((args, kwargs))
        if any(isinstance(t, torch.Tensor) and t.device == DEVICE and not isinstance(t, OnDevice) for t in leaves):
            self._wait("to copy what torch.tensor(…, device=…) has made")  # it goes past `func`
        if func in READS and any(isinstance(a, OnDevice) for a in args):
            self._wait(f"to read a number: {func}")
        if func in COPIES:
            source, target = args[:2][::-1] if func is aten.copy_.default else (args[0], kwargs.get("device"))
            target = getattr(target, "device", target) or source.device
            later = kwargs.get("non_blocking", False) or (func is aten.copy_.default and args[2:] == (True,))
            if not later and (source.device == DEVICE) != (torch.device(target) == DEVICE):
                self._wait(f"to copy from {source.device} to {target}")
        return _run(func, args, kwargs)

    def _wait(self, what):
        self.waits += 1
        if not self.may_wait:
            raise Waited(f"the host waits {what}")


def _run(func, args, kwargs):
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    here = any(isinstance(t, OnDevice) for t in tensors)
    target = kwargs.get("device")
    to_device = here if target is None else torch.device(target) == DEVICE
    if not here and not to_device:
        return func(*args, **kwargs)
    copies = func in COPIES
    if not copies and any(t.dim() > 0 and not isinstance(t, OnDevice) for t in tensors):
        raise RuntimeError(f"{func} got tensors on both sides")
    inner_args, inner_kwargs = pytree.tree_map_only(OnDevice, lambda t: t.inner, (args, kwargs))
    if target is not None:
        inner_kwargs["device"] = "cpu"
    result = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if not to_device:
        return result
    wrapped = pytree.tree_map_only(torch.Tensor, OnDevice, result)
    return wrapped if copies else return_and_correct_aliasing(func, args, kwargs, wrapped)


def to_device(module):
    """Move the parameters and buffers of a module to the accelerator, in place."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = torch.nn.Parameter(OnDevice(p.detach()))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnDevice(buffer)
    return module


def on_host(tensor):
    """Return the numbers of a tensor of the accelerator."""
    return tensor.detach().inner


class _RandomNumbers:
    """The device's operations run on the CPU, and draw from the CPU's random numbers."""

    get_rng_state = staticmethod(lambda device: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device: torch.set_rng_state(state))


class _Generator(torch.Generator):
    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


def introduce(monkeypatch):
    """Tell torch for the time of a test that the device has random numbers and fused optimizers."""
    monkeypatch.setattr(torch, DEVICE.type, _RandomNumbers, raising=False)
    monkeypatch.setattr(torch, "Generator", _Generator)
    optimizers = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["cpu", DEVICE.type])

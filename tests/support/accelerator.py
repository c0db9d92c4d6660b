"""A pretended GPU, for machines without one: it computes on the CPU, with the rules of CUDA.

Its tensors say that their device is `cuda:0`, so that the code under test takes its way for GPUs. Within
`Accelerator()` the host fails where it would have to wait for a real one: when it reads a number, and when it copies to
or from the device without `non_blocking`. Tensors of the two sides do not mix, except for single numbers of the host,
and under `torch.use_deterministic_algorithms` what has no deterministic algorithm on CUDA raises; see `cuda_rules`.

To torch's own code, which cannot be made to believe in a GPU that it was not built for, the device is "meta". So
nothing is compiled, and autocast leaves all in the precision that it has.
"""

from contextlib import contextmanager
from functools import cache, wraps

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from tests.support.cuda_rules import mixes, reads, refuse

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}


class Waited(AssertionError):
    """The host would have had to wait for the device."""


def is_device(device):
    return device is not None and torch.device(device).type in ("cuda", "meta")


class OnDevice(torch.Tensor):
    """A tensor of the accelerator; the numbers are in `inner`."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",
        )

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"OnDevice({self.inner})"

    def to(self, *args, copy=False, **kwargs):
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        kwargs = {} if memory_format is None else {"memory_format": memory_format}
        if not is_device(device):
            return super().to(device, dtype, non_blocking, copy, **kwargs)
        return super().to(dtype or self.dtype, non_blocking, copy, **kwargs)

    def cuda(self, *args, **kwargs):
        return self

    def tolist(self):
        return self.cpu().tolist()

    def __getitem__(self, index):
        return super().__getitem__(_with_tensors(index))

    def __setitem__(self, index, value):
        """Assign as on CUDA, where a number is first put into the memory of the host."""
        index = _with_tensors(index)
        if isinstance(value, (bool, int, float)):
            value = torch.tensor(value, dtype=self.dtype)
            parts = index if isinstance(index, tuple) else (index,)
            if not any(isinstance(part, torch.Tensor) for part in parts):
                target = self[index]
                _ = target.fill_(value) if target.dim() else target.copy_(value)
                return
        super().__setitem__(index, value)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _with_tensors(index):
    """Make the lists in an index what they are on CUDA: tensors of the host."""
    if isinstance(index, tuple):
        return tuple(map(_with_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


class _AsMeta(TorchFunctionMode):
    """Names the device to torch's own code as it can take it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if is_device(kwargs.get("device")):
            if func is torch.as_tensor:
                return func(*args, **{**kwargs, "device": None}).to("meta")
            if func is torch.tensor:  # would make a tensor of the true meta device, without numbers
                moved = func(*args, **{**kwargs, "device": None, "requires_grad": False}).to("meta")
                return moved.requires_grad_(kwargs.get("requires_grad", False))
            kwargs = {**kwargs, "device": "meta"}
        if func is torch.Tensor.cuda:
            return args[0].to("meta", **kwargs)
        if (
            func is torch.Tensor.to
            and len(args) > 1
            and isinstance(args[1], (str, torch.device))
            and is_device(args[1])
        ):
            args = (args[0], "meta", *args[2:])
        return func(*args, **kwargs)


class Accelerator(TorchDispatchMode):
    """Fails where the host would wait for the device, unless it `may_wait`; counts how often it does."""

    def __init__(self, may_wait=False):
        super().__init__()
        self.may_wait, self.waits = may_wait, 0

    def __enter__(self):
        self._as_meta = _AsMeta()
        self._as_meta.__enter__()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self._as_meta.__exit__(*exception)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(isinstance(a, OnDevice) for a in args) and reads(func, args, kwargs):
            self._wait(f"to read a number: {func}")
        if func in COPIES and isinstance(args[0], torch.Tensor):  # and not a number, as vmap has it
            source, target = (
                (args[1], args[0].device) if func is aten.copy_.default else (args[0], kwargs.get("device"))
            )
            later = kwargs.get("non_blocking", False) or (func is aten.copy_.default and args[2:] == (True,))
            if not later and target is not None and is_device(source.device) != is_device(target):
                self._wait(f"to copy from {source.device} to {target}")
        return _run(func, args, kwargs)

    def _wait(self, what):
        self.waits += 1
        if not self.may_wait:
            raise Waited(f"the host waits {what}")


def _run(func, args, kwargs):
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    here = any(isinstance(t, OnDevice) for t in tensors)
    target = kwargs.get("device")
    to_device = here if target is None else is_device(target)
    if "pin_memory" in kwargs:
        kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    if not here and not to_device:
        return func(*args, **kwargs)
    if any(t.device.type == "meta" for t in tensors if not isinstance(t, OnDevice)):
        raise RuntimeError(f"{func} got a tensor without numbers, which torch has made past the pretended device")
    copies = func in COPIES
    if here and not copies and mixes(func, args, [(t, isinstance(t, OnDevice)) for t in tensors]):
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} got tensors on both sides")
    if here:
        refuse(func, args, kwargs)
    inner = {name: _inner(value) for name, value in kwargs.items()}
    result = func(*_inner(args), **(inner if target is None else {**inner, "device": "cpu"}))
    if func is aten.copy_.default:
        return args[0]
    if not to_device:
        return result
    wrapped = _wrapped(result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if not copies and _aliases(func) else wrapped


# torch's own walks through nested arguments take several times as long as all else.
def _tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _inner(value):
    if isinstance(value, OnDevice):
        return value.inner
    return type(value)(map(_inner, value)) if type(value) in {list, tuple} else value


def _wrapped(value):
    if isinstance(value, torch.Tensor):
        return OnDevice(value)
    return type(value)(map(_wrapped, value)) if type(value) in {list, tuple} else value


@cache
def _aliases(func):
    return any(spec.alias_info is not None for spec in (*func._schema.arguments, *func._schema.returns))


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


class _Generator(torch.Generator):
    """The device's operations run on the CPU, and draw from the CPU's random numbers."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


def introduce(monkeypatch):
    """Tell torch for the time of a test that there is a GPU, on which nothing is compiled."""
    for name, value in {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "a pretended GPU",
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device="cuda": torch.get_rng_state(),
        "set_rng_state": lambda state, device="cuda": torch.set_rng_state(state),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "Generator", _Generator)
    # Otherwise a module that changes its precision would set `.data`, past the numbers.
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)


@contextmanager
def deterministic(workspace=":4096:8"):
    """Ask torch for deterministic algorithms, with a workspace of cuBLAS; None leaves that to others."""
    before = torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        if workspace is not None:
            patch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def within(mode, call):
    """Return the function, run within a mode: one belongs to a thread, and another may call.

    Args:
        mode: Makes the mode.
        call: Takes the task first, as `samirage.lab.engine.compute.compute` does, and has it done in a thread of its
            own.
    """

    @wraps(call)
    def run(task, **options):
        def done():
            with mode():
                return task()

        return call(done, **options)

    return run

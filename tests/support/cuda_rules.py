"""What CUDA refuses, and for what the host waits there, as rules about the operations that reach torch's dispatcher.

The refusals are those of the documentation of `torch.use_deterministic_algorithms`, with the names of torch's messages.
Left out: quantized tensors, and `max_pool3d`, whose backward pass has a deterministic algorithm in newer versions.
"""

import os
from functools import cache

import torch

aten = torch.ops.aten


def always(args, kwargs):
    return True


def argument(place, name, default=None):
    return lambda args, kwargs: args[place] if len(args) > place else kwargs.get(name, default)


def is_floating(args, kwargs):
    dtype = kwargs.get("dtype") or args[0].dtype
    return dtype.is_floating_point or dtype.is_complex


def has_weights(args, kwargs):
    return argument(1, "weights")(args, kwargs) is not None


def reduces_by_product(args, kwargs):
    return argument(4, "reduce")(args, kwargs) == "prod"


def takes_the_maximum(args, kwargs):
    return argument(8, "mode", 0)(args, kwargs) == 2


# Name of the operation: (its name in torch's message, when).
_NO_DETERMINISTIC = {
    "median.dim": ("median CUDA with indices output", always),
    "nanmedian.dim": ("median CUDA with indices output", always),
    "kthvalue": ("kthvalue CUDA", always),
    "cumsum": ("cumsum_cuda_kernel", is_floating),
    "cumsum_": ("cumsum_cuda_kernel", is_floating),
    "put": ("put_", always),
    "put_": ("put_", always),
    "histc": ("_histc_cuda", is_floating),
    "bincount": ("_bincount_cuda", has_weights),
    "scatter_reduce.two": ("scatter_reduce_cuda_prod_", reduces_by_product),
    "scatter_reduce_.two": ("scatter_reduce_cuda_prod_", reduces_by_product),
    "index_reduce": ("index_reduce_cuda", always),
    "index_reduce_": ("index_reduce_cuda", always),
    "nll_loss2d_forward": ("nll_loss2d_forward_out_cuda_template", always),
    "nll_loss2d_backward": ("nll_loss2d_backward_out_cuda_template", always),
    "avg_pool3d_backward": ("avg_pool3d_backward_cuda", always),
    "_adaptive_avg_pool2d_backward": ("adaptive_avg_pool2d_backward_cuda", always),
    "_adaptive_avg_pool3d_backward": ("adaptive_avg_pool3d_backward_cuda", always),
    "adaptive_max_pool2d_backward": ("adaptive_max_pool2d_backward_cuda", always),
    "adaptive_max_pool3d_backward": ("adaptive_max_pool3d_backward_cuda", always),
    "fractional_max_pool2d_backward": ("fractional_max_pool2d_backward_cuda", always),
    "fractional_max_pool3d_backward": ("fractional_max_pool3d_backward_out_cuda", always),
    "max_unpool2d": ("max_unpooling2d_forward_out", always),
    "max_unpool3d": ("max_unpooling3d_forward_out", always),
    "upsample_linear1d_backward": ("upsample_linear1d_backward_out_cuda", always),
    "upsample_bilinear2d_backward": ("upsample_bilinear2d_backward_out_cuda", always),
    "_upsample_bilinear2d_aa_backward": ("upsample_gen2d_aa_backward_out_cuda", always),
    "upsample_bicubic2d_backward": ("upsample_bicubic2d_backward_out_cuda", always),
    "_upsample_bicubic2d_aa_backward": ("upsample_gen2d_aa_backward_out_cuda", always),
    "upsample_trilinear3d_backward": ("upsample_trilinear3d_backward_out_cuda", always),
    "reflection_pad1d_backward": ("reflection_pad1d_backward_out_cuda", always),
    "reflection_pad2d_backward": ("reflection_pad2d_backward_cuda", always),
    "reflection_pad3d_backward": ("reflection_pad3d_backward_cuda", always),
    "_ctc_loss_backward": ("ctc_loss_backward_gpu", always),
    "_embedding_bag_backward": ("embedding_bag_backward_cuda_max", takes_the_maximum),
    "grid_sampler_2d_backward": ("grid_sampler_2d_backward_cuda", always),
    "grid_sampler_3d_backward": ("grid_sampler_3d_backward_cuda", always),
}
# cuBLAS sums in an order that depends on its workspace.
_CUBLAS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv"}
_WORKSPACES = {":4096:8", ":16:8"}


@cache
def _name(func):
    return func._schema.name.partition("::")[2]


@cache
def _overload(func):
    return func._schema.overload_name.removesuffix("_out").removesuffix("_values")


def refuse(func, args, kwargs):
    """Raise what torch raises where CUDA has no algorithm for an operation, or no deterministic one and that is wanted.

    Raises:
        RuntimeError: As torch does.
    """
    base = _name(func)
    driver = argument(3, "driver")(args, kwargs) if base == "linalg_lstsq" else None
    if driver not in (None, "gels"):
        raise RuntimeError(f"torch.linalg.lstsq: parameter `driver` should be one of (gels), not {driver}")
    if not torch.are_deterministic_algorithms_enabled():
        return
    if base in _CUBLAS and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _WORKSPACES:
        raise RuntimeError(
            f"Deterministic behavior was enabled, but {base} uses CuBLAS and is not deterministic because "
            "CUBLAS_WORKSPACE_CONFIG is not :4096:8 or :16:8"
        )
    name, when = _NO_DETERMINISTIC.get(f"{base}.{_overload(func)}") or _NO_DETERMINISTIC.get(base) or (None, always)
    if name is not None and when(args, kwargs):
        raise RuntimeError(
            f"{name} does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'"
        )


_READS = {
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "unique_dim_consecutive",
    "bincount",
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_svd",
    "linalg_lstsq",
}


def reads(func, args, kwargs):
    """Tell whether the host waits for a number, or for how many there are, in an operation on the device."""
    base = _name(func)
    if base in _READS:
        return True
    if base == "repeat_interleave":
        return func._schema.overload_name == "Tensor" and kwargs.get("output_size") is None
    if base not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    on_host = any(i is not None and i.device.type == "cpu" for i in args[1])
    masks = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    filled = base != "index" and args[2].device.type == "cpu" and args[2].numel() == 1  # becomes masked_fill
    return on_host or (masks and not filled)


# Operations in which even single numbers of the host do not mix with tensors of the device.
_STRICT = {"cat", "stack", "gather", "scatter", "scatter_", "index_select", "index_copy_", "index_add_", "mm", "mv"}


def mixes(func, args, sides):
    """Tell whether an operation mixes tensors of host and device as CUDA does not allow it.

    Args:
        func: The operation.
        args: Its arguments.
        sides: All tensors among them, each with whether it is on the device.
    """
    if all(on_device for _, on_device in sides):
        return False
    base = _name(func)
    if base in ("index", "index_put", "index_put_", "_index_put_impl_"):  # indices may lie on the host
        at = [args[0], *args[2:3]] if base != "index" else [args[0]]
        others = {id(i) for i in args[1] if i is not None}
        return any(not on and id(t) not in others and t.dim() > 0 for t, on in sides) or not any(
            on for t, on in sides if t is at[0]
        )
    if base in _STRICT or any(t.dim() > 0 and not on for t, on in sides):
        return True
    written = [a for a, spec in zip(args, func._schema.arguments, strict=False) if spec.is_write]
    return any(t is target and not on for target in written for t, on in sides)

"""One network trained by a group of processes: data parallelism (DDP, FSDP2) with the batch of a single process.

Every process holds all images, draws the same random numbers, and computes its part of each batch. Batch normalisation
sees the whole batch, so that the training is that of one process, up to rounding.
"""

import os
from abc import ABC, abstractmethod
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from samirage.lab.tasks.resnet import Block

Parallel = Literal["ddp", "fsdp"]
PARALLEL: Final[tuple[Parallel, ...]] = ("ddp", "fsdp")


class AbstractProcessGroup(ABC):
    """The processes that train a network together.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int
    size: int

    @abstractmethod
    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the module that all processes call in training: its gradients are those of the whole batch.

        Args:
            network: The network, the same on every process.
            device: Its device.
        """

    @abstractmethod
    def local_part(self, batch: Tensor) -> Tensor:
        """Return the part of a batch that this process computes.

        Args:
            batch: The whole batch; its length is a multiple of `size`.
        """

    @abstractmethod
    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over the processes; every process must call it.

        Args:
            values: The addend of this process, of the same shape on all.
        """


class SingleProcess(AbstractProcessGroup):
    """One process, without `torch.distributed`.

    Example:
        >>> SingleProcess().local_part(torch.arange(4)).tolist()
        [0, 1, 2, 3]
    """

    rank, size = 0, 1

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network itself, in channels-last memory format; see `AbstractProcessGroup`."""
        return _channels_last(network)

    def local_part(self, batch: Tensor) -> Tensor:
        """Return the whole batch; see `AbstractProcessGroup`."""
        return batch

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the values; see `AbstractProcessGroup`."""
        return values


class DistributedProcessGroup(AbstractProcessGroup):
    """The processes that `torchrun` has started, after `torch.distributed.init_process_group`.

    Args:
        parallel: `"ddp"`: each holds the whole network (DistributedDataParallel); `"fsdp"`: each holds a shard of every
            parameter (FSDP2's `fully_shard`).
    """

    def __init__(self, parallel: Parallel) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._parallel = parallel

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Wrap the network, with batch normalisation over all ranks; see `AbstractProcessGroup`."""
        if device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        else:
            convert_joint_batch_norm(network)
        if self._parallel == "ddp":
            return DistributedDataParallel(_channels_last(network))
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard  # slow to import, and of use to few

        mesh = init_device_mesh(device.type, (self.size,))
        for block in [module for module in network.modules() if isinstance(module, Block)]:
            fully_shard(block, mesh=mesh)  # so that a rank holds one whole block at a time
        return cast(nn.Module, fully_shard(network, mesh=mesh))

    def local_part(self, batch: Tensor) -> Tensor:
        """Return the part of this rank; see `AbstractProcessGroup`."""
        return batch.tensor_split(self.size)[self.rank]

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over the ranks; see `AbstractProcessGroup`."""
        total = values.clone()
        distributed.all_reduce(total)
        return total


def _channels_last(network: nn.Module) -> nn.Module:
    converted: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return converted


def is_launched_by_torchrun() -> bool:
    """Return whether the environment is that of a process that `torchrun` has started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all ranks, which are of the same length, for CPUs.

    `y = (x − m) / sqrt(v + eps) · weight + bias` with mean `m` and variance `v` of a channel over the images of all
    ranks. `torch.nn.SyncBatchNorm` does the same on CUDA, and does not support CPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images of shape (n, channels, h, w)."""
        if not self.training:
            return super().forward(x)
        count = distributed.get_world_size() * x.numel() // x.shape[1]
        mean = _sum_over_ranks(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _sum_over_ranks(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class _Sum(torch.autograd.Function):
    """The sum over the ranks. A rank's part enters the sum on every rank, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        distributed.all_reduce(total)
        return total


def _sum_over_ranks(part: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(part))  # type: ignore[no-untyped-call]


def convert_joint_batch_norm(network: nn.Module) -> None:
    """Convert every `BatchNorm2d` of a network to `JointBatchNorm2d`, in place.

    Args:
        network: The network.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = JointBatchNorm2d  # the same weights and statistics, another forward pass

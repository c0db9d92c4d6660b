"""One network trained by several processes: what they share, and how the network is spread over them.

Every process holds all images, draws the same random numbers, and takes its own share of each batch. Batch
normalisation sees the whole batch, so that the training is that of one process, up to rounding.
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


class AbstractCrew(ABC):
    """The processes that train a network together.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
    """

    rank: int
    size: int

    @abstractmethod
    def spread(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network as it is to be called in training, by all processes together.

        Args:
            network: The same on every process.
            device: Where it is.
        """

    @abstractmethod
    def share(self, batch: Tensor) -> Tensor:
        """Return the part of a batch that this process computes.

        Args:
            batch: The whole batch; its length is a multiple of `size`.
        """

    @abstractmethod
    def total(self, values: Tensor) -> Tensor:
        """Return the sum of what the processes have; all of them must call it.

        Args:
            values: What this one has, of the same shape everywhere.
        """


class Alone(AbstractCrew):
    """One process.

    Example:
        >>> Alone().share(torch.arange(4)).tolist()
        [0, 1, 2, 3]
    """

    rank, size = 0, 1

    def spread(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network itself, with its weights laid out for images; see `AbstractCrew`."""
        return _laid_out(network)

    def share(self, batch: Tensor) -> Tensor:
        """Return the whole batch; see `AbstractCrew`."""
        return batch

    def total(self, values: Tensor) -> Tensor:
        """Return the values; see `AbstractCrew`."""
        return values


class Ranks(AbstractCrew):
    """The processes that `torchrun` has started, after `torch.distributed.init_process_group`.

    Args:
        parallel: `"ddp"`: each holds the whole network (DistributedDataParallel); `"fsdp"`: each holds a part of every
            parameter (FSDP2's `fully_shard`).
    """

    def __init__(self, parallel: Parallel) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._parallel = parallel

    def spread(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Let batch normalisation see the batch of all, and spread the network; see `AbstractCrew`."""
        if device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        else:
            join_batch_norms(network)
        if self._parallel == "ddp":
            return DistributedDataParallel(_laid_out(network))
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard  # slow to import, and of use to few

        mesh = init_device_mesh(device.type, (self.size,))
        for block in [module for module in network.modules() if isinstance(module, Block)]:
            fully_shard(block, mesh=mesh)  # so that a rank holds one whole block at a time
        return cast(nn.Module, fully_shard(network, mesh=mesh))

    def share(self, batch: Tensor) -> Tensor:
        """Return the part of this rank; see `AbstractCrew`."""
        return batch.tensor_split(self.size)[self.rank]

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks; see `AbstractCrew`."""
        total = values.clone()
        distributed.all_reduce(total)
        return total


def _laid_out(network: nn.Module) -> nn.Module:
    """Return the network with the weights of its convolutions laid out like its images, channels last."""
    laid_out: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def launched() -> bool:
    """Tell whether `torchrun` has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all ranks, which are of the same length, for devices without their own.

    `y = (x − m) / sqrt(v + eps) · weight + bias` with mean `m` and variance `v` of a channel over the images of all
    ranks. On CUDA there is `torch.nn.SyncBatchNorm` for this; it does not work on a CPU.
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
    """The sum over the ranks. Each rank's part is in the sum of each rank, whose gradients therefore add up."""

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


def join_batch_norms(network: nn.Module) -> None:
    """Make every batch normalisation of a network, in place, one over the batches of all ranks.

    Args:
        network: The network.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = JointBatchNorm2d  # the same weights and statistics, another forward pass

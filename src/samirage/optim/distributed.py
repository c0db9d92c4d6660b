"""Parameters that are spread over ranks: FSDP2's shards, and DistributedDataParallel's synchronisation.

A sharded parameter is a DTensor. Everything entrywise is done on the part that this rank holds; sums over all entries
need a small all-reduce. (Fully replicated parameters need none: their gradients are the same everywhere.)
"""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samirage.sam.reductions import SINGLE, Reductions, dot, norm


def _is_sharded(tensor: Tensor) -> bool:
    if type(tensor) is Tensor or type(tensor) is nn.Parameter:
        return False
    module = sys.modules.get("torch.distributed.tensor")  # not imported: there is no DTensor either
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return the part of the tensor that this rank holds, in the same storage."""
    if not _is_sharded(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def real(tensor: Tensor) -> Tensor:
    """View a complex tensor as pairs of real numbers, as torch's own optimizers do; of a shard, this rank's part."""
    tensor = local(tensor)
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def placement(param: Tensor) -> tuple[Any, float]:
    """Tell which ranks hold a parameter.

    Args:
        param: The parameter.

    Returns:
        The mesh of ranks over which it is sharded, None if it is not; and how many ranks hold each of its entries.
    """
    if not _is_sharded(param):
        return None, 1.0
    mesh, placements = param.device_mesh, param.placements  # type: ignore[attr-defined]
    return mesh, math.prod(mesh.size(i) for i, placement in enumerate(placements) if placement.is_replicate())


def reductions_of(params: Sequence[Tensor]) -> Reductions:
    """Return the sums over all entries of a list of parameters, whichever ranks hold them."""
    placements = [placement(p) for p in params]
    return Sharded(placements) if any(mesh is not None for mesh, _ in placements) else SINGLE


class Sharded(Reductions):
    """Norms and inner products over lists of this rank's parts; the results are the same on all ranks.

    Args:
        placements: What `placement` says of each parameter.
    """

    def __init__(self, placements: Iterable[tuple[Any, float]]) -> None:
        self._placements = list(placements)

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the norm over all entries on all ranks, shape ()."""
        return self.together([tensors])[0]

    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Return the inner product over all entries on all ranks, shape ()."""
        return self.together([], [(a, b)])[0]

    def together(
        self, norms: Sequence[Sequence[Tensor]], dots: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]] = ()
    ) -> list[Tensor]:
        """Return norms and inner products over all entries on all ranks; see `Reductions.together`."""
        per_mesh: dict[Any, list[Tensor]] = {}
        for i, (mesh, copies) in enumerate(self._placements):
            terms = [norm([tensors[i]]).square() for tensors in norms] + [dot([a[i]], [b[i]]) for a, b in dots]
            per_mesh.setdefault(mesh, []).append(torch.stack(terms) / copies)
        totals = []
        for mesh, parts in per_mesh.items():
            total = torch.stack([part.to(parts[0].device) for part in parts]).sum(0)
            for dim in range(0 if mesh is None else mesh.ndim):
                torch.distributed.all_reduce(total, group=mesh.get_group(dim))
            totals.append(total)
        sums = torch.stack([total.to(totals[0].device) for total in totals]).sum(0)
        return [*sums[: len(norms)].sqrt(), *sums[len(norms) :]]


class Resharding:
    """Lets FSDP2 gather the weights anew after they have moved, should it have kept them gathered.

    Args:
        parts: The modules to which `fully_shard` was applied.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts

    def after_move(self) -> None:
        """Drop what was gathered."""
        for part in self._parts:
            part.reshard()


def resharding_of(model: nn.Module | None) -> Resharding | None:
    """Return what a model needs after its weights have moved; None without FSDP2."""
    module = sys.modules.get("torch.distributed.fsdp")
    if model is None or module is None:
        return None
    parts = [part for part in model.modules() if isinstance(part, module.FSDPModule)]
    return Resharding(parts) if parts else None


class LocalPass:
    """Keeps pass 1 of each rank to itself: no gradient is synchronised before pass 2.

    Args:
        model: The DistributedDataParallel model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        self._off = False

    def begin(self, two_pass: bool) -> None:
        """Switch synchronisation off before a forward pass at `x`, unless the step has no other."""
        if two_pass:
            self._model.require_backward_grad_sync = False  # what DistributedDataParallel.no_sync() does
            self._off = True
        else:
            self.end()

    def end(self) -> None:
        """Switch synchronisation on again."""
        if self._off:
            self._model.require_backward_grad_sync = True
            self._off = False

    def everywhere(self, finite: Tensor) -> Tensor:
        """Tell whether something holds on all ranks, so that all of them skip the step together.

        Args:
            finite: Whether it holds here, shape ().

        Returns:
            Whether it holds everywhere, shape ().
        """
        flag = finite.float()
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN, group=self._model.process_group)
        return flag > 0

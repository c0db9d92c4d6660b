"""Parameters that are spread over ranks: FSDP2's shards, and DistributedDataParallel's synchronisation.

A sharded parameter is a DTensor. Everything entrywise is done on the part that this rank holds; sums over all entries
need one small all-reduce. (Fully replicated parameters need none: their gradients are the same everywhere.)
"""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samirage.sam import dot, norm


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


def home(param: Tensor) -> tuple[Any, float]:
    """Tell where a parameter lives.

    Args:
        param: The parameter.

    Returns:
        The mesh of ranks over which it is sharded, None if it is not; and how many ranks hold each of its entries.
    """
    if not _is_sharded(param):
        return None, 1.0
    mesh, placements = param.device_mesh, param.placements  # type: ignore[attr-defined]
    return mesh, math.prod(mesh.size(i) for i, placement in enumerate(placements) if placement.is_replicate())


class Sums:
    """Inner products over all entries of a list of parameters, whichever ranks hold them.

    Args:
        params: The parameters.
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        self._homes = [home(p) for p in params]
        self.spread = any(mesh is not None for mesh, _ in self._homes)

    def __call__(self, *pairs: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Tensor:
        """Return the inner product of each pair of lists.

        Args:
            pairs: Two lists each, of this rank's parts, one tensor per parameter; the same list twice for a square.

        Returns:
            Shape (len(pairs),), the same on all ranks.
        """
        per_mesh: dict[Any, list[Tensor]] = {}
        for i, (mesh, copies) in enumerate(self._homes):
            terms = [norm([a[i]]).square() if a[i] is b[i] else dot([a[i]], [b[i]]) for a, b in pairs]
            per_mesh.setdefault(mesh, []).append(torch.stack(terms) / copies)
        totals = []
        for mesh, terms in per_mesh.items():
            total = torch.stack([term.to(terms[0].device) for term in terms]).sum(0)
            for dim in range(0 if mesh is None else mesh.ndim):
                torch.distributed.all_reduce(total, group=mesh.get_group(dim))
            totals.append(total)
        return torch.stack([total.to(totals[0].device) for total in totals]).sum(0)


def reshard(model: nn.Module | None) -> None:
    """Let FSDP2 gather the weights anew, should it have kept them gathered: they have moved."""
    module = sys.modules.get("torch.distributed.fsdp")
    if model is not None and module is not None:
        for part in model.modules():
            if isinstance(part, module.FSDPModule):
                part.reshard()


class LocalPass:
    """Keeps pass 1 of each rank to itself: no gradient is synchronised before pass 2.

    Args:
        model: The DistributedDataParallel model, or None for a pass that is synchronised.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model: Any = model
        self._off = False

    def begin(self, two_pass: bool) -> None:
        """Switch synchronisation off before a forward pass at `x`, unless the step has no other."""
        if self._model is not None and two_pass:
            self._model.require_backward_grad_sync = False  # what DistributedDataParallel.no_sync() does
            self._off = True
        else:
            self.end()

    def end(self) -> None:
        """Switch synchronisation on again."""
        if self._model is not None and self._off:
            self._model.require_backward_grad_sync = True
            self._off = False

    def everywhere(self, finite: Tensor) -> Tensor:
        """Tell whether something holds on all ranks, so that all of them skip the step together.

        Args:
            finite: Whether it holds here, shape ().

        Returns:
            Whether it holds everywhere, shape ().
        """
        if self._model is None:
            return finite
        flag = finite.float()
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN, group=self._model.process_group)
        return flag > 0

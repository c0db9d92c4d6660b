"""Inner products over parameters that are spread over ranks (FSDP2's shards)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from samirage.optim.distributed import placement
from samirage.sam import MotionProducts


class Ranks:
    """How the inner products of each rank's part become those of the whole.

    Args:
        params: The parameters.

    Attributes:
        spread: Whether any parameter is sharded.
        shares: By how much each parameter's products count on this rank, so that those of all ranks add up.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        placements = [placement(p) for p in params]
        meshes = [mesh for mesh, _ in placements if mesh is not None]
        self.spread = bool(meshes)
        self._mesh: Any = meshes[0] if meshes else None
        # Products over several meshes would have to be kept apart.
        self._one_mesh = all(mesh == self._mesh for mesh in meshes)
        whole = 1.0 / meshes[0].size() if meshes else 1.0
        self.shares = [whole if mesh is None else 1.0 / copies for mesh, copies in placements]

    def joined(self, products: MotionProducts) -> MotionProducts:
        """Return the products summed over the ranks.

        Args:
            products: Those of this rank's part.
        """
        if not self.spread:
            return products
        if not self._one_mesh:
            return replace(products, steps=products.steps * torch.nan, sums=products.sums * torch.nan)
        both = torch.cat([products.steps.reshape(-1), products.sums.reshape(-1)])
        for dim in range(self._mesh.ndim):
            torch.distributed.all_reduce(both, group=self._mesh.get_group(dim))
        steps, sums = both.tensor_split([products.steps.numel()])
        return replace(products, steps=steps.view_as(products.steps), sums=sums.view_as(products.sums))

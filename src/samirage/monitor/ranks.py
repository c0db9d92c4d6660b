"""Inner products over parameters that are sharded over ranks (FSDP2)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from samirage.optim.distributed import placement
from samirage.sam import MotionProducts


class ShardedProducts:
    """Sums the inner products of the local shards over the ranks, which gives those of the whole parameters.

    Args:
        params: The parameters.

    Attributes:
        sharded: Whether any parameter is sharded.
        weights: Weight of each parameter's products on this rank: 1 over the number of ranks that hold the same values.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        placements = [placement(p) for p in params]
        meshes = [mesh for mesh, _ in placements if mesh is not None]
        self.sharded = bool(meshes)
        self._mesh: Any = meshes[0] if meshes else None
        # Parameters on several meshes would need one sum per mesh, which is unsupported.
        self._one_mesh = all(mesh == self._mesh for mesh in meshes)
        whole = 1.0 / meshes[0].size() if meshes else 1.0
        self.weights = [whole if mesh is None else 1.0 / copies for mesh, copies in placements]

    def reduced(self, products: MotionProducts) -> MotionProducts:
        """Return the products summed over the ranks (an all-reduce); NaN where the parameters are on several meshes.

        Args:
            products: Of the local shards.
        """
        if not self.sharded:
            return products
        if not self._one_mesh:
            return replace(products, steps=products.steps * torch.nan, sums=products.sums * torch.nan)
        both = torch.cat([products.steps.reshape(-1), products.sums.reshape(-1)])
        for dim in range(self._mesh.ndim):
            torch.distributed.all_reduce(both, group=self._mesh.get_group(dim))
        steps, sums = both.tensor_split([products.steps.numel()])
        return replace(products, steps=steps.view_as(products.steps), sums=sums.view_as(products.sums))

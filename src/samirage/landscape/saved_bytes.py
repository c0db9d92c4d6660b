"""How much memory the graph of a gradient holds on to."""

import torch
from torch import Tensor


class SavedBytes:
    """Counts the memory that autograd keeps for backward passes, each storage once.

    Attributes:
        total: Bytes kept so far.
    """

    def __init__(self) -> None:
        self.total = 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor.detach()  # an output that was returned itself would hold its own graph, for ever

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

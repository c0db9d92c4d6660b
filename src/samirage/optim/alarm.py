"""The warning that rounding to half precision hides the perturbation."""

import warnings
from typing import Final

import torch
from torch import Tensor

from samirage.optim.late import LateNumbers

_MIN_ALIGNMENT: Final = 0.5  # below it, rounding contributes more to the displacement than the gradient does


class RoundingAlarm:
    """Warns, once for an optimizer, that rounding hides the perturbation; it never waits for a device."""

    def __init__(self) -> None:
        self._warned = False
        self._numbers: LateNumbers | None = None

    def look(self, step: int, radius: Tensor, alignment: Tensor) -> None:
        """Look at a step whose displacement was rounded: at steps 0, 1, 3, 7, … only.

        What an accelerator has computed there arrives during the steps after it.

        Args:
            step: Number of the step.
            radius: Length of the displacement.
            alignment: Cosine between the displacement as realised and as intended.
        """
        if self._warned:
            return
        if step & (step + 1) == 0 or self._numbers is None:
            self._numbers = LateNumbers(torch.stack([radius.to(alignment), alignment]))
        length, cosine = self._numbers.read()
        if cosine < _MIN_ALIGNMENT:
            self._warned = True
            warnings.warn(
                f"rounding the weights to half precision hides the perturbation: its length is {length:.3g}, "
                f"and its cosine with the intended direction {cosine:.2f}; use a larger rho, or weights in "
                "float32 with torch.autocast",
                stacklevel=5,
            )

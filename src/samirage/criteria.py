"""What "at a hallucinated point" means, in numbers: one home for the library, the laboratory and the page. No torch."""

from typing import Final

HALLUCINATED_SHIFT_RATIO: Final = 0.1
"""Shift ratio `‖g⁺‖/‖g‖` below which the shifted gradient vanishes: SAM is then at a hallucinated point, if the
gradient does not vanish too. A round number between stalled and healthy runs; see the figure of the shift ratio in
study `mnist`."""

HALLUCINATED_GRAD_FRACTION: Final = 1e-3
"""Share of the gradient norm early in a run that the gradient norm must exceed for the gradient not to vanish."""

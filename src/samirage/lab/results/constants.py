"""The numbers that decide what a result is called: thresholds, windows and reference values, each once. Needs no torch.

Studies and the training tasks measure with these, and the page draws and prints the same ones. What a run was judged
by is stored with it; see `JUDGED_BY`.
"""

from collections.abc import Mapping
from typing import Final

from samirage.criteria import HALLUCINATED_GRAD_FRACTION, HALLUCINATED_SHIFT_RATIO

END_FRACTION: Final = 0.05
"""Share of the steps over whose medians the state at the end is taken, and the state early in the run."""

POLISHED_SHIFT_RATIO: Final = 1e-5
"""Largest shift ratio of a point that was polished (study `points`, and Figure 3 of arXiv 2509.21818)."""

CHANCE: Final = 0.1
"""Test accuracy of guessing one of ten digits."""

COLLAPSED_ACCURACY: Final = 0.2
"""Test accuracy below which a network has not learnt its ten digits: twice that of guessing."""

USUAL_RHO: Final = 0.5
"""Largest radius in the searches of the paper that introduced SAM (arXiv 2010.01412); about the largest in practice."""

SMALL_RHO: Final = 0.3
"""Largest radius that our own claims call small: those of studies `guard`, `evidence` and `prevalence`."""

SWITCH_FRACTION: Final = 0.1
"""Share of the steps that method `switch` takes plain, before SAM."""

MAX_SEED: Final = 2**32 - 1
"""Largest seed that is taken: the generators of NumPy and PyTorch take it, and those that follow it in a study."""

JUDGED_BY: Final[Mapping[str, float]] = {
    "end_fraction": END_FRACTION,
    "hallucinated_shift_ratio": HALLUCINATED_SHIFT_RATIO,
    "hallucinated_grad_fraction": HALLUCINATED_GRAD_FRACTION,
}
"""What every data set with a variable `hallucinated` says of it, as attributes of that variable."""

"""The few statistics that the tables and claims need: pure functions of numbers, NumPy only.

A seed that diverged has no finite value. It is counted (`missing`), never silently dropped.

The interval for shares is Wilson's (E. B. Wilson, "Probable inference, the law of succession, and statistical
inference", JASA 22, 1927): unlike the textbook interval it stays inside [0, 1] and has a width at 0 of n and n of n.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class MeanEstimate:
    """A mean with its standard error.

    Attributes:
        mean: Mean of the finite values; NaN when there are none.
        standard_error: Standard error of the mean, in the unit of the values; NaN for fewer than two finite values.
        n: Number of finite values.
        missing: Number of values that were NaN or infinite.
    """

    mean: float
    standard_error: float
    n: int
    missing: int


@dataclass(frozen=True)
class ShareEstimate:
    """A share `k/n` with its confidence interval.

    Attributes:
        k: How many.
        n: Out of how many.
        low: Lower end of the interval, in [0, 1].
        high: Upper end of the interval, in [0, 1].
    """

    k: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """`k/n`; NaN for n = 0."""
        return self.k / self.n if self.n else math.nan


def mean_estimate(values: ArrayLike) -> MeanEstimate:
    """Estimate a mean and its standard error `sqrt(sum((v - mean)²) / (n (n - 1)))`.

    Args:
        values: The values, any shape, any unit. NaN and infinities are left out of the mean and counted.

    Returns:
        The estimate.

    Example:
        >>> mean_estimate([0.0, 2.0, float("nan")])
        MeanEstimate(mean=1.0, standard_error=1.0, n=2, missing=1)
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    n = int(finite.size)
    mean = float(finite.mean()) if n else math.nan
    error = float(finite.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return MeanEstimate(mean, error, n, int(flat.size) - n)


def wilson_interval(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's confidence interval for a share: all `p` with `|k/n - p| <= z sqrt(p (1 - p) / n)`.

    Args:
        k: Number of successes, 0 … n.
        n: Number of trials, 0 or more. Nothing is known for n = 0: the interval is (0, 1).
        confidence: Probability that the interval covers the true share, strictly between 0 and 1.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If `k` is not between 0 and `n`, or `confidence` is not between 0 and 1.

    Example:
        >>> low, high = wilson_interval(16, 16)
        >>> round(low, 3), high
        (0.806, 1.0)
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be between 0 and n; got k={k}, n={n}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be strictly between 0 and 1; got {confidence}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    centre = (k + z * z / 2.0) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4.0)
    # The ends at 0 of n and n of n are exact; only rounding would move them.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def share_estimate(flags: ArrayLike, *, confidence: float = 0.95) -> ShareEstimate:
    """Estimate how large a share of the flags is true, with Wilson's interval.

    Args:
        flags: Booleans, any shape. A seed that diverged belongs in here, as False or True: the caller decides.
        confidence: Probability that the interval covers the true share, strictly between 0 and 1.

    Returns:
        The estimate.

    Example:
        >>> share_estimate([True, True, False, False]).share
        0.5
    """
    flat = np.asarray(flags, dtype=bool).ravel()
    k, n = int(flat.sum()), int(flat.size)
    return ShareEstimate(k, n, *wilson_interval(k, n, confidence=confidence))

"""Means, standard errors and Wilson intervals against closed-form values and brute force."""

import math

import numpy as np
import pytest

from samirage.lab.results.statistics import MeanEstimate, mean_estimate, share_estimate, wilson_interval


def test_mean_and_standard_error_by_hand() -> None:
    # 2, 4, 9: mean 5, squared deviations 9 + 1 + 16 = 26, variance 13, standard error sqrt(13/3).
    estimate = mean_estimate([2.0, 4.0, 9.0])
    assert estimate.mean == 5.0
    assert estimate.standard_error == pytest.approx(math.sqrt(13 / 3), rel=1e-15)
    assert (estimate.n, estimate.missing) == (3, 0)


def test_standard_error_is_the_spread_of_means_over_repeated_experiments() -> None:
    rng = np.random.default_rng(7)
    draws = rng.exponential(2.0, size=(4000, 25))
    spread = draws.mean(axis=1).std()
    typical = np.sqrt(np.mean([mean_estimate(row).standard_error ** 2 for row in draws]))
    # Both estimate 2/5; each has a relative error of about 1.1 % (1/sqrt(2·4000)), a heavy tail adds a little.
    assert typical == pytest.approx(spread, rel=0.05)
    assert typical == pytest.approx(0.4, rel=0.05)


@pytest.mark.parametrize(
    ("values", "n", "missing", "mean"),
    [([], 0, 0, math.nan), ([3.5], 1, 0, 3.5), ([math.nan], 0, 1, math.nan), ([math.inf, 2.0, math.nan], 1, 2, 2.0)],
)
def test_few_or_missing_values_are_defined_and_counted(values: list[float], n: int, missing: int, mean: float) -> None:
    estimate = mean_estimate(values)
    assert (estimate.n, estimate.missing) == (n, missing)
    assert estimate.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(estimate.standard_error)


def test_float32_values_are_averaged_in_double_precision() -> None:
    values = np.full(100_000, 0.1, dtype=np.float32)
    assert mean_estimate(values) == MeanEstimate(float(np.float32(0.1)), pytest.approx(0.0, abs=1e-12), 100_000, 0)


def brute_force_interval(k: int, n: int, z: float) -> tuple[float, float]:
    """All shares p on a fine grid that the score test does not reject."""
    p = np.linspace(0.0, 1.0, 2_000_001)
    kept = p[(k / n - p) ** 2 <= z * z * p * (1.0 - p) / n]
    return float(kept[0]), float(kept[-1])


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 16), (16, 16), (3, 16), (15, 16), (40, 80), (1, 80)])
def test_wilson_interval_is_what_the_score_test_accepts(k: int, n: int) -> None:
    low, high = wilson_interval(k, n)
    # 1.959964 is the tabulated normal quantile; the grid has a step of 5e-7.
    expected_low, expected_high = brute_force_interval(k, n, 1.959963984540054)
    assert low == pytest.approx(expected_low, abs=1e-6)
    assert high == pytest.approx(expected_high, abs=1e-6)
    assert 0.0 <= low <= k / n <= high <= 1.0


def test_wilson_interval_at_the_ends_by_hand() -> None:
    z2 = 1.959963984540054**2
    assert wilson_interval(0, 16) == (0.0, pytest.approx(z2 / (16 + z2), rel=1e-12))
    assert wilson_interval(16, 16) == (pytest.approx(16 / (16 + z2), rel=1e-12), 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = wilson_interval(5, 20, confidence=0.5), wilson_interval(5, 20, confidence=0.99)
    assert wide[0] < narrow[0] < 0.25 < narrow[1] < wide[1]


@pytest.mark.parametrize(("k", "n"), [(-1, 4), (5, 4), (0, -1)])
def test_impossible_counts_are_named(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got k={k}, n={n}"):
        wilson_interval(k, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1.5, math.nan])
def test_impossible_confidence_is_named(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be strictly between 0 and 1"):
        wilson_interval(1, 2, confidence=confidence)


def test_share_counts_flags() -> None:
    estimate = share_estimate(np.array([[True, False], [False, False]]))
    assert (estimate.k, estimate.n, estimate.share) == (1, 4, 0.25)
    assert (estimate.low, estimate.high) == wilson_interval(1, 4)
    assert math.isnan(share_estimate([]).share)

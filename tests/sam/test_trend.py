"""The significance of a trend: three standard errors of a fitted line, with two degrees of freedom fewer than parts."""

import numpy as np
import pytest
import torch
from scipy import stats

from samirage.sam import StepFigures, course_figures

N = 96
CENTRES = N / 9 * np.arange(1, 9)  # of eight half-overlapping parts


def part_means(loss):
    """Means under Hann windows, each as long as two ninths of the course."""
    at = np.arange(N) + 0.5
    means = []
    for centre in CENTRES:
        near = np.abs(at - centre) < N / 9
        weight = 0.5 + 0.5 * np.cos(np.pi * (at[near] - centre) / (N / 9))
        means.append(np.average(loss[near], weights=weight))
    return np.array(means)


def trend(loss):
    """The figure `loss_trend`, times the loss to which it is relative."""
    values, ones = torch.tensor(loss), torch.ones(N, dtype=torch.float64)
    steps = StepFigures(values, values, ones, ones, ones, torch.zeros_like(ones), ones, ones, ones)
    figures = course_figures(steps, early_loss=values[0], early_grad_norm=ones[0])
    return (figures.loss_trend * values.nanmedian().abs()).item()


@pytest.mark.parametrize("seed", range(6))
def test_a_trend_counts_from_three_standard_errors_on(seed):
    noise = np.random.default_rng(seed).normal(size=N)
    time = (np.arange(N) + 0.5) / N
    noise -= stats.linregress(CENTRES, part_means(noise)).slope * N * time  # so that the noise has no trend of its own
    error = stats.linregress(CENTRES, part_means(noise)).stderr * N  # per window; SciPy divides by n − 2
    for factor, counts in ((2.97, False), (3.03, True)):
        slope = factor * error
        found = trend(100 + noise + slope * time)
        assert (found != 0) is counts
        if counts:
            assert found == pytest.approx(slope, rel=1e-4)
        assert (trend(100 + noise - slope * time) < 0) is counts

"""The study `wells`: ends in the double well, against what a loop in NumPy does from the same starts."""

from dataclasses import replace

import numpy as np
import pytest

from samirage.errors import UserError
from samirage.lab.results.claims import Verdict
from samirage.lab.studies.wells import METHODS, SCALES, WellsStudy


@pytest.fixture(scope="module")
def study():
    return WellsStudy(replace(SCALES["smoke"], seeds=12, steps=400))


@pytest.fixture(scope="module")
def results(study):
    return {cell.name: study.run(cell, lambda passes: None) for cell in study.cells()}


def grad(x):
    return np.stack([x[:, 0] ** 3 - x[:, 0] + 0.15 * x[:, 1], 0.8 * x[:, 1] + 0.15 * x[:, 0]], 1)


@pytest.mark.parametrize(("method", "plain"), [("sam", 0), ("switch", 40)])
def test_the_ends_are_those_of_a_plain_loop(results, method, plain):
    x = results[method].path.values[0].astype(np.float64)  # the starts, rounded to float32
    for step in range(400):
        g = grad(x)
        if step >= plain:
            g = grad(x + 1.5 * g / np.linalg.norm(g, axis=1, keepdims=True))
        x = x - 0.05 * g
    np.testing.assert_allclose(results[method].end.values, x, atol=1e-5)


def test_sam_hallucinates_and_the_guard_does_not(study, results):
    assert list(results) == list(METHODS)
    hit = {method: int(cell.hallucinated.sum()) for method, cell in results.items()}
    assert hit["sam"] >= 9
    assert hit["switch"] == 12
    assert hit["guard"] == hit["guard+switch"] == 0
    at = results["switch"].end.values
    np.testing.assert_allclose(np.abs(at), np.tile([0.47093, 0.02220], (12, 1)), atol=1e-4)  # closed form in the theory
    assert {claim.verdict for claim in study.claims(results, "command")} == {Verdict.HOLDS}


def test_a_planted_failure_is_seen(study, results):
    swapped = results | {"guard": results["sam"]}
    claims = study.claims(swapped, "command")
    assert [claim.verdict for claim in claims].count(Verdict.FAILS) == 1


def test_the_study_can_be_made_by_name():
    assert WellsStudy.create("laptop", {"seeds": 3, "threads": 1}, None).seeds == [0, 1, 2]


def test_a_radius_of_ones_own_is_a_sentence():
    with pytest.raises(UserError, match="study wells has losses and radii of its own: leave out --rho"):
        WellsStudy.create("laptop", {"rhos": (3.0,)}, None)

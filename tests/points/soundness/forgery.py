"""Records that no prover wrote: of points that are no hallucinated ones, or that only a lie would make such."""

import random
from collections.abc import Iterator
from typing import Any

from tests.points.soundness.cases import Case
from tests.points.soundness.exact import exact, norm, vector
from tests.points.soundness.mutations import restate
from tests.points.soundness.search import Candidate
from tests.points.soundness.theorem import Attracts, Theorem, as_record


def forgeries(case: Case, f: Any, candidate: Candidate) -> Iterator[dict[str, Any]]:
    """Yield records of a point, one of each kind of theorem, with plausible numbers in them."""
    rng = random.Random(case.seed)
    x, truth = candidate.x, exact(case.name, case.arguments)
    try:
        size = float(norm(truth.grad(vector(x.tolist()))))
    except (TypeError, ValueError, ZeroDivisionError):  # the function is not defined there
        return
    if not 1e-6 < size < 1e6:
        return
    width = case.radius if case.radius is not None else rng.choice((1e-8, 1e-10, 1e-3))
    attracts = Attracts(0.05, 1e-9, 0.999, 10 * width) if rng.random() < 0.3 else None
    for reduction in ("none", "rotation", "least squares"):
        free = tuple(range(f.dim))
        family = reduction == "least squares"
        if family:
            if not hasattr(f, "residuals"):
                continue
            count = min(f.dim, len(f.residuals(x.unbind())))
            free = tuple(sorted(rng.sample(free, count)))
        theorem = Theorem(
            reduction,
            candidate.rho,
            tuple(x.tolist()),
            width,
            free,
            0.01 * size,  # little is claimed: what is false is that there is a zero, or a family
            None if family else 1e-6,
            None if family else attracts,
        )
        record = as_record(theorem, case.name, case.arguments)
        restate(record)
        yield record

"""Cases: a random function of one of the families, and what is asked of it."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.points.soundness.families import (
    built_in,
    bumps,
    compositions,
    networks,
    residual_networks,
    rings,
    scaled,
    squares,
    wells,
)
from tests.points.soundness.lies import false_networks, false_rings, false_squares, false_values, partial


@dataclass(frozen=True)
class Case:
    """A function with what is asked of it.

    Attributes:
        family: Which of the strategies made it.
        name: Name of the function, for `tests.points.soundness.functions.make`.
        arguments: Its arguments: plain data.
        rho: Perturbation radius.
        lr_part: Learning rate, as a part of the largest stable one; None: attraction is not asked for.
        radius: Half-width of the box; None: the prover chooses.
        bits: Precision of the prover's balls.
        seed: Of the search for points, and of the mutations.
        honest: Whether the function is what its attributes say.
    """

    family: str
    name: str
    arguments: dict[str, Any]
    rho: float
    lr_part: float | None
    radius: float | None
    bits: int
    seed: int
    honest: bool = True


@st.composite
def expressions(draw: Any) -> tuple[str, dict[str, Any]]:
    """The same as SymPy expressions."""
    _, arguments = draw(st.one_of(wells(), bumps(), rings(), false_rings()))
    return "soundness:sympy", arguments


FAMILIES: dict[str, tuple[Any, bool, int]] = {
    "wells": (wells(), True, 4),
    "bumps": (bumps(), True, 3),
    "rings": (rings(), True, 2),
    "least squares": (squares(), True, 3),
    "networks as least squares": (residual_networks(), True, 1),
    "networks": (networks(), True, 1),
    "compositions": (compositions(), True, 3),
    "built-in": (built_in(), True, 3),
    "expressions": (expressions(), True, 1),
    "scaled wells": (scaled(), True, 1),
    "defined in part": (partial(), True, 2),
    "false residuals": (false_squares(), False, 2),
    "nearly rotation-invariant": (false_rings(), False, 3),
    "values that are not the formula's": (false_values(), False, 1),
    "networks that misstate themselves": (false_networks(), False, 1),
}
"""The strategies, whether their functions are what they say, and how often each is drawn."""

_DRAWN = [name for name, (_, _, weight) in FAMILIES.items() for _ in range(weight)]


@st.composite
def cases(draw: Any, families: tuple[str, ...] = tuple(_DRAWN)) -> Case:
    """A function, and what is asked of it."""
    family = draw(st.sampled_from(families))
    strategy, honest, _ = FAMILIES[family]
    name, arguments = draw(strategy)
    radii = st.one_of(st.sampled_from([1.5, 1.2, 2.0, 0.9]), st.floats(0.7, 2.2))
    if family == "scaled wells":
        radii = radii.map(lambda rho: rho * draw(st.sampled_from([1e3, 10.0, 0.02, 1e-4])))
    half_widths = st.one_of(st.none(), st.none(), st.floats(-13, -0.5).map(lambda e: 10.0**e))
    return Case(
        family,
        name,
        arguments,
        draw(radii),
        draw(st.sampled_from([None, 0.05, 0.3, 0.8, 0.99, 1.001, 1.5])),
        draw(half_widths),
        draw(st.sampled_from([113, 113, 53, 200])),
        draw(st.integers(0, 2**16)),
        honest,
    )

"""Random functions that are not what they say, or that rounding would make another."""

import math
from typing import Any

from hypothesis import strategies as st

from tests.points.soundness.families import (
    networks,
    plus,
    positive,
    power,
    radial,
    residuals,
    rings,
    squares,
    times,
    total,
    wells,
    x,
)
from tests.points.soundness.functions import Tree


@st.composite
def false_squares(draw: Any) -> tuple[str, dict[str, Any]]:
    """A function that is not the sum of the squares of its `residuals`: by much, by little, or by rounding only."""
    made = draw(residuals())
    honest = total([power(r, 2) for r in made["residuals"]])
    lie = draw(st.sampled_from(["decay", "tilt", "scaled", "shifted", "cancelling", "ulp", "dropped"]))
    decay = draw(st.sampled_from([1e-14, 1e-6, 1e-3, 0.1, 0.3]))
    if lie == "decay":
        return "soundness:penalized-squares", {**made, "decay": decay}
    if lie == "tilt":
        tree = plus(honest, times(decay, x(0)))
    elif lie == "scaled":
        tree = plus(times(1 + decay, power(made["residuals"][0], 2)), times(decay, power(x(1), 2)))
    elif lie == "shifted":
        tree = total([power(plus(r, decay), 2) for r in made["residuals"]])
    elif lie == "cancelling":
        tree = draw(cancelling(honest, made["dim"]))
    elif lie == "ulp":
        made["residuals"][0] = times(["-", times(0.9, power(x(0), 2)), 0.7], 0.5)
        tree = power(times(["-", times(math.nextafter(0.9, 1), power(x(0), 2)), 0.7], 0.5), 2)
        tree = total([tree, *(power(r, 2) for r in made["residuals"][1:])])
    else:
        tree = plus(honest, power(["-", x(1), decay], 2))
    return "soundness:claimed-squares", {**made, "tree": tree}


@st.composite
def cancelling(draw: Any, tree: Tree, dim: int) -> Tree:
    """Add a term whose neighbours hide it from arithmetic of 53 bits: `(big·m + c·m) − big·m`."""
    i = draw(st.integers(0, dim - 1))
    monomial = draw(st.sampled_from([power(x(i), 2), x(i), power(x(i), 4), times(x(i), x(0))]))
    big, c = draw(st.sampled_from([1e16, 3e16, 1e18, 7e19])), draw(st.sampled_from([0.3, 0.1, -0.2, 0.01, 1e-9]))
    hidden = ["-", plus(times(big, monomial), times(c, monomial)), times(big, monomial)]
    if draw(st.booleans()):
        # Small coefficients cancel too: 0.1 + 0.2 − 0.3 is not 0, neither in floats nor exactly, and they differ.
        a, b, c = (times(k, monomial) for k in (0.1, 0.2, 0.3))
        hidden = times(["-", plus(a, b), c], draw(st.sampled_from([1.0, 1e15])))
    elif draw(st.booleans()):
        hidden = ["-", times(10**17 + 1, monomial), times(10**17, monomial)]  # whole numbers that are no floats
    return plus(tree, hidden) if draw(st.booleans()) else plus(hidden, tree)


@st.composite
def false_rings(draw: Any) -> tuple[str, dict[str, Any]]:
    """Functions that are nearly, but not, functions of the distance from the origin."""
    dim = draw(st.integers(2, 3))
    constant, factor = draw(positive(0.5, 2.0)), draw(positive(0.1, 0.5))
    lie = draw(st.sampled_from(["ulp", "cancelling", "factor", "tiny", "cubic"]))
    weights = [1.0] * dim
    if lie == "ulp":
        first = draw(st.sampled_from([1.0, 0.1, 0.7, 0.3]))
        weights = [first] * (dim - 1) + [math.nextafter(first, draw(st.sampled_from([0.0, 2.0])))]
        constant *= first
    elif lie == "factor":
        # (0.1·3)·x² against 0.3·x²: the products of floats are rounded, those of the formula are not.
        s = total([times(3.0, times(0.1, power(x(0), 2))), *(times(0.1 * 3.0, power(x(i), 2)) for i in range(1, dim))])
        return "soundness:formula", {"dim": dim, "tree": times(factor, power(["-", s, 0.3 * constant], 2))}
    tree = radial(dim, weights, constant, factor)
    if lie == "cancelling":
        tree = draw(cancelling(tree, dim))
    elif lie == "tiny":
        tree = plus(tree, times(draw(st.sampled_from([1e-300, 1e-30, 1e-17, 1e-9, 1e-3])), power(x(0), 2)))
    elif lie == "cubic":
        # Invariant under the rotations by a right angle, and under all that exchange coordinates.
        tree = plus(tree, times(draw(st.sampled_from([1e-12, 0.01])), total([power(x(i), 4) for i in range(dim)])))
    return "soundness:formula", {"dim": dim, "tree": tree}


@st.composite
def partial(draw: Any) -> tuple[str, dict[str, Any]]:
    """Functions that would be of a family, had they not a term that is 0 wherever it is defined, and not everywhere."""
    term = ["-", x(0), draw(st.sampled_from([0.0, 0.1, -0.3]))]
    nothing = draw(
        st.sampled_from(
            [
                times(0.0, ["log", term]),
                ["-", ["sqrt", term], ["sqrt", term]],
                ["-", power(["sqrt", term], 2), term],
                ["-", ["exp", ["log", term]], term],
                ["-", ["/", term, term], 1.0],
                ["-", ["sqrt", power(term, 2)], term],  # and this is not 0 everywhere
            ]
        )
    )
    name, arguments = draw(st.one_of(rings(), squares()))
    if name == "soundness:squares":
        first, *others = arguments["residuals"]
        return name, {**arguments, "residuals": [plus(first, nothing), *others]}
    return name, {**arguments, "tree": plus(arguments["tree"], nothing)}


@st.composite
def false_networks(draw: Any) -> tuple[str, dict[str, Any]]:
    """Networks whose values are not those that their attributes tell."""
    _, arguments = draw(networks())
    arguments["weight_decay"] = draw(st.sampled_from([0.05, 0.1]))
    if draw(st.booleans()):
        return "soundness:penalized-network", {**arguments, "extra": draw(st.sampled_from([0.01, 0.1]))}
    return "soundness:misstated-network", {**arguments, "stated": draw(st.sampled_from([0.02, 0.15]))}


@st.composite
def false_values(draw: Any) -> tuple[str, dict[str, Any]]:
    """Functions whose values are not those of their formula."""
    _, arguments = draw(st.one_of(wells(), rings()))
    return "soundness:penalized-value", {**arguments, "decay": draw(st.sampled_from([0.01, 0.1]))}

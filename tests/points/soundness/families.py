"""Random functions: wells, bumps, moats, rings, least squares, networks and compositions of anything.

Each strategy draws the name of a function with its arguments, as `tests.points.soundness.functions.make` takes them.
"""

from functools import reduce
from typing import Any

from hypothesis import strategies as st

from tests.points.soundness.functions import Tree


def x(i: int) -> Tree:
    return ["x", i]


def power(base: Tree, exponent: int) -> Tree:
    return ["^", base, exponent]


def times(a: Tree, b: Tree) -> Tree:
    return ["*", a, b]


def plus(a: Tree, b: Tree) -> Tree:
    return ["+", a, b]


def total(terms: list[Tree]) -> Tree:
    return reduce(plus, terms)


_NICE = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.8, 1.0, 1.1, 1.3, 1.5, 2.0, 3.0)


def positive(low: float = 0.2, high: float = 2.0) -> Any:
    """Numbers that people write, and others."""
    return st.one_of(st.sampled_from([c for c in _NICE if low <= c <= high]), st.floats(low, high))


def small(size: float = 0.3) -> Any:
    return st.one_of(st.just(0.0), st.floats(-size, size))


@st.composite
def linear(draw: Any, dim: int, size: float) -> Tree | None:
    """Random linear and mixed terms of small coefficients; None: no term."""
    terms = [times(c, x(i)) for i in range(dim) if (c := draw(small(size)))]
    terms += [times(times(c, x(i)), x(i - 1)) for i in range(1, dim) if (c := draw(small(size)))]
    return total(terms) if terms else None


def _joined(first: Tree, second: Tree | None) -> Tree:
    return first if second is None else plus(first, second)


@st.composite
def wells(draw: Any) -> tuple[str, dict[str, Any]]:
    """`Σ a_i·(x_i² − c_i)²/4` or `Σ k_i·x_i²`, with couplings."""
    dim = draw(st.integers(1, 4))
    terms = []
    for i in range(dim):
        if i == 0 or draw(st.booleans()):
            terms.append(times(draw(positive()) / 4, power(["-", power(x(i), 2), draw(positive(0.5, 1.5))], 2)))
        else:
            terms.append(times(draw(positive()), power(x(i), 2)))
    return "soundness:formula", {"dim": dim, "tree": _joined(total(terms), draw(linear(dim, 0.2)))}


@st.composite
def bumps(draw: Any) -> tuple[str, dict[str, Any]]:
    """A bowl with a bump of Gauss, of a hyperbolic secant, or of a rational function."""
    dim = draw(st.integers(1, 3))
    bowl = total([times(draw(positive(0.3, 1.5)), power(x(i), 2)) for i in range(dim)])
    centre = [1.5 if i == 0 else draw(small()) for i in range(dim)]
    apart = total([power(["-", x(i), c], 2) for i, c in enumerate(centre)])
    height, steep = draw(positive(1.0, 3.0)), draw(positive(0.7, 3.0))
    bump: Tree = draw(
        st.sampled_from(
            [
                ["exp", times(apart, -steep)],
                ["-", 1.0, power(["tanh", times(apart, steep)], 2)],
                ["/", 1.0, plus(power(times(apart, steep), 2), 1.0)],
            ]
        )
    )
    return "soundness:formula", {"dim": dim, "tree": plus(bowl, times(bump, height))}


@st.composite
def moat_residual(draw: Any, dim: int) -> Tree:
    """A convex function less a constant: the moat lies where it vanishes."""
    squares = [times(draw(positive(0.4, 1.6)), power(x(i), 2)) for i in range(dim)]
    bend = draw(small(0.15))
    convex = total([*squares, *([times(bend, power(x(0), 3))] if bend else [])])
    if draw(st.booleans()):
        convex = plus(convex, times(draw(positive(0.1, 0.4)), ["exp", x(dim - 1)]))
    return times(["-", convex, draw(positive(0.7, 1.5))], 0.5)


@st.composite
def residuals(draw: Any) -> dict[str, Any]:
    dim = draw(st.integers(2, 3))
    trees = [draw(moat_residual(dim))]
    if dim == 3 and draw(st.booleans()):
        trees.append(_joined(times(draw(positive(0.3, 1.0)), x(2)), draw(linear(2, 0.3))))
    return {"dim": dim, "residuals": trees}


@st.composite
def squares(draw: Any) -> tuple[str, dict[str, Any]]:
    """Sums of squares, declared in one of two ways."""
    made = draw(residuals())
    if draw(st.booleans()):
        return "soundness:squares", made
    tree = total([power(r, 2) for r in made["residuals"]])
    return "soundness:claimed-squares", {**made, "tree": tree}


def radial(dim: int, weights: list[float], constant: float, factor: float) -> Tree:
    s = total([times(w, power(x(i), 2)) if w != 1 else power(x(i), 2) for i, w in enumerate(weights)])
    return times(factor, power(["-", s, constant], 2))


@st.composite
def rings(draw: Any) -> tuple[str, dict[str, Any]]:
    """Functions of the distance from the origin, in several forms; polynomials and others."""
    dim = draw(st.integers(2, 4))
    weight = draw(st.sampled_from([1.0, 1.0, 0.7, 0.1]))
    constant, factor = draw(positive(0.5, 2.0)), draw(positive(0.1, 0.5))
    tree = radial(dim, [weight] * dim, constant * weight, factor)
    forms = ("factored", "sextic", "expanded", "tanh", "exp", "sqrt", "log", "quotient")
    form = draw(st.sampled_from(forms))
    s = total([power(x(i), 2) for i in range(dim)])
    if form == "sextic":
        tree = plus(tree, times(draw(positive(0.2, 0.3)) / 10, power(s, 3)))
    elif form == "expanded":
        quartic = total(
            [
                times(factor if i == j else 2 * factor, times(power(x(i), 2), power(x(j), 2)))
                for i in range(dim)
                for j in range(i + 1)
            ]
        )
        tree = ["-", quartic, times(2 * factor * constant, s)]
    elif form == "tanh":
        tree = power(["tanh", times(["-", s, constant], factor)], 2)
    elif form == "sqrt":
        tree = power(["-", ["sqrt", s], constant], 2)  # with a kink at the origin
    elif form == "log":
        tree = power(["log", times(s, 1 / constant)], 2)
    elif form == "quotient":
        tree = plus(times(0.2, s), ["/", 1.0, plus(s, draw(positive(0.2, 0.5)))])
    elif form == "exp":
        tree = plus(times(0.5, s), times(2.0, ["exp", times(s, -draw(positive(0.5, 1.5)))]))
    return "soundness:formula", {"dim": dim, "tree": tree}


@st.composite
def scaled(draw: Any) -> tuple[str, dict[str, Any]]:
    """Wells of another size: the coordinates are some thousandths, or thousands."""
    name, arguments = draw(wells())
    scale = draw(st.sampled_from([1e-3, 0.1, 50.0, 1e4]))

    def of(tree: Tree) -> Tree:
        if not isinstance(tree, list):
            return tree
        return times(scale, tree) if tree[0] == "x" else [tree[0], *map(of, tree[1:])]

    return name, {**arguments, "tree": of(arguments["tree"])}


@st.composite
def networks(draw: Any) -> tuple[str, dict[str, Any]]:
    """Tiny tanh networks on a few examples, with weight decay."""
    width = draw(st.integers(1, 2))
    count = draw(st.integers(3, 5))
    quarters = st.integers(-8, 8).map(lambda n: n / 4)
    inputs = [[draw(quarters) for _ in range(width)] for _ in range(count)]
    targets = [[0.875 if row[0] + row[-1] / 4 > 0 else -0.875] for row in inputs]
    return "soundness:network", {
        "inputs": inputs,
        "targets": targets,
        "hidden": 1,
        "weight_decay": draw(st.sampled_from([0.0, 0.01, 0.05, 0.1])),
    }


@st.composite
def residual_networks(draw: Any) -> tuple[str, dict[str, Any]]:
    """Least squares of one unit of tanh, with more parameters than examples, as formulas."""
    count = draw(st.integers(1, 2))
    trees = []
    for _ in range(count):
        a, t = draw(st.floats(0.3, 2)), draw(st.floats(-0.6, 0.6))
        trees.append(["-", times(x(2), ["tanh", plus(times(a, x(0)), x(1))]), t])
    return "soundness:squares", {"dim": 3, "residuals": trees}


@st.composite
def compositions(draw: Any) -> tuple[str, dict[str, Any]]:
    """Sums, products and compositions of whatever there is, with a bowl that keeps them from falling for ever."""
    dim = draw(st.integers(1, 3))
    leaves = st.one_of(st.integers(0, dim - 1).map(x), st.integers(0, dim - 1).map(lambda i: plus(x(i), 0.3)))

    def grow(children: Any) -> Any:
        return st.one_of(
            st.builds(plus, children, children),
            st.builds(times, children, children),
            st.builds(lambda c, a: times(a, c), children, st.floats(-2, 2)),
            st.builds(power, children, st.integers(2, 3)),
            st.builds(lambda f, c: [f, c], st.sampled_from(["tanh", "sin", "cos", "atan"]), children),
            st.builds(lambda c: ["exp", ["tanh", c]], children),
            st.builds(lambda c: ["log", plus(power(c, 2), 1.0)], children),
            st.builds(lambda c: ["sqrt", plus(power(c, 2), 0.5)], children),
            st.builds(lambda a, b: ["/", a, plus(power(b, 2), 1.0)], children, children),
        )

    wild = draw(st.recursive(leaves, grow, max_leaves=5))
    bowl = total([times(draw(positive(0.1, 0.8)), power(x(i), draw(st.sampled_from([2, 4])))) for i in range(dim)])
    return "soundness:formula", {"dim": dim, "tree": plus(bowl, times(draw(positive(0.5, 2.0)), wild))}


_BUILT_IN = {
    "double-well": {"stiffness": positive(0.2, 1.0), "coupling": small()},
    "ring": {"radius": positive(0.5, 1.5), "dim": st.integers(1, 4)},
    "multi-well": {"dim": st.integers(1, 3)},
    "bump-on-bowl": {"height": positive(1.0, 3.0), "width": positive(0.3, 0.7)},
    "moat": {"width": positive(0.8, 1.3), "height": positive(0.5, 1.1), "skew": positive(0.3, 0.8)},
}


@st.composite
def built_in(draw: Any) -> tuple[str, dict[str, Any]]:
    """The functions that have names."""
    name = draw(st.sampled_from(list(_BUILT_IN)))
    return name, draw(st.fixed_dictionaries({}, optional=_BUILT_IN[name]))

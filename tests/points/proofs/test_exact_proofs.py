"""Nothing false is proved or confirmed of functions that look, in floats or by their own account, like others."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch

from samirage.landscape import AbstractFormula, DoubleWell, Moat, Ring, SymPyFunction, TanhNetwork
from samirage.points import check_record, find_hallucinated, prove
from samirage.points.proofs.balls import PRECISION_BITS, precision
from samirage.points.proofs.check_symbols import depends_on_distance_alone, is_sum_of_squares
from samirage.points.proofs.exact import Algebra
from samirage.points.proofs.families import is_rotation_invariant, residuals_of
from samirage.points.proofs.proof import rounded_down, rounded_up
from samirage.points.proofs.record import Theorem, write_record

ON_AXIS = torch.tensor([0.5, 0.0], dtype=torch.float64)  # hallucinated on the ring of radius 1 at rho = 1.5


def a_ring_of(b, a=None):
    """A ring with `b` added to what it is a function of: x² + y² − 1 + b(x, y)."""

    class Claimed(AbstractFormula):
        @property
        def dim(self):
            return 2

        def formula(self, x):
            return ((a or (lambda x, y: x**2 + y**2))(*x) - 1) ** 2 / 4 + b(*x)

    return Claimed()


# Functions that are rings on the axis alone, though floats, or simplification, make them look like one.
NOT_QUITE = {
    "a term that cancels in floats": a_ring_of(lambda x, y: 1e17 * y + y - 1e17 * y),
    "a square that cancels in floats": a_ring_of(lambda x, y: (1e16 * y**2 + 0.5 * y**2) - 1e16 * y**2),
    "a coefficient off by one unit in the last place": a_ring_of(
        lambda x, y: 0 * x, lambda x, y: x**2 + y**2 * math.nextafter(1.0, 2.0)
    ),
    "a product of floats that rounds": a_ring_of(
        lambda x, y: x**2 * 0.1 * 3 + y**2 * 0.30000000000000004 - x**2 * 0.1 * 3 - y**2 * 0.1 * 3
    ),
    "a quotient that is not defined everywhere": a_ring_of(lambda x, y: x / x - 1),
    "a root that has a kink": a_ring_of(lambda x, y: (x**2).sqrt() - (x**2).sqrt()),
}


def record_of_the_ring():
    return prove(Ring(), ON_AXIS, 1.5, lr=0.1).record("ring")


@pytest.mark.parametrize("name", NOT_QUITE)
def test_what_is_no_function_of_the_distance_is_neither_proved_nor_confirmed_to_be(name):
    f = NOT_QUITE[name]
    proof = prove(f, ON_AXIS, 1.5, lr=0.1)
    assert not proof.proved, proof
    assert not check_record(record_of_the_ring(), make=lambda name, arguments: f).confirmed


def test_the_false_theorem_would_have_been_far_off():
    # f = ring + y: by hand, at ‖x‖ = 0.5 and x = (0, 0.5): g = (0, 0.625), x⁺ = (0, 2), g⁺ = (0, 7).
    x = sympy.symbols("x y")
    f = sympy.Rational(1, 4) * (x[0] ** 2 + x[1] ** 2 - 1) ** 2 + x[1]
    at = {x[0]: 0, x[1]: sympy.Rational(1, 2)}
    assert [f.diff(s).subs(at) for s in x] == [0, sympy.Rational(5, 8)]
    assert [f.diff(s).subs({x[0]: 0, x[1]: 2}) for s in x] == [0, 7]


@pytest.mark.parametrize(
    "formula",
    [
        lambda x: (
            (0.1 * x[0] ** 2 + 0.1 * x[1] ** 2 + x[2] ** 2 * 0.1).exp() + 1 / (1 + x[0] ** 2 + x[1] ** 2 + x[2] ** 2)
        ),
        lambda x: ((x[0] + 1e17) ** 2 - 1e34 - 2e17 * x[0]) + x[1] ** 2 + x[2] ** 2,
        lambda x: (1 + x[0] ** 2 + x[1] ** 2 + x[2] ** 2).sqrt().log().tanh().atan(),
    ],
)
def test_what_is_one_is_recognised_by_both(formula):
    class Round(AbstractFormula):
        dim = 3

        def formula(self, x):
            return formula(x)

    assert is_rotation_invariant(Round())
    assert depends_on_distance_alone(formula, 3)
    assert not depends_on_distance_alone(lambda x: formula(x) + x[0] * 1e-300, 3)


def test_a_function_of_one_coordinate_has_no_rotations():
    class Cubic(AbstractFormula):
        dim = 1

        def formula(self, x):
            return x[0] ** 3

    assert not is_rotation_invariant(Cubic())
    assert not depends_on_distance_alone(Cubic().formula, 1)
    with pytest.raises(ValueError, match="there are no rotations of one coordinate"):
        write_record("ring", {}, Theorem("rotation", 1.5, (0.5,), 1e-8, (0,), 0.1, 0.1))


def test_polynomials_agree_with_sympys():
    algebra = Algebra(2)
    x, y = algebra.coordinates
    a, b = sympy.symbols("a b")

    def formula(x, y, exp):
        return (x + y / 3) ** 3 * exp(x * y) - (x - 2) * (y + 1) ** 2 / 7

    ours = formula(x, y, lambda u: u.exp())
    theirs = formula(a, b, sympy.exp)
    along_x, along_y = algebra.constant(1), algebra.constant(0)
    place = 2  # the first indeterminate after the coordinates: exp(x·y)
    for slopes, symbol in (((along_x, along_y), a), ((along_y, along_x), b)):
        found = sum(
            sympy.Rational(c.numerator, c.denominator) * sympy.prod([(a, b, sympy.exp(a * b))[i] ** p for i, p in m])
            for m, c in algebra.derivative(ours, slopes).terms.items()
            if all(i <= place for i, _ in m)
        )
        assert sympy.expand(found - theirs.diff(symbol)) == 0


@pytest.mark.parametrize("name", ["exp", "log", "sin", "cos", "tanh", "atan", "sqrt"])
def test_derivatives_of_functions_agree_with_differences(name):
    algebra = Algebra(1)
    (x,) = algebra.coordinates
    slope = algebra.derivative(getattr(x**2, name)() / x, [algebra.constant(1)])
    functions = {**vars(math), "1/": lambda u: 1 / u}

    places = [0.7]

    def value(element):
        return sum(float(c) * math.prod(places[i] ** p for i, p in m) for m, c in element.terms.items())

    for of, argument in algebra._values:  # each after those that it is made of
        places.append(functions[of](value(argument)))

    def f(t):
        return getattr(math, name)(t * t) / t

    assert value(slope) == pytest.approx((f(0.7 + 1e-6) - f(0.7 - 1e-6)) / 2e-6, rel=1e-8)


# --- sums of squares ---------------------------------------------------------------------------------


class Decayed(Moat):
    """Residuals as of the moat, and weight decay beside them."""

    def formula(self, x):
        return super().formula(x) + 0.05 * (x[0] ** 2 + x[1] ** 2)


class Scaled(Moat):
    """Half the sum of squares, as it is often defined."""

    def formula(self, x):
        return super().formula(x) / 2


@pytest.fixture(scope="module")
def moat_point():
    return find_hallucinated(Moat(), Moat().minimizers[0], rho=1.5, methods=["superlevel", "sphere"])[0].x


@pytest.mark.parametrize("f", [Decayed(), Scaled()])
def test_residuals_that_the_function_is_not_the_sum_of_squares_of_are_not_believed(f, moat_point):
    assert residuals_of(Moat()) is not None
    assert residuals_of(f) is None
    assert not prove(f, moat_point, 1.5).proved
    check = check_record(prove(Moat(), moat_point, 1.5).record("moat"), make=lambda name, arguments: f)
    assert not check.confirmed
    assert "could not be shown to be the sum of the squares" in str(check)


def test_squares_that_agree_for_positive_coordinates_alone_are_not_believed():
    # At x = −1 the root less 1 vanishes, and (x − 1)² is 4.
    assert not is_sum_of_squares(lambda x: (x[0] - 1) ** 2, lambda x: [(x[0] ** 2).sqrt() - 1], 1)
    # Below x = 0 the function is negative, so that no zero of the residual is a global minimizer.
    assert not is_sum_of_squares(lambda x: x[0] * x[1] ** 2, lambda x: [x[0].sqrt() * x[1]], 2)
    assert is_sum_of_squares(lambda x: (x[0] - 1) ** 2 + 0.25, lambda x: [x[0] - 1, 0.5], 1)


def test_as_many_residuals_as_coordinates_make_an_isolated_minimizer():
    theorem = Theorem("least squares", 1.5, (0.5, 0.0), 1e-8, (0, 1), 0.1)
    assert "isolated" not in theorem.statement
    assert "with the coordinates 1 (counted from 0) held" in replace(theorem, free=(0,)).statement


# --- functions that compute something else than their formula ----------------------------------------


class Otherwise(DoubleWell):
    """The formula of the double well; evaluated, weight decay comes to it."""

    def _value(self, x):
        return super()._value(x) + 0.05 * x.square().sum(-1)


class DecayedNetwork(TanhNetwork):
    """A network with another loss."""

    def _value(self, x):
        return super()._value(x) + x.square().sum(-1)


class NamedNetwork(TanhNetwork):
    """A subclass may change anything, and is not looked into."""


def patched():
    f = DoubleWell()
    f.grad = lambda x: 2 * x
    return f


NETWORK = [[1.0], [-1.0]], [[0.5], [-0.5]]


@pytest.mark.parametrize(
    "f", [Otherwise(), patched(), DecayedNetwork(*NETWORK, hidden=1), NamedNetwork(*NETWORK, hidden=1)]
)
def test_an_evaluation_beside_the_formula_is_refused_by_both(f):
    x = torch.full((f.dim,), 0.3, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"a proof is about the formula|proofs know TanhNetwork itself"):
        prove(f, x, 1.5)
    theorem = Theorem("none", 1.5, tuple(x.tolist()), 1e-8, tuple(range(f.dim)), 0.1, 0.1)
    with pytest.raises(TypeError, match="is not a function that can be checked"):
        check_record(write_record("here", {}, theorem), make=lambda name, arguments: f)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (lambda x: x[0] ** 2 if x[0] == 0.3 else x[0], "may not compare"),
        (lambda x: x[0] ** 2 + np.float32(0.1), "ints and floats only"),
        (lambda x: np.float32(0.1) * x[0] ** 2, "ints and floats only"),
        (lambda x: x[0] ** 2 * sympy.Float("0.1", 30), "ints and floats only"),
        (lambda x: x[0] ** -1, "whole powers of at least 0"),
    ],
)
def test_formulas_that_are_not_one_expression_with_exact_coefficients_are_refused_by_both(formula, message):
    class Odd(AbstractFormula):
        dim = 1

        def formula(self, x):
            return x[0] ** 2 if isinstance(x[0], torch.Tensor) else formula(x)

    with pytest.raises(TypeError, match=message):
        prove(Odd(), torch.tensor([0.3]), 1.5)
    record = write_record("here", {}, Theorem("none", 1.5, (0.3,), 1e-8, (0,), 0.1, 0.1))
    with pytest.raises(TypeError, match=message):
        check_record(record, make=lambda name, arguments: Odd())


def test_a_sympy_function_is_the_expression_and_not_what_sympy_makes_of_its_rewriting():
    x = sympy.symbols("x")
    f = SymPyFunction(0.1 * sympy.sinh(x) + 0.2 * sympy.exp(x) + 0.3 * sympy.cosh(x), [x])
    algebra = Algebra(1)
    (t,) = algebra.coordinates
    e = t.exp()
    exact = 0.1 * (e - 1 / e) / 2 + 0.2 * e + 0.3 * (e + 1 / e) / 2
    assert (f.formula([t]) - exact).is_zero
    point = torch.tensor([[0.4], [-1.3]], dtype=torch.float64)
    expected = 0.1 * torch.sinh(point) + 0.2 * torch.exp(point) + 0.3 * torch.cosh(point)
    assert torch.allclose(f(point), expected[:, 0], atol=1e-15)


# --- what is printed is what was proved --------------------------------------------------------------


def test_every_number_of_a_statement_reads_back():
    rho, lr = 1.5000000000000004, 0.1 + 2**-54
    x = find_hallucinated(DoubleWell(), DoubleWell().minimizers[0], rho=rho, methods=["sphere"])[0].x
    proof = prove(DoubleWell(), x, rho, lr=lr)
    assert proof.proved
    words = proof.statement.replace("(", " ").replace(")", " ").replace("·", " ").replace(",", " ").split()
    numbers = {float(word.rstrip(".")) for word in words if word.rstrip(".")[:1].isdigit() or word[:2] == "-0"}
    theorem, a = proof.theorem, proof.attraction
    stated = {rho, lr, *x.tolist(), theorem.half_width, theorem.grad_norm_above, theorem.min_curvature}
    assert numbers == stated | {a.factor, a.half_width, a.basin_radius}
    assert theorem.grad_norm_above < proof.grad_norm[0]


def test_bounds_are_rounded_to_the_safe_side():
    generator = np.random.default_rng(0)
    for value in [*generator.normal(size=200), *10.0 ** generator.uniform(-300, 300, 200), 5e-324, 0.99999999]:
        down, up = rounded_down(float(value)), rounded_up(float(value))
        assert Fraction(down) <= Fraction(float(value)) <= Fraction(up)
        assert up - down <= 1.1e-4 * abs(value) + 5e-324
        assert len(f"{down!r}".split("e")[0].strip("-0.").replace(".", "")) <= 6 or abs(value) > 1e5


def test_the_interval_of_distances_is_about_the_exact_distance_of_the_point():
    # (0.3, 0.4) in floats: its distance is no float, and the theorem is about that distance.
    x = torch.tensor([0.3, 0.4], dtype=torch.float64)
    with precision(PRECISION_BITS):
        proof = prove(Ring(), x, 1.5, radius=3e-17)
        assert proof.proved, proof.reason
        assert check_record(proof.record("ring")).confirmed
    distance = sympy.sqrt(sum(sympy.Rational(*float(c).as_integer_ratio()) ** 2 for c in x))
    assert abs(distance - sympy.Rational(1, 2)) < sympy.Rational(*(3e-17).as_integer_ratio())
    assert distance != sympy.Rational(1, 2)


def test_the_factor_bounds_the_eigenvalues_at_the_point():
    f = DoubleWell()
    x = find_hallucinated(f, f.minimizers[0], rho=1.5, methods=["superlevel", "sphere"])[0].x
    proof = prove(f, x, 1.5, lr=0.1)

    def step(z):
        g = f.grad(z)
        return z - 0.1 * f.grad(z + 1.5 * g / g.norm())

    columns = [(step(x + 1e-6 * e) - step(x - 1e-6 * e)) / 2e-6 for e in torch.eye(2, dtype=torch.float64)]
    assert float(torch.linalg.eigvals(torch.stack(columns, 1)).abs().max()) < proof.attraction.factor < 1

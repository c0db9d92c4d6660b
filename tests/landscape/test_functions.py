"""The analytic functions: against NumPy formulas, finite differences, balls, and what they say of themselves."""

import flint
import numpy as np
import pytest
import sympy
import torch

from samirage.landscape import (
    AbstractFormula,
    BumpOnBowl,
    DoubleWell,
    Moat,
    MultiWell,
    Quadratic,
    Ring,
    SymPyFunction,
    TorchFunction,
)

MATRIX = [[2.0, -0.5, 0.0], [-0.5, -1.0, 0.25], [0.0, 0.25, 3.0]]
CENTRE = [0.5, 0.0, -1.0]


def bump(x):
    return x @ x / 2 + 1.3 * np.exp(-((x - [1.0, 0.7, 0.2]) @ (x - [1.0, 0.7, 0.2])) / (2 * 0.4**2))


def moat(x):
    h = 2 * (np.exp(0.5 * x[0]) - 0.5 * x[0] - 1) / (0.5 * 1.2) ** 2 + (x[1] / 0.7) ** 2
    return (h - 1) ** 2 / 4


# Every function, none at neutral arguments, with its value written out anew in NumPy.
CASES = {
    "quadratic": (Quadratic(MATRIX, CENTRE), lambda x: (x - CENTRE) @ np.array(MATRIX) @ (x - CENTRE) / 2),
    "ring": (Ring(1.3, dim=3), lambda x: (x @ x - 1.3**2) ** 2 / 4),
    "double well": (
        DoubleWell(0.7, -0.3),
        lambda x: (x[0] ** 2 - 1) ** 2 / 4 + 0.7 * x[1] ** 2 - 0.3 * x[0] * x[1],
    ),
    "bump": (BumpOnBowl(1.3, 0.4, (1.0, 0.7, 0.2)), bump),
    "wells": (MultiWell(3), lambda x: ((x**2 - 1) ** 2).sum() / 4),
    "moat": (Moat(1.2, 0.7, 0.5), moat),
}
DEFAULTS = [Quadratic(), Ring(), DoubleWell(), BumpOnBowl(), MultiWell(), Moat()]
cases = pytest.mark.parametrize(("f", "by_hand"), CASES.values(), ids=CASES)
every = pytest.mark.parametrize(
    "f", [*DEFAULTS, *(f for f, _ in CASES.values())], ids=lambda f: f"{type(f).__name__}{f.dim}"
)


def points(dim, seed=3, lead=(4, 2)):
    return torch.randn(*lead, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def differences(values, x, h=1e-5):
    """Central differences of a NumPy function of one vector: error about h² + 1e-16/h, here 1e-10."""
    steps = h * np.eye(len(x))
    return np.stack([(values(x + s) - values(x - s)) / (2 * h) for s in steps])


@cases
def test_values_are_those_of_the_formula_written_in_numpy(f, by_hand):
    x = points(f.dim)
    expected = np.array([[by_hand(p.numpy()) for p in row] for row in x])
    np.testing.assert_allclose(f(x).numpy(), expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(f(x.float()), torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-4)


@cases
def test_derivatives_are_the_difference_quotients(f, by_hand):
    x, v = points(f.dim), points(f.dim, seed=4)
    for p, direction in zip(x.reshape(-1, f.dim), v.reshape(-1, f.dim), strict=True):
        value, grad = f.value_and_grad(p)
        assert value == f(p)
        np.testing.assert_allclose(grad.numpy(), differences(by_hand, p.numpy()), rtol=1e-7, atol=1e-7)
        hessian = f.hessian(p)
        rows = differences(lambda q: f.grad(torch.tensor(q)).numpy(), p.numpy())
        np.testing.assert_allclose(hessian.numpy(), rows, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(f.hvp(p, direction), hessian @ direction, rtol=1e-12, atol=1e-12)
        linearized = f.linearize(p)
        torch.testing.assert_close(linearized.grad, grad, rtol=0, atol=0)
        torch.testing.assert_close(linearized.hvp(direction), hessian @ direction, rtol=1e-12, atol=1e-12)


@every
def test_points_of_a_batch_do_not_mix(f):
    x, v = points(f.dim), points(f.dim, seed=4)
    batch = f(x), f.grad(x), f.hvp(x, v), f.hessian(x)
    assert [b.shape for b in batch] == [(4, 2), (4, 2, f.dim), (4, 2, f.dim), (4, 2, f.dim, f.dim)]
    for i, j in np.ndindex(4, 2):
        one = f(x[i, j]), f.grad(x[i, j]), f.hvp(x[i, j], v[i, j]), f.hessian(x[i, j])
        for whole, part in zip(batch, one, strict=True):
            torch.testing.assert_close(whole[i, j], part, rtol=1e-13, atol=1e-13)


@every
def test_critical_points_are_what_they_are_called(f):
    assert f.minimizers or type(f) is Quadratic
    for kind, found in [("minimizer", f.minimizers), ("maximizer", f.maximizers), ("saddle", f.saddles)]:
        for x in found:
            assert f.grad(x).abs().max() < 1e-14
            curvatures = torch.linalg.eigvalsh(f.hessian(x))
            assert {
                "minimizer": curvatures[0] > -1e-12,
                "maximizer": curvatures[-1] < -0.1,
                "saddle": curvatures[0] < -0.1 and curvatures[-1] > 0.1,
            }[kind]


@every
def test_balls_enclose_the_values_of_the_same_formula(f):
    assert isinstance(f, AbstractFormula)
    for x in points(f.dim).reshape(-1, f.dim):
        ball = f.formula([flint.arb(c, 0.01) for c in x.tolist()])
        assert ball.rad() < 10
        for shift in (-0.009, 0.0, 0.009):
            assert ball.contains(flint.arb(f(x + shift).item()))
        # At a point the ball is as sharp as its precision, and float64 agrees with it to rounding.
        exact = f.formula([flint.arb(c) for c in x.tolist()])
        assert abs(float(exact.mid()) - f(x).item()) < 1e-13 * (1 + abs(f(x).item()))


def test_the_closed_forms_of_the_theory():
    assert [x.tolist() for x in DoubleWell().minimizers] == [
        pytest.approx([-1.0140, 0.1901], abs=5e-5),
        pytest.approx([1.0140, -0.1901], abs=5e-5),
    ]
    angles = torch.linspace(0, 6, 7, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    assert Ring()(circle).abs().max() < 1e-31
    assert Ring().hessian(torch.zeros(2, dtype=torch.float64)).tolist() == [[-1.0, 0.0], [0.0, -1.0]]


def test_the_moats_only_critical_points_are_its_curve_and_its_middle():
    f = Moat()
    side = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    near_curve = f(grid) < 0.02
    near_middle = grid.norm(dim=1) < 0.2
    assert near_curve.any()
    assert f.grad(grid)[~near_curve & ~near_middle].norm(dim=1).min() > 0.1


def test_a_bump_that_is_too_flat_has_no_top():
    flat = BumpOnBowl(height=0.1, width=1.0)
    assert (len(flat.minimizers), flat.maximizers, flat.saddles) == (1, [], [])
    line = BumpOnBowl(centre=[1.5])
    assert (len(line.minimizers), len(line.maximizers), line.saddles) == (2, 1, [])
    assert all(line.grad(x).abs() < 1e-14 for x in line.minimizers + line.maximizers)


def test_a_torch_function_is_like_the_formula_it_repeats():
    own = TorchFunction(lambda x: (x.square().sum() - 1.69).square() / 4, dim=3, minimizers=[[1.3, 0, 0]])
    ring = Ring(1.3, dim=3)
    x, v = points(3), points(3, seed=4)
    torch.testing.assert_close(own(x), ring(x))
    torch.testing.assert_close(own.grad(x), ring.grad(x))
    torch.testing.assert_close(own.hvp(x, v), ring.hvp(x, v))
    torch.testing.assert_close(own.hessian(x[0]), ring.hessian(x[0]))
    assert [m.tolist() for m in own.minimizers] == [[1.3, 0, 0]]
    wide = TorchFunction(lambda x: (x.square().sum() - 1.69).square() / 4, dim=100)
    y, w = points(100, lead=()), points(100, seed=4, lead=())
    torch.testing.assert_close(wide.linearize(y).hvp(w), (y @ y - 1.69) * w + 2 * (y @ w) * y)


def test_a_sympy_expression_means_what_sympy_says():
    x, y = sympy.symbols("x y")
    expression = (
        sympy.exp(-x * y) * sympy.Rational(1, 3)
        + sympy.cosh(x) / (2 + y**2)
        - sympy.pi * sympy.sin(x - 2) * sympy.tan(y / 9)
        + (x**2 + 1) ** sympy.Rational(3, 2)
        + (y**2 + sympy.E) ** sympy.Rational(-1, 2)
        + 0.1 * sympy.tanh(x) * sympy.atan(y)
        + 2 ** (x / 7)
        - sympy.log(3 + y**2) * sympy.cos(x)
        - sympy.sinh(y / 3)
    )
    f = SymPyFunction(expression, [x, y], saddles=[[0, 0]])
    for p in points(2).reshape(-1, 2):
        given = dict(zip([x, y], map(sympy.Float, p.tolist()), strict=True))
        expected = float(expression.subs(given))
        assert f(p).item() == pytest.approx(expected, rel=1e-13)
        slopes = [float(expression.diff(s).subs(given)) for s in (x, y)]
        assert f.grad(p).tolist() == pytest.approx(slopes, rel=1e-12)
        ball = f.formula([flint.arb(c) for c in p.tolist()])
        assert float(ball.mid()) == pytest.approx(expected, rel=1e-13)
        assert ball.rad() < 1e-12
    assert f.hessian(points(2)).shape == (4, 2, 2, 2)


def test_rational_numbers_in_an_expression_stay_exact():
    x = sympy.Symbol("x")
    with flint.ctx.workprec(200):
        exact, rounded = (
            SymPyFunction(x * tenth, [x]).formula([flint.arb(10)]) for tenth in (sympy.Rational(1, 10), 0.1)
        )
        assert exact.contains(1)
        assert not rounded.contains(1)


BAD = [
    (lambda: DoubleWell()([1.0, 2.0]), TypeError, "DoubleWell takes a floating-point torch tensor; got list"),
    (lambda: DoubleWell()(torch.tensor([1, 2])), TypeError, r"got a tensor of torch\.int64"),
    (lambda: DoubleWell()(torch.zeros(3)), ValueError, r"of 2 coordinates, shape \(…, 2\); got shape \(3,\)"),
    (lambda: Ring()(torch.tensor(1.0)), ValueError, r"got shape \(\)"),
    (lambda: Ring().grad(torch.zeros(3)), ValueError, "of 2 coordinates"),
    (lambda: Ring().linearize(torch.zeros(4, 2)), ValueError, "linearize takes one point"),
    (lambda: Ring(0.0), ValueError, "radius must be a finite number above 0; got 0.0"),
    (lambda: Ring(float("nan")), ValueError, "got nan"),
    (lambda: Ring(dim=0), ValueError, "dim must be a whole number of at least 1; got 0"),
    (lambda: MultiWell(7), ValueError, "dim must be a whole number from 1 to 6; got 7"),
    (lambda: DoubleWell(coupling=float("inf")), ValueError, "coupling must be a finite number; got inf"),
    (lambda: BumpOnBowl(centre=(0.0, 0.0)), ValueError, r"centre must be finite numbers, not all 0; got \(0.0, 0.0\)"),
    (lambda: Quadratic([[1.0, 2.0], [0.0, 1.0]]), ValueError, "hessian must be a symmetric matrix"),
    (lambda: Quadratic([1.0, float("inf")]), ValueError, "hessian must hold finite numbers"),
    (lambda: Quadratic([1.0], [1.0, 2.0]), ValueError, "centre must be 1 finite numbers"),
    (lambda: TorchFunction(3, 2), TypeError, "fn must be a function of a tensor; got int"),
    (lambda: TorchFunction(torch.sum, 0), ValueError, "dim must be a whole number of at least 1; got 0"),
    (lambda: TorchFunction(torch.exp, 2)(torch.zeros(2)), ValueError, r"fn must return one number.*got shape \(2,\)"),
    (lambda: TorchFunction(torch.sum, 2, saddles=[[0.0]]), ValueError, r"must have 2 coordinates; got shape \(1,\)"),
    (lambda: SymPyFunction("x*y", [sympy.Symbol("x")]), ValueError, r"got \[x\], which lacks y"),
    (lambda: SymPyFunction("2", []), ValueError, "at least one symbol; got none"),
    (lambda: SymPyFunction("Abs(x)", [sympy.Symbol("x")]), ValueError, r"the expression holds 'Abs\(x\)'"),
    (lambda: SymPyFunction("x + 9007199254740993", [sympy.Symbol("x")]), ValueError, "within ±2\\^53"),
    (
        lambda: SymPyFunction(sympy.Float("0.1", 40) * sympy.Symbol("x"), [sympy.Symbol("x")]),
        ValueError,
        "write numbers of more than 53 bits as a Rational",
    ),
]


@pytest.mark.parametrize(("act", "error", "match"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named_in_a_sentence(act, error, match):
    with pytest.raises(error, match=match):
        act()

"""The checker of recorded proofs: false theorems, forged records, and files that are no records."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from flint import arb, arb_mat

import samirage.points
from samirage.landscape import AbstractFormula, DoubleWell, Moat, MultiWell, Ring
from samirage.points import check_record, find_hallucinated, make_function, prove
from samirage.points.proofs.check import _along_lines
from samirage.points.proofs.check_linear import is_positive, newton_confirms
from samirage.points.proofs.record import Attraction, Theorem, read_record, write_record

POINT = torch.tensor([0.47093247359222673, -0.022200955951532014], dtype=torch.float64)
NO_RECORD = "this is no record of a proof, as `samirage prove --out FILE` writes it: "


def theorem_of(content):
    """The theorem that the fields of a record make, by hand: not by the function under test."""
    attraction = content["attraction"]
    made = {key: content[key] for key in ("reduction", "rho", "half_width", "grad_norm_above", "min_curvature")}
    return Theorem(
        **made,
        centre=tuple(content["centre"]),
        free=tuple(content["free"]),
        attraction=None if attraction is None else Attraction(**attraction),
    )


def forged(record, **fields):
    """A record with other fields, whose sentence says what they say."""
    content = {**record, **fields}
    return json.dumps({**content, "statement": theorem_of(content).statement})


@pytest.fixture(scope="module")
def record():
    return json.loads(prove(DoubleWell(), POINT, 1.5, lr=0.1).record("double-well"))


@pytest.fixture(scope="module")
def squares():
    f = Moat()
    x = find_hallucinated(f, f.minimizers[0], rho=1.5, methods=["superlevel", "sphere"])[0].x
    return json.loads(prove(f, x, 1.5).record("moat"))


@pytest.fixture(scope="module")
def rotation():
    return json.loads(prove(Ring(), torch.tensor([0.3, 0.4], dtype=torch.float64), 1.5, lr=0.1).record("ring"))


def test_a_record_reads_back_as_what_was_proved(record):
    proof = prove(DoubleWell(), POINT, 1.5, lr=0.1)
    read = read_record(json.dumps(record))
    assert read.theorem == proof.theorem == theorem_of(record)
    assert read.statement == proof.statement == proof.theorem.statement
    assert (read.function, read.arguments) == ("double-well", {})
    assert proof.statement in str(check_record(json.dumps(record)))


# --- forged fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"rho": 1.500001}, "does NOT find exactly one zero"),
        ({"centre": [0.47093252359222673, -0.022200955951532014]}, "does NOT find exactly one zero"),
        ({"half_width": 1e-17}, "does NOT find exactly one zero"),
        ({"grad_norm_above": 0.38}, "is NOT shown to exceed"),
        ({"min_curvature": 0.9}, "is NOT shown to exceed 0.9"),
        ({"arguments": {"coupling": 0.1500001}}, "does NOT find exactly one zero"),
        ({"centre": [0.47], "free": [0]}, "has 1 coordinates and the function 2"),
        ({"reduction": "rotation"}, "could not be shown to depend on the distance from 0 alone"),
        (
            {"reduction": "least squares", "free": [0], "min_curvature": None, "attraction": None},
            "could not be shown to be the sum of the squares of its residuals",
        ),
    ],
)
def test_a_false_theorem_is_not_confirmed_though_its_sentence_fits(record, fields, line):
    assert check_record(json.dumps(record)).confirmed
    check = check_record(forged(record, **fields))
    assert not check.confirmed
    assert line in str(check)


@pytest.mark.parametrize(
    ("key", "value"), [("lr", 0.52), ("factor", 0.5), ("basin_radius", 0.1), ("half_width", 0.2), ("lr", 1e-30)]
)
def test_a_false_claim_of_attraction_is_not_confirmed(record, key, value):
    check = check_record(forged(record, attraction={**record["attraction"], key: value}))
    assert not check.confirmed
    assert "could NOT be shown to converge" in str(check)


@pytest.mark.parametrize("which", ["record", "squares", "rotation"])
def test_no_field_can_be_changed_beside_the_sentence_nor_the_sentence_beside_them(which, request):
    content = request.getfixturevalue(which)
    assert check_record(json.dumps(content)).confirmed
    fields = [(key,) for key in content if isinstance(content[key], float)]
    fields += [("attraction", key) for key in content["attraction"] or ()]
    fields += [("centre", i) for i in range(len(content["centre"]))]
    for path in fields:
        changed = json.loads(json.dumps(content))
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = math.nextafter(place[path[-1]], math.inf)
        check = check_record(json.dumps(changed))
        assert not check.confirmed, path
        assert "the statement of the record is not what its fields say" in str(check)
    for words in (content["statement"].replace("exactly", "at least"), content["statement"] + " ", ""):
        assert not check_record(json.dumps({**content, "statement": words})).confirmed


def test_coordinates_that_are_held_are_those_that_the_record_says(squares):
    (other,) = set(range(2)) - set(squares["free"])
    check = check_record(json.dumps({**squares, "free": [other]}))
    assert "the statement of the record is not what its fields say" in str(check)
    both = check_record(forged(squares, free=[0, 1]))
    assert not both.confirmed
    assert "there are 1 residuals and 2 free coordinates" in str(both)


# --- what the theorems of the checker rest on: the whole box, and not its centre alone ------------------


class TwoZeros(AbstractFormula):
    """`f' = (z − 2)² − 1e-6`, so that at rho = 2 SAM rests at −0.001 and at 0.001."""

    dim = 1

    def formula(self, x):
        return (x[0] - 2) ** 3 / 3 - x[0] * 1e-6


def test_two_zeros_in_a_box_are_not_one():
    f, half_width = TwoZeros(), 0.005
    centre = torch.tensor([0.001], dtype=torch.float64)
    grid = centre + half_width * torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    assert bool((f.grad(grid) > 0).all())  # so that x⁺ = x + 2
    signs = f.grad(grid + 2.0).sign().flatten()
    assert int((signs[1:] != signs[:-1]).sum()) == 2
    theorem = Theorem("none", 2.0, (0.001,), half_width, (0,), 0.1, 1e-9)
    assert "does NOT find exactly one zero" in str(check_record(write_record("here", {}, theorem), lambda n, a: f))
    assert prove(f, centre, 2.0, radius=half_width).theorem is None
    assert prove(f, centre, 2.0, radius=1e-5).proved


def test_the_checkers_derivatives_agree_with_torch_on_every_operation():
    def formula(x):
        a, b, c = x
        return (
            (a * b - 2 / c + 3 * b).exp() * 0.1
            + (a**2 + 1.5).log() * (b - c).sin()
            - (c**3 / (1 + a**2)).tanh()
            + (2 - b).sqrt() * (a * c).cos()
            - (-(b**0) + 1 + c).atan() / 3
        )

    x = torch.tensor([0.3, -0.7, 1.2], dtype=torch.float64)
    grad, hessian = _along_lines(formula)([arb(v) for v in x.tolist()])
    expected = torch.func.grad(lambda p: formula(p.unbind()))(x)
    assert [float(g.mid()) for g in grad.entries()] == pytest.approx(expected.tolist(), abs=1e-13)
    expected = torch.autograd.functional.hessian(lambda p: formula(p.unbind()), x)
    assert [float(h.mid()) for h in hessian.entries()] == pytest.approx(expected.flatten().tolist(), abs=1e-13)


@pytest.mark.parametrize(
    "formula",
    [lambda x: 1 / (x - 0.3), lambda x: x / (x * 0), lambda x: (x - 1).log() / x, lambda x: (x * 1e20).exp().tanh()],
)
def test_where_a_formula_may_be_undefined_nothing_is_confirmed(formula):
    class Broken(AbstractFormula):
        dim = 1

        def formula(self, x):
            return formula(x[0])

    theorem = Theorem("none", 1.5, (0.3,), 1e-8, (0,), 0.1, 0.1, Attraction(0.1, 0.9, 0.1, 0.01))
    check = check_record(write_record("here", {}, theorem), make=lambda name, arguments: Broken())
    assert not check.confirmed
    assert "does NOT find exactly one zero" in str(check)


def test_interval_newton_looks_at_the_whole_box():
    def confirms(centre, half_width):  # x² − 2
        x = arb(centre, half_width)
        return newton_confirms(arb_mat([[arb(centre) ** 2 - 2]]), arb_mat([[2 * x]]), half_width)

    assert confirms(1.4142, 0.1)
    assert confirms(-1.4142, 1.0)
    assert not confirms(1.4142, 3.0)  # ±√2
    assert not confirms(1.5, 0.05)


# One well of (x² − 1)²/4. At rho = 1.5 SAM rests at x = 1/2, where x⁺ = −1 and f″ = 2, and lr = 0.1 multiplies by 0.8.


def of_one_well(centre, half_width, curvature, attraction=None):
    theorem = Theorem("none", 1.5, (centre,), half_width, (0,), 0.1, curvature, attraction)
    return check_record(write_record("multi-well", {"dim": 1}, theorem))


def test_the_curvature_is_bounded_all_over_the_box():
    # The zero lies off the centre, where the curvature is 3·1.0008² − 1 = 2.0048; at the zero it is 2.
    z = torch.tensor([-1.0008, -1.0], dtype=torch.float64)[:, None]
    at_centre, at_zero = MultiWell(1).hessian(z).flatten().tolist()
    assert at_zero < 2.004 < at_centre
    assert of_one_well(0.4992, 1e-3, 1.9).confirmed
    check = of_one_well(0.4992, 1e-3, 2.004)
    assert not check.confirmed
    assert "every eigenvalue of H⁺ is NOT shown to exceed 2.004" in str(check)


def test_the_contraction_is_that_of_distances_and_not_of_their_squares():
    # By hand, from x = 0.501: z = x⁺ = −0.999, g⁺ = z³ − z, and x − 0.1·g⁺ is nearer to 0.5 by 0.8003.
    x = 0.501
    z = x - 1.5
    ratio = (x - 0.1 * (z**3 - z) - 0.5) / (x - 0.5)
    assert ratio == pytest.approx(0.8003, rel=1e-6)
    assert of_one_well(0.5, 1e-8, 1.9, Attraction(0.1, 0.82, 0.001, 0.0005)).confirmed
    assert not of_one_well(0.5, 1e-8, 1.9, Attraction(0.1, 0.8002, 0.001, 0.0005)).confirmed


def test_the_basin_lies_within_the_box_of_contraction():
    assert of_one_well(0.5, 1e-8, 1.9, Attraction(0.1, 0.82, 0.001, 0.00099)).confirmed
    assert not of_one_well(0.5, 1e-8, 1.9, Attraction(0.1, 0.82, 0.001, 0.001)).confirmed


def test_positive_definiteness_is_shown_only_of_what_is():
    generator = np.random.default_rng(0)
    for n in (2, 4, 9):
        factor = generator.normal(size=(n, n))
        good = factor @ factor.T + 0.01 * np.eye(n)
        lowest = np.linalg.eigvalsh(good)[0]

        def balls(matrix, radius=0.0, n=n):
            return arb_mat([[arb(v, radius) for v in row] for row in matrix.tolist()])

        assert is_positive(balls(good))
        assert not is_positive(balls(good - 1.001 * lowest * np.eye(n)))
        assert not is_positive(balls(good, 1.01 * lowest))  # a member is indefinite on the diagonal alone
    # One member is [[1, 2], [2, 1]], though the middle is not symmetric and has positive pivots.
    assert not is_positive(arb_mat([[1, arb(5, 3)], [arb(-1, 3), 1]]))


# --- the file ----------------------------------------------------------------------------------------

HUGE = "1" + "0" * 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "samirage-proof/1"}, "its format is 'samirage-proof/1', and this program reads 'samirage-proof/2'"),
        ({"format": 2}, "its format is 2"),
        ({"remark": "true"}, "it has the unknown keys 'remark'"),
        ({"attraction": {"lr": 0.1}}, "attraction lacks basin_radius, factor, half_width"),
        ({"attraction": [0.1]}, "attraction must be an object with the keys"),
        ({"attraction": True}, "attraction must be an object"),
        ({"statement": 3}, "statement must be a text; got 3"),
        ({"function": None}, "function must be a text"),
        ({"arguments": [1]}, r"arguments must be an object; got \[1\]"),
        ({"reduction": "all"}, "reduction must be one of 'none', 'rotation', 'least squares'; got 'all'"),
        ({"reduction": ["none"]}, "reduction must be a text"),
        ({"rho": "1.5"}, "rho must be a number; got '1.5'"),
        ({"rho": True}, "rho must be a number; got True"),
        ({"rho": 0}, "rho must be a number above 0"),
        ({"rho": 2**53 + 1}, "rho must be a binary64 number"),
        ({"rho": None}, "rho must be a number; got None"),
        ({"half_width": 0.0}, "half_width must be a number above 0"),
        ({"grad_norm_above": -1.0}, "grad_norm_above must be a number above 0"),
        ({"min_curvature": None}, "min_curvature must be a number; got None"),
        ({"min_curvature": {}}, "min_curvature must be a number"),
        ({"centre": "0.5"}, "centre must be a list of numbers"),
        ({"centre": []}, "centre must be a list of numbers"),
        ({"centre": [0.5, [0.1]]}, "centre must be a number"),
        ({"free": [1, 0]}, "free must list coordinates from 0 to 1 in order"),
        ({"free": [0, 0, 1]}, "free must list coordinates from 0 to 1 in order"),
        ({"free": [0, 2]}, "free must list coordinates from 0 to 1 in order"),
        ({"free": [False, True]}, "free must list coordinates from 0 to 1 in order"),
        ({"free": None}, "free must list coordinates"),
        ({"free": [0]}, "free must list all coordinates where the reduction is 'none'"),
        ({"reduction": "least squares"}, "must be null where the reduction is 'least squares'"),
        ({"function": "nonsense"}, "names the function 'nonsense', which is not built in, and nothing was run"),
        ({"arguments": {"color": 3}}, "double-well cannot be called with"),
        ({"arguments": {"stiffness": "a"}}, "double-well cannot be called with"),
        ({"arguments": {"stiffness": 10**399}}, "double-well cannot be called with"),
        ({"arguments": {"stiffness": -1}}, "stiffness must be a finite number above 0"),
    ],
)
def test_what_is_no_record_gets_one_sentence(record, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_record(json.dumps({**record, **change}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("factor", 1.0), ("factor", 0), ("lr", -0.1), ("half_width", 1e-9)])
def test_an_attraction_out_of_range_gets_one_sentence(record, key, value):
    with pytest.raises(ValueError, match=f"{NO_RECORD}{key} must be"):
        check_record(json.dumps({**record, "attraction": {**record["attraction"], key: value}}))


@pytest.mark.parametrize("key", ["statement", "rho", "attraction", "free", "arguments", "function"])
def test_a_record_that_lacks_a_key_gets_one_sentence(record, key):
    with pytest.raises(ValueError, match=f"{NO_RECORD}it lacks {key}$"):
        check_record(json.dumps({k: v for k, v in record.items() if k != key}))


def text(record, old, new):
    changed = json.dumps(record).replace(old, new, 1)
    assert changed != json.dumps(record)
    return changed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda record: "no JSON", "Expecting value"),
        (lambda record: "", "Expecting value"),
        (lambda record: json.dumps(record)[:-1], "Expecting"),
        (lambda record: json.dumps(record) * 2, "Extra data"),
        (lambda record: json.dumps([record]), "it must be an object with the keys"),
        (lambda record: "null", "it must be an object with the keys"),
        (lambda record: '{"format": "other"}', "its format is 'other'"),
        (lambda record: "[" * 100_000, "nested too deeply"),
        (lambda record: text(record, '"rho": 1.5', '"rho": NaN'), "numbers must be finite; got NaN"),
        (lambda record: text(record, '"rho": 1.5', '"rho": 1e999'), "numbers must be finite; got 1e999"),
        (lambda record: text(record, '"rho": 1.5', f'"rho": {HUGE}'), "got a whole number of 501 digits"),
        (lambda record: text(record, '"rho": 1.5', '"rho": 1.5, "rho": 1.4'), "a key occurs twice"),
        (lambda record: text(record, '{"lr": 0.1', '{"lr": 0.2, "lr": 0.1'), "a key occurs twice"),
    ],
)
def test_what_is_no_json_of_a_record_gets_one_sentence(record, make, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_record(make(record))
    assert str(caught.value).startswith(NO_RECORD)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_written_otherwise_are_the_same_theorem(record):
    assert check_record(text(record, '"rho": 1.5', '"rho": 15e-1')).confirmed
    theorem = Theorem("none", 1.0, (0.5, 0.0), 1e-8, (0, 1), 0.1, 0.1)
    whole = write_record("double-well", {}, theorem).replace('"rho": 1.0', '"rho": 1')
    assert read_record(whole).theorem == theorem


def test_arguments_that_are_no_plain_data_are_not_recorded():
    proof = prove(DoubleWell(), POINT, 1.5)
    for arguments in ({"f": print}, {"x": math.nan}, {"x": math.inf}):
        with pytest.raises(ValueError, match="must be plain data"):
            proof.record("double-well", arguments)


# --- prover and checker apart ------------------------------------------------------------------------


def test_the_checker_shares_nothing_with_the_prover_but_the_format_of_records():
    folder = Path(samirage.points.__file__).parent / "proofs"

    def imported(name, seen):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            child = str(module).removeprefix("samirage.points.proofs.")
            if module and child != module and child not in seen:
                seen.add(child)
                imported(child, seen)
        return seen

    checker, prover = imported("check", set()), imported("prove", set())
    assert checker & prover == {"record"}
    assert {"check_linear", "check_symbols", "check_scalars", "check_network"} <= checker
    assert {"exact", "jets", "krawczyk"} <= prover


def test_records_of_functions_with_arguments_are_confirmed():
    f = make_function("ring", {"radius": 2.0, "dim": 3})
    x = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)  # ‖x‖ = rho − radius = 1, but for rounding
    proof = prove(f, x, 3.0, lr=0.01)
    assert proof.proved, proof.reason
    check = check_record(proof.record("ring", {"radius": 2.0, "dim": 3}))
    assert check.confirmed
    assert "f is ring(radius=2.0, dim=3)" in str(check)

"""A small budget of the fuzzer, what it once found, and that its oracle sees what is false.

`scripts/fuzz_proofs.py --minutes N` runs it for longer.
"""

import json
import math
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

from samirage.points import check_record, prove
from tests.points.soundness.cases import FAMILIES, Case, cases
from tests.points.soundness.exact import exact, vector
from tests.points.soundness.examine import Tally, examine, examine_mutation
from tests.points.soundness.functions import make
from tests.points.soundness.mutations import Mutation, restate
from tests.points.soundness.oracle import judge
from tests.points.soundness.theorem import NoTheorem, Theorem, of_proof, of_sentence

_SOME = settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def raised(kind, text):
    raise AssertionError(f"{kind}: {text}")


@_SOME
@given(case=cases(families=tuple(name for name, (_, honest, _) in FAMILIES.items() if honest)))
def test_what_is_proved_is_true_and_what_is_confirmed_too(case):
    examine(case, Tally(on_finding=raised), mutations=10)


@_SOME
@given(case=cases(families=tuple(name for name, (_, honest, _) in FAMILIES.items() if not honest)))
def test_functions_that_are_not_what_they_say_deceive_neither_prover_nor_checker(case):
    examine(case, Tally(on_finding=raised), mutations=10)


# --- what was found ----------------------------------------------------------------------------------

X, Y = ["x", 0], ["x", 1]
XX, YY = ["^", X, 2], ["^", Y, 2]


def ring(first=1.0, second=1.0):
    return ["*", 0.25, ["^", ["-", ["+", ["*", first, XX], ["*", second, YY]], 1.0], 2]]


def hidden(coefficient, monomial, big=1e16):
    """`coefficient·monomial`, written so that arithmetic of 53 bits loses it."""
    return ["-", ["+", ["*", big, monomial], ["*", coefficient, monomial]], ["*", big, monomial]]


MOAT = ["*", 0.5, ["-", ["+", ["*", 0.8, XX], ["*", 1.3, YY]], 1.0]]
DATA = {
    "inputs": [[1.0], [-0.5], [0.25]],
    "targets": [[0.875], [-0.875], [0.875]],
    "hidden": 1,
    "weight_decay": 0.05,
}
ULP, DECAY = "coefficients that differ by one unit in the last place", "weight decay added to least squares"
WITNESSES = {
    "a term that rounding loses": (
        "nearly rotation-invariant", "soundness:formula", {"dim": 2, "tree": ["+", ring(), hidden(0.3, XX)]},
    ),
    "a linear term that rounding loses": (
        "nearly rotation-invariant", "soundness:formula", {"dim": 2, "tree": ["+", hidden(0.1, X), ring()]},
    ),
    ULP: (
        "nearly rotation-invariant", "soundness:formula", {"dim": 2, "tree": ring(0.7, math.nextafter(0.7, 1.0))},
    ),
    "a product of floats that is not the float": (
        "nearly rotation-invariant",
        "soundness:formula",
        {"dim": 2, "tree": ["^", ["-", ["+", ["*", 3.0, ["*", 0.1, XX]], ["*", 0.1 * 3.0, YY]], 0.4], 2]},
    ),
    "invariance under right angles alone": (
        "nearly rotation-invariant",
        "soundness:formula",
        {"dim": 2, "tree": ["+", ring(), ["*", 1e-12, ["+", ["^", X, 4], ["^", Y, 4]]]]},
    ),
    DECAY: (
        "false residuals", "soundness:penalized-squares", {"dim": 2, "residuals": [MOAT], "decay": 0.1},
    ),
    "residuals of another function": (
        "false residuals",
        "soundness:claimed-squares",
        {"dim": 2, "residuals": [MOAT], "tree": ["+", ["^", MOAT, 2], hidden(0.1, X)]},
    ),
    "weight decay added to the values": (
        "values that are not the formula's", "soundness:penalized-value", {"dim": 2, "tree": ring(), "decay": 0.1},
    ),
    "weight decay added to the values of a network": (
        "networks that misstate themselves", "soundness:penalized-network", {**DATA, "extra": 0.1},
    ),
    "another weight decay stated by a network": (
        "networks that misstate themselves", "soundness:misstated-network", {**DATA, "stated": 0.1},
    ),
}  # fmt: skip


def witness(name):
    family, function, arguments = WITNESSES[name]
    rho = 1.2 if "network" in name else 1.5  # at which the lie has points to offer
    return Case(family, function, arguments, rho, None, None, 113, 0, honest=False)


@pytest.mark.parametrize("name", WITNESSES)
def test_a_lie_that_once_was_proved_is_not(name):
    tally = Tally(on_finding=raised)
    examine(witness(name), tally, mutations=5)
    assert tally.counts["points: planted"] > 0
    assert tally.counts["forgeries"] > 0


WELL = {"dim": 1, "tree": ["^", ["-", XX, 0.9], 2]}
RHO = 1.1 + 1e-9  # has more than six digits


def proof_of_a_well(lr=0.01):
    return prove(make("soundness:formula", WELL), torch.tensor([RHO - math.sqrt(0.9)], dtype=torch.float64), RHO, lr=lr)


@pytest.fixture(scope="module")
def records():
    moat = make("moat")
    x = torch.tensor([0.0, 0.7], dtype=torch.float64)
    return {
        "none": json.loads(proof_of_a_well().record("soundness:formula", WELL)),
        "rotation": json.loads(prove(make("ring"), torch.tensor([0.5, 0.0]), 1.5, lr=0.1).record("ring")),
        "least squares": json.loads(prove(moat, x, 1.5).record("moat")),
    }


def changed(record, path, value):
    copy = json.loads(json.dumps(record))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return copy


ATTRACTION = {"lr": 0.05, "factor": 0.95, "half_width": 1e-4, "basin_radius": 1e-5}
FORGED = [
    ("none", ("statement",), "f is convex."),
    ("rotation", ("statement",), ""),
    ("none", ("free",), []),
    ("none", ("free",), [0, 0]),
    ("rotation", ("free",), [1, 0]),
    ("least squares", ("free",), [0, 1]),
    ("least squares", ("free",), [-1]),
    ("least squares", ("min_curvature",), 0.1),
    ("least squares", ("attraction",), ATTRACTION),
    ("none", ("attraction", "factor"), 0.5),
    ("none", ("attraction", "basin_radius"), 10.0),
    ("none", ("attraction", "note"), "more"),
    ("none", ("proved",), True),
    ("none", ("reduction",), "rotation"),
    ("none", ("reduction",), "None"),
    ("rotation", ("reduction",), "none"),
    ("none", ("rho",), True),
    ("none", ("rho",), 10**400),
    ("none", ("rho",), "1.5"),
    ("none", ("half_width",), None),
    ("none", ("centre",), {}),
    ("none", ("centre",), [[0.5]]),
    ("none", ("min_curvature",), "0.1"),
    ("none", ("min_curvature",), math.inf),
    ("none", ("grad_norm_above",), [0.1]),
    ("none", ("attraction",), {}),
    ("none", ("attraction",), 0.1),
    ("none", ("attraction", "lr"), None),
    ("none", ("arguments",), None),
    ("none", ("function",), ["soundness:formula"]),
    ("none", ("format",), None),
]


@pytest.mark.parametrize(("kind", "path", "value"), FORGED)
@pytest.mark.parametrize("restated", [False, True])
def test_a_forged_field_is_refused_in_one_sentence(records, kind, path, value, restated):
    record = records[kind]
    assert check_record(json.dumps(record), make).confirmed
    forged = changed(record, path, value)
    if restated and path != ("statement",):
        restate(forged)
    tally = Tally(on_finding=raised)
    examine_mutation(record, Mutation(json.dumps(forged), path, repr(value)), tally)
    assert tally.counts["mutations refused"] + tally.counts["mutations not confirmed"] == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bump-on-bowl", {"width": 1e-300}),
        ("moat", {"skew": 1e-300}),
        ("moat", {"skew": 1e300}),
        ("moat", {"height": 1e-200}),
        ("ring", {"radius": 1e200}),
        ("ring", {"radius": 10**350}),
        ("quadratic", {"hessian": [{}]}),
        ("bump-on-bowl", {"centre": [None, 1.0]}),
    ],
)
def test_a_built_in_function_of_impossible_size_is_refused_in_one_sentence(records, name, arguments):
    record = {**records["rotation"], "function": name, "arguments": arguments, "reduction": "none"}
    restate(record)
    tally = Tally(on_finding=raised)
    examine_mutation(record, Mutation(json.dumps(record), ("arguments",), repr(arguments)), tally)
    assert tally.counts["mutations refused"] + tally.counts["mutations not confirmed"] == 1


def test_a_theorem_without_the_attraction_that_was_asked_for_keeps_the_bounds_of_its_own_box():
    terms = [["^", ["x", i], 4] for i in range(3)]
    spheres = ["^", ["-", ["+", ["+", XX, YY], ["^", ["x", 2], 2]], 0.9653926477020237], 2]
    tree = ["+", ["*", 0.15, spheres], ["*", 0.01, ["+", ["+", terms[0], terms[1]], terms[2]]]]
    arguments = {"dim": 3, "tree": tree}
    x = torch.tensor([0.304953260173086, 0.30495326017428676, -0.3049532601717621], dtype=torch.float64)
    proof = prove(make("soundness:formula", arguments), x, 1.5, lr=0.08)
    assert not proof.proved
    assert "contract" in proof.reason
    assert judge(of_proof(proof), exact("soundness:formula", arguments)) == []


@pytest.mark.parametrize("way", ["twice", "deep", "cut", "many digits", "list"])
def test_a_text_that_is_no_record_is_refused_in_one_sentence(records, way):
    text = json.dumps(records["none"])
    broken = {
        "twice": '{"rho": 3.0, ' + text[1:],
        "deep": "[" * 100_000,
        "cut": text[:-20],
        "many digits": text.replace(repr(RHO), "9" * 5000),
        "list": f"[{text}]",
    }[way]
    tally = Tally(on_finding=raised)
    examine_mutation(records["none"], Mutation(broken, (), way), tally)
    assert tally.counts["mutations refused"] == 1


def test_the_printed_sentence_has_every_number_in_full():
    proof = proof_of_a_well()
    said = of_sentence(proof.statement, of_proof(proof))
    assert said.rho == RHO
    assert said.half_width == proof.theorem.half_width
    assert judge(said, exact("soundness:formula", WELL)) == []


# --- bugs that are planted: the fuzzer finds them --------------------------------------------------------


class Found(Exception):
    pass


def found(kind, text):
    raise Found(f"{kind}: {text}")


@pytest.mark.parametrize(
    ("module", "name", "bug", "lie", "kind"),
    [
        ("prove", "is_rotation_invariant", lambda f: True, ULP, "theorem: rotation: ‖g⁺‖ is"),
        ("prove", "residuals_of", lambda f: f.residuals, DECAY, "theorem: least squares"),
        ("check", "depends_on_distance_alone", lambda *_: True, ULP, "forgery: confirmed though false"),
        ("check", "is_sum_of_squares", lambda *_: True, DECAY, "forgery: confirmed though false"),
    ],
)
def test_a_planted_bug_that_believes_a_lie_is_found(monkeypatch, module, name, bug, lie, kind):
    monkeypatch.setattr(import_module(f"samirage.points.proofs.{module}"), name, bug)
    with pytest.raises(Found, match=kind):
        examine(witness(lie), Tally(on_finding=found), mutations=0)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("newton_confirms", ("rho",), RHO + 1e-6),
        ("is_positive", ("min_curvature",), 10.0),
        ("is_positive", ("attraction", "half_width"), 0.5),
    ],
)
def test_a_planted_bug_of_the_checker_is_found(monkeypatch, records, name, path, value):
    forged = changed(records["none"], path, value)
    restate(forged)
    monkeypatch.setattr(f"samirage.points.proofs.check.{name}", lambda *_: True)
    with pytest.raises(Found, match="confirmed though false"):
        examine_mutation(records["none"], Mutation(json.dumps(forged), path, ""), Tally(on_finding=found))


# --- the oracle --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rho": RHO + 1e-6}, "holds no zero"),
        ({"half_width": 1e-20}, "holds no zero"),
        ({"half_width": 0.4}, "holds two zeros"),
        ({"grad_above": 0.6}, "not above"),
        ({"min_curvature": 8.1}, "does not exceed"),
        ({"grad_below": 0.5}, "not below"),
        ({"x_plus_box": ((0.0, 0.9),)}, "outside of its box"),
        ({"reduction": "rotation"}, "no rotations"),
    ],
)
def test_the_oracle_sees_what_is_false(change, what):
    theorem = of_proof(proof_of_a_well())
    truth = exact("soundness:formula", WELL)
    assert judge(theorem, truth) == []
    assert what in "; ".join(judge(replace(theorem, **change), truth))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"lr": 0.3}, "spectral radius"),
        ({"factor": 0.5}, "spectral radius"),
        ({"half_width": 0.5}, "spectral radius"),
        ({"half_width": 1e-12}, "need not hold the point"),
        ({"basin": 0.6}, "times as far away"),
    ],
)
def test_the_oracle_sees_what_does_not_attract(change, what):
    theorem = of_proof(proof_of_a_well())
    wrong = judge(replace(theorem, attraction=replace(theorem.attraction, **change)), exact("soundness:formula", WELL))
    assert what in "; ".join(wrong)


def test_the_oracle_sees_that_a_function_is_not_rotation_invariant_and_that_a_residual_does_not_vanish():
    ring_at = of_proof(prove(make("ring"), torch.tensor([0.5, 0.0]), 1.5))
    assert judge(ring_at, exact("ring", {})) == []
    tilted = {"dim": 2, "tree": ["+", ring(), ["*", 1e-17, YY]]}
    assert "‖g⁺‖ is" in judge(ring_at, exact("soundness:formula", tilted))[0]
    moat = of_proof(prove(make("moat"), torch.tensor([0.0, 0.7], dtype=torch.float64), 1.5))
    assert judge(moat, exact("moat", {})) == []
    assert judge(moat, exact("moat", {"height": 0.8 + 1e-6})) == ["the box holds no zero of g⁺"]
    # Of two coordinates one is held, and yet the minimizer is isolated.
    wells = Theorem("least squares", 1.5, (-1.0, 0.5), 1e-8, (1,), 0.1)
    assert "is said not to be isolated" in judge(wells, exact("multi-well", {}))[0]


@pytest.mark.parametrize("name", ["double-well", "ring", "multi-well", "bump-on-bowl", "moat", "soundness:network"])
def test_the_exact_functions_have_the_derivatives_of_the_floats(name):
    arguments = DATA if name == "soundness:network" else {}
    f, truth = make(name, arguments), exact(name, arguments)
    x = torch.linspace(-0.6, 0.9, f.dim, dtype=torch.float64)
    at = vector(x.tolist())
    assert float(truth.value(at)) == pytest.approx(float(f(x)), rel=1e-13)
    assert [float(v) for v in truth.grad(at)] == pytest.approx(f.grad(x).tolist(), rel=1e-12)
    hessian = [[float(truth.hessian(at)[i, j]) for j in range(f.dim)] for i in range(f.dim)]
    assert torch.allclose(torch.tensor(hessian, dtype=torch.float64), f.hessian(x), rtol=1e-11, atol=1e-13)


def test_the_sentence_is_read_as_a_whole():
    proof = proof_of_a_well()
    theorem = of_proof(proof)
    for edited in (proof.statement + " It is unique.", proof.statement.replace("strict ", ""), ""):
        with pytest.raises(NoTheorem):
            of_sentence(edited, theorem)

"""Studies that vary one thing: plans, what their cases do, and claims that are computed from the cells."""

import numpy as np
import pytest
import torch
import xarray as xr

from samirage.errors import UserError
from samirage.lab.engine.ensemble import Recipe
from samirage.lab.engine.functions import Particles
from samirage.lab.engine.line_scan import look
from samirage.lab.engine.models import cross_entropy
from samirage.lab.engine.networks import NETWORKS
from samirage.lab.results.claims import Verdict
from samirage.lab.studies import create
from samirage.lab.studies.comparison import Case, joined
from samirage.lab.studies.prevalence import _climb
from samirage.lab.tasks.diagnosis_codes import STATUSES
from samirage.lab.tasks.mnist import Digits
from samirage.landscape import Ring
from samirage.optim import SAM
from samirage.sam import Guard, Status

NAMES = ("evidence", "switch", "decay", "noise", "variants", "batch", "arch", "prevalence", "small-rho")
CPU = torch.device("cpu")


def study(name, scale="smoke", **overrides):
    return create([name], scale, {"threads": 1, **overrides})[0]


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
@pytest.mark.parametrize("name", NAMES)
def test_cells_have_names_of_their_own_that_are_good_for_files(name, scale):
    names = [cell.name for cell in study(name, scale).cells()]
    assert len(set(names)) == len(names) > 1
    assert all(set(n) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_") for n in names)


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_tells_plans_apart(name):
    plain, other = study(name).config, study(name, rhos=(0.5,)).config
    assert plain == study(name).config
    assert plain["plan"] != other["plan"]


def test_seeds_are_cut_into_blocks():
    one = study("batch", seeds=5, block=2)
    names = [cell.name for cell in one.cells()]
    assert names[:3] == ["rho10-sgd-32-seeds0-1", "rho10-sgd-32-seeds2-3", "rho10-sgd-32-seeds4-4"]
    cell = one.run(one.cells()[2], lambda passes: None)
    assert cell.seed.values.tolist() == [4]


def test_a_loss_is_taken_over_or_refused():
    assert study("batch", loss="cross-entropy").config["loss"] == "cross-entropy"
    with pytest.raises(UserError, match="unknown loss 'hinge': use one of softmax-squared"):
        study("batch", loss="hinge")
    for name in ("evidence", "arch", "small-rho"):
        with pytest.raises(UserError, match=f"study {name} has losses of its own: leave out --loss, or name other"):
            study(name, loss="cross-entropy")


@pytest.mark.parametrize("name", NAMES)
def test_first_and_last_cell_of_every_study_have_what_its_reading_shows(name):
    one = study(name)
    cells = one.cells()
    results = {cell.name: one.run(cell, lambda passes: None) for cell in (cells[0], cells[-1])}
    reading = one.reading(results)
    assert reading.title
    assert "?" in reading.question
    shown = {measure.name for measure in reading.measures}
    for cell in results.values():
        assert {"panel", "method", "x", "rho", "lr", "steps"} <= set(cell.attrs)
        assert shown <= set(cell.data_vars)
        assert all(cell[m].dims == ("seed",) and cell.sizes["seed"] == 2 for m in shown)
    one.claims(results, "command")  # which must bear that most cells are missing


@pytest.mark.parametrize("name", ["evidence", "decay", "noise", "batch", "prevalence", "variants"])
def test_progress_counts_the_passes_of_the_plan(name):
    one, done = study(name), []
    for cell in one.cells()[:8]:
        one.run(cell, done.append)
        assert sum(done) == cell.passes, cell.name
        done.clear()


def test_the_switch_comes_when_it_is_called():
    one = study("switch")
    cells = {cell.name: cell for cell in one.cells()}
    for percent in (0, 10, 50):
        cell = one.run(cells[f"rho10-switch-{percent}"], lambda passes: None)
        plain = round(percent / 100 * 40)
        assert (cell.gradients == plain + 2 * (40 - plain)).all()


def test_so_many_labels_are_wrong_and_test_labels_are_right():
    right, wrong = (Digits("mnist-mini", images=200, hidden=4, device=CPU, noise=noise) for noise in (0.0, 0.4))
    assert int((right.labels != wrong.labels).sum()) == 80
    assert set(wrong.labels.tolist()) == set(range(10))
    assert torch.equal(right.test_labels, wrong.test_labels)
    assert torch.equal(right.x, wrong.x)
    one = study("noise")
    noisy = {case.x: case.noise for case in one.cases()}
    assert noisy == {0.0: 0.0, 20.0: 0.2, 40.0: 0.4, 60.0: 0.6}


def test_full_batch_means_full_batch():
    one = study("batch")
    assert {case.x for case in one.cases()} == {32.0, 64.0, 100.0}
    cell = {c.name: c for c in one.cells()}["rho10-sam-100"]
    whole = one.digits(0.0, "").train(
        "softmax-squared", Recipe(steps=40, lr=1.0, rho=10.0), [0, 1], points=20, advance=lambda p: None, attributes={}
    )
    assert np.array_equal(one.run(cell, lambda p: None).final_loss, whole.final_loss)


@pytest.mark.parametrize("name", ["tanh 32-32", "ReLU 32", "CNN", "transformer"])
def test_networks_of_every_kind_are_trained_side_by_side_as_by_themselves(name):
    digits = Digits("mnist-mini", images=40, hidden=4, device=CPU, network=NETWORKS[name])
    recipe = Recipe(steps=16, lr=0.1, rho=0.5, guard=Guard())
    one = digits.train("cross-entropy", recipe, [3, 4], points=4, advance=lambda p: None, attributes={})

    for i, seed in enumerate([3, 4]):
        network = digits.network(seed)
        optimizer = SAM(torch.optim.SGD(network.parameters(), lr=0.1), rho=0.5, guard=Guard(), model=network)

        def closure(network=network, optimizer=optimizer):
            optimizer.zero_grad()
            loss = cross_entropy(network(digits.x), digits.labels)
            loss.backward()
            return loss

        for _ in range(16):
            optimizer.step(closure)
        last = {"final_grad_norm": "grad_norm", "final_shift_ratio": "shift_ratio", "final_radius": "radius"}
        for variable, name in last.items():  # a twentieth of 16 steps is one
            assert one[variable][i].item() == pytest.approx(getattr(optimizer.record, name).item(), rel=2e-3), variable
        with torch.no_grad():
            right = (network(digits.test_x).argmax(-1) == digits.test_labels).float().mean()
            assert one.final_loss[i].item() == pytest.approx(
                cross_entropy(network(digits.x), digits.labels).item(), rel=2e-3
            )
        assert one.final_test_accuracy[i].item() == right.item()


def test_a_run_is_diagnosed_at_its_end():
    digits = Digits("mnist-mini", images=200, hidden=32, device=CPU)
    for rho, expected in ((0.1, {Status.PROGRESSING}), (10.0, {Status.HALLUCINATED_PLATEAU})):
        recipe = Recipe(steps=160, lr=1.0, rho=rho)
        cell = digits.train(
            "softmax-squared", recipe, [0, 1], points=4, advance=lambda p: None, attributes={}, diagnosed=True
        )
        assert {STATUSES[code] for code in cell.status.values} == expected
        assert cell.attrs["statuses"][cell.status.values[0]] == expected.pop().value


RHOS = [0.25, 0.6, 1.2, 1.5, 2.0]


def test_rays_are_those_of_the_closed_form():
    seen = look(Particles(Ring(), torch.tensor([[0.5, 0.0]], dtype=torch.float64)), RHOS)
    y = 0.5 - np.array(RHOS)  # f = (|x|² − 1)²/4, so g = (|x|² − 1)·x, and the ascent goes to the centre
    slope = -(y**2 - 1) * y / 0.375
    assert np.allclose(seen.slope_ratio[:, 0], slope, rtol=1e-12)
    assert np.allclose(seen.shift_ratio[:, 0], np.abs(slope), rtol=1e-12)
    assert seen.grad_norm.item() == pytest.approx(0.375)
    assert seen.ridge.item() == 0.6
    assert seen.within(0.25).ridge.item() == np.inf
    assert seen.mirage.item() == 1.5  # x⁺ is the minimizer at −1
    assert seen.within(1.2).mirage.item() == np.inf


def test_looking_moves_nothing():
    particles = Particles(Ring(), torch.tensor([[0.5, 0.1]], dtype=torch.float64))
    before = particles.params[0].clone()
    look(particles, RHOS)
    assert torch.equal(particles.params[0], before)


def test_an_ascent_finds_the_maximizer_and_not_a_slope():
    starts = torch.tensor([[0.5, 0.0], [0.3, 0.4]], dtype=torch.float64)
    top, way = _climb(Particles(Ring(), starts), lr=0.05, steps=400)
    assert top.all()
    assert way.numpy() == pytest.approx([0.5, 0.5], abs=1e-4)
    top, _ = _climb(Particles(Ring(), starts), lr=0.05, steps=10)
    assert not top.any()


def made(one, value, **others):
    """A cell of four seeds for every case, whose accuracies and other variables are given by the case."""
    cells = {}
    for case in one.cases():
        given = {name: make(case) for name, make in others.items()}
        hit = bool(given.get("hallucinated", False))
        data = {
            "final_test_accuracy": ("seed", value(case) + np.array([-0.01, 0.0, 0.0, 0.01])),
            "hallucinated": ("seed", np.full(4, hit)),
            "final_grad_norm": ("seed", np.ones(4)),
            "final_shift_ratio": ("seed", np.full(4, 0.5)),
            "status": ("seed", np.full(4, STATUSES.index(given.get("status", Status.PROGRESSING)), dtype=np.int8)),
            "ridge_in_reach": ("seed", np.full(4, 0.0)),
            "mirage_in_reach": ("seed", np.full(4, float(given.get("mirage", False)))),
            "nearest_mirage": ("seed", np.ones(4)),
            "top": ("seed", np.full(4, given.get("top", True))),
            "way_to_top": ("seed", np.ones(4)),
            "gradients": ("seed", np.full(4, 450)),
        }
        cells[case.name] = xr.Dataset(data, {"seed": range(4)}, one.attributes(case))
    return cells


def verdicts(name, value, **others):
    one = study(name, "laptop")
    cells = made(one, value, **others)
    claims = one.claims(cells, "command")
    assert claims
    assert one.reading(cells).findings
    return {claim.statement: claim.verdict for claim in claims}


def test_the_finding_on_the_criterion_counts_gradients():
    one = study("switch", "laptop")
    told = one.reading(made(one, lambda case: 0.8)).findings[0]
    assert told.endswith("a network takes 1.50 gradients a step: 1 would be plain steps throughout, 2 SAM.")


def is_large(case):
    return case.recipe.rho > 0.3


def collapses(case: Case):
    """Whether a case is SAM alone at a large radius."""
    return case.method in {"sam", "asam", "unnormalized", "gsam", "looksam", "momentum"} and (
        is_large(case) and case.recipe.guard is None
    )


def accuracy(case):
    return 0.1 if collapses(case) else 0.85


GOOD = {
    "evidence": {
        "value": accuracy, "hallucinated": collapses,
        "status": lambda c: Status.HALLUCINATED_PLATEAU if collapses(c) else Status.PROGRESSING,
    },
    "switch": {"value": accuracy},
    "decay": {"value": lambda c: {"linear": 0.7, "guard+decay": 0.85}.get(c.method, 0.6)},
    "noise": {"value": lambda c: 0.85 - c.noise * (0.5 if c.method == "sgd" else 0.4)},
    "variants": {"value": accuracy, "hallucinated": collapses},
    "batch": {"value": lambda c: 0.85},
    "arch": {"value": accuracy, "hallucinated": collapses},
    "prevalence": {"value": accuracy, "hallucinated": lambda c: not c.panel.endswith("0.3")},
    "small-rho": {"value": accuracy, "mirage": lambda c: c.recipe.rho > 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_claims_hold_where_the_runs_support_them(name):
    assert set(verdicts(name, **GOOD[name]).values()) == {Verdict.HOLDS}


@pytest.mark.parametrize(
    ("name", "broken", "part"),
    [
        ("evidence", {"status": lambda c: Status.SADDLE_TRAP if collapses(c) else Status.PROGRESSING}, "nine in ten"),
        ("evidence", {"status": lambda c: Status.HALLUCINATED_BOUNCE}, "No guarded network is diagnosed"),
        ("switch", {"value": lambda c: 0.9 if c.x == "0%" else 0.8}, "a warm start of 10 % is not below SAM alone"),
        ("switch", {"value": lambda c: 0.5 if c.x == "slope" else 0.8}, "the criterion is at most 0.03 below"),
        ("switch", {"hallucinated": lambda c: c.method == "switch"}, "after a warm start of 10 % no network"),
        ("switch", {"hallucinated": lambda c: "guard" in c.method}, "with a guard no network ends"),
        ("decay", {"value": lambda c: 0.5 if c.method == "linear" and c.x == 3.0 else 0.8}, "not below a constant one"),
        ("decay", {"value": lambda c: 0.7}, "is at least 0.05 above a decaying one"),
        ("decay", {"hallucinated": lambda c: c.method == "linear" and c.x == 30.0}, "leaves no network at a"),
        ("noise", {"value": lambda c: 0.85 - c.noise * (0.4 if c.method == "sgd" else 0.5)}, "gains no less over"),
        ("noise", {"value": lambda c: 0.9 if c.method == "sam" else 0.8}, "the guard is not below SAM alone"),
        ("variants", {"hallucinated": lambda c: False}, "GSAM alone: at its worst radius at least half"),
        ("variants", {"hallucinated": lambda c: c.method == "gsam"}, "With a guard no network ends"),
        ("variants", {"value": lambda c: 0.8}, "LookSAM, every 5 steps: at its worst radius, the guard raises"),
        ("batch", {"value": lambda c: 0.5 if c.x == 32 else 0.8}, "SAM alone is not below itself with the full batch"),
        ("batch", {"hallucinated": lambda c: c.method == "sam"}, "no network trained with SAM alone ends"),
        ("batch", {"value": lambda c: 0.5 if c.method == "guard+decay" else 0.8}, "is at most 0.02 below plain"),
        ("arch", {"value": lambda c: 0.5 if c.method == "guard+decay" else 0.8}, "is at most 0.03 below plain"),
        ("arch", {"hallucinated": lambda c: c.method == "guard+decay"}, "no network of any kind"),
        ("arch", {"hallucinated": lambda c: c.x == "tanh 8"}, "SAM alone hallucinates, at least at some seed"),
        ("prevalence", {"hallucinated": lambda c: True}, "SAM is drawn into a hallucinated point from no place"),
        ("prevalence", {"hallucinated": lambda c: False}, "from at least half of the places"),
        ("prevalence", {"top": lambda c: False}, "following the gradient uphill ends on flat land"),
        ("small-rho", {"mirage": lambda c: True}, "the shifted gradient never vanishes within ρ"),
        ("small-rho", {"mirage": lambda c: False}, "vanishes within ρ at some time"),
    ],
)  # fmt: skip
def test_each_claim_fails_where_the_runs_contradict_it(name, broken, part):
    found = verdicts(name, **{**GOOD[name], **broken})
    about = {statement: verdict for statement, verdict in found.items() if part in statement}
    assert about
    assert Verdict.FAILS in about.values()


def test_blocks_of_seeds_are_joined_before_they_are_judged():
    one = study("batch", seeds=4, block=2)
    cells = [cell for cell in one.cells() if cell.name.startswith("rho10-sgd-32")]
    runs = joined({cell.name: one.run(cell, lambda passes: None) for cell in cells})
    assert {key: run.seed.values.tolist() for key, run in runs.items()} == {("ρ = 10", "sgd", 32.0): [0, 1, 2, 3]}


def test_the_networks_of_the_others_are_those_of_the_first_study():
    digits = Digits("mnist-mini", images=20, hidden=32, device=CPU)
    other = Digits("mnist-mini", images=20, hidden=32, device=CPU, network=NETWORKS["tanh 32"])
    for a, b in zip(digits.network(7).parameters(), other.network(7).parameters(), strict=True):
        assert torch.equal(a, b)

"""What counts: every criterion, and every choice of a worst or best case, against numbers worked out by hand."""

import numpy as np
import pytest
import torch
import xarray as xr

from samirage.lab.results.claims import Verdict
from samirage.lab.results.runs import rejected_share
from samirage.lab.studies import create
from samirage.lab.studies.guard import SCALES as GUARD_SCALES
from samirage.lab.studies.guard import GuardStudy
from samirage.lab.studies.mnist import SCALES as MNIST_SCALES
from samirage.lab.studies.mnist import MnistStudy
from samirage.lab.tasks.diagnosis_codes import STATUSES
from samirage.lab.tasks.mnist import state_at_end
from samirage.sam import Status, is_at_hallucinated_point


@pytest.mark.parametrize(
    ("shift_ratio", "share_of_early_norm", "hallucinated"),
    [
        (0.099, 1.0, True), (0.101, 1.0, False), (0.3, 1.0, False),
        (0.01, 1.01e-3, True), (0.01, 4e-3, True), (0.01, 0.99e-3, False),
        (float("nan"), 1.0, False), (0.01, float("nan"), False),
    ],
)  # fmt: skip
def test_a_run_is_at_a_hallucinated_point_below_a_tenth_and_above_a_thousandth(
    shift_ratio, share_of_early_norm, hallucinated
):
    early = torch.tensor([5.0])
    flag = is_at_hallucinated_point(torch.tensor([shift_ratio]), share_of_early_norm * early, early)
    assert flag.tolist() == [hallucinated]


def course(**last):
    """A course of 200 steps. For each figure `(before, n, after)`: its value, and another one in the last `n` steps."""
    given = {"loss": (1.0, 1, 1.0), "grad_norm": (2.0, 1, 2.0), "shift_ratio": (1.0, 1, 1.0), "radius": (3.0, 1, 3.0)}
    values = {"passes": torch.full((200, 1), 2)}
    for name, (before, n, after) in (given | last).items():
        values[name] = torch.full((200, 1), before)
        values[name][-n:] = after
    return values


@pytest.mark.parametrize(
    ("stalled_steps", "hallucinated"),
    [(3, False), (4, False), (6, True), (10, True), (60, True)],  # the median of the last 10 of 200 steps
)
def test_the_state_at_the_end_is_that_of_the_last_twentieth(stalled_steps, hallucinated):
    end = state_at_end(course(shift_ratio=(1.0, stalled_steps, 0.01)))
    assert end["hallucinated"].tolist() == [hallucinated]
    assert end["final_shift_ratio"].item() == pytest.approx(0.01 if hallucinated else 1.0)
    other_way = state_at_end(course(shift_ratio=(0.01, stalled_steps, 1.0)))
    assert other_way["hallucinated"].tolist() == [not hallucinated]
    for name in ("grad_norm", "radius"):
        found = state_at_end(course(**{name: (1.0, stalled_steps, 7.0)}))[f"final_{name}"].item()
        assert found == (7.0 if hallucinated else 1.0)


@pytest.mark.parametrize(("early_steps", "counts"), [(3, False), (8, True)])
def test_the_early_norm_is_that_of_the_first_twentieth(early_steps, counts):
    # A norm of 1 at the end is a 2000th of an early one of 2000, if that is what the first 10 steps have.
    values = course(shift_ratio=(0.01, 1, 0.01), grad_norm=(1.0, 1, 1.0))
    values["grad_norm"][:early_steps] = 2000.0
    assert state_at_end(values)["hallucinated"].tolist() == [not counts]


@pytest.mark.parametrize(
    ("steps", "every", "stalled"),
    [(200, 5, [190, 195]), (200, 100, [100]), (200, 1, range(190, 200)), (40, 30, [30])],
)  # those of the last twentieth, or, where none of them is of two passes, the last such step
def test_the_state_at_the_end_is_that_of_steps_of_two_passes(steps, every, stalled):
    of_two = torch.arange(steps) % every == 0
    ratio = torch.where(of_two, 1.0, torch.nan)
    ratio[list(stalled)] = 0.01
    found = state_at_end({
        "loss": torch.ones(steps, 1), "shift_ratio": ratio[:, None], "radius": 3 * (ratio / ratio)[:, None],
        "grad_norm": torch.where(of_two, 2.0, 9.0)[:, None], "passes": (1 + of_two.long())[:, None],
    }, alternates=True)  # fmt: skip
    expected = {"final_shift_ratio": 0.01, "final_grad_norm": 2.0, "final_radius": 3.0, "hallucinated": True}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)


def test_a_probe_of_a_warm_start_that_is_not_over_says_nothing_of_the_end():
    ratio = torch.full((40, 1), torch.nan)
    ratio[38] = 0.01
    found = state_at_end({
        "loss": torch.ones(40, 1), "shift_ratio": ratio, "radius": ratio, "grad_norm": torch.ones(40, 1),
        "passes": 1 + ratio.isfinite().long(),
    })  # fmt: skip
    assert found["final_shift_ratio"].isnan().item()
    assert not found["hallucinated"].item()


def test_a_run_of_plain_steps_has_a_gradient_at_its_end_and_no_shift_ratio():
    nothing = torch.full((40, 1), torch.nan)
    found = state_at_end({
        "loss": torch.ones(40, 1), "shift_ratio": nothing, "radius": nothing, "grad_norm": torch.arange(40.0)[:, None],
        "passes": torch.ones(40, 1, dtype=torch.int64),
    })  # fmt: skip
    assert found["final_grad_norm"].item() == 38.0
    assert found["final_shift_ratio"].isnan().item()
    assert not found["hallucinated"].item()


def cell(attrs, **values):
    n = len(next(iter(values.values())))
    return xr.Dataset({name: ("seed", np.array(v)) for name, v in values.items()}, {"seed": range(n)}, attrs)


def test_claim_1_of_mnist_takes_a_vanishing_slope_at_x_plus_a_gradient_and_no_learning():
    # One network on either side of each threshold: r < 0.01, norm > 0.1, accuracy < 0.2.
    ratio = [0.0099, 0.0101, 0.0099, 0.0099, 0.0099, 0.0099]
    norm = [0.5, 0.5, 0.101, 0.099, 0.5, 0.5]
    accuracy = [0.1, 0.1, 0.1, 0.1, 0.199, 0.201]
    one = cell(
        {"method": "sam", "rho": 10.0}, final_shift_ratio=ratio, final_grad_norm=norm, final_test_accuracy=accuracy,
        hallucinated=[True] * 6,
    )  # fmt: skip
    (claim,) = MnistStudy(MNIST_SCALES["smoke"]).claims({"a": one}, "command")
    assert claim.statement.startswith("With SAM alone at rho = 10")
    assert (claim.measured, claim.n) == (3 / 6, 6)


def test_the_claim_of_mnist_on_practical_radii_is_on_those_up_to_a_half():
    cells = {
        f"{rho}": cell(
            {"method": "sam", "rho": rho}, final_shift_ratio=[1.0] * 4, final_grad_norm=[1.0] * 4,
            final_test_accuracy=[0.8] * 4, hallucinated=np.arange(4) < hit,
        )
        for rho, hit in ((0.05, 0), (0.5, 1), (0.51, 4), (1.0, 4))
    }  # fmt: skip
    (claim,) = MnistStudy(MNIST_SCALES["smoke"]).claims(cells, "command")
    assert (claim.measured, claim.n, claim.verdict) == (1 / 8, 8, Verdict.FAILS)


def guard_cells(accuracies, rejections):
    """Cells of study guard: {(method, rho): mean accuracy}; and rejections of 100 judged steps of each guarded one."""
    cells = {}
    for (method, rho), mean in accuracies.items():
        attrs = {
            "method": method, "rho": rho, "loss_name": "cross-entropy", "batch_size": 0, "passes": 200, "steps": 100,
        }  # fmt: skip
        values = {"final_test_accuracy": mean + np.array([-0.01, 0.01]), "hallucinated": [False, False]}
        if "guard" in method:
            values["rejections"] = np.array([rejections[rho] - 1, rejections[rho] + 1])
        cells[f"{method}-{rho}"] = cell(attrs, **values)
    return cells


def test_claims_of_guard_are_about_the_least_margin_the_worst_and_the_best_radius():
    ours = {0.1: 0.85, 0.3: 0.84, 0.5: 0.83, 1.0: 0.82, 10.0: 0.70}
    others = {
        "sam": {0.1: 0.851, 0.3: 0.86, 0.5: 0.80, 1.0: 0.81, 10.0: 0.10},
        "switch": {0.1: 0.1, 0.3: 0.1, 0.5: 0.6, 1.0: 0.5, 10.0: 0.65},
        "decay": {0.1: 0.99, 0.3: 0.99, 0.5: 0.825, 1.0: 0.80, 10.0: 0.30},
    }
    accuracies = {("guard+decay", rho): mean for rho, mean in ours.items()}
    accuracies |= {(method, rho): mean for method, line in others.items() for rho, mean in line.items()}
    rejections = {0.1: 1, 0.3: 2, 0.5: 9, 1.0: 4, 10.0: 3}
    claims = GuardStudy(GUARD_SCALES["smoke"]).claims(guard_cells(accuracies, rejections), "command")
    hit, rejected, worst, sam, switch, decay, small = claims
    assert (hit.measured, hit.n) == (0.0, 10)
    assert rejected.measured == pytest.approx(0.09)  # at 0.5, where most are
    assert "worst radius (10)" in worst.statement
    assert worst.measured == pytest.approx(0.70 - 0.86)  # SAM's best is at 0.3
    # Of the radii above 0.3: at 0.5, 1 and 10 the margins are 0.03, 0.01, 0.6; 0.23, 0.32, 0.05; 0.005, 0.02, 0.4.
    assert [(c.measured, c.statement[-4:-1].strip()) for c in (sam, switch, decay)] == [
        (pytest.approx(0.01), "t 1"), (pytest.approx(0.05), "10"), (pytest.approx(0.005), "0.5"),
    ]  # fmt: skip
    # Of those up to 0.3 the margins are −0.001 and −0.02, with the same errors.
    assert small.measured == pytest.approx(-0.02)
    assert "least margin, at 0.3" in small.statement


def test_the_tolerance_of_small_radii_is_two_standard_errors_of_paired_differences():
    cells = guard_cells({("guard+decay", 0.1): 0.84, ("sam", 0.1): 0.85}, {0.1: 1})
    cells["sam-0.1"]["final_test_accuracy"][:] = [0.82, 0.88]  # differences 0.01 and −0.03: mean −0.01, error 0.02
    claim = GuardStudy(GUARD_SCALES["smoke"]).claims(cells, "command")[-1]
    assert (claim.measured, claim.standard_error, claim.tolerance) == pytest.approx((-0.01, 0.02, 0.04))
    assert claim.verdict is Verdict.HOLDS


def test_rejected_steps_are_counted_among_those_that_were_judged():
    run = xr.Dataset({"rejections": ("seed", [0, 20])}, attrs={"passes": 180, "steps": 100})
    assert rejected_share(run).values.tolist() == [0.0, 0.25]


def comparison(name, value, **others):
    """A study at the laptop scale, and a cell of two seeds for each of its cases."""
    one = create([name], "laptop", {"threads": 1})[0]
    cells = {}
    for case in one.cases():
        given = {key: make(case) for key, make in others.items()}
        mean = value(case)
        values = {
            "final_test_accuracy": np.asarray(mean) if np.ndim(mean) else mean + np.array([-0.01, 0.01]),
            "hallucinated": given.get("hallucinated", [False, False]),
            "final_grad_norm": [1.0, 1.0],
            "final_shift_ratio": [0.5, 0.5],
            "gradients": [450, 450],
            "status": [STATUSES.index(s) for s in given.get("status", [Status.PROGRESSING] * 2)],
            "mirage_in_reach": given.get("mirage_in_reach", [0.0, 0.0]),
            "nearest_mirage": [1.0, 1.0],
        }
        cells[case.name] = cell(one.attributes(case), **values)
    return {claim.statement: claim for claim in one.claims(cells, "command")}


def found(claims, part):
    (claim,) = [claim for statement, claim in claims.items() if part in statement]
    return claim


def test_evidence_is_about_networks_below_a_fifth():
    def accuracy(case):
        return [0.199, 0.201] if case.method == "sam" and case.x == 10.0 else [0.4, 0.8]

    claims = comparison("evidence", accuracy, status=lambda c: [Status.HALLUCINATED_PLATEAU, Status.SADDLE_TRAP])
    # Of each loss, one network of SAM alone is below 0.2.
    for panel in ("softmax-squared", "cross-entropy", "tanh-squared"):
        at_point, trapped = (found(claims, f"{panel}: of {words} networks") for words in ("the", "those"))
        assert (at_point.measured, at_point.n) == (1.0, 1)
        assert (trapped.measured, trapped.n) == (0.0, 1)


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (Status.SADDLE_TRAP, True), (Status.MAXIMIZER_TRAP, True), (Status.BOUNCING_MINIMIZER, True),
        (Status.STATIONARY, True), (Status.PROGRESSING, False), (Status.HALLUCINATED_PLATEAU, False),
        (Status.UNDECIDED, False),
    ],
)  # fmt: skip
def test_which_diagnoses_are_other_explanations(status, counts):
    claims = comparison("evidence", lambda c: 0.1, status=lambda c: [status, status])
    assert found(claims, "softmax-squared: of those networks").measured == float(counts)


def test_evidence_of_small_radii_ends_at_0_3():
    for rho, counts in ((0.3, True), (1.0, False)):
        claims = comparison(
            "evidence", lambda c: 0.8,
            status=lambda c, rho=rho: [Status.HALLUCINATED_BOUNCE if c.x == rho else Status.PROGRESSING] * 2,
        )  # fmt: skip
        small = found(claims, "At radii up to 0.3 no network of any method")
        assert (small.measured > 0) is counts
        # Three losses, five methods, the radii 0.1 and 0.3, two seeds.
        assert small.n == 3 * 5 * 2 * 2


def test_arch_and_batch_are_about_their_least_margins():
    def accuracy(case):
        ours = {"tanh 8": 0.70, "CNN": 0.75}.get(case.x, {32.0: 0.79, 128.0: 0.77}.get(case.x, 0.83))
        return ours if case.method == "guard+decay" else 0.80

    claims = comparison("arch", accuracy)
    least = found(claims, "ρ = 3: the guard with a decaying radius is at most 0.03 below")
    assert least.measured == pytest.approx(-0.1)
    assert "least margin: tanh 8" in least.statement
    claims = comparison("batch", accuracy)
    least = found(claims, "ρ = 3: the guard with a decaying radius is at most 0.02 below")
    assert least.measured == pytest.approx(-0.03)
    assert "least margin, at 128" in least.statement


def test_arch_counts_kinds_of_which_any_seed_hallucinates_at_the_largest_radius():
    kinds = {"tanh 8", "CNN", "transformer"}

    def hit(case):
        alone = case.method == "sam" and case.panel == "ρ = 10" and case.x in kinds
        return [False, alone or (case.method == "sam" and case.panel == "ρ = 3")]

    claim = found(comparison("arch", lambda c: 0.8, hallucinated=hit), "at least half of all kinds")
    assert (claim.measured, claim.n) == (pytest.approx(3 / 11), 11)


def test_batch_compares_the_smallest_batch_with_the_full_one():
    def accuracy(case):
        return {32.0: 0.50, 64.0: 0.9, 500.0: 0.60}.get(case.x, 0.1)

    claim = found(comparison("batch", accuracy), "ρ = 3: with batches of 32, SAM alone is not below")
    assert claim.measured == pytest.approx(-0.1)


def test_decay_is_about_the_least_margin_and_the_worst_radii():
    linear = {0.3: 0.80, 1.0: 0.78, 3.0: 0.82, 10.0: 0.60, 30.0: 0.79}
    guarded = {0.3: 0.85, 1.0: 0.84, 3.0: 0.83, 10.0: 0.86, 30.0: 0.84}
    constant = {0.3: 0.81, 1.0: 0.80, 3.0: 0.70, 10.0: 0.50, 30.0: 0.10}
    lines = {"linear": linear, "guard+decay": guarded, "sam": constant}
    claims = comparison(
        "decay", lambda c: lines.get(c.method, dict.fromkeys(linear, 0.5))[c.x],
        hallucinated=lambda c: [False, c.method == "linear" and c.x != 30.0],
    )  # fmt: skip
    least = found(claims, "Full batch: a radius that decays linearly")
    assert least.measured == pytest.approx(-0.02)
    assert "least margin, at 1)" in least.statement
    assert found(claims, "Full batch: at its worst radius").measured == pytest.approx(0.83 - 0.60)
    assert found(claims, "Full batch: at the largest radius").measured == 0.0


def test_noise_compares_40_percent_with_none():
    table = {"guard": (0.9, 0.1, 0.7, 0.1), "sgd": (0.88, 0.9, 0.5, 0.9), "sam": (0.2, 0.9, 0.65, 0.9)}

    def accuracy(case):
        return table.get(case.method, (0.5,) * 4)[round(case.x / 20)]

    claims = comparison("noise", accuracy)
    assert found(claims, "ρ = 1: guarded SAM gains").measured == pytest.approx((0.7 - 0.5) - (0.9 - 0.88))
    assert found(claims, "ρ = 1: with 40 % wrong labels the guard").measured == pytest.approx(0.05)


def test_switch_compares_with_the_best_switch_point():
    line = {"0%": 0.60, "10%": 0.70, "20%": 0.81, "slope": 0.78}
    claims = comparison("switch", lambda c: line.get(c.x, 0.5))
    assert found(claims, "ρ = 3: a warm start of 10 %").measured == pytest.approx(0.1)
    best = found(claims, "ρ = 3: the criterion")
    assert best.measured == pytest.approx(-0.03)
    assert "the best switch point (20%)" in best.statement


def test_variants_are_judged_at_their_worst_radii():
    def accuracy(case):
        alone, guarded = ((0.8, 0.3, 0.2, 0.6, 0.7), (0.9, 0.85, 0.8, 0.6, 0.7))
        return (alone if case.panel == "Alone" else guarded)[(0.3, 1.0, 3.0, 10.0, 30.0).index(case.x)]

    def hit(case):
        return [case.panel == "Alone" and case.x in (3.0, 10.0), case.panel == "Alone" and case.x == 10.0]

    claims = comparison("variants", accuracy, hallucinated=hit)
    assert found(claims, "GSAM alone: at its worst radius at least half").measured == 1.0
    assert found(claims, "ASAM: at its worst radius, the guard raises").measured == pytest.approx(0.6 - 0.2)


@pytest.mark.parametrize(
    ("rho", "small", "large"), [(0.05, 1 / 8, 0.0), (0.1, 1 / 8, 0.0), (0.3, 0.0, 0.0), (10.0, 0.0, 1 / 2)]
)
def test_small_radii_end_at_0_1_and_large_ones_begin_at_10(rho, small, large):
    claims = comparison("small-rho", lambda c: 0.8, mirage_in_reach=lambda c: [0.0, 0.2 if c.x == rho else 0.0])
    # Radii 0.001, 0.01, 0.05 and 0.1 are small, and 10 is large; two seeds each.
    assert found(claims, "tanh-squared: at radii up to 0.1").measured == small
    assert found(claims, "tanh-squared: at radii of 10 and more").measured == large

"""Where a yes of the mathematics turns into a no, and the numbers that hold when nobody gives any."""

import math

import pytest
import torch

from samirage.sam import (
    ASAM,
    GSAM,
    Constant,
    Decay,
    Guard,
    LookSAM,
    Ramp,
    Status,
    StepFigures,
    Tail,
    WarmStart,
    agreement,
    check_lengths,
    is_at_hallucinated_point,
    max_stable_lr,
    multipliers,
    radius_factor,
    sam_edge,
)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def figures(*, grad, grad_plus, slope):
    """Figures of steps of which only the two norms and the slope at x⁺ are known."""
    grad, grad_plus, slope = (torch.as_tensor(v, dtype=torch.float64) for v in (grad, grad_plus, slope))
    nan = torch.full_like(grad, torch.nan)
    return StepFigures(
        loss=nan, loss_plus=nan, grad_norm=grad, grad_plus_norm=grad_plus, shift_ratio=nan, ascent_gain=nan,
        slope_plus=slope, cosine=nan, radius=nan,
    )  # fmt: skip


# --- the criterion of a hallucinated point ------------------------------------------------------------


def test_a_hallucinated_point_has_less_than_a_tenth_of_the_gradient_left_and_more_than_a_thousandth_of_the_early_one():
    early = 50.0
    for ratio, grad, expected in [
        (0.0999, 1.0, True),
        (0.1, 1.0, False),
        (0.05, 0.0501, True),
        (0.05, 0.05, False),
        (0.0, 50.0, True),
    ]:
        assert is_at_hallucinated_point(tensor(ratio), tensor(grad), tensor(early)).tolist() == [expected]


def test_what_is_not_known_is_no_hallucinated_point():
    for values in [(math.nan, 1.0, 1.0), (0.01, math.nan, 1.0), (0.01, 1.0, math.nan)]:
        assert not is_at_hallucinated_point(*map(tensor, values)).item()


# --- the guard ---------------------------------------------------------------------------------------


def test_agreement_is_the_slope_over_the_larger_of_the_two_gradients():
    found = agreement(figures(grad=[4.0, 1.0, 2.0, 0.0], grad_plus=[1.0, 4.0, 2.0, 3.0], slope=[0.5, 2.0, -2.0, 0.0]))
    assert found.tolist() == [0.125, 0.5, -1.0, 1.0]


def test_the_guards_own_numbers():
    guard = Guard()
    accepted = guard.accepts(figures(grad=[10.0, 10.0], grad_plus=[10.0, 10.0], slope=[7.0, 6.999]))
    assert accepted.tolist() == [True, False]
    state = guard.begin(tensor(1.0, 1.0))
    factors = []
    for seen in ([False, True], [True, True], [True, False]):
        state = guard.after(state, torch.tensor(seen))
        factors.append(state.factor.tolist())
    assert factors == [[0.5, 1.0], [0.525, 1.0], [pytest.approx(0.55125, rel=1e-15), 0.5]]
    # One step in 1 + log(1/shrink)/log(growth) is rejected at most, which the documentation calls 1 in 15.
    assert 1 + math.log(2) / math.log(1.05) == pytest.approx(15, abs=0.3)


def test_the_radius_shrinks_to_a_billionth_of_a_thousandth_and_no_further():
    guard, state = Guard(), Guard().begin(tensor(1.0))
    for _ in range(41):
        before, state = state, guard.after(state, torch.tensor([False]))
    assert before.factor.item() == state.factor.item() == 2.0**-40
    assert state.rejections.item() == state.consecutive.item() == 41
    for kappa, shrink, growth in [(1e-9, 1e-9, 1.0), (1 - 1e-9, 1 - 1e-9, 1e9)]:
        assert Guard(kappa=kappa, shrink=shrink, growth=growth).growth == growth
    assert Guard(growth=1.0).after(state, torch.tensor([True])).factor.item() == 2.0**-40


# --- the warm start ----------------------------------------------------------------------------------


def test_a_warm_start_probes_every_tenth_step_and_ends_after_three_probes_in_a_row_that_agree():
    warm_start = WarmStart(until="slope")
    assert [step for step in range(35) if warm_start.probes_at(step)] == [9, 19, 29]
    assert warm_start.length is None
    agreed = warm_start.begin(tensor(1.0, 1.0))
    assert agreed.tolist() == [0, 0]
    assert agreed.dtype == torch.int64
    counts, over = [], []
    # Member 0 misses once by a thousandth; member 1 never, and stays where it is once it has come to three.
    for slope in ([0.7, 0.7], [0.699, 0.7], [0.7, 1.0], [0.8, -1.0], [0.7, 0.0]):
        agreed = warm_start.after_probe(agreed, figures(grad=[1.0, 1.0], grad_plus=[1.0, 1.0], slope=slope))
        counts.append(agreed.tolist())
        over.append(warm_start.is_over(agreed).tolist())
    assert counts == [[1, 1], [0, 2], [1, 3], [2, 3], [3, 3]]
    assert over == [[False, False], [False, False], [False, True], [False, True], [True, True]]


def test_a_warm_start_with_a_length_probes_within_it_only_and_one_without_a_criterion_never():
    both = WarmStart(steps=25, until="slope", probe_every=10)
    assert [step for step in range(60) if both.probes_at(step)] == [9, 19]
    assert not any(WarmStart(steps=25).probes_at(step) for step in range(60))
    assert [WarmStart(until="slope").covers(step) for step in (0, 10**9)] == [True, True]
    share = WarmStart(fraction=0.1, total_steps=600, until="slope")
    assert share.length == 60
    assert [step for step in range(600) if share.probes_at(step)] == [9, 19, 29, 39, 49, 59]


@pytest.mark.parametrize("name", ["probe_every", "probes", "kappa"])
def test_a_probe_that_makes_no_sense_is_a_sentence(name):
    whole = name != "kappa"
    legal = "a whole number of at least 1" if whole else "above 0 and below 1"
    for bad in [0, -1, 1.0, True] if whole else [0.0, 1.0, -0.1, math.nan]:
        with pytest.raises(ValueError, match=f"WarmStart {name} must be {legal}; got {bad}"):
            WarmStart(until="slope", **{name: bad})
    assert getattr(WarmStart(until="slope", **{name: 1 if whole else 1e-9}), name) in {1, 1e-9}
    with pytest.raises(ValueError, match="WarmStart until must be 'slope' or None; got 'loss'"):
        WarmStart(until="loss")


def test_the_ends_of_a_warm_starts_range():
    assert WarmStart(steps=9, total_steps=9).length == 9
    assert WarmStart(steps=0, total_steps=1).length == 0
    assert [WarmStart(fraction=f, total_steps=10).length for f in (0, 0.0, 1, 1.0)] == [0, 0, 10, 10]
    with pytest.raises(ValueError, match=r"WarmStart total_steps must be a whole number of at least 1; got 2\.5"):
        WarmStart(fraction=0.1, total_steps=2.5)
    check_lengths(WarmStart(steps=9), steps=9)
    with pytest.raises(ValueError, match="warm start of 9 steps is longer than the training of 8 steps"):
        check_lengths(WarmStart(steps=9), steps=8)
    with pytest.raises(ValueError, match="warm start of 9 steps is longer than the training of 8 steps"):
        check_lengths(WarmStart(steps=9, total_steps=10), steps=8)


# --- schedules ---------------------------------------------------------------------------------------


def test_the_ends_of_what_a_schedule_may_be():
    assert [Constant(0.0)(5), Constant()(5), Constant(2)(5)] == [0.0, 1.0, 2.0]
    assert [Ramp(steps=1)(step) for step in range(3)] == [0.0, 1.0, 1.0]
    assert [Ramp(steps=2, start=2.0)(step) for step in range(3)] == [2.0, 1.5, 1.0]
    assert [Decay(total_steps=1)(step) for step in range(3)] == [1.0, 0.0, 0.0]
    assert [Decay(total_steps=3, start=2)(step) for step in range(5)] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert [Tail(fraction=1, total_steps=1)(step) for step in range(2)] == [1.0, 1.0]


def test_a_product_has_the_length_that_one_of_the_two_knows():
    known = Decay(total_steps=12)
    assert (known * Ramp(steps=2)).total_steps == (Ramp(steps=2) * known).total_steps == 12
    assert (Ramp(steps=2) * Constant()).total_steps is None

    def scheduled(step):
        return 1.0

    scheduled.total_steps = "many"  # not a length: whose schedule it is knows what it means
    assert (scheduled * known).total_steps == 12
    check_lengths(scheduled, known)


def test_without_a_warm_start_or_a_schedule_the_radius_is_what_the_other_one_says():
    assert radius_factor(0, warm_start=None, schedule=None) == 1.0
    assert radius_factor(3, warm_start=None, schedule=Ramp(steps=4)) == 0.75
    assert [radius_factor(step, warm_start=WarmStart(steps=1), schedule=None) for step in range(2)] == [0.0, 1.0]


# --- the edge and stability --------------------------------------------------------------------------


def test_the_edge_without_a_radius_is_that_of_gradient_descent_whatever_the_gradient():
    assert sam_edge(tensor(0.0, 1e-300, 3.0), rho=0.0, lr=0.1).tolist() == pytest.approx([20.0] * 3, rel=1e-14)
    assert sam_edge(tensor(0.0, 0.0), rho=1.0, lr=0.1).tolist() == [0.0, 0.0]
    assert sam_edge(tensor(0.0), rho=0, lr=0.5).item() == 4.0


def test_the_edge_at_huge_radii_is_that_of_the_second_term_alone():
    # With t = 8·rho/(lr·‖g‖) → ∞ the edge is (4/lr)/√t = √(2·‖g‖/(lr·rho)), up to a factor 1 − 1/√t.
    edge = sam_edge(tensor(2.0), rho=1e12, lr=0.5).item()
    assert edge == pytest.approx(math.sqrt(2 * 2.0 / (0.5 * 1e12)), rel=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.95])
def test_multipliers_have_the_sum_and_the_product_of_their_quadratic_and_the_larger_comes_first(momentum):
    generator = torch.Generator().manual_seed(3)
    mu = 8 * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    mu = torch.cat([torch.view_as_complex(mu), torch.linspace(-3, 90, 50, dtype=torch.float64).to(torch.complex128)])
    roots = multipliers(mu, lr=0.05, momentum=momentum)
    assert (roots[:, 0].abs() >= roots[:, 1].abs() * (1 - 1e-12)).all()
    torch.testing.assert_close(roots.sum(1), 1 + momentum - 0.05 * mu, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(roots.prod(1), torch.full_like(mu, momentum), rtol=1e-13, atol=1e-15)


def test_a_small_multiplier_is_not_lost_in_rounding():
    # z² − (1 + b − lr·mu)·z + b with b = 1e-14: the small root is b/(1 − lr·mu) to leading order, 2e-14 here.
    (roots,) = multipliers(tensor(5.0), lr=0.1, momentum=1e-14)
    assert roots[1].real.item() == pytest.approx(2e-14, rel=1e-12)
    assert multipliers(tensor(10.0), lr=0.1).tolist() == [[0, 0]]  # the step goes right to the minimum


def test_real_eigenvalues_have_complex_multipliers_of_their_own_precision():
    assert multipliers(torch.tensor([4.0]), lr=0.1).dtype == torch.complex64
    assert multipliers(tensor(4.0), lr=0.1).dtype == torch.complex128
    assert max_stable_lr(torch.tensor([4.0 + 1j])).dtype == torch.float32


def test_the_stable_rate_of_a_rotation_by_the_formula_of_the_ellipse():
    # By hand: (Re/(1 + b), Im/(1 − b)) = (2/1.5, 1/0.5): 2·(4/3)/((4/3)² + 2²) = (8/3)/(52/9) = 6/13.
    mu = torch.tensor([2 + 1j, 2 - 1j], dtype=torch.complex128)
    assert max_stable_lr(mu, momentum=0.5).tolist() == pytest.approx([6 / 13] * 2, rel=1e-14)
    assert max_stable_lr(mu).tolist() == pytest.approx([4 / 5] * 2, rel=1e-14)


# --- names and numbers of the papers -----------------------------------------------------------------


def test_what_the_papers_of_the_variants_recommend_is_the_default():
    assert (ASAM().eta, GSAM().alpha, LookSAM().k, LookSAM().alpha) == (0.01, 0.4, 5, 0.7)
    assert not ASAM().biases
    assert ASAM(eta=0.0).eta == GSAM(alpha=0.0).alpha == LookSAM(alpha=0.0).alpha == 0.0
    assert LookSAM(k=1).k == 1


def test_an_alarm_is_every_class_but_those_in_which_all_is_well_or_nothing_is_known():
    quiet = {Status.PROGRESSING, Status.STATIONARY, Status.BOUNCING_MINIMIZER, Status.UNDECIDED}
    assert {status for status in Status if not status.is_alarm} == quiet

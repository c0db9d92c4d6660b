"""Diagnoses of whole runs, with a monitor and without, with known losses and unknown ones, and with extra passes."""

import math

import pytest
import torch

from samirage import SAM, Guard, Status, WarmStart, diagnose
from samirage.diagnosis.confirm import confirm_status
from samirage.landscape import Objective, Quadratic, TorchFunction
from samirage.monitor import Monitor, Thresholds
from tests.monitor.runs import DOUBLE_WELL, RING, bouncing, hallucinated, point, progressing, run

WINDOWS = pytest.mark.parametrize("window", [None, 64], ids=["alone", "monitor"])
TILTED = TorchFunction(lambda x: (x.square().sum() - 1) ** 2 / 4 + 0.05 * x[0], 2)
WELL = TorchFunction(lambda x: 1 - torch.exp(-x.square().sum() / 2), 2)


@WINDOWS
@pytest.mark.parametrize(
    ("make", "status"),
    [
        (hallucinated, Status.HALLUCINATED_MINIMIZER),
        (bouncing, Status.BOUNCING_MINIMIZER),
        (progressing, Status.PROGRESSING),
        (lambda **k: run(DOUBLE_WELL, [0.9, 0.1], steps=300, **k), Status.HALLUCINATED_MINIMIZER),
        (lambda **k: run(RING, [0.2, 0.1], steps=400, lr=0.02, rho=0.5, **k), Status.MAXIMIZER_TRAP),
        (lambda **k: run(RING, [0.8, 0.1], steps=400, lr=0.02, rho=0.5, **k), Status.BOUNCING_MINIMIZER),
        (lambda **k: run(RING, [0.8, 0.1], steps=400, lr=0.01, rho=2.5, **k), Status.BOUNCING_MINIMIZER),
        (lambda **k: run(RING, [0.5, 0.02], steps=400, lr=1.03, rho=1.5, **k), Status.HALLUCINATED_BOUNCE),
        (lambda **k: run(RING, [0.98, 0.0], steps=120, lr=0.002, rho=1.5, **k), Status.DRIFTING),
        (lambda **k: run(WELL, [0.5, 0.4], steps=200, lr=0.1, rho=6.0, **k), Status.HALLUCINATED_PLATEAU),
        (
            lambda **k: run(DOUBLE_WELL, [0.5, 0.2], steps=900, rho=0.8, variant="unnormalized", **k),
            Status.STATIONARY,
        ),
        (lambda **k: run(DOUBLE_WELL, [0.97, -0.16], steps=500, guard=Guard(), **k), Status.BOUNCING_MINIMIZER),
        (lambda **k: run(Quadratic([4.0, 1.0]), [1.0, 1.0], steps=900, lr=1.0, rho=0.1, **k), Status.DIVERGED),
    ],
)
def test_a_run_is_called_what_it_is(make, status, window):
    optimizer, _ = make(window=window)
    diagnosis = diagnose(optimizer)
    assert diagnosis.status is status, str(diagnosis)
    assert diagnosis.last_step == optimizer.record.step
    asked = [f for f in diagnosis.figures.values() if f.asked]
    assert asked
    assert all(f.passed is not False and not f.margin < 0 for f in asked)


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize(
    ("make", "status"),
    [
        (hallucinated, Status.HALLUCINATED_PLATEAU),
        (bouncing, Status.BOUNCING_MINIMIZER),
        (lambda **k: run(RING, [0.2, 0.1], steps=400, lr=0.02, rho=0.5, **k), Status.MAXIMIZER_TRAP),
    ],
)
def test_where_the_losses_are_not_known_it_says_so(make, status, window):
    optimizer, _ = make(window=window, style="perturbed")
    diagnosis = diagnose(optimizer)
    assert diagnosis.status is status, str(diagnosis)
    assert diagnosis.figures["lower_share"].passed is None
    assert diagnosis.figures["lower_share"].verdict == "could not check"
    assert any("Could not check" in note for note in diagnosis.notes)
    if status is Status.HALLUCINATED_PLATEAU:
        assert "the losses are not known" in diagnosis.advice


def test_minibatch_progress_is_seen_without_losses():
    generator = torch.Generator().manual_seed(0)
    x = torch.full((40,), 3.0, dtype=torch.float64, requires_grad=True)
    optimizer = SAM(torch.optim.SGD([x], lr=0.002), rho=0.05)
    Monitor(optimizer, window=96)
    for _ in range(96):
        noise = 3 * torch.randn(40, generator=generator, dtype=torch.float64)

        def backward(noise=noise):
            optimizer.zero_grad()
            (x.square().sum() / 2 + x @ noise).backward()

        backward()
        with optimizer.perturbed():
            backward()
        optimizer.step()
    diagnosis = diagnose(optimizer)
    assert diagnosis.status is Status.PROGRESSING
    assert math.isnan(diagnosis.figures["loss"].value)


def test_a_pass_2_that_does_not_look_at_the_perturbed_weights():
    """The second backward pass goes through the graph of the first: SAM without its perturbation."""
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = SAM(torch.optim.SGD([w], lr=0.01), rho=0.1)
    for _ in range(40):
        grad = 2 * w.detach()
        w.grad = grad.clone()
        with optimizer.perturbed():
            w.grad = grad.clone()
        optimizer.step()
    diagnosis = diagnose(optimizer)
    assert diagnosis.status is Status.INACTIVE
    assert diagnosis.figures["same_grad_share"].value == 1
    assert "pass 2 must run a new forward and backward pass" in diagnosis.advice


def test_plain_steps_are_no_fault_of_the_loop():
    optimizer, _ = run(Quadratic([1.0, 0.1]), [3.0, 3.0], steps=100, rho=0.1, warm_start=WarmStart(steps=200))
    diagnosis = diagnose(optimizer)
    assert diagnosis.status is Status.INACTIVE
    assert "diagnose again when SAM has begun" in diagnosis.advice


def test_weights_that_hardly_move_are_inactive():
    x = torch.tensor([300.0, 200.0], dtype=torch.float16, requires_grad=True)
    optimizer = SAM(torch.optim.SGD([x], lr=0.0), rho=1e-5)
    for _ in range(20):

        def closure():
            optimizer.zero_grad()
            loss = (x.float() ** 2).sum() / 2
            loss.backward()
            return loss.detach()

        optimizer.step(closure)
    diagnosis = diagnose(optimizer)
    assert diagnosis.status in {Status.INACTIVE, Status.STATIONARY}
    assert diagnosis.figures["radius"].value == 0


@pytest.mark.filterwarnings("ignore:rounding the weights")
def test_a_loss_that_is_flat_to_rounding_is_stationary():
    x = torch.tensor([1e-7, 1e-7], requires_grad=True)
    optimizer = SAM(torch.optim.SGD([x], lr=0.1), rho=1e-6)
    for _ in range(40):

        def closure():
            optimizer.zero_grad()
            loss = 1000 + (x**2).sum() * 0.1
            loss.backward()
            return loss.detach()

        optimizer.step(closure)
    assert diagnose(optimizer).status is Status.STATIONARY


@pytest.mark.parametrize("value", [math.nan, math.inf])
@WINDOWS
def test_losses_that_are_not_finite_have_diverged(value, window):
    x = torch.tensor([1.0], requires_grad=True)
    optimizer = SAM(torch.optim.SGD([x], lr=0.1), rho=0.1)
    if window:
        Monitor(optimizer, window=window)
    for i in range(64):

        def closure(i=i):
            optimizer.zero_grad()
            loss = x.square().sum() * (value if i > 20 else 1.0)
            loss.backward()
            return loss.detach()

        optimizer.step(closure)
    diagnosis = diagnose(optimizer)
    assert diagnosis.status is Status.DIVERGED
    assert diagnosis.status.meaning == "The loss or the gradient is no longer finite."
    assert bool(torch.isfinite(x).all())


def test_a_guard_that_rejects_much_is_told_of():
    wavy = TorchFunction(lambda x: x.square().sum() / 2 + 0.5 * (20 * x).sin().sum(), 2)
    optimizer, _ = run(wavy, [3.0, 2.0], steps=200, lr=0.001, rho=1.0, guard=Guard(growth=4.0), window=64)
    diagnosis = diagnose(optimizer)
    assert diagnosis.figures["rejected_share"].value > 0.2
    assert any(note.startswith("The guard rejected") for note in diagnosis.notes)


# --- thresholds and windows -------------------------------------------------------------------------


def test_thresholds_are_arguments():
    optimizer, monitor = bouncing(window=64)
    assert diagnose(optimizer).status is Status.BOUNCING_MINIMIZER
    strict = Thresholds(motion_coherence=1e-30)
    assert diagnose(optimizer, thresholds=strict).status is not Status.BOUNCING_MINIMIZER
    assert diagnose(monitor, thresholds=strict).status is diagnose(optimizer, thresholds=strict).status


@pytest.mark.parametrize(
    ("name", "value", "legal"),
    [
        ("shift_ratio", 0.0, "above 0 and at most 1"),
        ("majority", 1.5, "above 0 and at most 1"),
        ("stationary", math.nan, "above 0 and at most 1"),
        ("cosine", "much", "above 0 and at most 1"),
        ("transverse_cosine", 0.3, "at least -1 and below 0"),
        ("successive_cosine", -1.5, "at least -1 and below 0"),
    ],
)
def test_thresholds_out_of_range(name, value, legal):
    with pytest.raises(ValueError, match=f"threshold {name} must be {legal}; got {value!r}"):
        Thresholds(**{name: value})


def test_the_window_without_a_monitor():
    optimizer, _ = hallucinated(steps=200)
    assert diagnose(optimizer).steps == 50  # the last quarter
    assert diagnose(optimizer, window=180).steps == 180
    with pytest.raises(ValueError, match="window is longer than what the optimizer remembers: 300 steps were asked"):
        diagnose(optimizer, window=300)
    with pytest.raises(ValueError, match="window must be a whole number of at least 16; got 8"):
        diagnose(optimizer, window=8)


def test_the_window_is_at_most_1000_steps():
    optimizer, _ = hallucinated(steps=1300)
    assert len(optimizer.history.last) == 1000
    assert diagnose(optimizer, window=1000).steps == 1000


@WINDOWS
def test_too_few_steps(window):
    optimizer, _ = hallucinated(steps=10, window=window)
    with pytest.raises(ValueError, match=r"a diagnosis needs at least 16 steps, and the (optimizer|monitor) has .* 10"):
        diagnose(optimizer)


def test_what_is_no_run():
    with pytest.raises(TypeError, match=r"diagnose needs a samirage.SAM optimizer; got Adam: wrap it"):
        diagnose(torch.optim.Adam([torch.ones(1, requires_grad=True)]))
    optimizer, _ = hallucinated(steps=20, window=32)
    with pytest.raises(
        ValueError, match=r"window is the monitor's own, as Monitor\(optimizer, window=…\): leave it out"
    ):
        diagnose(optimizer, window=16)


# --- extra passes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "loss", "free", "status", "verdict"),
    [
        (hallucinated, RING, Status.HALLUCINATED_MINIMIZER, Status.HALLUCINATED_MINIMIZER, "confirmed"),
        (
            lambda **k: run(TILTED, [0.5, 0.3], steps=1500, **k), TILTED,
            Status.HALLUCINATED_MINIMIZER, Status.HALLUCINATED_SADDLE, "refuted",
        ),
        (
            lambda **k: run(WELL, [0.5, 0.4], steps=200, lr=0.1, rho=6.0, **k), WELL,
            Status.HALLUCINATED_PLATEAU, Status.HALLUCINATED_PLATEAU, "confirmed",
        ),
        (bouncing, Quadratic([4.0, 1.0]), Status.BOUNCING_MINIMIZER, Status.BOUNCING_MINIMIZER, "confirmed"),
        (
            lambda **k: run(Quadratic([3.0, -2.0]), [0.03, 0.02], steps=300, lr=0.1, rho=0.2, **k),
            Quadratic([3.0, -2.0]), Status.BOUNCING_MINIMIZER, Status.SADDLE_TRAP, "refuted",
        ),
        (
            lambda **k: run(RING, [0.2, 0.1], steps=400, lr=0.02, rho=0.5, **k), RING,
            Status.MAXIMIZER_TRAP, Status.MAXIMIZER_TRAP, "confirmed",
        ),
        (
            lambda **k: run(RING, [0.5, 0.02], steps=400, lr=1.03, rho=1.5, **k), RING,
            Status.HALLUCINATED_BOUNCE, Status.HALLUCINATED_BOUNCE, "confirmed",
        ),
        (
            lambda **k: run(RING, [0.98, 0.0], steps=120, lr=0.002, rho=1.5, **k), RING,
            Status.DRIFTING, Status.DRIFTING, "confirmed",
        ),
        (
            lambda **k: run(DOUBLE_WELL, [0.5, 0.2], steps=900, rho=0.8, variant="unnormalized", **k), DOUBLE_WELL,
            Status.STATIONARY, Status.STATIONARY, "confirmed",
        ),
        (progressing, Quadratic([1.0, 0.01]), Status.PROGRESSING, Status.PROGRESSING, "could not check"),
    ],
)  # fmt: skip
def test_extra_passes_confirm_or_refute(make, loss, free, status, verdict):
    optimizer, _ = make(window=64)
    before = point(optimizer).clone()
    diagnosis = diagnose(optimizer, confirm=loss)
    assert (diagnosis.free_status, diagnosis.status, diagnosis.confirmation.verdict) == (free, status, verdict)
    assert torch.equal(point(optimizer), before)
    if verdict == "refuted":
        assert diagnosis.advice == status.advice
        assert f"not {free.value}: extra passes decide" in str(diagnosis)
    elif verdict == "confirmed":
        assert all(f.passed for f in diagnosis.confirmation.evidence if f.asked)


def test_a_maximizer_at_the_perturbed_point_is_not_called_a_saddle():
    dome = TorchFunction(lambda x: -(x @ x) / 2, dim=2)
    x = torch.tensor([0.0, 1.5], dtype=torch.float64)  # looks at the top
    found = confirm_status(Status.HALLUCINATED_PLATEAU, dome, x, rho=1.5, lr=0.1, thresholds=Thresholds())
    assert (found.status, found.verdict) == (Status.HALLUCINATED_MAXIMIZER, "refuted")


def test_the_evidence_at_the_rings_hallucinated_point_is_that_of_the_closed_form():
    optimizer, _ = hallucinated(steps=600)
    evidence = {f.name: f.value for f in diagnose(optimizer, confirm=RING).confirmation.evidence}
    # x at distance 1/2 from the centre, x⁺ on the ring: g = 3/8, eigenvalues of H: 3/4 − 1 and 1/4 − 1; of H⁺: 2 and 0.
    assert evidence["shift_ratio"] < 1e-10
    assert evidence["curvature_along"] == pytest.approx(-0.25 / 0.75)
    assert evidence["least"] == pytest.approx(-1)
    assert evidence["largest_plus"] == pytest.approx(2 / 0.75)
    assert evidence["least_plus"] == pytest.approx(0, abs=1e-9)
    # On the line: f(1/2) = 9/64, then the centre, 1/4, then the ring, 0, and at last the distance 7/4.
    between = (1 / 4 - 9 / 64) / ((49 / 16 - 1) ** 2 / 4)
    assert evidence["higher_between"] == pytest.approx(between, rel=0.01)  # 24 points see the top to 0.5 %


def test_the_evidence_at_the_saddle_is_that_of_the_closed_form():
    saddle = Quadratic([3.0, -2.0])
    optimizer, _ = run(saddle, [0.03, 0.02], steps=300, lr=0.1, rho=0.2)
    evidence = {f.name: f.value for f in diagnose(optimizer, confirm=saddle).confirmation.evidence}
    threshold = 0.1 * 3**2 / (2 - 0.1 * 3)  # eta·λ²/(2 − eta·λ)
    assert evidence["trapping"] == pytest.approx(2 / threshold)
    assert evidence["least"] == pytest.approx(-2 / 3)
    assert evidence["shift_ratio"] == pytest.approx(2 / (0.1 * 3))  # r of the 2-cycle
    assert evidence["half_radius_ratio"] == pytest.approx((1 + 0.5 * (2 / 0.3 - 1)) / (2 / 0.3))  # g⁺ is linear in rho


def test_the_radius_of_the_extra_passes_is_the_one_of_the_last_step():
    optimizer, _ = run(RING, [0.9, 0.1], steps=400, rho=3.0, schedule=lambda step: 0.5)
    evidence = {f.name: f.value for f in diagnose(optimizer, confirm=RING).confirmation.evidence}
    assert evidence["shift_ratio"] < 1e-6  # as at the radius 1.5


def test_asam_looks_elsewhere_than_the_extra_passes():
    optimizer, _ = run(Quadratic([4.0, 1.0]), [0.3, 0.2], steps=100, lr=0.1, rho=0.3, variant="asam")
    diagnosis = diagnose(optimizer, confirm=Quadratic([4.0, 1.0]))
    assert diagnosis.confirmation is None
    assert "Extra passes look along the gradient, and ASAM does not: they were left out." in diagnosis.notes


def test_a_network_through_its_objective():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    x, y = torch.randn(30, 3, dtype=torch.float64), torch.randint(0, 2, (30,))
    loss_fn = torch.nn.CrossEntropyLoss()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=1.0), rho=0.5)

    def closure():
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss

    for _ in range(600):
        optimizer.step(closure)
    diagnosis = diagnose(optimizer, confirm=Objective(model, loss_fn, [(x, y)]))
    assert diagnosis.confirmation is not None
    other = Objective(torch.nn.Linear(3, 2).double(), loss_fn, [(x, y)])
    with pytest.raises(ValueError, match="confirm must be a function of the parameters that are trained: it takes 8"):
        diagnose(optimizer, confirm=other)

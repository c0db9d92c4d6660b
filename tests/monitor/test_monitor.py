"""The monitor in the optimizer: it sees every step and alters none."""

import copy
import math
import pickle

import pytest
import torch

from samirage import SAM, Guard, Monitor, Status, WarmStart, diagnose
from samirage.landscape import Quadratic
from samirage.monitor import MemorySink, Thresholds
from tests.monitor.runs import RING, go_on, hallucinated, point, run
from tests.optim.problems import BASES, Cubic, CubicOnDevice, every_style, take
from tests.support.accelerator import Accelerator, Waited, deterministic, introduce


@every_style
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("options", [{}, {"guard": Guard()}, {"warm_start": WarmStart(steps=9)}])
def test_the_weights_are_those_without_it_bit_for_bit(style, base, options):
    ends = []
    for watched in (False, True):
        problem = Cubic(torch.float32)
        optimizer = SAM(BASES[base](problem.groups(rho=0.1)), rho=0.3, **options)
        sink = MemorySink()
        if watched:
            Monitor(optimizer, window=16, sinks=[sink], sample=5)
        torch.manual_seed(0)
        for _ in range(40):
            take(style, optimizer, problem)
        ends.append(
            [*problem.params, torch.get_rng_state(), *(s for v in optimizer.state.values() for s in v.values())]
        )
    assert len(sink.diagnoses) == 5
    for without, with_it in zip(*ends, strict=True):
        assert torch.equal(without, with_it) if isinstance(without, torch.Tensor) else without == with_it


@every_style
def test_it_neither_replaces_nor_writes_gradients(style):
    seen = []

    class Spy(Monitor):
        def _before(self):
            return [(p.grad, None if p.grad is None else (p.grad._version, p.grad.clone())) for p in problem.params]

        def _check(self, before):
            for p, (grad, state) in zip(problem.params, before, strict=True):
                assert p.grad is grad
                assert state is None or (grad._version == state[0] and torch.equal(grad, state[1]))
            seen.append(True)

        def saw_gradient(self, inverse_scale):
            before = self._before()
            super().saw_gradient(inverse_scale)
            self._check(before)

        def saw_step(self, record, inverse_scale):
            before = self._before()
            super().saw_step(record, inverse_scale)
            self._check(before)

    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(weight_decay=0.1), lr=0.01), rho=0.3)
    Spy(optimizer, window=16)
    for _ in range(16):
        take(style, optimizer, problem)
    assert len(seen) == 32


@every_style
def test_it_waits_for_no_accelerator_until_someone_looks(style, monkeypatch):
    introduce(monkeypatch)
    with Accelerator(), deterministic():
        problem = CubicOnDevice()
        optimizer = SAM(torch.optim.SGD(problem.groups(weight_decay=0.1), lr=0.01), rho=0.3)
        monitor = Monitor(optimizer, window=16, sample=5)
        for _ in range(40):
            take(style, optimizer, problem)
        assert len(monitor.windows) == 5
        with pytest.raises(Waited):
            monitor.diagnoses  # noqa: B018


@pytest.mark.parametrize("watched", [False, True])
def test_a_run_on_an_accelerator_is_diagnosed_as_on_a_cpu(watched, monkeypatch):
    introduce(monkeypatch)
    diagnoses = []
    for kind in (CubicOnDevice, Cubic):
        with Accelerator(may_wait=True), deterministic():
            problem = kind()
            optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.01), rho=0.3, guard=Guard())
            monitor = Monitor(optimizer, window=16) if watched else None
            for _ in range(32):
                take("closure", optimizer, problem)
            diagnoses.append(diagnose(monitor or optimizer))
    on_device, on_cpu = diagnoses
    assert on_device.status is on_cpu.status
    figures = [{name: figure.value for name, figure in one.figures.items()} for one in diagnoses]
    assert figures[0] == pytest.approx(figures[1], rel=1e-6, abs=1e-9, nan_ok=True)


@every_style
def test_it_sees_the_direction_that_is_followed_also_where_a_guard_chooses_it(style):
    """The mean direction is the way that the weights have gone, the mean gradient that of the points on it."""
    x = torch.tensor([0.97, -0.16], dtype=torch.float64, requires_grad=True)
    optimizer = SAM(torch.optim.SGD([x], lr=0.05), rho=1.5, guard=Guard())
    monitor = Monitor(optimizer, window=64)
    points = [x.detach().clone()]
    for _ in range(64):
        go_on(RING, x, optimizer, 1, style)
        points.append(x.detach().clone())
    assert optimizer.record.rejections > 0
    gone, slope = (points[0] - points[-1]) / (0.05 * 64), RING.grad(torch.stack(points[:-1])).mean(0)
    figures = monitor.diagnoses[-1].figures
    assert figures["mean_shift_ratio"].value == pytest.approx((gone.norm() / slope.norm()).item(), rel=1e-9)
    assert figures["rejected_share"].value == optimizer.record.rejections.item() / 64


def test_coupled_weight_decay_is_part_of_what_the_run_rests_on():
    """At the end g⁺ + wd·x = 0: the shifted gradient does not vanish, and its mean with the decay does."""
    optimizer, monitor = hallucinated(steps=600, window=80, weight_decay=0.2)
    x = point(optimizer)
    record = optimizer.record
    assert record.grad_plus_norm > 0.05
    figures = diagnose(optimizer).figures
    assert figures["mean_shift_ratio"].value < 1e-6
    assert figures["descent_efficiency"].value < 1e-6
    torch.testing.assert_close(record.grad_plus_norm, 0.2 * x.norm())
    _, decoupled = hallucinated(steps=80, window=80, weight_decay=0.2, base=torch.optim.AdamW, lr=0.001)
    assert decoupled._decay is None
    assert monitor._decay is not None


@pytest.mark.parametrize("given", [True, False])
def test_the_scale_of_the_loss_does_not_count(given):
    found = []
    for scaled in (False, True):
        x = torch.tensor([0.9, 0.1], dtype=torch.float32, requires_grad=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=5, enabled=scaled)
        options = {"scaler": scaler} if scaled and given else {}
        optimizer = SAM(torch.optim.SGD([x], lr=0.002), rho=1.5, **options)
        monitor = Monitor(optimizer, window=48)

        def backward(x=x, optimizer=optimizer, scaler=scaler):
            optimizer.zero_grad()
            scaler.scale(RING(x)).backward()

        for _ in range(48):
            backward()
            with optimizer.perturbed():
                backward()
            scaler.step(optimizer)
            scaler.update()
        found.append({name: f.value for name, f in monitor.diagnoses[-1].figures.items()})
    assert scaler.get_scale() > 1e5  # it has changed on the way
    assert found[1] == pytest.approx(found[0], rel=1e-4, nan_ok=True)


def test_a_skipped_step_leaves_the_figures_finite():
    x = torch.tensor([0.9, 0.1], requires_grad=True)
    optimizer = SAM(torch.optim.SGD([x], lr=0.05), rho=1.5)
    monitor = Monitor(optimizer, window=16)
    for i in range(32):
        optimizer.step(lambda i=i: _backward(optimizer, x, scale=math.inf if i == 20 else 1.0))
    values = {name: f.value for name, f in monitor.diagnoses[-1].figures.items()}
    assert math.isfinite(values["motion_coherence"])
    assert values["finite_share"] == 15 / 16


def _backward(optimizer, x, scale):
    optimizer.zero_grad()
    loss = RING(x) * scale
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_step_that_failed_leaves_nothing_behind(shards):
    found = []
    for fails in (False, True):
        x = torch.tensor([0.9, 0.1], dtype=torch.float64, requires_grad=True)
        options = {"shards": 2, "scope": "local"} if shards == 2 else {}
        optimizer = SAM(torch.optim.SGD([x], lr=0.01), rho=1.5, **options)
        monitor = Monitor(optimizer, window=32)
        calls = 0

        def closure(shard=0, x=x, optimizer=optimizer, fails=fails):
            nonlocal calls
            calls += 1
            if fails and calls == 11 * shards:
                raise KeyboardInterrupt
            return _backward(optimizer, x, scale=1.0)

        for _ in range(33):
            try:
                optimizer.step(closure)
            except KeyboardInterrupt:
                assert fails
        found.append({name: f.value for name, f in monitor.diagnoses[1].figures.items()})
    assert found[1] == pytest.approx(found[0], rel=1e-12, nan_ok=True)


def test_shards_count_together():
    ends = []
    for shards in (1, 2):
        x = torch.tensor([0.9, 0.1], dtype=torch.float64, requires_grad=True)
        options = {"shards": 2, "scope": "local"} if shards == 2 else {}
        optimizer = SAM(torch.optim.SGD([x], lr=0.01), rho=1.5, **options)
        monitor = Monitor(optimizer, window=32)

        def closure(shard=0, x=x, optimizer=optimizer):
            return _backward(optimizer, x, scale=1.0)

        for _ in range(32):
            optimizer.step(closure)
        ends.append({name: f.value for name, f in monitor.diagnoses[-1].figures.items()})
    assert ends[1] == pytest.approx(ends[0], rel=1e-12, nan_ok=True)


def test_a_state_that_is_loaded_begins_a_new_run_and_copies_are_not_watched():
    optimizer, monitor = hallucinated(steps=100, window=32)
    saved = copy.deepcopy(optimizer.state_dict())
    assert not copy.deepcopy(optimizer).observers
    assert not pickle.loads(pickle.dumps(optimizer)).observers
    x = optimizer.param_groups[0]["params"][0]
    go_on(RING, x, optimizer, 30)
    assert len(optimizer.history.last) == 130
    optimizer.load_state_dict(saved)
    go_on(RING, x, optimizer, 40)
    assert len(optimizer.history.last) == 40
    assert optimizer.history.first[0].step == 100
    assert [d.last_step for d in monitor.diagnoses] == [115, 131]


def test_another_parameter_begins_a_new_window():
    optimizer, monitor = hallucinated(steps=40, window=32)
    optimizer.add_param_group({"params": [torch.ones(3, dtype=torch.float64, requires_grad=True)]})
    go_on(RING, optimizer.param_groups[0]["params"][0], optimizer, 20)
    assert monitor.diagnoses[-1].steps == 16
    assert math.isfinite(monitor.diagnoses[-1].figures["motion_coherence"].value)


def test_once_removed_it_sees_no_more():
    optimizer, monitor = hallucinated(steps=40, window=32)
    monitor.remove()
    go_on(RING, optimizer.param_groups[0]["params"][0], optimizer, 40)
    assert len(monitor.windows) == 2
    assert Monitor(optimizer) in optimizer.observers


def test_sinks_get_a_diagnosis_twice_a_window():
    sink = MemorySink()
    hallucinated(steps=100, window=40, sinks=[sink])
    assert [d.last_step for d in sink.diagnoses] == [19, 39, 59, 79, 99]
    assert sink.diagnoses[-1].status is Status.HALLUCINATED_MINIMIZER


def test_the_life_of_a_run_ends_in_its_diagnosis():
    optimizer, monitor = run(Quadratic([4.0, 1.0]), [5.0, 5.0], steps=320, lr=0.02, rho=0.3, window=64)
    statuses = [d.status for d in monitor.diagnoses]
    assert statuses[0] is Status.PROGRESSING
    assert statuses[-1] is Status.BOUNCING_MINIMIZER
    assert diagnose(optimizer).status is diagnose(monitor).status is Status.BOUNCING_MINIMIZER


def test_the_window_may_be_longer_than_the_run():
    optimizer, _ = hallucinated(steps=60, window=400)
    diagnosis = diagnose(optimizer)
    assert diagnosis.steps == 60
    assert "The window of 400 steps is not full: this is about 60 steps." in diagnosis.notes


def test_arguments_that_make_no_sense():
    base = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)
    with pytest.raises(TypeError, match=r"Monitor needs a samirage.SAM optimizer; got SGD: wrap it, as in SAM\("):
        Monitor(base)
    optimizer = SAM(base)
    for window in (15, 100.0, True):
        with pytest.raises(ValueError, match="window must be a whole number of at least 16; got"):
            Monitor(optimizer, window=window)
    with pytest.raises(ValueError, match="sample must be a whole number of at least 1; got 0"):
        Monitor(optimizer, sample=0)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0; got -1"):
        Monitor(optimizer, seed=-1)
    with pytest.raises(TypeError, match=r"sinks must have a method write\(diagnosis\), as those of .*; got PosixPath"):
        Monitor(optimizer, sinks=[__import__("pathlib").PosixPath("here.jsonl")])
    with pytest.raises(TypeError, match=r"thresholds must be Thresholds\(...\) or None; got dict"):
        Monitor(optimizer, thresholds={"shift_ratio": 0.1})
    assert not optimizer.observers
    monitor = Monitor(optimizer, thresholds=Thresholds(shift_ratio=0.2))
    with pytest.raises(ValueError, match=r"this optimizer has a monitor already: use that one, or remove\(\) it first"):
        Monitor(optimizer)
    with pytest.raises(ValueError, match="a diagnosis needs at least 16 steps, and the monitor has seen 0: train on"):
        monitor.now()

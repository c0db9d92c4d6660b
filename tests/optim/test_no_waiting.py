"""On an accelerator no step waits for the device: proved on one that is pretended, against the same steps on a CPU."""

import numpy as np
import pytest
import torch
from torch import nn

from samirage import SAM, Guard, WarmStart
from tests.optim.problems import Cubic, CubicOnDevice, every_style, take
from tests.support.accelerator import (
    DEVICE,
    Accelerator,
    OnDevice,
    Waited,
    deterministic,
    introduce,
    on_host,
    to_device,
)

BASES = {
    "sgd": lambda groups, **way: torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=0.01, **way),
    "adam": lambda groups, **way: torch.optim.Adam(groups, lr=0.05, **way),
    "adamw": lambda groups, **way: torch.optim.AdamW(groups, lr=0.05, weight_decay=0.1, **way),
}
every_base = pytest.mark.parametrize("base", BASES)
every_way = pytest.mark.parametrize(
    "way", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=["for loop", "foreach", "fused"]
)


@pytest.fixture(autouse=True)
def _device(monkeypatch):
    introduce(monkeypatch)
    with deterministic():
        yield


def compared(steps, take_one, problem, twin, make):
    """Make the same steps on the device and on the CPU; the optimizers."""
    with Accelerator():
        optimizer = make(problem)
        for _ in range(steps):
            take_one(optimizer, problem)
    other = make(twin)
    for _ in range(steps):
        take_one(other, twin)
    return optimizer, other


@every_style
@every_way
@every_base
def test_no_step_waits_and_each_is_that_of_a_cpu(style, way, base):
    problem, twin = CubicOnDevice(), Cubic()
    optimizer, other = compared(
        4, lambda o, p: take(style, o, p), problem, twin, lambda p: SAM(BASES[base](p.groups(), **way), rho=0.7)
    )
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)
    for name in ("grad_norm", "grad_plus_norm", "shift_ratio", "slope_plus", "cosine", "radius"):
        figure = getattr(optimizer.record, name)
        assert figure.device == DEVICE
        assert figure.item() == pytest.approx(getattr(other.record, name).item(), rel=1e-13)
    assert not optimizer.record.skipped


@every_style
@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized"])
@pytest.mark.parametrize("second", [{"rho": 0.2}, {"rho": 0.0}], ids=["two radii", "second radius 0"])
def test_no_variant_waits(style, variant, second):
    problem, twin = CubicOnDevice(), Cubic()
    options = {"rho": 0.7, "variant": variant, "warm_start": WarmStart(steps=1), "every": 2}
    compared(
        4,
        lambda o, p: take(style, o, p),
        problem,
        twin,
        lambda p: SAM(torch.optim.SGD(p.groups(**second), lr=0.1), **options),
    )
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)


@every_style
def test_no_guard_waits(style):
    problem, twin = CubicOnDevice(), Cubic()

    def step(optimizer, problem):
        take(style, optimizer, problem)
        followed.append(optimizer.record.followed)

    followed = []
    guard = Guard(kappa=0.99)
    compared(8, step, problem, twin, lambda p: SAM(torch.optim.SGD(p.groups(), lr=0.05), rho=3.0, guard=guard))
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-13)
    decisions = [bool(f) for f in followed]
    assert decisions[:8] == decisions[8:]
    assert 0 < sum(decisions[:8]) < 8


def test_shards_do_not_wait():
    def step(optimizer, problem):
        def closure(shard):
            optimizer.zero_grad()
            terms = zip(problem.weights, problem.params, strict=True)
            loss = (1 + shard) * sum((a * p.pow(3)).sum() / 3 for a, p in terms)
            loss.backward()
            return loss.detach()

        optimizer.step(closure)

    problem, twin = CubicOnDevice(), Cubic()
    options = {"rho": 0.7, "scope": "local", "shards": 2}
    compared(2, step, problem, twin, lambda p: SAM(torch.optim.SGD(p.groups(), lr=0.1), **options))
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.dropout = nn.Dropout(0.5)
        self.double()
        self.x, self.y = torch.randn(8, 4, dtype=torch.float64), torch.randint(0, 3, (8,))

    def forward(self, x):
        return self.last(self.dropout(self.norm(self.first(x)).tanh()))

    def backward(self):
        loss = nn.functional.cross_entropy(self(self.x), self.y)
        loss.backward()
        return loss

    closure = Cubic.closure


@every_style
def test_a_network_with_dropout_and_batch_norm_does_not_wait(style):
    net, twin = to_device(Net()), Net()
    net.x, net.y = OnDevice(net.x), OnDevice(net.y)

    def make(network):
        torch.manual_seed(7)
        return SAM(torch.optim.AdamW(network.parameters(), lr=0.01), rho=0.5, model=network)

    compared(3, lambda o, p: take(style, o, p), net, twin, make)
    for a, b in zip([*net.parameters(), *net.buffers()], [*twin.parameters(), *twin.buffers()], strict=True):
        # Before a batch norm a bias has a gradient of rounding errors alone, which AdamW divides by their own size.
        torch.testing.assert_close(on_host(a), b.detach(), rtol=1e-12, atol=1e-9)
    assert on_host(net.norm.num_batches_tracked) == 3


def test_parameters_on_two_devices_share_one_norm():
    problem, twin = Cubic(), Cubic()
    moved = problem.params[1] = nn.Parameter(OnDevice(problem.params[1].detach()))
    problem.weights[1] = OnDevice(problem.weights[1])

    def backward():
        parts = [(a * p.pow(3)).sum() / 3 for a, p in zip(problem.weights, problem.params, strict=True)]
        loss = sum(part.to(DEVICE) for part in parts)
        loss.backward()
        return loss

    problem.backward = backward
    with Accelerator(may_wait=True):  # the norms of the parts have to meet somewhere
        optimizer = SAM(torch.optim.SGD(problem.groups(rho=0.2), lr=0.1, momentum=0.9), rho=0.7)
        for style in ("closure", "perturbed", "first_second"):
            take(style, optimizer, problem)
    other = SAM(torch.optim.SGD(twin.groups(rho=0.2), lr=0.1, momentum=0.9), rho=0.7)
    for _ in range(3):
        take("closure", other, twin)
    problem.params[1] = nn.Parameter(on_host(moved))
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-14)


def narrow(device):
    """A step at a radius that bfloat16 weights cannot hold."""
    torch.manual_seed(0)
    w = torch.randn(500).bfloat16()
    direction = torch.randn(500).bfloat16()
    if device:
        w, direction = OnDevice(w), OnDevice(direction)
    w = nn.Parameter(w)
    optimizer = SAM(torch.optim.SGD([w], lr=0.0), rho=1e-3)

    def step():
        w.grad = direction.clone()
        with optimizer.perturbed():
            w.grad = direction.clone()
        optimizer.step()

    return optimizer, step


def test_the_warning_of_rounding_does_not_wait():
    with Accelerator():
        optimizer, step = narrow(device=True)
        with pytest.warns(UserWarning, match="rounding the weights to half precision hides the perturbation"):
            step()
        step()
    twin, step = narrow(device=False)
    with pytest.warns(UserWarning, match="rounding the weights"):
        step()
    step()
    assert optimizer.record.alignment.item() == pytest.approx(twin.record.alignment.item(), rel=1e-6)


def test_a_late_number_brings_the_warning_in_a_later_step(monkeypatch):
    arrived = []
    monkeypatch.setattr(
        "samirage.optim.half_precision.AsyncScalars.read",
        lambda late: late._copy.tolist() if arrived else [float("nan")] * 2,
    )
    with Accelerator():
        _, step = narrow(device=True)
        for _ in range(5):
            step()
        arrived.append(True)
        with pytest.warns(UserWarning, match="rounding the weights"):
            step()
        step()


def test_a_planted_read_is_found():
    problem = CubicOnDevice()
    with Accelerator():
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
        closure = problem.closure(optimizer)
        optimizer.step(closure)
        with pytest.raises(Waited):
            print(bool(optimizer.record.skipped))
        with pytest.raises(Waited):
            optimizer.step(lambda: closure().item())
        optimizer.base.register_step_pre_hook(lambda *_: problem.params[0].sum().item())
        with pytest.raises(Waited):
            optimizer.step(closure)


@pytest.mark.parametrize("loss", [0.0, None])
def test_a_loss_of_the_host_does_not_wait(loss):
    problem = CubicOnDevice()
    with Accelerator():
        optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
        closure = problem.closure(optimizer)
        optimizer.step(lambda: (closure(), loss)[1])
    assert optimizer.record.loss.item() == pytest.approx(torch.nan if loss is None else loss, nan_ok=True)

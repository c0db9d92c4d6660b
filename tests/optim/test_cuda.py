"""On a CUDA device: no step waits, each is that of a CPU, and a step can be captured as a CUDA graph."""

import copy
import warnings
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from samirage import SAM
from tests.optim.problems import Cubic, every_style, take

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]
DEVICE = "cuda"
MAKERS = {
    "sgd": lambda groups, **way: torch.optim.SGD(groups, lr=0.05, momentum=0.9, **way),
    "adamw": lambda groups, **way: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1, **way),
}
every_way = pytest.mark.parametrize(
    "way", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=["for loop", "foreach", "fused"]
)


@contextmanager
def no_waiting():
    """Makes every synchronising call of torch an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Net(nn.Module):
    def __init__(self, device, dtype=torch.float32, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 3)
        ).to(dtype)
        self.x, self.y = torch.randn(64, 8).to(device, dtype), torch.randint(0, 3, (64,)).to(device)
        self.scaler = None
        self.to(device)

    def forward(self, x):
        return self.layers(x)

    def backward(self):
        loss = nn.functional.cross_entropy(self(self.x), self.y)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss

    closure = Cubic.closure

    def groups(self):
        first, *others = self.parameters()
        return [{"params": [first]}, {"params": others, "rho": 0.1}]


def assert_same(net, twin, **tolerance):
    mine, its = [*net.parameters(), *net.buffers()], [*twin.parameters(), *twin.buffers()]
    for a, b in zip(mine, its, strict=True):
        torch.testing.assert_close(a.cpu(), b.cpu(), **tolerance)


def test_a_read_is_noticed():
    x = torch.ones((), device=DEVICE)
    with no_waiting(), pytest.raises(RuntimeError, match="synchronizing"):
        x.item()


@every_style
@every_way
@pytest.mark.parametrize("base", MAKERS)
def test_no_step_waits_and_each_is_that_of_a_cpu(style, way, base):
    net, twin = Net(DEVICE, torch.float64), Net("cpu", torch.float64)
    optimizer, other = (SAM(MAKERS[base](n.groups(), **way), rho=0.3, model=n) for n in (net, twin))
    take(style, optimizer, net)  # sets up the device's libraries
    with no_waiting():
        for _ in range(4):
            take(style, optimizer, net)
    for _ in range(5):
        take(style, other, twin)
    assert_same(net, twin, rtol=1e-9, atol=1e-11)
    assert optimizer.record.radius.is_cuda
    torch.testing.assert_close(optimizer.record.cosine.cpu(), other.record.cosine, rtol=1e-9, atol=0)


@every_style
@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_variant_waits_in_either_precision(style, variant, dtype):
    net = Net(DEVICE, dtype, dropout=0.5)
    optimizer = SAM(torch.optim.SGD(net.groups(), lr=0.05), rho=2.0, variant=variant, model=net)
    take(style, optimizer, net)
    with no_waiting():
        for _ in range(4):
            take(style, optimizer, net)
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.filterwarnings("ignore:rounding the weights")
def test_the_warning_of_rounding_arrives():
    net = Net(DEVICE, torch.bfloat16)
    optimizer = SAM(torch.optim.SGD(net.parameters(), lr=0.0), rho=1e-4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            take("closure", optimizer, net)
            torch.cuda.synchronize()
    assert sum("rounding the weights" in str(w.message) for w in caught) == 1


@every_style
@every_way
@pytest.mark.parametrize("bad_pass", [1, 2])
def test_a_bad_gradient_is_dropped_without_waiting(style, way, bad_pass):
    net = Net(DEVICE)
    optimizer = SAM(MAKERS["sgd"](net.groups(), **way), rho=0.3, model=net)
    take(style, optimizer, net)
    home, state = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    backward, calls = net.backward, []

    def spoiled():
        loss = backward()
        calls.append(None)
        if len(calls) == bad_pass:
            net.layers[0].bias.grad[3].fill_(torch.inf)  # an assignment would copy from the host, and wait
        return loss

    net.backward = spoiled
    with no_waiting():
        take(style, optimizer, net)
    assert optimizer.record.skipped
    if "fused" in way:
        assert all(torch.equal(p, home[name]) for name, p in net.named_parameters())
        assert str(optimizer.state_dict()["state"]) == str(state)
    net.backward = backward
    take(style, optimizer, net)
    assert not optimizer.record.skipped
    assert all(value.isfinite().all() for value in net.state_dict().values())


@pytest.mark.parametrize(("way", "reads"), [({"fused": True}, 0), ({"foreach": True}, 1)])
def test_a_scaler_under_autocast_costs_its_own_read_at_most(way, reads):
    net = Net(DEVICE)
    net.scaler = torch.amp.GradScaler(DEVICE, init_scale=2.0**10)
    optimizer = SAM(MAKERS["adamw"](net.groups(), **way), rho=0.3, model=net, scaler=net.scaler)

    def step():
        with torch.autocast(DEVICE, torch.float16):
            optimizer.step(net.closure(optimizer))
        net.scaler.update()

    step()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing" in str(w.message) for w in caught) == reads
    assert not optimizer.record.skipped


@pytest.mark.parametrize("way", [{"capturable": True}, {"fused": True, "capturable": True}], ids=["foreach", "fused"])
@pytest.mark.parametrize("variant", ["sam", "asam"])
def test_a_captured_step_is_that_of_the_loop(way, variant):
    net, twin = Net(DEVICE), Net(DEVICE)
    optimizer, other = (
        SAM(torch.optim.AdamW(n.groups(), lr=0.01, **way), rho=0.3, variant=variant, model=n, replay_rng=False)
        for n in (net, twin)
    )
    pointers = [p.data_ptr() for p in net.parameters()]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # before a capture, as torch demands
        for _ in range(3):
            optimizer.step(net.closure(optimizer))
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = optimizer.step(net.closure(optimizer))
    for _ in range(3):
        expected = other.step(twin.closure(other))
    for _ in range(4):
        net.x.mul_(1.1)
        twin.x.mul_(1.1)
        graph.replay()
        expected = other.step(twin.closure(other))
    assert_same(net, twin, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(optimizer.record.grad_norm, other.record.grad_norm, rtol=1e-4, atol=0)
    assert [p.data_ptr() for p in net.parameters()] == pointers

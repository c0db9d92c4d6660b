"""torch.compile of the closure and of the step: the same numbers, and graph breaks only where torch has its own."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo import config
from torch._dynamo.utils import counters

from samirage import SAM, Guard, WarmStart
from samirage.sam import LookSAM
from tests.optim.problems import STYLES, take

STEPS = 5
pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own, about what it reads and imports


class Graphs:
    """A backend for torch.compile that counts the graphs it is given, and runs them as they are."""

    def __init__(self):
        torch._dynamo.reset()
        counters.clear()
        self.count = 0

    def __call__(self, module, inputs):
        self.count += 1
        return module.forward

    def breaks(self):
        """Why there is more than one: the first line of each reason."""
        return {reason.splitlines()[0] for reason in counters["graph_break"]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()
        self.x, self.y = torch.randn(8, 4, dtype=torch.float64), torch.randint(0, 3, (8,))

    def forward(self, x):
        return self.layers(x)

    def backward(self):
        loss = nn.functional.cross_entropy(self(self.x), self.y)
        loss.backward()
        return loss.detach()

    def closure(self, optimizer):
        def closure():
            for p in self.parameters():
                p.grad = None  # optimizer.zero_grad() is a graph break of torch's own
            return self.backward()

        return closure

    def optimizer(self, **options):
        first, *others = self.parameters()
        groups = [{"params": [first]}, {"params": others, "rho": 0.3}]
        return SAM(torch.optim.SGD(groups, lr=0.1, momentum=0.9), rho=0.1, model=self, replay_rng=False, **options)


def assert_same(net, twin):
    for a, b in zip([*net.parameters(), *net.buffers()], [*twin.parameters(), *twin.buffers()], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("style", "backend"), [("closure", "aot_eager"), ("perturbed", "eager")])
def test_compiled_forward_and_backward_passes_give_the_same_numbers_and_compile_once(style, backend):
    net, twin = Net(), Net()
    graphs = Graphs()
    eager = net.backward

    def counted(module, inputs):
        graphs.count += 1
        return torch._dynamo.lookup_backend(backend)(module, inputs)

    net.backward = torch.compile(eager, backend=counted)
    optimizer, other = net.optimizer(), twin.optimizer()
    counts = []
    for _ in range(STEPS):
        take(style, optimizer, net)
        take(style, other, twin)
        counts.append(graphs.count)
    assert_same(net, twin)
    assert counts == [counts[0]] * STEPS  # x⁺ lies in the storage of x: nothing to compile anew
    assert all("backward()" in reason for reason in graphs.breaks())


ONE_GRAPH = """
import torch
from torch._dynamo import config
from samirage import SAM

config.trace_autograd_ops = True
ends, graphs = [], []
for compiled in (False, True):
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.3)

    def closure():
        w.grad = None
        loss = w.pow(3).sum() / 3
        loss.backward()
        return loss.detach()

    if compiled:
        closure = torch.compile(closure, backend=lambda m, _: graphs.append(m) or m.forward, fullgraph=True)
    losses = [optimizer.step(closure).item() for _ in range(4)]
    ends.append([*w.tolist(), *losses])
print(ends[0] == ends[1], len(graphs))
"""


@pytest.mark.skipif(not hasattr(config, "trace_autograd_ops"), reason="this torch cannot trace backward()")
def test_a_closure_with_its_backward_pass_is_one_graph():
    # In a process of its own: torch 2.13 cannot compile anything else in one that has traced a backward pass.
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True", "1"], done.stderr[-2000:]


@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized"])
def test_the_way_to_x_plus_is_one_graph(variant):
    net, twin = Net(), Net()
    optimizer, other = net.optimizer(variant=variant), twin.optimizer(variant=variant)
    graphs = Graphs()
    first_step = torch.compile(lambda: optimizer.first_step(zero_grad=True), backend=graphs, fullgraph=True)
    for _ in range(2):
        net.backward()
        first_step()
        net.backward()
        optimizer.second_step(zero_grad=True)
        take("first_second", other, twin)
    assert_same(net, twin)
    assert graphs.count <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "variant"), [("closure", "sam"), ("perturbed", "asam"), ("first_second", "unnormalized")]
)
def test_a_compiled_step_breaks_where_torch_breaks_and_nowhere_else(style, variant):
    net, twin = Net(), Net()
    optimizer, other = net.optimizer(variant=variant), twin.optimizer(variant=variant)
    graphs = Graphs()

    def step():
        take(style, optimizer, net)

    compiled = torch.compile(step, backend=graphs)
    counts = []
    for _ in range(STEPS):
        compiled()
        counts.append(graphs.count)
        take(style, other, twin)
    assert_same(net, twin)
    assert counts[2:] == [counts[2]] * (STEPS - 2)  # the first steps set up the state
    breaks = graphs.breaks()

    plain = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def plain_step():
        plain.zero_grad()
        net.backward()
        plain.step()

    graphs = Graphs()
    torch.compile(plain_step, backend=graphs)()
    assert breaks <= graphs.breaks()
    assert optimizer.record.step == STEPS - 1
    assert optimizer.record.radius.item() == pytest.approx(other.record.radius.item(), rel=1e-12)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("bad_pass", [1, 2])
def test_a_compiled_step_drops_a_bad_gradient_as_on_an_accelerator(fused, bad_pass):
    torch._dynamo.reset()
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = SAM(torch.optim.SGD([w], lr=0.1, momentum=0.9, fused=fused), rho=0.1, replay_rng=False)
    factors = torch.tensor([1.0, 1.0])
    factors[bad_pass - 1] = torch.inf
    calls = []

    def closure():
        w.grad = None
        (w.square() * factors[len(calls) % 2]).sum().backward()
        calls.append(None)
        return torch.zeros(())

    step = torch.compile(lambda: optimizer.step(closure), backend="eager")
    home = w.detach().clone()
    step()
    assert torch.equal(w, home)
    assert optimizer.record.skipped
    factors.fill_(1.0)
    step()
    assert not torch.equal(w, home)
    assert w.isfinite().all()


def test_a_step_assigns_nothing_to_the_optimizer_itself():
    # While torch.compile traces, what is assigned to an optimizer is lost; see samirage.optim.step_state.
    net = Net()
    optimizer = net.optimizer(variant=LookSAM(k=2), guard=Guard(), warm_start=WarmStart(steps=1))
    before = dict(vars(optimizer))
    for style in STYLES * 2:
        take(style, optimizer, net)
    net.backward()
    with pytest.raises(KeyboardInterrupt), optimizer.perturbed():
        raise KeyboardInterrupt
    optimizer.load_state_dict(optimizer.state_dict())
    after = vars(optimizer)
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert optimizer.record is None

"""Friendly SAM: against another library, its average in checkpoints, and what it must refuse."""

import copy
import math

import pytest
import torch

from samirage import SAM
from samirage.points import certify
from samirage.sam import perturb, sam_map
from samirage.sam.variants import FriendlySAM
from tests.optim.problems import every_style

pytorch_optimizer = pytest.importorskip("pytorch_optimizer", reason="compares with the package pytorch_optimizer")


class Net:
    """A small network that sees another minibatch in each step."""

    def __init__(self, dtype=torch.float64):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).to(dtype)
        self.x, self.y = torch.randn(50, 16, 5, dtype=dtype), torch.randint(0, 3, (50, 16))
        self.step = 0

    def backward(self):
        loss = torch.nn.functional.cross_entropy(self.model(self.x[self.step]), self.y[self.step])
        loss.backward()
        return loss

    def closure(self, optimizer):
        def closure():
            optimizer.zero_grad()
            return self.backward()

        return closure


def train(net, optimizer, steps, style="closure"):
    for _ in range(steps):
        if style == "closure":
            optimizer.step(net.closure(optimizer))
        else:
            optimizer.zero_grad()
            net.backward()
            if style == "perturbed":
                with optimizer.perturbed():
                    net.backward()
                optimizer.step()
            else:
                optimizer.first_step(zero_grad=True)
                net.backward()
                optimizer.second_step(zero_grad=True)
        net.step += 1


def flat(net):
    return torch.cat([p.detach().flatten() for p in net.model.parameters()])


@every_style
@pytest.mark.parametrize(("sigma", "lmbda"), [(1.0, 0.9), (0.6, 0.3)])
def test_fifty_steps_are_those_of_another_library(sigma, lmbda, style):
    net, twin = Net(), Net()
    base = torch.optim.SGD(net.model.parameters(), lr=0.2, momentum=0.9)
    optimizer = SAM(base, rho=0.3, variant=FriendlySAM(sigma=sigma, lmbda=lmbda))
    train(net, optimizer, 50, style)
    other = pytorch_optimizer.FriendlySAM(
        twin.model.parameters(), torch.optim.SGD, rho=0.3, sigma=sigma, lmbda=lmbda, lr=0.2, momentum=0.9
    )
    for _ in range(50):
        closure = twin.closure(other)
        closure()
        other.step(closure)
        twin.step += 1
    # Theirs adds 1e-12 to a norm that it sums up in float32; that is off by at most 1e-7 of a step.
    torch.testing.assert_close(flat(net), flat(twin), rtol=1e-5, atol=1e-6)
    plain = Net()
    train(plain, SAM(torch.optim.SGD(plain.model.parameters(), lr=0.2, momentum=0.9), rho=0.3), 50)
    assert (flat(net) - flat(plain)).norm() > 1e3 * (flat(net) - flat(twin)).norm()
    assert optimizer.record.radius.item() == pytest.approx(0.3, rel=1e-12)


def test_the_average_is_saved_loaded_and_copied():
    net, twin, third = Net(), Net(), Net()

    def optimizer_of(net):
        return SAM(torch.optim.Adam(net.model.parameters(), lr=0.05), rho=0.3, variant=FriendlySAM())

    optimizer, resumed = optimizer_of(net), optimizer_of(twin)
    train(net, optimizer, 5)
    assert all("friendlysam_m" in optimizer.state[p] for p in net.model.parameters())
    twin.model.load_state_dict(net.model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twin.step = third.step = net.step
    third.model, copied = copy.deepcopy((net.model, optimizer))
    for one, its in ((net, optimizer), (twin, resumed), (third, copied)):
        train(one, its, 5)
    assert torch.equal(flat(net), flat(twin))
    assert torch.equal(flat(net), flat(third))


def test_a_skipped_step_leaves_the_average_alone():
    net = Net()
    optimizer = SAM(torch.optim.SGD(net.model.parameters(), lr=0.1), rho=0.3, variant=FriendlySAM())
    train(net, optimizer, 2)
    before = {p: optimizer.state[p]["friendlysam_m"].clone() for p in net.model.parameters()}
    net.x[2] *= math.nan
    train(net, optimizer, 1)
    assert optimizer.record.skipped
    assert all(torch.equal(optimizer.state[p]["friendlysam_m"], m) for p, m in before.items())


def test_a_loss_scale_makes_no_difference():
    net, twin = Net(torch.float32), Net(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)  # it doubles every other step
    optimizer = SAM(torch.optim.SGD(net.model.parameters(), lr=0.1), rho=0.3, variant=FriendlySAM(), scaler=scaler)
    other = SAM(torch.optim.SGD(twin.model.parameters(), lr=0.1), rho=0.3, variant=FriendlySAM())
    for _ in range(6):

        def closure():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net.model(net.x[net.step]), net.y[net.step])
            scaler.scale(loss).backward()
            return loss

        optimizer.step(closure)
        scaler.update()
        net.step += 1
        train(twin, other, 1)
    torch.testing.assert_close(flat(net), flat(twin), rtol=1e-5, atol=1e-7)


def test_members_of_a_stack_are_those_of_single_runs():
    friendly, state, states = FriendlySAM(sigma=0.7, lmbda=0.6), {}, [{}, {}]
    x = [torch.zeros(2, 3, dtype=torch.float64)]
    for step in range(3):
        g = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        found = perturb(x, [g], 0.5, variant=friendly, batched=True, state=state)
        state = found.state
        for i in range(2):
            alone = perturb([x[0][i]], [g[i]], 0.5, variant=friendly, state=states[i])
            states[i] = alone.state
            torch.testing.assert_close(found.displacement[0][i], alone.displacement[0], rtol=1e-12, atol=0)


def test_what_friendly_sam_cannot_do_is_said_in_a_sentence():
    w = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="FriendlySAM keeps m for the whole batch, and scope 'local'"):
        SAM(torch.optim.SGD([w], lr=0.1), variant=FriendlySAM(), scope="local", shards=2)
    x = torch.ones(2, dtype=torch.float64)
    for call in (
        lambda: sam_map(lambda x: 2 * x, x, rho=0.5, lr=0.1, variant=FriendlySAM()),
        lambda: certify(lambda x: x.square().sum(), x, rho=0.5, lr=0.1, variant=FriendlySAM()),
    ):
        with pytest.raises(ValueError, match="FriendlySAM remembers m from step to step, so that its steps are not"):
            call()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sigma": -1.0}, "FriendlySAM sigma must be a finite number of at least 0; got -1.0"),
        ({"lmbda": 1.0}, "FriendlySAM lmbda must be at least 0 and below 1; got 1.0"),
        ({"lmbda": True}, "FriendlySAM lmbda must be at least 0 and below 1; got True"),
    ],
)
def test_a_friendly_sam_that_makes_no_sense(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        FriendlySAM(**options)

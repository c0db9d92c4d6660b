"""What pass 2 must leave alone (batch-norm statistics, random numbers, flags), and what it must see again (dropout)."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from samirage import SAM, WarmStart
from tests.optim.problems import STYLES, every_style


class Net(nn.Module):
    """Batch and instance normalisation, cumulative and exponential, dropout, a buffer that is replaced, a counter."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8, momentum=0.3)
        self.cumulative = nn.BatchNorm1d(8, momentum=None)
        self.instance = nn.InstanceNorm1d(2, track_running_stats=True)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(8, 2)
        self.register_buffer("average", torch.zeros(8))
        self.register_buffer("absent", None)
        self.masks = []

    def forward(self, x):
        h = self.cumulative(self.norm(self.first(x)).tanh())
        h = self.instance(h.view(-1, 2, 4)).flatten(1)
        self.average = 0.5 * self.average + 0.5 * h.detach().mean(0)  # a new tensor each time
        h = self.dropout(h)
        self.masks.append((h == 0).detach())
        return self.last(h)


class Training:
    def __init__(self, micro_batches=1, dropout=0.0, with_model=True, rho=2.0, lr=0.05, **options):
        torch.manual_seed(1)
        self.net = Net(dropout)
        self.x = torch.randn(12, 6)
        self.y = torch.randint(0, 2, (12,))
        self.micro_batches = micro_batches
        self.optimizer = SAM(
            torch.optim.SGD(self.net.parameters(), lr=lr), rho=rho, model=self.net if with_model else None, **options
        )

    def backward(self):
        total = 0.0
        for x, y in zip(self.x.chunk(self.micro_batches), self.y.chunk(self.micro_batches), strict=True):
            loss = nn.functional.cross_entropy(self.net(x), y) / self.micro_batches
            loss.backward()
            total += loss.detach()
        return total

    def step(self, style, fail=False):
        def second():
            self.backward()
            if fail:
                raise KeyboardInterrupt

        if style == "closure":
            calls = []

            def closure():
                self.optimizer.zero_grad()
                calls.append(None)
                if len(calls) == 2:
                    return second()
                return self.backward()

            return self.optimizer.step(closure)
        self.optimizer.zero_grad()
        self.backward()
        if style == "perturbed":
            with self.optimizer.perturbed():
                second()
            return self.optimizer.step()
        self.optimizer.first_step(zero_grad=True)
        try:
            second()
        except BaseException:
            self.optimizer.restore()
            raise
        return self.optimizer.second_step()


def buffers(module):
    return {name: value.clone() for name, value in module.named_buffers()}


def assert_same_buffers(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@every_style
@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_buffers_are_those_of_one_plain_pass(style, fail, micro_batches):
    training = Training(micro_batches)
    reference = copy.deepcopy(training.net)
    modes = {name: module.training for name, module in training.net.named_modules()}
    for x in training.x.chunk(micro_batches):
        reference(x)
    if fail:
        with pytest.raises(KeyboardInterrupt):
            training.step(style, fail=True)
    else:
        training.step(style)
    assert_same_buffers(buffers(training.net), buffers(reference))
    assert training.net.norm.num_batches_tracked == micro_batches
    assert {name: module.training for name, module in training.net.named_modules()} == modes


@every_style
def test_synchronised_batch_norm_too(style):
    # Without other processes it computes what batch norm does; on a CPU it runs in no other way.
    training, plain = Training(), Training()
    training.net = training.optimizer.model = nn.SyncBatchNorm.convert_sync_batchnorm(training.net)
    assert isinstance(training.net.norm, nn.SyncBatchNorm)
    training.step(style)
    plain.net(plain.x)
    assert training.net.norm.num_batches_tracked == 1
    assert_same_buffers(buffers(training.net), buffers(plain.net))


def test_without_the_model_the_statistics_see_the_perturbed_pass_too():
    training = Training(with_model=False)
    training.step("closure")
    assert training.net.norm.num_batches_tracked == 2


@every_style
def test_statistics_stay_those_of_plain_training_over_many_steps(style):
    training, plain = Training(rho=2.0, lr=0.0), Training(rho=0.0, lr=0.0)
    for _ in range(5):
        training.step(style)
        plain.step("closure")
    assert_same_buffers(buffers(training.net), buffers(plain.net))


@every_style
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_dropout_masks_are_equal_in_both_passes_and_differ_between_steps(style, micro_batches):
    training = Training(micro_batches, dropout=0.5)
    torch.manual_seed(7)
    masks = []
    for _ in range(3):
        training.net.masks.clear()
        training.step(style)
        first, second = training.net.masks[:micro_batches], training.net.masks[micro_batches:]
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        masks += first
    assert not any(torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])
    # The generator is where one plain pass per step would have left it.
    after = torch.rand(4)
    torch.manual_seed(7)
    for _ in range(3):
        training.backward()
    assert torch.equal(after, torch.rand(4))


@every_style
def test_random_numbers_come_back_after_a_failure(style):
    training = Training(dropout=0.5)
    torch.manual_seed(7)
    with pytest.raises(KeyboardInterrupt):
        training.step(style, fail=True)
    after = torch.rand(4)
    torch.manual_seed(7)
    training.backward()
    assert torch.equal(after, torch.rand(4))


@every_style
def test_the_replay_can_be_switched_off(style):
    training = Training(dropout=0.5, replay_rng=False)
    training.step(style)
    assert not torch.equal(*training.net.masks)
    assert not training.net._forward_pre_hooks


def test_a_closure_is_replayed_without_the_model_and_an_explicit_loop_is_not():
    training = Training(dropout=0.5, with_model=False)
    training.step("closure")
    assert torch.equal(*training.net.masks)
    training.net.masks.clear()
    torch.manual_seed(7)
    training.step("perturbed")
    assert not torch.equal(*training.net.masks)
    after = torch.rand(4)
    torch.manual_seed(7)  # the generator went on through both passes, and is not set back into the second
    training.backward()
    training.backward()
    assert torch.equal(after, torch.rand(4))


@pytest.mark.parametrize(
    "order", ["zero_grad between forward and backward", "a batch is dropped", "evaluation between"]
)
def test_the_replay_finds_the_forward_pass_that_counts(order):
    training = Training(dropout=0.5)
    net, optimizer = training.net, training.optimizer
    training.step("perturbed")
    net.masks.clear()

    def loss():
        return nn.functional.cross_entropy(net(training.x), training.y)

    if order == "a batch is dropped":
        optimizer.zero_grad()
        loss().backward()
        optimizer.zero_grad()
        net.masks.clear()
    if order == "evaluation between":
        optimizer.zero_grad()
        with torch.no_grad():
            loss()
        net.eval()
        loss()
        net.train()
        net.masks.clear()
    value = loss()
    if order != "evaluation between":
        optimizer.zero_grad() if order != "a batch is dropped" else None
    value.backward()
    with optimizer.perturbed():
        loss().backward()
    optimizer.step()
    assert torch.equal(*net.masks)


@pytest.mark.parametrize("style", STYLES)
def test_a_warm_start_leaves_the_statistics_and_masks_of_one_pass(style):
    training = Training(dropout=0.5, warm_start=WarmStart(steps=1))
    reference = copy.deepcopy(training.net)
    torch.manual_seed(7)
    training.step(style)
    torch.manual_seed(7)
    reference(training.x)
    assert_same_buffers(buffers(training.net), buffers(reference))
    assert not training.optimizer.record.perturbed


def test_copies_of_the_model_do_not_drag_the_optimizer_along():
    training = Training(dropout=0.5)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(training.net)))
    alive = weakref.ref(training.optimizer)
    training.net(training.x)
    assert len(training.optimizer._passes.side_effects._forwards) == 1
    copied(training.x)
    assert len(training.optimizer._passes.side_effects._forwards) == 1
    del training.optimizer
    gc.collect()
    assert alive() is None
    training.net(training.x)  # the hook that is left does nothing


def test_copies_of_the_optimizer_take_the_model_along():
    training = Training(dropout=0.5)
    training.step("perturbed")
    other = Training(dropout=0.5)
    other.net, other.optimizer = copy.deepcopy((training.net, training.optimizer))
    assert other.optimizer.model is other.net
    for style in STYLES:
        for t in (training, other):
            torch.manual_seed(7)
            t.step(style)
        assert torch.equal(training.net.last.weight, other.net.last.weight)
        assert_same_buffers(buffers(training.net), buffers(other.net))
        assert torch.equal(*other.net.masks[-2:])


@every_style
def test_hooks_of_the_model_run_in_both_passes(style):
    training = Training()
    events = []
    training.net.last.register_forward_hook(lambda *_: events.append("forward"))
    training.net.last.register_full_backward_hook(lambda *_: events.append("backward"))
    training.net.last.weight.register_post_accumulate_grad_hook(lambda p: events.append("grad"))
    training.step(style)
    assert events == ["forward", "grad", "backward"] * 2 or events == ["forward", "backward", "grad"] * 2

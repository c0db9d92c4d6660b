"""Pass 2 by replay: the same micro-batches with the same random numbers, and nothing left behind."""

import pytest
import torch
from torch import nn

from samirage import SAM, WarmStart
from samirage.trainers.replay import Replay

X = torch.arange(1.0, 25.0).reshape(3, 8)


class Problem:
    """Dropout on the way to a linear layer; the optimizer does not know the model, so that replay is on its own."""

    def __init__(self, **options):
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = SAM(torch.optim.SGD(self.model.parameters(), lr=0.1), rho=0.5, **options)
        self.replay, self.masks, self.lasts = Replay(), [], []
        self.model[0].register_forward_hook(lambda module, args, out: self.masks.append(out == 0))

    def run(self, x, last=False):
        self.lasts.append(last)
        self.model(x).square().mean().backward()

    def first_pass(self):
        self.optimizer.zero_grad()
        self.replay.forget()
        for x in X:
            self.replay.remember(self.optimizer, x)
            self.run(x)

    def second_pass(self):
        self.replay.second_pass(self.optimizer, self.run)


@pytest.mark.parametrize("replay_rng", [True, False])
def test_each_micro_batch_sees_its_dropout_mask_again(replay_rng):
    problem = Problem(replay_rng=replay_rng)
    problem.first_pass()
    torch.rand(3)  # as a hook between the passes may
    after = torch.get_rng_state()
    problem.second_pass()
    first, second = problem.masks[:3], problem.masks[3:]
    assert not torch.equal(first[0], first[1])
    assert [torch.equal(a, b) for a, b in zip(first, second, strict=True)] == [replay_rng] * 3
    assert torch.equal(after, torch.get_rng_state()) == replay_rng
    assert problem.lasts[3:] == [False, False, True]
    problem.optimizer.step()
    assert problem.optimizer.record.perturbed


def test_a_step_of_one_pass_keeps_nothing():
    problem = Problem(warm_start=WarmStart(steps=1))
    problem.first_pass()
    problem.second_pass()
    assert len(problem.masks) == 3
    problem.optimizer.step()
    assert not problem.optimizer.record.perturbed


def test_micro_batches_of_a_step_that_was_given_up_are_forgotten():
    problem = Problem()
    problem.first_pass()  # and no second pass, as after an exception
    problem.first_pass()
    problem.second_pass()
    assert len(problem.masks) == 9


def test_without_a_gradient_there_is_no_second_pass():
    problem = Problem()
    problem.replay.remember(problem.optimizer, X[0])
    problem.second_pass()
    assert problem.masks == []
    problem.first_pass()
    problem.second_pass()
    assert len(problem.masks) == 6


def test_a_failure_in_the_second_pass_brings_the_weights_back():
    problem = Problem()
    home = problem.model[1].weight.detach().clone()
    problem.first_pass()

    def fail(x, last):
        assert not torch.equal(problem.model[1].weight, home)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        problem.replay.second_pass(problem.optimizer, fail)
    assert torch.equal(problem.model[1].weight, home)
    problem.first_pass()
    problem.second_pass()
    problem.optimizer.step()
    assert len(problem.masks) == 9

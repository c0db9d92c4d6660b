"""What fails leaves the weights at x, bit for bit and in their storage; memory and gradients are as they were."""

import copy
import gc

import numpy as np
import pytest
import torch

from samirage import SAM
from tests.optim.problems import BASES, Cubic, every_style, take


class Interrupted(Exception):
    pass


@every_style
@pytest.mark.parametrize("failure", [Interrupted, KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_exception_in_the_second_pass_brings_everything_back(style, failure, dtype):
    problem = Cubic(dtype)
    optimizer = SAM(BASES["adam"](problem.groups()), rho=0.7)
    take(style, optimizer, problem)
    home = [p.detach().clone() for p in problem.params]
    state = copy.deepcopy(optimizer.state_dict())
    pointers = [p.data_ptr() for p in problem.params]
    views = [p.detach()[...] for p in problem.params]
    backward, calls = problem.backward, []

    def failing():
        calls.append(None)
        if len(calls) == 2:
            assert not torch.equal(problem.params[0], home[0])
            backward()  # gradients at x⁺ exist already when it fails
            raise failure("on purpose")
        return backward()

    problem.backward = failing
    with pytest.raises(failure, match="on purpose"):
        take(style, optimizer, problem)
    if style == "first_second":  # between two calls only the caller can catch
        optimizer.restore()
    problem.backward = backward
    for p, value, pointer, view in zip(problem.params, home, pointers, views, strict=True):
        assert torch.equal(p, value)
        assert p.data_ptr() == pointer
        assert torch.equal(view, value)
        assert p.grad is None  # a gradient from x⁺ must not leak into the next step
    assert str(optimizer.state_dict()) == str(state)
    assert optimizer.record.step == 0
    take(style, optimizer, problem)
    assert optimizer.record.step == 1


def move_one_of_many(move, weights, *others, **options):
    move(weights[:1], *(other[:1] for other in others), **options)


# The first moves all weights at once, the second one after the other.
@pytest.mark.parametrize(
    ("second", "owner", "name", "move_one"),
    [
        ({}, torch, "_foreach_add_", move_one_of_many),
        ({"rho": 0.2}, torch.Tensor, "add_", lambda move, *arguments: move(*arguments)),
    ],
)
def test_a_failure_while_the_weights_move_brings_them_back(monkeypatch, second, owner, name, move_one):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(**second), lr=0.1), rho=0.7)
    home = problem.flat()
    move, moved = getattr(owner, name), []

    def failing(*arguments, **options):
        move_one(move, *arguments, **options)
        moved.append(problem.flat())
        raise KeyboardInterrupt

    for enter in (lambda: optimizer.perturbed().__enter__(), optimizer.first_step):
        problem.backward()
        monkeypatch.setattr(owner, name, failing)
        with pytest.raises(KeyboardInterrupt):
            enter()
        monkeypatch.undo()
        assert (moved.pop() != home).any()
        assert not moved
        np.testing.assert_array_equal(problem.flat(), home)


@pytest.mark.parametrize(
    ("second", "place"), [({}, "move_host.norms_of_pieces"), ({"rho": 0.2}, "move_general.step_figures")]
)
def test_a_failure_in_the_figures_brings_the_weights_back(monkeypatch, second, place):
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(**second), lr=0.1), rho=0.7)
    home = problem.flat()
    problem.backward()
    optimizer.first_step(zero_grad=True)
    problem.backward()

    def failing(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr(f"samirage.optim.{place}", failing)
    with pytest.raises(MemoryError, match="no room"):
        optimizer.second_step()
    np.testing.assert_array_equal(problem.flat(), home)


def test_parameters_that_share_storage_come_back():
    whole = torch.tensor([1.0, 2.0, 3.0])
    a, b = torch.nn.Parameter(whole[:2]), torch.nn.Parameter(whole[1:])
    optimizer = SAM(torch.optim.SGD([a, b], lr=0.0), rho=0.7)

    def closure():
        optimizer.zero_grad()
        loss = a.square().sum() + b.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert whole.tolist() == [1.0, 2.0, 3.0]


def test_gradients_are_never_written_to():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7, variant="asam")
    problem.backward()
    grads = [p.grad for p in problem.params]
    values = [g.clone() for g in grads]
    with optimizer.perturbed():
        problem.backward()
        grads += [p.grad for p in problem.params]
        values += [g.clone() for g in grads[3:]]
    optimizer.step()
    assert all(torch.equal(g, v) for g, v in zip(grads, values, strict=True))


def test_one_copy_of_the_weights_during_the_second_pass_and_none_between_steps():
    size = 4099
    w = torch.nn.Parameter(torch.rand(size))

    def alive():
        gc.collect()
        _ = w.grad  # gives the gradient its Python object, which is what is counted
        return sum(issubclass(type(o), torch.Tensor) and o.numel() == size for o in gc.get_objects())

    for rho_of_second in (0.7, 0.1):  # equal radii, and such as differ
        optimizer = SAM(
            torch.optim.SGD([{"params": [w]}, {"params": [torch.nn.Parameter(torch.ones(2))], "rho": rho_of_second}]),
            rho=0.7,
        )
        (w**3).sum().backward()
        assert alive() == 2  # w and its gradient
        with optimizer.perturbed():
            assert alive() == 2  # w and the copy
            (w**3).sum().backward()
            assert alive() == 3
        assert alive() == 2
        optimizer.step()
        optimizer.zero_grad()
        assert alive() == 1

"""Stacks of networks against single networks, autograd and finite differences."""

import pytest
import torch
from torch import nn

from samirage.lab.engine import stacked
from samirage.lab.engine.models import LOSSES, MLP, softmax_squared
from samirage.lab.engine.stacked import MLPStack, ModuleStack, stack

IMAGES, INPUTS, CLASSES = 37, 11, 4


def problem(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(IMAGES, INPUTS, generator=generator, dtype=dtype)
    x[:, [2, 7]] = 0  # inputs that no training example uses
    return x, torch.randint(0, CLASSES, (IMAGES,), generator=generator)


def networks(widths=(INPUTS, 6, CLASSES), members=3, dtype=torch.float64):
    torch.manual_seed(1)
    return [MLP(widths).to(dtype) for _ in range(members)]


def fresh_grads(members):
    return [torch.full_like(p, torch.nan) for p in members.params]


def by_autograd(module, loss, x, labels):
    value = loss(module(x), labels)
    return value.detach(), torch.autograd.grad(value, list(module.parameters()))


def as_modules(stacked_tensors, x):
    """The tensors of an MLPStack, per member, in the layout of `MLP.parameters()`; unused inputs get zeros."""
    first, *later = stacked_tensors
    live = (x != 0).any(0)
    for s in range(len(first)):
        weight = torch.zeros(first.shape[1], len(live), dtype=first.dtype)
        weight[:, live] = first[s, :, : int(live.sum())]
        yield [weight, first[s, :, int(live.sum())], *(t[s] for t in later)]


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("widths", [(INPUTS, 6, CLASSES), (INPUTS, 8, 5, CLASSES), (INPUTS, CLASSES)])
@pytest.mark.parametrize("most_elements", [10**9, 16 * 3 * 8])
def test_wide_products_give_autograds_loss_and_gradient(loss_name, widths, most_elements, monkeypatch):
    monkeypatch.setattr(stacked, "_CPU_CHUNK_ELEMENTS", most_elements)  # in one part, and in several
    x, labels = problem()
    modules = networks(widths)
    members = stack(modules, LOSSES[loss_name], x, labels)
    assert isinstance(members, MLPStack)
    grads = fresh_grads(members)
    loss = members.loss_and_grads(members.params, grads)
    for s, (module, grad) in enumerate(zip(modules, as_modules(grads, x), strict=True)):
        expected_loss, expected = by_autograd(module, LOSSES[loss_name], x, labels)
        assert loss[s].item() == pytest.approx(expected_loss.item(), abs=1e-14)
        for g, e in zip(grad, expected, strict=True):
            torch.testing.assert_close(g, e, rtol=0, atol=1e-15 * 100)  # sums of 37 terms of size 1


def test_unused_inputs_keep_their_weights_and_count_for_new_examples():
    x, labels = problem()
    modules = networks()
    members = stack(modules, softmax_squared, x, labels)
    new = torch.rand(5, INPUTS, dtype=torch.float64)
    for s, module in enumerate(modules):
        torch.testing.assert_close(members.logits(new)[s], module(new).detach(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("path", [MLPStack, ModuleStack])
def test_batches_are_rows(path):
    x, labels = problem()
    modules = networks()
    members = path(modules, softmax_squared, x, labels)
    rows = torch.tensor([30, 2, 2, 17])
    grads = fresh_grads(members)
    loss = members.loss_and_grads(members.params, grads, rows)
    for s, module in enumerate(modules):
        assert loss[s].item() == pytest.approx(softmax_squared(module(x[rows]), labels[rows]).item(), abs=1e-14)


@pytest.mark.parametrize("rows", [1000, 10])
def test_any_module_gives_autograds_loss_and_gradient(rows, monkeypatch):
    monkeypatch.setattr(ModuleStack, "_rows", rows)
    torch.manual_seed(2)
    modules = [
        nn.Sequential(nn.Conv1d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(27, CLASSES)).double() for _ in range(3)
    ]
    x, labels = problem()
    x = x.unsqueeze(1)
    members = stack(modules, softmax_squared, x, labels)
    assert isinstance(members, ModuleStack)
    grads = fresh_grads(members)
    loss = members.loss_and_grads(members.params, grads)
    for s, module in enumerate(modules):
        expected_loss, expected = by_autograd(module, softmax_squared, x, labels)
        assert loss[s].item() == pytest.approx(expected_loss.item(), abs=1e-14)
        for g, e in zip(grads, expected, strict=True):
            torch.testing.assert_close(g[s], e, rtol=0, atol=1e-13)
        torch.testing.assert_close(members.logits(x)[s], module(x).detach(), rtol=0, atol=1e-14)


def test_stacking_copies():
    x, labels = problem()
    modules = networks()
    before = modules[0].layers[1].bias.detach().clone()
    for path in (MLPStack, ModuleStack):
        members = path(modules, softmax_squared, x, labels)
        for p in members.params:
            p.add_(1)
    assert torch.equal(modules[0].layers[1].bias, before)


def test_flops_are_those_of_the_matrix_products():
    x, labels = problem()
    live = int((x != 0).any(0).sum()) + 1
    wide = MLPStack(networks(), softmax_squared, x, labels)
    # Forward and weight gradient of layer 1, and both with the gradient of the activations for layer 2.
    assert wide.flops(IMAGES) == 3 * IMAGES * (4 * live * 6 + 6 * 6 * CLASSES)
    general = ModuleStack(networks(), softmax_squared, x, labels)
    assert general.flops(IMAGES) == 3 * IMAGES * (4 * INPUTS * 6 + 6 * 6 * CLASSES)


def test_wrong_modules_are_refused():
    x, labels = problem()
    with pytest.raises(ValueError, match="at least one module; got none"):
        stack([], softmax_squared, x, labels)
    with pytest.raises(ValueError, match="one architecture; the names or shapes of their parameters differ"):
        stack([MLP([INPUTS, 6, CLASSES]), MLP([INPUTS, 7, CLASSES])], softmax_squared, x, labels)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_average_over_examples_and_take_classes_in_either_dimension(name):
    loss = LOSSES[name]
    logits = torch.randn(2, 6, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 3, 1, 2, 2, 0])
    whole = loss(logits, labels)
    parts = torch.stack([loss(logits[:, i : i + 1], labels[i : i + 1]) for i in range(6)]).mean(0)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-14)
    torch.testing.assert_close(loss(logits.transpose(1, 2), labels, dim=-2), whole, rtol=0, atol=1e-14)


def test_losses_against_pytorchs_own():
    logits = torch.randn(6, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([0, 3, 1, 2, 2, 0])
    onehot = torch.eye(CLASSES, dtype=torch.float64)[labels]
    expected = {
        "cross-entropy": nn.functional.cross_entropy(logits, labels),
        "softmax-squared": CLASSES * nn.functional.mse_loss(logits.softmax(1), onehot),
        "tanh-squared": CLASSES * nn.functional.mse_loss(logits.tanh(), onehot),
    }
    assert expected.keys() == LOSSES.keys()
    for name, value in expected.items():
        torch.testing.assert_close(LOSSES[name](logits, labels), value, rtol=0, atol=1e-14)

"""The objective of a network: against NumPy, against itself in other batches and types, and what it leaves alone."""

import copy
import random
import weakref
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from samirage.landscape import Objective
from tests.reference import loss_and_grads

EXAMPLES, INPUTS, HIDDEN, CLASSES = 96, 5, 4, 3


def squared(logits, labels):
    """The loss of the NumPy reference."""
    onehot = functional.one_hot(labels, CLASSES).to(logits.dtype)
    return (torch.softmax(logits, -1) - onehot).square().sum() / len(labels)


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(EXAMPLES, INPUTS, generator=generator)
    # The last 16 examples differ from the others, so that weighing batches instead of examples shows.
    x[80:] *= 4
    return x, torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)


def cut(*lengths):
    x, y = data()
    return list(zip(x.split(lengths), y.split(lengths), strict=True))


def network(seed=1, dtype=torch.float64):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net


def objective(*lengths, dtype=torch.float64, **options):
    return Objective(network(dtype=dtype), squared, cut(*(lengths or (40, 40, 16))), **options)


def unflat(vector):
    shapes = [(HIDDEN, INPUTS), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
    parts = np.split(vector, np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def by_hand(vector):
    x, y = data()
    loss, grads = loss_and_grads(unflat(vector), x.numpy().astype(np.float64), np.eye(CLASSES)[y])
    return loss, np.concatenate([g.ravel() for g in grads])


def hessian_by_hand(vector, h=1e-4):
    """Four-point difference quotients: error about h⁴ + 1e-16/h."""
    columns = []
    for step in h * np.eye(len(vector)):
        (up, down), (far_up, far_down) = (
            (by_hand(vector + k * step)[1], by_hand(vector - k * step)[1]) for k in (1, 2)
        )
        columns.append((8 * (up - down) - (far_up - far_down)) / (12 * h))
    return np.stack(columns, 1)


def direction(f, seed=2, lead=()):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*lead, f.dim, dtype=f.flat_parameters().dtype, generator=generator)


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(96,), (40, 40, 16), (1, 94, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_derivatives_are_those_of_the_numpy_network_however_the_data_is_cut(lengths, dtype):
    f = objective(*lengths, dtype=dtype)
    x = f.flat_parameters()
    v = direction(f)
    loss, grad = by_hand(x.double().numpy())
    hessian = hessian_by_hand(x.double().numpy())
    exact = {"rtol": 0, "atol": 2e-9 if dtype == torch.float64 else 3e-6}
    value, own = f.value_and_grad(x)
    assert (value.dtype, own.dtype) == (dtype, dtype)
    assert f(x) == value
    np.testing.assert_allclose(value, loss, **exact)
    np.testing.assert_allclose(own, grad, **exact)
    np.testing.assert_allclose(f.grad(x), grad, **exact)
    np.testing.assert_allclose(f.hessian(x), hessian, **exact)
    np.testing.assert_allclose(f.hvp(x, v), hessian @ v.double().numpy(), rtol=0, atol=10 * exact["atol"])
    linearized = f.linearize(x)
    np.testing.assert_allclose(linearized.grad, grad, **exact)
    np.testing.assert_allclose(linearized.hvp(v), hessian @ v.double().numpy(), rtol=0, atol=10 * exact["atol"])


def test_ragged_batches_weigh_by_their_length_and_the_top_eigenvalue_shows_it():
    f = objective(40, 40, 16)
    x = f.flat_parameters()
    top = torch.linalg.eigvalsh(f.hessian(x))[-1]
    parts = [Objective(network(), squared, [batch]) for batch in cut(40, 40, 16)]
    hessians = torch.stack([part.hessian(x) for part in parts])
    weights = torch.tensor([40, 40, 16], dtype=torch.float64) / 96
    torch.testing.assert_close(top, torch.linalg.eigvalsh((weights[:, None, None] * hessians).sum(0))[-1])
    unweighted = torch.linalg.eigvalsh(hessians.mean(0))[-1]
    assert abs(unweighted / top - 1) > 0.1  # what an average over batches would have given


def test_a_sum_is_not_divided():
    loss = nn.CrossEntropyLoss(reduction="sum")
    total = Objective(network(), loss, cut(40, 40, 16), reduction="sum")
    mean = Objective(network(), nn.CrossEntropyLoss(), cut(96))
    x = mean.flat_parameters()
    torch.testing.assert_close(total(x), EXAMPLES * mean(x))
    torch.testing.assert_close(total.grad(x), EXAMPLES * mean.grad(x))


def test_a_float32_network_can_be_analysed_in_float64():
    f = objective(dtype=torch.float32)
    x = f.flat_parameters().double()
    value, grad = f.value_and_grad(x)
    loss, expected = by_hand(x.numpy())
    assert value.item() == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(grad, expected, rtol=0, atol=1e-14)


class Branching(nn.Module):
    """Cannot be batched by vmap, because it branches on a value."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        out = self.inner(x)
        return out if out.sum() > -1e9 else 0 * out


@pytest.mark.parametrize("make", [network, Branching])
def test_points_of_a_batch_do_not_mix(make):
    f = Objective(make(), squared, cut(40, 40, 16))
    x = f.flat_parameters() + 0.5 * direction(f, lead=(3, 2))
    v = direction(f, seed=3, lead=(3, 2))
    value, grad = f.value_and_grad(x)
    product, hessian = f.hvp(x, v), f.hessian(x[:, :1])
    assert (value.shape, grad.shape, product.shape) == ((3, 2), x.shape, x.shape)
    for i, j in np.ndindex(3, 2):
        one, slope = f.value_and_grad(x[i, j])
        torch.testing.assert_close(value[i, j], one)
        torch.testing.assert_close(f(x)[i, j], one)
        torch.testing.assert_close(grad[i, j], slope)
        torch.testing.assert_close(product[i, j], f.hvp(x[i, j], v[i, j]))
    torch.testing.assert_close(hessian[2, 0], f.hessian(x[2, 0]))


class Tied(nn.Module):
    """Uses one layer twice, ties a weight between two layers, and has a frozen layer and inputs in a dict."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(INPUTS, INPUTS)
        self.frozen = nn.Linear(INPUTS, INPUTS).requires_grad_(False)
        self.again = self.first
        self.last = nn.Linear(INPUTS, INPUTS, bias=False)
        self.last.weight = self.first.weight

    def forward(self, inputs):
        hidden = self.frozen(torch.tanh(self.first(inputs["x"])))
        return self.last(torch.tanh(self.again(hidden))) + inputs["shift"][:, None]


def test_tied_and_frozen_parameters_and_inputs_in_a_dict():
    torch.manual_seed(0)
    net = Tied().double()
    x, _ = data()
    x = x.double()
    shift = torch.linspace(-1, 1, EXAMPLES, dtype=torch.float64)
    batches = [({"x": x[part], "shift": shift[part]}, x[part]) for part in (slice(50), slice(50, None))]
    kept = [*net.parameters()]
    f = Objective(net, nn.MSELoss(), batches)
    assert f.dim == INPUTS * INPUTS + INPUTS
    assert all(p is q for p, q in zip(kept, net.parameters(), strict=True))
    assert net.last.weight is net.first.weight is net.again.weight
    loss = functional.mse_loss(net({"x": x, "shift": shift}), x)
    grads = torch.autograd.grad(loss, [net.first.weight, net.first.bias])
    value, grad = f.value_and_grad(f.flat_parameters())
    torch.testing.assert_close(value, loss.detach())
    torch.testing.assert_close(grad, torch.cat([g.reshape(-1) for g in grads]))


def test_a_vector_goes_back_into_the_model():
    net = network()
    f = Objective(net, squared, cut(96))
    x = f.flat_parameters() + 1
    net.load_state_dict(f.unflatten(x), strict=False)
    assert torch.equal(f.flat_parameters(), x)
    torch.testing.assert_close(f(x), squared(net(data()[0].double()), data()[1]).detach())


# --- memory ------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Notes how many examples each forward pass took."""

    def __init__(self):
        super().__init__()
        self.inner = network()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return self.inner(x)


@pytest.mark.parametrize(("memory_gb", "recomputed"), [(1.0, []), (0.0, [30, 30, 20, 16])])
def test_products_run_the_network_again_only_for_what_memory_did_not_hold(memory_gb, recomputed):
    net = Counting()
    f = Objective(net, squared, cut(80, 16), chunk=30, memory_gb=memory_gb)
    x = f.flat_parameters()
    plain = objective(96)
    net.seen.clear()
    linearized = f.linearize(x)
    assert net.seen == [30, 30, 20, 16]
    net.seen.clear()
    for seed in (2, 3):
        product = linearized.hvp(direction(f, seed))
        torch.testing.assert_close(product, plain.hvp(plain.flat_parameters(), direction(f, seed)))
    assert net.seen == 2 * recomputed
    torch.testing.assert_close(linearized.grad, plain.grad(x))


def test_memory_that_holds_some_chunks_keeps_those():
    net = Counting()
    x = Objective(net, squared, cut(96)).flat_parameters()
    # Each example's activations take 60 to 600 bytes of float64, so 4 kB hold some chunks of 6, but not all 16.
    f = Objective(net, squared, cut(96), chunk=6, memory_gb=4e-6 * 3)
    linearized = f.linearize(x)
    net.seen.clear()
    product = linearized.hvp(direction(f))
    assert 0 < len(net.seen) < 16
    torch.testing.assert_close(product, f.hvp(x, direction(f)))


class Watched(torch.autograd.Function):
    """The hyperbolic tangent, with weak references to its nodes in the graph."""

    nodes: ClassVar[list[weakref.ref]] = []

    @staticmethod
    def forward(ctx, x):
        out = torch.tanh(x)
        ctx.save_for_backward(out)
        Watched.nodes.append(weakref.ref(ctx))
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * (1 - out * out)


class Watching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner[2](Watched.apply(self.inner[0](x)))


def test_graphs_are_freed_with_the_product():
    f = Objective(Watching(), squared, cut(96), chunk=20)
    x = f.flat_parameters()
    Watched.nodes.clear()
    linearized = f.linearize(x)
    torch.testing.assert_close(linearized.hvp(direction(f)), objective().hvp(x, direction(f)))
    assert [node() is not None for node in Watched.nodes] == [True] * 5
    del linearized
    assert [node() is not None for node in Watched.nodes] == [False] * 5


# --- determinism and what is left alone --------------------------------------------------------------


def test_a_shuffling_loader_gives_the_same_bits_every_time():
    loader = DataLoader(TensorDataset(*data()), batch_size=40, shuffle=True)
    f = Objective(network(), squared, loader)
    x = f.flat_parameters()
    torch.manual_seed(5)
    first = f.value_and_grad(x)
    torch.rand(3)
    second = f.value_and_grad(x)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    torch.testing.assert_close(first[0], objective(96)(x))
    # Products that recompute some chunks must not count an example twice.
    some = Objective(network(), squared, loader, chunk=8, memory_gb=1.5e-5)
    linearized = some.linearize(x)
    torch.rand(3)
    torch.testing.assert_close(linearized.hvp(direction(f)), f.hvp(x, direction(f)))


class Busy(nn.Module):
    """Writes to a buffer and draws random numbers that it does not use."""

    def __init__(self):
        super().__init__()
        self.inner = network(dtype=torch.float32)
        self.norm = nn.BatchNorm1d(CLASSES)
        self.register_buffer("calls", torch.zeros(()))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        self.calls.add_(1)
        torch.rand(2)
        np.random.rand()  # noqa: NPY002
        random.random()
        return self.norm(self.dropout(self.inner(x)))


def test_nothing_of_the_model_or_the_random_states_changes():
    net = Busy()
    net.norm.running_mean.uniform_()
    net.eval()
    net.inner.train()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    shuffling = torch.Generator().manual_seed(4)
    loader = DataLoader(TensorDataset(*data()), batch_size=40, shuffle=True, generator=shuffling)
    state, grads = copy.deepcopy(net.state_dict()), [p.grad.clone() for p in net.parameters()]
    modes = [m.training for m in net.modules()]
    places = [p.data_ptr() for p in net.parameters()]

    def random_states():
        numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
        return [torch.get_rng_state(), shuffling.get_state(), numpy_state, random.getstate()]

    states = random_states()
    f = Objective(net, squared, loader)
    x = f.flat_parameters()
    f.value_and_grad(torch.stack([x, x + 1]))
    f.linearize(x).hvp(x)
    with pytest.raises(ZeroDivisionError):
        Objective(net, lambda *_: 1 / 0, loader)
    for before, after in zip(states, random_states(), strict=True):
        assert torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, net.parameters(), strict=True))
    assert modes == [m.training for m in net.modules()]
    assert places == [p.data_ptr() for p in net.parameters()]
    assert all(p.requires_grad for p in net.parameters())


def test_batch_norm_in_eval_mode_is_analysed_with_its_running_statistics():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))
    net[1].running_mean.uniform_(-1, 1)
    net[1].running_var.uniform_(0.5, 2)
    net.eval()
    ragged = Objective(net, nn.CrossEntropyLoss(), cut(40, 40, 16))
    x = ragged.flat_parameters().double()

    # The same network with the normalisation written out as fixed numbers.
    mean, scale = net[1].running_mean.double(), (net[1].running_var.double() + 1e-5).rsqrt()

    def loss(w1, b1, gain, shift, w2, b2):
        inputs, labels = data()
        hidden = ((inputs.double() @ w1.T + b1) - mean) * scale * gain + shift
        return functional.cross_entropy(torch.tanh(hidden) @ w2.T + b2, labels)

    weights = [p.detach().double().requires_grad_() for p in net.parameters()]
    grads = torch.autograd.grad(loss(*weights), weights, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in grads])
    rows = [torch.cat([r.reshape(-1) for r in torch.autograd.grad(g, weights, retain_graph=True)]) for g in flat]
    torch.testing.assert_close(ragged.grad(x), flat.detach())
    torch.testing.assert_close(ragged.hessian(x), torch.stack(rows))


def test_without_rich_there_is_no_bar_and_no_other_difference(monkeypatch):
    plain, shown = objective(), objective(progress=True)
    x = plain.flat_parameters()
    assert torch.equal(plain.grad(x), shown.grad(x))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert torch.equal(plain.grad(x), shown.grad(x))


# --- refusals ----------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """Drops out without a layer that says so."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return functional.dropout(self.inner(x), 0.5, training=True)


class Augmented:
    """Data that differs every time."""

    def __iter__(self):
        x, y = data()
        yield x + 0.1 * torch.randn_like(x), y


class Shrinking:
    """Data of which there is less every time."""

    def __init__(self):
        self.length = EXAMPLES

    def __iter__(self):
        x, y = data()
        yield x[: self.length], y[: self.length]


def with_layer(layer):
    return nn.Sequential(network(dtype=torch.float32), nn.Sequential(layer))


def shrunk():
    batches = Shrinking()
    f = Objective(network(), squared, batches)
    batches.length -= 6
    return f(f.flat_parameters())


def retrained():
    net = with_layer(nn.Dropout(0.2)).eval()
    f = Objective(net, squared, cut(96))
    net.train()
    return f(f.flat_parameters())


def with_frozen_loss():
    net = network()
    return Objective(net.requires_grad_(False), squared, cut(96))


REFUSALS = {
    "dropout": (
        lambda: Objective(with_layer(nn.Dropout(0.2)), squared, cut(96)),
        r"layers 1\.0 \(Dropout: random in training mode\): call model\.eval\(\) first",
    ),
    "later dropout": (retrained, r"layers 1\.0 \(Dropout"),
    "batch norm": (
        lambda: Objective(with_layer(nn.BatchNorm1d(CLASSES)), squared, cut(96)),
        r"1\.0 \(BatchNorm1d: training mode, which normalises by the batch\)",
    ),
    "batch norm without statistics": (
        lambda: Objective(with_layer(nn.BatchNorm1d(CLASSES, track_running_stats=False)).eval(), squared, cut(96)),
        "BatchNorm1d: without running statistics",
    ),
    "attention": (
        lambda: Objective(with_layer(nn.MultiheadAttention(4, 2, dropout=0.1)), squared, cut(96)),
        r"1\.0 \(MultiheadAttention: dropout in training mode\)",
    ),
    "rrelu": (lambda: Objective(with_layer(nn.RReLU()), squared, cut(96)), "RReLU: random in training mode"),
    "hidden noise": (lambda: Objective(Noisy(), squared, cut(96)), "the model or its data are random: two passes gave"),
    "augmentation": (lambda: Objective(network(), squared, Augmented()), "the model or its data are random"),
    "shrinking data": (shrunk, "batches gave 96 examples at first and 90 now"),
    "iterator": (lambda: Objective(network(), squared, iter(cut(96))), "batches must be iterable more than once"),
    "generator": (lambda: Objective(network(), squared, (b for b in cut(96))), "and a generator is not"),
    "no iterable": (lambda: Objective(network(), squared, 3), r"an iterable of \(x, y\) pairs; got int"),
    "nothing": (lambda: Objective(network(), squared, []), "batches holds no examples"),
    "three parts": (lambda: Objective(network(), squared, [(1, 2, 3)]), r"a pair \(x, y\).*got 3 parts"),
    "no pair": (lambda: Objective(network(), squared, [4]), r"a pair \(x, y\).*got int"),
    "lengths": (
        lambda: Objective(network(), squared, [(torch.zeros(3, INPUTS), torch.zeros(2, dtype=torch.long))]),
        "the same number of examples in their first dimension; got 2, 3",
    ),
    "no module": (lambda: Objective(squared, squared, cut(96)), "model must be a torch.nn.Module; got function"),
    "no parameters": (with_frozen_loss, "no parameter that requires a gradient"),
    "two dtypes": (
        lambda: Objective(nn.Sequential(network(), network(dtype=torch.float32)), squared, cut(96)),
        "one dtype and device; got torch.float32 on cpu, torch.float64 on cpu",
    ),
    "no loss": (lambda: Objective(network(), 1.0, cut(96)), "loss_fn must be a function.*got float"),
    "many losses": (
        lambda: Objective(network(), lambda z, y: functional.cross_entropy(z, y, reduction="none"), cut(96)),
        r"loss_fn must return one number.*got shape \(96,\)",
    ),
    "unequal reductions": (
        lambda: Objective(network(), nn.CrossEntropyLoss(reduction="sum"), cut(96)),
        "loss_fn has the reduction 'sum', and reduction='mean' was given",
    ),
    "reduction": (lambda: objective(reduction="max"), "reduction must be 'mean' or 'sum'; got 'max'"),
    "chunk": (lambda: objective(chunk=0), "chunk must be None or a whole number of examples, at least 1; got 0"),
    "memory": (lambda: objective(memory_gb=-1.0), "memory_gb must be a finite number of at least 0; got -1.0"),
    "shape": (lambda: objective()(torch.zeros(3)), r"has 39 parameters and takes shape \(…, 39\); got \(3,\)"),
    "one point": (lambda: objective().linearize(torch.zeros(2, 39)), r"takes shape \(39,\); got \(2, 39\)"),
    "integers": (
        lambda: objective()(torch.zeros(39, dtype=torch.long)),
        "floating-point torch tensor; got a tensor of",
    ),
    "a list": (lambda: objective()([0.0] * 39), "floating-point torch tensor; got list"),
}


@pytest.mark.parametrize(("act", "match"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_analysed_is_named_in_a_sentence(act, match):
    with pytest.raises((ValueError, TypeError), match=match):
        act()

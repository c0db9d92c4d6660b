"""Probes of the step itself: is it SAM's, whatever the calling style, the gradient and the precision?"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.adapters import Peer, Wish
from benchmarks.peers.outcome import Outcome
from benchmarks.peers.tools import Watch, closure_of, cosine, cubic, largest_difference, length, sam_step

_EXACT = 1e-12  # float64, a few operations
_CLOSE = 1e-6  # likewise, with a norm in float32
REPEATS = 10


def _start(*values: float) -> list[Tensor]:
    return [torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in values]


def _weights(*values: float) -> list[Tensor]:
    return [torch.tensor([v], dtype=torch.float64) for v in values]


def sam_gradient(peer: Peer) -> Outcome:
    """A step as documented follows the gradient at x + rho·g/‖g‖."""
    params, weights = _start(1.0, -2.0), _weights(1.0, 2.0)
    expected = sam_step(params, weights, [0.5, 0.5], 0.1)
    optimizer = peer.make(params, Wish(rho=0.5))
    peer.step(optimizer, closure_of(optimizer, lambda: cubic(params, weights)))
    error = largest_difference(params, expected)
    return Outcome(error < _CLOSE, f"error {error:.0e}")


def double_precision(peer: Peer) -> Outcome:
    """In float64 the step is exact to 1e-12."""
    outcome = sam_gradient(peer)
    return Outcome(float(outcome.figure.split()[1]) < _EXACT, outcome.figure)


def closure_alone(peer: Peer) -> Outcome:
    """`step(closure)` does all of it, batch after batch, as `torch.optim.LBFGS` does."""
    params = _start(1.0, -2.0)
    optimizer = peer.make(params, Wish(rho=0.5))
    seen, right = [], True
    batches = [_weights(1.0, 0.1), _weights(0.1, -1.0)]
    for batch in batches:
        x = [p.detach().clone() for p in params]
        expected = sam_step(x, batch, [0.5, 0.5], 0.1)
        watch = Watch(lambda batch=batch: cubic(params, batch), params)  # type: ignore[misc]
        peer.call(optimizer, closure_of(optimizer, watch))
        right &= largest_difference(params, expected) < _EXACT
        e = [after - before for after, before in zip(watch.seen[-1], x, strict=True)]
        grads = [w * v.square() for v, w in zip(x, batch, strict=True)]
        seen.append(f"cos(e, g) = {cosine(e, grads):.2f}" if length(e) > 1e-9 else "e = 0, plain SGD")
    return Outcome(right, f"1st step: {seen[0]}; 2nd, on another batch: {seen[1]}")


def returned_loss(peer: Peer) -> Outcome:
    """`step(closure)` returns the loss at x."""
    params, weights = _start(3.0, 4.0), _weights(1.0, 1.0)
    expected = cubic(params, weights).item()
    optimizer = peer.make(params, Wish(rho=0.5))
    returned = peer.step(optimizer, closure_of(optimizer, lambda: cubic(params, weights)))
    if returned is None:
        return Outcome(False, "returns None")
    value = torch.as_tensor(returned).item()
    return Outcome(abs(value - expected) < _EXACT, f"returns {value:.4g} where f(x) = {expected:.4g}")


def zero_radius(peer: Peer) -> Outcome:
    """With rho = 0 it is the base optimizer, bit for bit."""
    differences = []
    for base in (torch.optim.SGD, torch.optim.AdamW):
        options = {"lr": 0.01, "momentum": 0.9} if base is torch.optim.SGD else {"lr": 0.01}
        ends = []
        for wrapped in (True, False):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
            x, labels = torch.randn(8, 6), torch.randint(3, (8,))
            wish = Wish(rho=0.0, base=base, options=options)
            optimizer = peer.make(model.parameters(), wish) if wrapped else base(model.parameters(), **options)  # type: ignore[arg-type]
            closure = closure_of(optimizer, lambda: functional.cross_entropy(model(x), labels))  # noqa: B023
            for _ in range(5):
                peer.step(optimizer, closure) if wrapped else optimizer.step(closure)
            ends.append(list(model.parameters()))
        differences.append(largest_difference(*ends))
    return Outcome(max(differences) == 0, f"difference {max(differences):.0e}")


def group_radii(peer: Peer) -> Outcome:
    """Each group has its own rho, and the norm is over all of them."""
    params, weights = _start(1.0, -2.0), _weights(1.0, 2.0)
    expected = sam_step(params, weights, [0.5, 0.2], 0.1)
    optimizer = peer.make([{"params": params[:1], "rho": 0.5}, {"params": params[1:], "rho": 0.2}], Wish(rho=0.5))
    peer.step(optimizer, closure_of(optimizer, lambda: cubic(params, weights)))
    error = largest_difference(params, expected)
    return Outcome(error < _CLOSE, f"error {error:.0e}")


def zero_loss(peer: Peer) -> Outcome:
    """A loss of exactly 0.0 with a gradient is stepped on like any other."""
    (w,) = params = _start(3.0)
    optimizer = peer.make(params, Wish())
    peer.step(optimizer, closure_of(optimizer, lambda: (w - 3).sum()))
    return Outcome(abs(w.item() - 2.9) < _EXACT, f"w goes from 3 to {w.item():.3g}; 2.9 is right")


def zero_gradient(peer: Peer) -> Outcome:
    """A gradient of exactly zero perturbs by zero."""
    params, weights = _start(1.0, 2.0), _weights(0.0, 0.0)
    optimizer = peer.make(params, Wish())
    peer.step(optimizer, closure_of(optimizer, lambda: cubic(params, weights)))
    values = [p.item() for p in params]
    return Outcome(values == [1.0, 2.0], f"weights (1, 2) become ({values[0]:g}, {values[1]:g})")


def _radius(peer: Peer, params: Sequence[Tensor], scale: float, slopes: Sequence[Tensor], rho: float) -> float:
    """Realised ‖e‖/rho for a linear loss of this slope."""
    watch = Watch(lambda: scale * sum((p * s).sum() for p, s in zip(params, slopes, strict=True)), params)  # type: ignore[arg-type, return-value]
    home = [p.detach().clone() for p in params]
    optimizer = peer.make(params, Wish(rho=rho, options={"lr": 0.0}))
    peer.step(optimizer, closure_of(optimizer, watch))
    return length([a.double() - b.double() for a, b in zip(watch.seen[-1], home, strict=True)]) / rho


def extreme_gradients(peer: Peer) -> Outcome:
    """‖e‖ = rho for float32 gradients of 1e-25 and 1e20, and for float16 gradients whose norm float16 cannot hold."""
    radii = []
    for scale in (1e-25, 1e20):
        params = [torch.zeros(1000, requires_grad=True)]
        radii.append(_radius(peer, params, scale, [torch.ones(1000)], 0.5))
    half = [torch.zeros(10_000, dtype=torch.float16, requires_grad=True)]
    radii.append(_radius(peer, half, 1.0, [torch.full((10_000,), 1e3, dtype=torch.float16)], 0.5))
    figure = ", ".join(f"{radius:.3g}" for radius in radii)
    return Outcome(all(abs(radius - 1) < 0.02 for radius in radii), f"‖e‖/rho = {figure}")


def narrow_perturbation(peer: Peer) -> Outcome:
    """bfloat16 weights move by e on average, though it is finer than their spacing (MLP 784-2048-2048-10, rho 0.05)."""
    torch.manual_seed(0)
    widths = pairwise((784, 2048, 2048, 10))
    model = nn.Sequential(*(layer for a, b in widths for layer in (nn.Linear(a, b), nn.Tanh()))).bfloat16()
    params = list(model.parameters())
    x, labels = torch.rand(8, 784).bfloat16(), torch.randint(10, (8,))
    watch = Watch(lambda: functional.cross_entropy(model(x).float(), labels), params)
    optimizer = peer.make(params, Wish(options={"lr": 0.0}))
    home = [p.detach().double() for p in params]
    grads = torch.autograd.grad(watch.loss_of(), params)
    along, sizes, shares = [], [], []
    for _ in range(REPEATS):
        peer.step(optimizer, closure_of(optimizer, watch))
        e = [a.double() - b for a, b in zip(watch.seen[-1], home, strict=True)]
        sizes.append(length(e) / 0.05)
        along.append(sizes[-1] * cosine(e, grads))
        moved = sum((d != 0).sum().item() for d in e)
        shares.append(moved / sum(d.numel() for d in e))
    mean, size, share = (sum(values) / REPEATS for values in (along, sizes, shares))
    return Outcome(
        abs(mean - 1) < 0.05,
        f"mean u·e/rho = {mean:.2f}; ‖e‖/rho = {size:.2f}; {100 * share:.0f} % of the weights move",
    )


def sparse_gradient(peer: Peer) -> Outcome:
    """Sparse gradients, as of `nn.Embedding(sparse=True)`, give the step of dense ones."""
    ends = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=sparse, dtype=torch.float64)
        rows = torch.tensor([0, 2, 2, 5])
        optimizer = peer.make(table.parameters(), Wish(rho=0.5))
        peer.step(optimizer, closure_of(optimizer, lambda: table(rows).pow(3).sum()))  # noqa: B023
        ends.append([table.weight.detach()])
    error = largest_difference(*ends)
    return Outcome(error < _EXACT, f"error {error:.0e}")


def evaluations(peer: Peer) -> Outcome:
    """With one perturbed step in five, ten steps take twelve passes."""
    params, weights = _start(1.0, -2.0), _weights(1.0, 2.0)
    optimizer = peer.make(params, Wish(rho=0.1, every=5, options={"lr": 0.01}))
    watch = Watch(lambda: cubic(params, weights), params)
    for _ in range(10):
        peer.step(optimizer, closure_of(optimizer, watch))
    return Outcome(len(watch.seen) == 12, f"{len(watch.seen)} passes")

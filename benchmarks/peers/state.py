"""Probes of what is saved, loaded, copied and added."""

import copy
import io
import pickle
import warnings
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.adapters import Peer, Wish
from benchmarks.peers.outcome import NotOfferedError, Outcome, raised
from benchmarks.peers.tools import closure_of, cubic, largest_difference, sam_step

_BASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    (torch.optim.AdamW, {"lr": 0.01}),
]


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def _train(peer: Peer, model: nn.Module, optimizer: Any, steps: range) -> None:
    for i in steps:
        generator = torch.Generator().manual_seed(i)
        x, labels = torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)
        loss_of = lambda: functional.cross_entropy(model(x), labels)  # noqa: E731, B023
        peer.step(optimizer, closure_of(optimizer, loss_of))


def _uninterrupted(peer: Peer, wish: Wish) -> list[Tensor]:
    model = _network()
    _train(peer, model, peer.make(model.parameters(), wish), range(8))
    return list(model.parameters())


def resume(peer: Peer) -> Outcome:
    """Saved with `torch.save` after four steps and loaded by `weights_only=True`, a run goes on bit for bit."""
    figures = []
    for base, options in _BASES:
        wish = Wish(base=base, options=options)
        model = _network()
        optimizer = peer.make(model.parameters(), wish)
        _train(peer, model, optimizer, range(4))
        file = io.BytesIO()
        torch.save([model.state_dict(), optimizer.state_dict()], file)
        file.seek(0)
        weights, state = torch.load(file, weights_only=True)
        model = _network()
        optimizer = peer.make(model.parameters(), wish)
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        _train(peer, model, optimizer, range(4, 8))
        figures.append(largest_difference(list(model.parameters()), _uninterrupted(peer, wish)))
    return Outcome(max(figures) == 0, f"off by {figures[0]:.1g} (SGD with momentum), {figures[1]:.1g} (AdamW)")


def temporaries(peer: Peer) -> Outcome:
    """`state_dict()` holds what the base optimizer's does, and no copies of weights or perturbations."""
    model = _network()
    optimizer = peer.make(model.parameters(), Wish(options={"lr": 0.05, "momentum": 0.9}))
    _train(peer, model, optimizer, range(2))
    size = sum(p.numel() for p in model.parameters())
    extra = Counter[str]()
    for state in optimizer.state_dict()["state"].values():
        extra += Counter({key: t.numel() for key, t in state.items() if key != "momentum_buffer"})
    figure = ", ".join(f"{key}: {count / size:.0f} copy of the parameters" for key, count in extra.items())
    return Outcome(not extra, figure or "nothing else")


def copies(peer: Peer) -> Outcome:
    """A deep copy and a pickle of model and optimizer go on bit for bit."""
    found = {}
    for name in ("deepcopy", "pickle"):
        wish = Wish(options={"lr": 0.05, "momentum": 0.9})
        model = _network()
        optimizer = peer.make(model.parameters(), wish)
        _train(peer, model, optimizer, range(4))
        optimizer.zero_grad()
        try:
            pair = (model, optimizer)
            pair = copy.deepcopy(pair) if name == "deepcopy" else pickle.loads(pickle.dumps(pair))
            _train(peer, pair[0], pair[1], range(4, 8))
        except Exception as error:
            found[name] = raised(error).figure
            continue
        off = largest_difference(list(pair[0].parameters()), _uninterrupted(peer, wish))
        found[name] = f"off by {off:.1g}" if off else ""
    bad = {name: figure for name, figure in found.items() if figure}
    return Outcome(not bad, "; ".join(f"{name} {figure}" for name, figure in bad.items()) or "both go on bit for bit")


def added_group(peer: Peer) -> Outcome:
    """A group that is added later takes part: it is perturbed, comes back, and is trained."""
    a, b = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (1.0, -2.0))
    ones = [torch.ones(1, dtype=torch.float64)] * 2
    optimizer = peer.make([a], Wish(rho=0.5))
    peer.step(optimizer, closure_of(optimizer, lambda: cubic([a], ones[:1])))
    optimizer.add_param_group({"params": [b]})
    expected = sam_step([a.detach(), b.detach()], ones, [0.5, 0.5], 0.1)
    peer.step(optimizer, closure_of(optimizer, lambda: cubic([a, b], ones)))
    error = largest_difference([a, b], expected)
    trained = "" if b.item() != -2.0 else "; it is not trained"
    return Outcome(error < 1e-12, f"error {error:.1g}{trained}")


def scheduler(peer: Peer) -> Outcome:
    """A learning-rate scheduler on the optimizer works, without a warning, in each calling style."""
    figures = {}
    for style in ("step(closure)", "first_step, second_step"):
        params = [torch.tensor([1.0], requires_grad=True)]
        optimizer = peer.make(params, Wish(options={"lr": 0.1}))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lr = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            closure = closure_of(optimizer, lambda: cubic(params, [torch.ones(1)]))  # noqa: B023
            for _ in range(2):
                try:
                    peer.step(optimizer, closure) if style == "step(closure)" else peer.halves(optimizer, closure)
                except NotOfferedError:
                    break
                lr.step()
            else:
                base = getattr(optimizer, "base", None) or optimizer.base_optimizer
                rate = base.param_groups[0]["lr"]
                bad = ["a warning"] * bool(caught) + [f"lr {rate:g} instead of 0.025"] * (rate != 0.025)
                figures[style] = ", ".join(bad)
    bad_styles = [f"{style}: {figure}" for style, figure in figures.items() if figure]
    return Outcome(not bad_styles, "; ".join(bad_styles) or f"no warning in {' nor in '.join(figures)}")

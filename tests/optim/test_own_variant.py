"""A variant of the user's own in the optimizer: what it may do, and that what it does wrong leaves all as it was."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from samirage import SAM, Guard
from samirage.sam import SINGLE, AbstractVariant
from samirage.sam.variants import radial
from tests.optim.problems import Cubic, every_style, take


@dataclass(frozen=True)
class OwnSAM(AbstractVariant):
    """Plain SAM, written without its short cuts."""

    def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        return radial(grads, reduce.norm(grads), rho, reduce), state


@dataclass(frozen=True)
class Averaging(AbstractVariant):
    """Follows the mean of g and g⁺, and counts its steps in a state."""

    state_names: ClassVar[tuple[str, ...]] = ("count",)

    def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        count = state.get("count", [torch.zeros_like(g) for g in grads])
        return radial(grads, reduce.norm(grads), rho, reduce), {"count": [c + 1 for c in count]}

    def direction(self, grads, grads_plus, state, reduce=SINGLE):
        if grads_plus is None:
            return grads, state
        return [(g + q) / 2 for g, q in zip(grads, grads_plus, strict=True)], state


@dataclass(frozen=True)
class Wrong(AbstractVariant):
    """Returns from one of its methods what it is told."""

    where: str
    change: object

    state_names: ClassVar[tuple[str, ...]] = ("m",)

    def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        found = radial(grads, reduce.norm(grads), rho, reduce), {"m": list(grads)}
        return self.change(*found) if self.where == "perturbation" else found

    def direction(self, grads, grads_plus, state, reduce=SINGLE):
        found = list(grads if grads_plus is None else grads_plus), state
        return self.change(*found) if self.where == "direction" else found


@every_style
@pytest.mark.parametrize("second", [{}, {"rho": 0.2}])
def test_plain_sam_of_ones_own_is_plain_sam(style, second):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(**second), lr=0.1), rho=0.7, variant=OwnSAM())
    other = SAM(torch.optim.SGD(twin.groups(**second), lr=0.1), rho=0.7)
    for _ in range(5):
        take(style, optimizer, problem)
        take(style, other, twin)
    np.testing.assert_allclose(problem.flat(), twin.flat(), rtol=1e-13)
    for name in ("radius", "slope_plus", "cosine", "shift_ratio", "grad_norm"):
        assert getattr(optimizer.record, name).item() == pytest.approx(getattr(other.record, name).item(), rel=1e-12)


@every_style
@pytest.mark.parametrize("second", [{}, {"rho": 0.2}])
def test_a_direction_and_a_state_of_ones_own(style, second):
    problem, twin = Cubic(), Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(**second), lr=0.1), rho=0.7, variant=Averaging())
    other = SAM(torch.optim.SGD(twin.groups(**second), lr=0.0), rho=0.7)
    for _ in range(3):
        start = problem.flat()
        with torch.no_grad():
            for p, q in zip(problem.params, twin.params, strict=True):
                q.copy_(p)
        other.zero_grad()
        twin.backward()
        g = np.concatenate([p.grad.numpy().ravel() for p in twin.params])
        with other.perturbed():
            twin.backward()
        g_plus = np.concatenate([p.grad.numpy().ravel() for p in twin.params])
        other.step()
        take(style, optimizer, problem)
        np.testing.assert_allclose(problem.flat(), start - 0.1 * (g + g_plus) / 2, rtol=1e-12)
    assert all((optimizer.state[p]["averaging_count"] == 3).all() for p in problem.params)


WRONG = {
    "shape": (lambda e, s: ([p.reshape(-1)[:1].reshape(1, 1, 1) for p in e], s), ValueError, "must have the shape"),
    "dtype": (lambda e, s: ([p.float() for p in e], s), ValueError, "dtype torch.float64"),
    "device": (lambda e, s: ([p.to("meta") for p in e], s), ValueError, "and device cpu"),
    "number": (lambda e, s: (e[:1], s), TypeError, "must be a list of 3 tensors, one per parameter; got 1"),
    "no state": (lambda e, s: e, TypeError, "must return a pair of tensors and a state"),
    "name": (lambda e, s: (e, {"other": e}), ValueError, "'other', which is not in state_names"),
    "state": (lambda e, s: (e, {"m": e[:1]}), TypeError, "the state 'm' of .* must be a list of 3 tensors"),
}


@every_style
@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("where", ["perturbation", "direction"])
def test_a_variant_that_returns_something_else_leaves_weights_and_state(where, what, style):
    change, error, complaint = WRONG[what]
    problem = Cubic()
    optimizer = SAM(torch.optim.Adam(problem.groups(), lr=0.1), rho=0.7, variant=Wrong(where, change), guard=Guard())
    home = problem.flat()
    with pytest.raises(error, match=rf"Wrong\.{where}.*{complaint}|{complaint}.*") as raised:
        take(style, optimizer, problem)
    assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(problem.flat(), home)
    assert not optimizer.state
    assert optimizer.record is None
    assert all(p.grad is None for p in problem.params)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"variant": Averaging(), "scope": "local", "shards": 2}, "Averaging keeps count for the whole batch"),
        ({"variant": OwnSAM}, "or an instance of an AbstractVariant .* got the class OwnSAM"),
    ],
)
def test_what_cannot_be_is_said_when_the_optimizer_is_made(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        SAM(torch.optim.SGD(Cubic().groups(), lr=0.1), **options)

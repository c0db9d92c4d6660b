"""The protocol of a variant: what the user's own object must return, and where each can be used."""

from dataclasses import dataclass

import pytest
import torch

from samirage.landscape import DoubleWell
from samirage.points import certify, find_hallucinated
from samirage.sam import (
    ASAM,
    BATCHED,
    GSAM,
    SINGLE,
    AbstractVariant,
    LookSAM,
    displacement,
    displacement_product,
    displacement_transpose_product,
    perturb,
    sam_map,
    variant_of,
)
from samirage.sam.variants import radial


@dataclass(frozen=True)
class OwnSAM(AbstractVariant):
    """Plain SAM, written by somebody who knows nothing of its closed forms."""

    def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        return radial(grads, reduce.norm(grads), rho, reduce), state


@dataclass(frozen=True)
class OwnASAM(AbstractVariant):
    """ASAM, likewise."""

    def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        weighted = [p * g for p, g in zip(params, grads, strict=True)]
        return radial([p * w for p, w in zip(params, weighted, strict=True)], reduce.norm(weighted), rho, reduce), state


@dataclass(frozen=True)
class Returning(AbstractVariant):
    """Returns whatever it is told."""

    what: object

    def perturbation(self, params, grads, rho, state, reduce=SINGLE):
        return self.what


X = torch.tensor([1.3, -0.4], dtype=torch.float64)
H = torch.tensor([[2.0, 0.5], [0.5, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("own", "known"), [(OwnSAM(), "sam"), (OwnASAM(), "asam"), (ASAM(eta=1e-9, biases=True), "asam")]
)
def test_the_derivative_of_an_own_perturbation_is_that_of_the_closed_form(own, known):
    v, grad = torch.tensor([0.3, 0.8], dtype=torch.float64), H @ X
    for product in (displacement_product, displacement_transpose_product):
        mine, closed = (product(X, grad, lambda v: v @ H, v, 0.7, variant=variant) for variant in (own, known))
        torch.testing.assert_close(mine, closed, rtol=1e-7, atol=1e-9)


def test_an_own_variant_has_a_map_of_many_points_and_certificates():
    f = DoubleWell()
    x = find_hallucinated(f, target=f.minimizers[0], rho=1.5)[0].x
    assert torch.equal(sam_map(f.grad, x, rho=1.5, lr=0.1), sam_map(f.grad, x, rho=1.5, lr=0.1, variant=OwnSAM()))
    points = torch.stack([x, x + 0.1])
    torch.testing.assert_close(
        displacement(points, f.grad(points), 1.5, variant=OwnSAM()), displacement(points, f.grad(points), 1.5)
    )
    named, own = (certify(f, x, rho=1.5, lr=0.1, variant=variant) for variant in ("sam", OwnSAM()))
    assert own.kind is named.kind
    assert own.attractor == named.attractor
    torch.testing.assert_close(own.mu, named.mu, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(own.a[-1:], named.a[-1:], rtol=1e-6, atol=1e-8)  # beside the 1 along u


@pytest.mark.parametrize(
    ("variant", "why"),
    [
        (GSAM(), "GSAM follows another direction than g⁺"),
        (LookSAM(), "LookSAM remembers g_v from step to step"),
        (ASAM(), r"ASAM\(biases=False\) must know which parameters are biases"),
    ],
)
def test_no_map_of_the_point_alone(variant, why):
    f = DoubleWell()
    x = torch.tensor([0.5, 0.1], dtype=torch.float64)
    for call in (
        lambda: displacement(x, x, 0.5, variant=variant),
        lambda: sam_map(f.grad, x, rho=0.5, lr=0.1, variant=variant),
        lambda: certify(f, x, rho=0.5, lr=0.1, variant=variant),
    ):
        with pytest.raises(ValueError, match=why):
            call()


def test_a_variant_without_a_perturbation_cannot_be_made():
    @dataclass(frozen=True)
    class Empty(AbstractVariant):
        pass

    with pytest.raises(TypeError, match=r"abstract.*perturbation"):
        Empty()


@pytest.mark.parametrize(
    ("what", "error", "complaint"),
    [
        ([torch.zeros(2)], TypeError, "perturbation must return a pair of tensors and a state"),
        (([torch.zeros(2)], None), TypeError, "a pair of tensors and a state, a dictionary; got a NoneType"),
        ((torch.zeros(2), {}), TypeError, "must be a list of 1 tensors, one per parameter; got Tensor"),
        (([], {}), TypeError, "must be a list of 1 tensors, one per parameter; got 0"),
        ((["e"], {}), TypeError, "must be a list of tensors; got str for parameter 0"),
        (([torch.zeros(3)], {}), ValueError, r"must have the shape \(2,\).*got \(3,\)"),
        (([torch.zeros(2).double()], {}), ValueError, r"dtype torch.float32 .*got \(2,\), torch.float64"),
        (([torch.zeros(2, device="meta")], {}), ValueError, "device cpu .* got .* meta"),
        (([torch.zeros(2)], {"m": []}), ValueError, "'m', which is not in state_names"),
    ],
)
def test_a_perturbation_that_returns_something_else(what, error, complaint):
    with pytest.raises(error, match=complaint) as raised:
        perturb([torch.zeros(2)], [torch.ones(2)], 0.5, variant=Returning(what))
    assert "Returning.perturbation" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_variant_says_of_itself():
    own = OwnSAM()
    assert (own.is_multiple, own.follows_grad_plus, own.passes(3), own.refuses("shards")) == (False, True, 2, None)
    assert [variant_of(name).is_radial for name in ("sam", "asam", "unnormalized")] == [True, False, False]
    assert [variant_of(name).is_constant_multiple for name in ("sam", "asam", "unnormalized")] == [False, False, True]
    assert not GSAM().follows_grad_plus
    assert "use scope='global'" in LookSAM().refuses("shards")
    assert "build the embedding with sparse=False" in GSAM().refuses("sparse")


def test_members_of_an_own_variant_are_kept_apart():
    g = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
    e = perturb([torch.zeros(2, 2)], [g], torch.tensor([1.0, 2.0]), variant=OwnSAM(), batched=True).displacement[0]
    torch.testing.assert_close(e, torch.tensor([[0.6, 0.8], [0.0, 2.0]]))
    assert torch.equal(e, perturb([g], [g], torch.tensor([1.0, 2.0]), variant="sam", reduce=BATCHED).displacement[0])

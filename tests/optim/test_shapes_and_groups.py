"""Any parameters in any groups, with any gradients: one step against the slow reference in NumPy float64."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from samirage import SAM
from tests import reference
from tests.optim.problems import STYLES
from tests.optim.searching import search

LR = 0.1
NARROW = (torch.bfloat16, torch.float16)
DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64, *NARROW]
SIZES = {"ordinary": 1.0, "zero": 0.0, "tiny": 1e-20, "huge": 1e15, "sparse": 1.0}


@dataclass
class Tensor:
    """One parameter to be, and what its two gradients are like."""

    shape: tuple
    dtype: torch.dtype
    kinds: tuple  # of the gradients in the two passes: a key of SIZES, or "none"
    transposed: bool


def sized(kind, dtype, variant):
    """The magnitude of a gradient, such that what is computed from it stays within the range of the dtype."""
    size = SIZES[kind]
    if dtype == torch.float16:
        return min(max(size, 1e-3), 1e2) if size else 0.0
    return min(size, 1e2) if variant == "unnormalized" else size


def made(rng, tensor, kind, variant):
    """A gradient, or the values of the parameter (kind None)."""
    if kind == "none":
        return None
    shape = tensor.shape[::-1] if tensor.transposed else tensor.shape
    if kind is None:
        values = rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape)
    else:
        values = rng.normal(size=shape) * sized(kind, tensor.dtype, variant)
    result = torch.from_numpy(np.asarray(values)).to(tensor.dtype)
    if tensor.dtype.is_complex:
        result = result * (0.6 + 0.8j)
    result = result.permute(*reversed(range(result.dim()))) if tensor.transposed else result
    if kind == "sparse":
        rows = torch.from_numpy(rng.integers(0, max(len(result), 1), 3 if len(result) else 0))  # one of them twice
        return torch.sparse_coo_tensor(rows[None], result[rows], result.shape, check_invariants=True)
    return result


def numbers(tensor, like):
    """A tensor as real numbers in NumPy float64; nothing is zero."""
    if tensor is None:
        tensor = torch.zeros_like(like)
    tensor = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.double().numpy().reshape(-1)


@st.composite
def tensors(draw):
    if draw(st.integers(0, 3)) == 3:  # as an embedding has it
        dtype, shape = draw(st.sampled_from(DTYPES[:2])), draw(st.sampled_from([(4, 2), (3, 1), (0, 2)]))
        kinds = st.sampled_from(["sparse", "sparse", "sparse", "ordinary", "zero", "none"])
    else:
        dtype, shape = (
            draw(st.sampled_from(DTYPES)),
            tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 5]), max_size=3))),
        )
        kinds = st.sampled_from([k for k in (*SIZES, "none") if k != "sparse"])
    return Tensor(shape, dtype, (draw(kinds), draw(kinds)), draw(st.booleans()) and len(shape) > 1)


groups = st.lists(
    st.tuples(st.lists(tensors(), min_size=1, max_size=3), st.sampled_from([None, 0.0, 0.05, 3.0])),
    min_size=1,
    max_size=3,
)


@search(150)
@given(
    groups=groups,
    variant=st.sampled_from(["sam", "asam", "unnormalized"]),
    style=st.sampled_from(STYLES),
    foreach=st.booleans(),
    rho=st.sampled_from([0.0, 0.4, 2.0]),
    seed=st.integers(0, 999),
)
# A small radius beside a huge gradient may vanish in half precision, which is warned of; test_half_precision.py.
@pytest.mark.filterwarnings("ignore:rounding the weights to half precision hides the perturbation")
def test_a_step_is_that_of_the_reference(groups, variant, style, foreach, rho, seed):
    rng = np.random.default_rng(seed)
    layout = [tensor for members, _ in groups for tensor in members]
    params = [nn.Parameter(made(rng, tensor, None, variant)) for tensor in layout]
    passes = [[made(rng, tensor, tensor.kinds[i], variant) for tensor in layout] for i in (0, 1)]
    if all(grad is None for grad in passes[0]) or all(grad is None for grad in passes[1]):
        return  # test_gradients.py and test_misuse.py
    rest = iter(params)
    optimizer = SAM(
        torch.optim.SGD(
            [
                {"params": [next(rest) for _ in members]} | ({} if radius is None else {"rho": radius})
                for members, radius in groups
            ],
            lr=LR,
            foreach=foreach,
        ),
        rho=rho,
        variant=variant,
    )
    radii = [rho if radius is None else radius for members, radius in groups for _ in members]
    two_pass = max(radii) > 0
    home = [p.detach().clone() for p in params]
    seen, calls = [], []

    def backward():
        seen.append([p.detach().clone() for p in params])
        grads = passes[len(calls)]
        calls.append(None)
        for p, grad in zip(params, grads, strict=True):
            p.grad = None if grad is None else grad.clone()
        return torch.tensor(float(len(calls)))

    if style == "closure":
        optimizer.step(backward)
    else:
        backward()
        if two_pass:
            block = optimizer.perturbed() if style == "perturbed" else None
            block.__enter__() if block else optimizer.first_step()
            backward()
            block.__exit__(None, None, None) if block else optimizer.second_step()
        if style == "perturbed" or not two_pass:
            optimizer.step()

    x = [numbers(p, p) for p in home]
    g, g_plus = ([numbers(grad, p) for grad, p in zip(grads, params, strict=True)] for grads in passes)
    record = optimizer.record
    assert record.grad_norm.item() == pytest.approx(np.linalg.norm(reference.flat(g)), rel=1e-5)
    assert len(calls) == 1 + two_pass
    followed = g_plus if two_pass else g
    for p, values, before, grad in zip(params, x, home, followed, strict=True):
        eps = torch.finfo(p.dtype).eps
        tolerance = 2 * eps * (np.abs(values) + np.abs(LR * grad)) + torch.finfo(p.dtype).tiny
        assert np.all(np.abs(numbers(p, p) - (values - LR * grad)) <= tolerance)
        assert p.shape == before.shape
        assert p.dtype == before.dtype
    if not two_pass:
        return

    per_entry = reference.flat([np.full(values.size, radius) for values, radius in zip(x, radii, strict=True)])
    weighted = reference.flat(x) * reference.flat(g) if variant == "asam" else reference.flat(g)
    moves = np.linalg.norm(weighted) > 0
    x_plus = reference.perturbed(x, g, variant, per_entry) if moves else x
    # The norm is common to all: the part of it that is computed in float32 limits how well e is known elsewhere.
    in_e = 1e-14 if all(p.dtype in (torch.float64, torch.complex128) for p in params) else 1e-6
    for p, grad, values, exact, at_x_plus in zip(params, passes[0], x, x_plus, seen[1], strict=True):
        realised = numbers(at_x_plus, at_x_plus)
        eps = torch.finfo(p.dtype).eps
        if grad is None:
            np.testing.assert_array_equal(realised, values)
        elif p.dtype in NARROW:  # one of the two neighbours of x + e
            spacing = eps * np.maximum(np.abs(exact), np.abs(values)) + 2 * torch.finfo(p.dtype).smallest_normal * eps
            assert np.all(np.abs(realised - exact) <= spacing + in_e * np.abs(exact - values))
        else:
            tolerance = 8 * eps * (np.abs(values) + np.abs(exact - values)) + in_e * np.abs(exact - values) + 1e-30
            assert np.all(np.abs(realised - exact) <= tolerance)
    displacement = reference.flat([numbers(p, p) for p in seen[1]]) - reference.flat(x)
    rounding = max(torch.finfo(p.dtype).eps for p in params)  # x⁺ − x is taken in the dtype of the weights
    assert record.radius.item() == pytest.approx(np.linalg.norm(displacement), rel=1e-6 + rounding, abs=1e-30)
    assert record.grad_plus_norm.item() == pytest.approx(np.linalg.norm(reference.flat(g_plus)), rel=1e-5)
    assert not record.skipped

"""Certificates: against closed forms, simulation and dense solvers; and what gets none."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from samirage.errors import UserError
from samirage.landscape import BumpOnBowl, DoubleWell, MultiWell, Objective, Quadratic, Ring, TorchFunction
from samirage.points.certificates.certify import certify
from samirage.sam import Status, displacement, sam_map

RHO = 1.5
WELL = DoubleWell()


# SAM in NumPy, of nothing but gradients by hand.


def well_grad(x):
    return np.array([x[0] * (x[0] ** 2 - 1) + 0.15 * x[1], 0.8 * x[1] + 0.15 * x[0]])


def wells_grad(x):
    return x * (x**2 - 1)


def ring_grad(x):
    return (x @ x - 1) * x


def bump_grad(x):
    off = x - [1.5, 0.0]
    return x - 2 / 0.25 * off * np.exp(-off @ off / 0.5)


def update(grad, x, *, rho, variant="sam", weight_decay=0.0):
    g = grad(x)
    e = {
        "sam": lambda: rho * g / np.linalg.norm(g),
        "asam": lambda: rho * x**2 * g / np.linalg.norm(x * g),
        "unnormalized": lambda: rho * g,
    }[variant]()
    return grad(x + e) + weight_decay * x


def settle(grad, x, *, steps=20_000, lr=0.1, **settings):
    x = np.array(x)
    for _ in range(steps):
        following = x - lr * update(grad, x, **settings)
        if (following == x).all():
            break
        x = following
    return torch.tensor(x)


def returns(grad, x, *, lr, momentum=0.0, push=1e-6, steps=3000, **settings):
    """Whether SAM, pushed off the point, comes back."""
    x = x.numpy()
    now = before = x + push * np.array([0.8, -0.6])
    for _ in range(steps):
        now, before = now - lr * update(grad, now, **settings) + momentum * (now - before), now
        if np.linalg.norm(now - x) > 1e3 * push:
            return False
    return bool(np.linalg.norm(now - x) < push)


def point(*coordinates):
    return torch.tensor(coordinates, dtype=torch.float64)


def slopes(function, x, h=1e-3):
    """The derivative of a map of rows of vectors, by six-point difference quotients, as a matrix."""
    steps = h * torch.eye(len(x), dtype=torch.float64)
    near, mid, far = (function(x + k * steps) - function(x - k * steps) for k in (1, 2, 3))
    return ((45 * near - 9 * mid + far) / (60 * h)).T


@pytest.fixture(scope="module")
def attractor():
    return settle(well_grad, [0.5, 0.0], rho=RHO)


# --- closed forms ------------------------------------------------------------------------------------


def test_the_double_wells_attractor(attractor):
    certificate = certify(WELL, attractor, rho=RHO, lr=0.02)
    assert certificate.kind is Status.HALLUCINATED_MINIMIZER
    assert certificate.attractor is True
    assert certificate.mu.tolist() == pytest.approx([3.92, 1.80], abs=5e-3)
    assert certificate.max_stable_lr == pytest.approx(0.510, abs=5e-4)
    assert certificate.grad_norm == pytest.approx(0.374, abs=5e-4)
    assert certificate.shift_ratio < 1e-14
    assert certificate.contraction == pytest.approx(1 - 0.02 * 1.80, abs=1e-4)
    assert (certificate.zero_modes, certificate.complete, certificate.reason) == (0, True, "")
    torch.testing.assert_close(certificate.x_plus, WELL.minimizers[0])
    # On a plane curve the curvature is the turning of the unit normal; a = 1 − rho·kappa.
    assert certificate.a[0] == pytest.approx(1 - RHO * certificate.level_set_curvatures[0].item())
    u = WELL.grad(attractor) / certificate.grad_norm
    tangent = torch.stack([-u[1], u[0]])
    turned = slopes(lambda x: WELL.grad(x) / WELL.grad(x).norm(dim=-1, keepdim=True), attractor) @ tangent
    assert certificate.level_set_curvatures[0] == pytest.approx(-float(turned @ tangent), abs=1e-9)
    assert "attracts SAM at lr = 0.02" in str(certificate)


@pytest.mark.parametrize(("radius", "dim"), [(1.0, 2), (1.3, 4)])
def test_the_rings_hallucinated_sphere_has_zero_modes_that_do_not_count(radius, dim):
    f = Ring(radius, dim)
    rho = 1.6 * radius
    x = torch.zeros(dim, dtype=torch.float64)
    x[0] = rho - radius
    certificate = certify(f, x, rho)
    assert certificate.kind is Status.HALLUCINATED_MINIMIZER
    assert certificate.attractor is True
    assert certificate.zero_modes == dim - 1
    assert certificate.mu[0] == pytest.approx(2 * radius**2)
    assert certificate.max_stable_lr == pytest.approx(1 / radius**2)
    # The level set is a sphere of radius ‖x‖ about a maximizer, and x⁺ lies beyond its centre.
    assert certificate.level_set_curvatures.tolist() == pytest.approx([1 / (rho - radius)] * (dim - 1))
    assert certificate.a.tolist() == pytest.approx([-radius / (rho - radius)] * (dim - 1))


@pytest.mark.parametrize(("lr", "stable"), [(0.98, True), (1.02, False)])
def test_the_rings_largest_stable_rate_is_1(lr, stable):
    now = np.array([0.5001, 0.0])
    for _ in range(2000):
        now = now - lr * update(ring_grad, now, rho=RHO)
    assert bool(abs(np.linalg.norm(now) - 0.5) < 1e-6) is stable
    assert certify(Ring(), point(0.5, 0.0), RHO, lr).attractor is stable


def test_existence_is_not_attraction_the_theorems_point_on_the_bump_repels():
    # Between the maximizer and the pass behind it the gradient points back along the axis, at the minimizer.
    f = BumpOnBowl()
    x = 0.7 * f.maximizers[0] + 0.3 * f.saddles[0]
    rho = float((x - f.minimizers[0]).norm())
    certificate = certify(f, x, rho)
    assert certificate.grad_plus_norm < 1e-13
    assert certificate.kind is Status.HALLUCINATED_MINIMIZER
    assert certificate.attractor is False
    assert certificate.max_stable_lr == 0
    assert certificate.a[0] < 0 < certificate.hessian_plus_ends[0]
    assert not returns(bump_grad, x, lr=1e-3, rho=rho, steps=20_000)


def test_a_hallucinated_saddle_may_attract():
    f, x = MultiWell(), point(-0.5, 0.0)  # x⁺ = (1, 0), where H⁺ = diag(2, −1); a = 1 − 1.5/0.375 = −3
    certificate = certify(f, x, rho=RHO, lr=0.5)
    assert certificate.kind is Status.HALLUCINATED_SADDLE
    assert certificate.mu.tolist() == pytest.approx([3, 2])
    assert certificate.a.tolist() == pytest.approx([-3])
    assert certificate.attractor is True
    assert returns(wells_grad, x, lr=0.5, rho=RHO)


def test_a_plateau_is_called_one():
    f = TorchFunction(lambda x: -torch.exp(-20 * x @ x), dim=2)
    certificate = certify(f, point(0.3, 0.1), rho=6.0, lr=0.1)
    assert certificate.kind is Status.HALLUCINATED_PLATEAU
    assert certificate.attractor is None
    assert "all eigenvalues of M vanish" in certificate.reason


def test_in_one_dimension_there_is_no_tangent():
    f = MultiWell(1)
    certificate = certify(f, point(-0.5), rho=RHO)
    assert (len(certificate.a), len(certificate.level_set_curvatures)) == (0, 0)
    assert certificate.mu.tolist() == pytest.approx([2])
    assert certificate.max_stable_lr == pytest.approx(1)


# --- against simulation ------------------------------------------------------------------------------

PLACE = np.array([4.0, 2.0])  # ASAM's perturbation depends on where the origin is
MOVED = TorchFunction(lambda x: WELL(x - torch.tensor(PLACE)), dim=2)


def moved_grad(x):
    return well_grad(x - PLACE)


# The function, its gradient by hand, a start that SAM leads to an attractor, and the settings.
RESTING = {
    "plain": (WELL, well_grad, [0.5, 0.0], {"rho": 1.5}),
    "decay": (WELL, well_grad, [0.5, 0.0], {"rho": 1.5, "weight_decay": 0.05}),
    "asam": (MOVED, moved_grad, [4.5, 2.0], {"rho": 0.33, "variant": "asam"}),
    "unnormalized": (WELL, well_grad, [0.6, 0.0], {"rho": 4.2, "variant": "unnormalized"}),
}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("case", RESTING.values(), ids=RESTING)
def test_the_largest_stable_rate_is_where_the_simulation_turns(case, momentum):
    f, grad, start, settings = case
    x = settle(grad, start, **settings)
    certificate = certify(f, x, lr=0.02, momentum=momentum, **settings)
    assert certificate.kind is Status.HALLUCINATED_MINIMIZER
    assert certificate.attractor is True
    m = slopes(lambda rows: torch.tensor(np.array([update(grad, row, **settings) for row in rows.numpy()])), x)
    expected = torch.linalg.eigvals(m)
    assert (certificate.mu[:, None] - expected).abs().min(1).values.max() < 1e-8
    bound = certificate.max_stable_lr
    for factor, stable in [(0.98, True), (1.02, False)]:
        again = certify(f, x, lr=factor * bound, momentum=momentum, **settings)
        assert again.attractor is stable
        assert returns(grad, x, lr=factor * bound, momentum=momentum, **settings) is stable
        assert (again.contraction < 1) is stable


def test_with_decay_the_point_rests_where_the_update_vanishes_not_the_gradient():
    x = settle(well_grad, [0.5, 0.0], rho=RHO, weight_decay=0.05)
    certificate = certify(WELL, x, rho=RHO, weight_decay=0.05)
    assert certificate.update_norm < 1e-14
    assert certificate.grad_plus_norm > 1e-2
    assert certify(WELL, x, rho=RHO).kind is Status.UNDECIDED  # without the decay it is no fixed point


# --- networks ----------------------------------------------------------------------------------------


def data(examples=96):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(examples, 16, generator=generator)
    x[80:] *= 4
    return x, torch.randint(0, 10, (examples,), generator=generator)


def cut(*lengths):
    x, y = data()
    return list(zip(x.split(lengths), y.split(lengths), strict=True))


def network(norm=False):
    torch.manual_seed(0)
    layers = [nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 10)]
    if norm:
        layers.insert(1, nn.BatchNorm1d(12))
    net = nn.Sequential(*layers)
    if norm:
        net[1].running_mean.uniform_(-1, 1)
        net[1].running_var.uniform_(0.5, 2)
    return net.eval()


def close_in(found, among, tolerance):
    return (found[:, None] - among).abs().min(1).values.max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("variant", "rho"), [("sam", 0.5), ("asam", 0.5), ("unnormalized", 5.0)])
def test_products_alone_find_the_same_ends_as_dense_solvers(variant, rho, dtype):
    f = Objective(network(), nn.CrossEntropyLoss(), cut(40, 40, 16))
    assert f.dim == 334
    x = 2 * f.flat_parameters().to(dtype)
    settings = {"variant": variant, "weight_decay": 0.01}
    whole = certify(f, x.double(), rho, **settings)
    ends = certify(f, x, rho, dense=False, **settings)
    assert (whole.complete, ends.complete) == (True, False)
    scale = float(whole.mu.abs().max())
    tolerance = ends.tolerance * scale
    # The four largest, and the leftmost, of all eigenvalues.
    assert close_in(ends.mu[:4], whole.mu[:5], 3 * tolerance)
    assert float(ends.mu.real.min()) == pytest.approx(float(whole.mu.real.min()), abs=3 * tolerance)
    for name in ("hessian_ends", "hessian_plus_ends"):
        np.testing.assert_allclose(getattr(ends, name), getattr(whole, name), atol=tolerance)
    for name in ("a", "level_set_curvatures"):
        few, many = getattr(ends, name), getattr(whole, name)
        np.testing.assert_allclose(few.real, many.real[[0, -1]], rtol=20 * ends.tolerance, atol=20 * ends.tolerance)
    assert ends.residual <= ends.tolerance
    assert ends.asymmetry == pytest.approx(whole.asymmetry, rel=0.5)
    assert whole.asymmetry > 0.01
    assert ends.products < 700


@pytest.mark.parametrize("norm", [False, True])
def test_dense_eigenvalues_are_those_of_difference_quotients(norm):
    f = Objective(network(norm), nn.CrossEntropyLoss(), cut(40, 40, 16))
    x = f.flat_parameters().double()
    whole = certify(f, x, rho=0.3)

    def shifted(y):
        return f.grad(y + displacement(y, f.grad(y), 0.3))

    expected = torch.linalg.eigvals(slopes(shifted, x, h=3e-4))
    scale = float(expected.abs().max())
    assert close_in(whole.mu[:10], expected, 1e-7 * scale)
    hessian = slopes(f.grad, x, h=3e-4)
    ends = torch.linalg.eigvalsh((hessian + hessian.T) / 2)[[0, -1]]
    np.testing.assert_allclose(whole.hessian_ends, ends, atol=1e-8 * scale)


@pytest.fixture(scope="module")
def resting_network():
    """A network of which one tanh unit would do: its minimizers are manifolds, and SAM rests looking at one of them."""
    x = torch.linspace(-2, 2, 20, dtype=torch.float64)[:, None]
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Tanh(), nn.Linear(3, 1, bias=False)).double()
    f = Objective(net, nn.MSELoss(), [(x, torch.tanh(1.5 * x))])
    start = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return f, run(f, start, lr=0.2, steps=4000)


def run(f, x, *, lr, steps):
    for _ in range(steps):
        x = sam_map(f.grad, x, rho=3.0, lr=lr)
    return x


def shift_ratio(f, x):
    grad = f.grad(x)
    return float(f.grad(x + 3 * grad / grad.norm()).norm() / grad.norm())


@pytest.mark.parametrize("dense", [True, False])
def test_a_network_that_rests_at_a_hallucinated_minimizer(resting_network, dense):
    f, x = resting_network
    certificate = certify(f, x, 3.0, lr=0.2, dense=dense)
    assert (certificate.kind, certificate.attractor) == (Status.HALLUCINATED_MINIMIZER, True)
    assert certificate.grad_norm > 0.2
    assert certificate.loss_plus < 1e-10 < 0.01 < certificate.loss
    assert certificate.max_stable_lr == pytest.approx(2 / float(certificate.mu[0]))
    if dense:
        assert certificate.zero_modes == 3
    # The protocol of the paper's Figure 3: a small push, and SAM comes back to the set.
    pushed = x + 0.02 * torch.ones(6, dtype=torch.float64)
    assert shift_ratio(f, pushed) > 1e-2
    end = run(f, pushed, lr=0.2, steps=1000)
    assert shift_ratio(f, end) < 1e-2 * shift_ratio(f, pushed)
    assert (end - x).norm() < 0.1
    beyond = run(f, pushed, lr=1.1 * certificate.max_stable_lr, steps=1000)
    assert not shift_ratio(f, beyond) < 1e-2
    assert certify(f, x, 3.0, lr=1.1 * certificate.max_stable_lr, dense=dense).attractor is False


def test_zero_modes_are_recognised_before_the_point_is_polished(resting_network):
    f, x = resting_network
    rough = x + 1e-5 * torch.ones(6, dtype=torch.float64)
    certificate = certify(f, rough, 3.0, lr=0.2)
    assert 1e-6 < certificate.update_norm / certificate.grad_norm < 1e-3
    assert (certificate.kind, certificate.attractor) == (Status.HALLUCINATED_MINIMIZER, True)
    assert certificate.zero_modes >= 3
    # Off the manifold by as much, its curvatures are not 0 any more: the tolerance of a polished point misreads them.
    assert certify(f, rough, 3.0, lr=0.2, tolerance=1e-7).zero_modes == 0


def test_ragged_batches_do_not_change_an_eigenvalue():
    ends = []
    for lengths in [(96,), (40, 40, 16)]:
        f = Objective(network(), nn.CrossEntropyLoss(), cut(*lengths))
        ends.append(certify(f, f.flat_parameters().double(), 0.3, dense=False, tolerance=1e-6))
    np.testing.assert_allclose(ends[0].hessian_ends, ends[1].hessian_ends, rtol=1e-8)
    assert ends[0].mu[0] == pytest.approx(ends[1].mu[0].item(), rel=1e-8)


def test_a_certificate_is_the_same_every_time():
    f = Objective(network(), nn.CrossEntropyLoss(), cut(96))
    first, second = (certify(f, f.flat_parameters(), 0.3, dense=False) for _ in range(2))
    assert (first.kind, first.settings, first.stability) == (second.kind, second.settings, second.stability)
    for group in ("point", "spectra", "numerics"):
        for name, value in vars(getattr(first, group)).items():
            other = getattr(getattr(second, group), name)
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name


def test_the_sphere_of_many_dimensions_without_matrices():
    f = TorchFunction(lambda x: (x @ x - 1).square() / 4, dim=600)  # the ring, without 600 coordinates one by one
    x = torch.zeros(600, dtype=torch.float64)
    x[:2] = torch.tensor([0.3, 0.4])
    certificate = certify(f, x, RHO, lr=0.5)
    assert not certificate.complete
    assert (certificate.kind, certificate.attractor) == (Status.HALLUCINATED_MINIMIZER, True)
    assert certificate.mu[0] == pytest.approx(2)
    assert certificate.zero_modes == len(certificate.mu) - 1
    assert certificate.max_stable_lr == pytest.approx(1)
    # On the ascent direction P·H·P is 0, which lies outside its other eigenvalues, all −0.75.
    assert certificate.level_set_curvatures.tolist() == pytest.approx([2, 2])


def test_small_functions_need_no_scipy_and_large_ones_say_so(monkeypatch, attractor):
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    assert certify(WELL, attractor, RHO).attractor
    f = Objective(network(), nn.CrossEntropyLoss(), cut(96))
    with pytest.raises(UserError, match=r"pip install 'samirage\[lab\]'"):
        certify(f, f.flat_parameters(), 0.3, dense=False)


# --- float32, and what is no hallucinated point ------------------------------------------------------


def test_float32_is_enough_to_see_the_attractor(attractor):
    certificate = certify(WELL, attractor.float(), RHO, lr=0.3)
    assert (certificate.kind, certificate.attractor) == (Status.HALLUCINATED_MINIMIZER, True)
    assert certificate.mu.tolist() == pytest.approx([3.92, 1.80], abs=5e-3)
    assert certificate.tolerance == pytest.approx(4 * 2**-11.5)


def test_a_stationary_point_is_never_called_hallucinated(attractor):
    for x in [*WELL.minimizers, *WELL.saddles]:
        for push in (1e-7, 1e-9, 1e-12):
            nearly = certify(WELL, x + push, RHO)
            assert nearly.kind is Status.STATIONARY, push
            assert (nearly.attractor, nearly.max_stable_lr) == (None, None)
            assert "stationary point of f" in nearly.reason
    valley = TorchFunction(lambda x: (x[0] * x[1] - 1).square() / 2, dim=2)
    assert not certify(valley, point(1.0, 1.0) + 1e-9, 0.05).kind.is_hallucinated


def test_a_point_at_which_sam_does_not_rest_is_undecided(attractor):
    for rho, x in [(RHO, attractor + 0.01), (RHO + 0.01, attractor), (0.05, point(0.3, 0.2))]:
        certificate = certify(WELL, x, rho, lr=0.02)
        assert (certificate.kind, certificate.attractor) == (Status.UNDECIDED, None)
        assert "SAM does not rest here" in certificate.reason
    assert certify(WELL, attractor + 0.01, RHO, max_shift_ratio=0.2).kind is Status.HALLUCINATED_MINIMIZER


def with_noise():
    torch.manual_seed(0)
    return TorchFunction(lambda x: (x @ x) * (1 + 1e-3 * torch.rand(())), dim=2)


def relu_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10))
    f = Objective(net, nn.CrossEntropyLoss(), cut(96))
    return certify(f, f.flat_parameters(), 1.0)


ORIGIN = point(0.0, 0.0)
BAD = {
    "rho 0": (lambda: certify(WELL, ORIGIN + 1, 0.0), "rho must be a finite number above 0.*got 0"),
    "rho nan": (lambda: certify(WELL, ORIGIN + 1, float("nan")), "rho must be a finite number above 0.*got nan"),
    "lr": (lambda: certify(WELL, ORIGIN + 1, 1.0, -0.1), "lr must be None or a finite number above 0; got -0.1"),
    "variant": (lambda: certify(WELL, ORIGIN + 1, 1.0, variant="esam"), "variant must be one of 'sam', 'asam'.*'esam'"),
    "momentum": (
        lambda: certify(WELL, ORIGIN + 1, 1.0, momentum=1.0),
        "momentum must be at least 0 and below 1; got 1",
    ),
    "decay": (lambda: certify(WELL, ORIGIN + 1, 1.0, weight_decay=-1.0), "weight_decay must be .* at least 0; got -1"),
    "ratio": (lambda: certify(WELL, ORIGIN + 1, 1.0, max_shift_ratio=0.0), "max_shift_ratio must be .* above 0; got 0"),
    "tolerance": (lambda: certify(WELL, ORIGIN + 1, 1.0, tolerance=1.0), "tolerance must be None or between 0 and 1"),
    "list": (lambda: certify(WELL, [1.0, 1.0], 1.0), "x must be a float32 or float64 tensor; got list"),
    "half": (
        lambda: certify(WELL, ORIGIN.half(), 1.0),
        "x must be a float32 or float64 tensor; got a tensor of torch.f",
    ),
    "shape": (lambda: certify(WELL, torch.ones(3), 1.0), r"x must be one point of shape \(2,\); got shape \(3,\)"),
    "batch": (lambda: certify(WELL, torch.ones(1, 2), 1.0), r"x must be one point of shape \(2,\); got shape \(1, 2\)"),
    "nan": (lambda: certify(WELL, ORIGIN + float("nan"), 1.0), "x must hold finite numbers only; got 2 that are not"),
    "no gradient": (lambda: certify(WELL, ORIGIN, 1.0), "the gradient is 0 at x, where SAM has no direction"),
    "no gradient, minimizer": (lambda: certify(Quadratic(), ORIGIN, 1.0), "the gradient is 0 at x"),
    "asam at 0": (
        lambda: certify(TorchFunction(lambda x: x.sum() + x @ x, 2), ORIGIN, 1.0, variant="asam"),
        "the gradient is 0 at x|SAM has no direction",
    ),
    "infinite": (
        lambda: certify(TorchFunction(lambda x: torch.log(x[0]) + x[1], 2), point(-1.0, 0.0), 1.0),
        "f or its gradient is not finite at x",
    ),
    "infinite beyond": (
        lambda: certify(TorchFunction(lambda x: -torch.log(1 - x[0]) + 0 * x[1], 2), point(0.5, 0.0), 1.0),
        "not finite at the perturbed point: choose another point or a smaller rho",
    ),
    "noise": (lambda: certify(with_noise(), ORIGIN + 1, 1.0), "f is not deterministic: two gradients at x differ by"),
    "kink at x": (
        lambda: certify(TorchFunction(lambda x: x[0].abs() + x @ x, 2), point(0.0, 1.0), 1.0),
        "f is not twice differentiable near x, as far as differences of its gradient show",
    ),
    "kink at x⁺": (
        lambda: certify(TorchFunction(lambda x: torch.relu(x[0] - 2) + x[0] ** 2 + x[1] ** 2, 2), point(1.0, 0.0), 1.0),
        "f is not twice differentiable near the perturbed point",
    ),
    "relu network": (relu_network, "f is not twice differentiable near x.*use a smooth function such as tanh"),
}


@pytest.mark.parametrize(("act", "match"), BAD.values(), ids=BAD)
def test_what_gets_no_certificate(act, match):
    with pytest.raises((ValueError, TypeError), match=match):
        act()

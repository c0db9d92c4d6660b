"""What `x⁺` is where its Hessian has zero modes: closed forms, each through every function that names a kind.

All functions are `h(x, z) + y² − 2y³/3` with `h` of second order or higher: from `(0, 3/2)` the gradient `(0, −3/2)`
looks at the origin, where `H⁺ = diag(Hessian of h, 2)`. What the origin is, is what it is for `h`.
"""

import numpy as np
import pytest
import torch

from samirage.landscape import Objective, Ring, TorchFunction
from samirage.points import basins, certify, find_hallucinated, find_orbits, radius_interval
from samirage.points.certificates.spectrum import Spectrum
from samirage.points.certificates.verdict import critical_point, decide
from samirage.points.find.evidence import evidence
from samirage.sam import Status

RHO = 1.5
MINIMIZER, MAXIMIZER, SADDLE, PLATEAU, UNDECIDED = (
    Status.HALLUCINATED_MINIMIZER,
    Status.HALLUCINATED_MAXIMIZER,
    Status.HALLUCINATED_SADDLE,
    Status.HALLUCINATED_PLATEAU,
    Status.UNDECIDED,
)


def behind(h):
    """The function, and the point that looks at the origin."""
    x = torch.zeros(3, dtype=torch.float64)
    x[1] = 1.5
    return TorchFunction(lambda p: h(p[0], p[2]) + p[1] ** 2 - 2 * p[1] ** 3 / 3, dim=3), x


# name -> h, the kind, and whether SAM is attracted for small steps (None: higher derivatives decide).
CASES = {
    "inflection": (lambda x, z: x**3 + z**2, SADDLE, None),
    "weak inflection": (lambda x, z: 1e-3 * x**3 + z**2, SADDLE, None),
    "inflection and a flat direction": (lambda x, z: x**3, SADDLE, None),
    "fifth order": (lambda x, z: x**5 + z**2, SADDLE, None),
    "monkey saddle": (lambda x, z: x**3 - 3 * x * z**2, SADDLE, None),
    "downward quartic": (lambda x, z: z**2 - x**4, SADDLE, None),
    "quartic minimum": (lambda x, z: x**4 + z**2, UNDECIDED, None),
    "weak quartic minimum": (lambda x, z: 1e-3 * x**4 + z**2, UNDECIDED, None),
    # Along the parabola x = z² a quartic is left; its second and third derivatives along z are 0.
    "bent quartic minimum": (lambda x, z: (x - z**2) ** 2 + z**4, UNDECIDED, None),
    "bent downward quartic": (lambda x, z: (x - z**2) ** 2 - z**4 / 2, SADDLE, None),
    "strict minimum": (lambda x, z: x**2 + z**2, MINIMIZER, True),
    "flat directions": (lambda x, z: 0 * x, MINIMIZER, True),
    "straight valley": (lambda x, z: z**2, MINIMIZER, True),
    "parabolic valley": (lambda x, z: (x - z**2) ** 2, MINIMIZER, True),
    "valley of saddles": (lambda x, z: -(z**2), SADDLE, True),  # a = −1 along z: SAM turns the saddle around
}


@pytest.mark.parametrize(("h", "kind", "attracts"), CASES.values(), ids=CASES)
def test_zero_modes_count_as_a_manifold_only_where_f_stays_flat_along_them(h, kind, attracts):
    f, x = behind(h)
    certificate = certify(f, x, RHO)
    assert (certificate.kind, certificate.attractor) == (kind, attracts)
    assert (certificate.max_stable_lr is None) is (attracts is None)
    assert bool(certificate.reason) is (attracts is None)
    point = evidence(f, x, RHO)
    assert (point.kind, point.attracts) == (kind, attracts)
    assert point.max_stable_lr == (None if attracts is None else pytest.approx(certificate.max_stable_lr))


PUSHES = [(3e-9, 1e-8, -5e-9), (3e-6, 1e-5, -5e-6), (1e-5, 0.0, 1e-5), (-1e-5, 0.0, 1e-5), (2e-4, 0.0, 0.0)]


@pytest.mark.parametrize(
    "name", ["inflection", "quartic minimum", "monkey saddle", "parabolic valley", "strict minimum"]
)
@pytest.mark.parametrize("push", PUSHES)
def test_what_holds_at_the_point_holds_next_to_it(name, push):
    h, kind, attracts = CASES[name]
    f, x = behind(h)
    certificate = certify(f, x + torch.tensor(push, dtype=torch.float64), RHO)
    assert certificate.update_norm / certificate.grad_norm < 1e-3
    assert certificate.attractor is attracts
    assert certificate.kind is kind if attracts else certificate.kind is not MINIMIZER


def test_float32_sees_a_plain_inflection_and_a_plain_valley():
    for name in ("inflection", "quartic minimum", "straight valley", "parabolic valley"):
        h, kind, attracts = CASES[name]
        f, x = behind(h)
        certificate = certify(f, x.float(), RHO)
        assert (certificate.kind, certificate.attractor) == (kind, attracts), name


def test_sam_leaves_the_inflection_that_was_certified_an_attractor():
    # In NumPy, by hand: next to the point on one side it comes back, on the other it leaves.
    def grad(p):
        return np.array([3 * p[0] ** 2, 2 * p[1] - 2 * p[1] ** 2])

    ends = []
    for push in (1e-2, -1e-2):
        p = np.array([push, 1.5])
        for _ in range(1000):
            g = grad(p)
            p = p - 0.05 * grad(p + RHO * g / np.linalg.norm(g))
        ends.append(abs(p[0]))
    assert min(ends) < 0.01
    assert max(ends) > 0.1


def test_a_maximizer_is_called_one():
    dome = TorchFunction(lambda x: -(x @ x) / 2, dim=2, maximizers=[[0.0, 0.0]])
    x = torch.tensor([0.0, 1.5], dtype=torch.float64)
    certificate = certify(dome, x, RHO)
    assert (certificate.kind, certificate.attractor) == (MAXIMIZER, False)
    assert certificate.hessian_plus_ends == (-1.0, -1.0)
    assert "maximizer" in str(certificate)
    assert find_hallucinated(dome, torch.zeros(2), rho=RHO, methods=["sphere"])[0].kind is MAXIMIZER
    # Of a whole circle of maximizers, too; beside an inflection it is none.
    circle = TorchFunction(lambda x: -((x @ x - 1) ** 2) / 4, dim=2)
    assert certify(circle, torch.tensor([0.5, 0.0], dtype=torch.float64), 0.5).kind is MAXIMIZER
    bent = TorchFunction(lambda x: x[0] ** 3 - x[1] ** 2, dim=2)
    assert certify(bent, x, RHO).kind is SADDLE
    quartic = TorchFunction(lambda x: -(x[0] ** 4) - x[1] ** 2, dim=2)
    assert certify(quartic, x, RHO).kind is UNDECIDED


def test_a_point_without_any_curvature_is_a_plateau_only_where_it_is_flat_around():
    def deep(h):  # of fourth order along y too, so that H⁺ = 0
        f = TorchFunction(lambda p: h(p[0], p[2]) + p[1] ** 4 - 4 * p[1] ** 5 / 5, dim=3)
        return certify(f, torch.tensor([0.0, 1.5, 0.0], dtype=torch.float64), RHO)

    monkey, quartic = deep(lambda x, z: x**3 - 3 * x * z**2), deep(lambda x, z: x**4 + z**4)
    assert (monkey.kind, monkey.attractor) == (SADDLE, None)
    assert (quartic.kind, quartic.attractor) == (UNDECIDED, None)
    gaussian = TorchFunction(lambda x: -torch.exp(-20 * x @ x), dim=2)
    flat = certify(gaussian, torch.tensor([0.3, 0.1], dtype=torch.float64), 6.0)
    assert (flat.kind, flat.attractor) == (PLATEAU, None)


def test_a_zero_mode_of_m_alone_needs_a_manifold_too():
    # x⁺ is a strict minimizer at the centre of curvature of the level set: a = 0, and M v = 0 for v along x.
    focal = TorchFunction(lambda p: p[1] ** 2 - 2 * p[1] ** 3 / 3 + p[0] ** 2 * (0.5 - 2 * p[1] / 3), dim=2)
    x = torch.tensor([0.0, 1.5], dtype=torch.float64)
    certificate = certify(focal, x, RHO)
    assert certificate.a.tolist() == pytest.approx([0], abs=1e-12)
    assert (certificate.kind, certificate.zero_modes) == (MINIMIZER, 1)
    assert (certificate.attractor, certificate.max_stable_lr) == (None, None)
    # With circles as level sets all of them look at the centre: a manifold of points, though x⁺ is one minimizer.
    crater = TorchFunction(lambda p: (p @ p) ** 2 / 4 * (-1) + p @ p, dim=2)  # inward from ‖x‖ = √2 on
    certificate = certify(crater, x, RHO)
    assert (certificate.kind, certificate.zero_modes, certificate.attractor) == (MINIMIZER, 1, True)


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_the_rings_set_is_a_manifold_with_weight_decay_too(decay):
    x = torch.tensor([0.3, 0.4], dtype=torch.float64)
    for _ in range(3000):
        g = (x @ x - 1) * x
        y = x + RHO * g / g.norm()
        x = x - 0.1 * ((y @ y - 1) * y + decay * x)
    certificate = certify(Ring(), x, RHO, weight_decay=decay)
    assert (certificate.kind, certificate.attractor, certificate.zero_modes) == (MINIMIZER, True, 1)


# --- many coordinates --------------------------------------------------------------------------------


def many(h, dim=600):
    """The same with `dim − 2` further coordinates that nothing depends on, and one strict one."""
    x = torch.zeros(dim, dtype=torch.float64)
    x[1] = 1.5
    return TorchFunction(lambda p: h(p[0]) + p[1] ** 2 - 2 * p[1] ** 3 / 3 + p[2] ** 2 + 0 * p.sum(), dim=dim), x


@pytest.mark.parametrize(
    ("h", "kind", "attracts"),
    [
        (lambda x: 0 * x, MINIMIZER, True),
        (lambda x: 30 * x**3, None, None),
    ],
)
def test_products_alone_verify_zero_modes_along_a_random_one(h, kind, attracts):
    f, x = many(h)
    certificate = certify(f, x, RHO)
    assert not certificate.complete
    assert certificate.attractor is attracts
    assert certificate.kind is kind if kind else certificate.kind is not MINIMIZER


def test_a_networks_weights_that_no_input_reaches_are_flat_directions():
    inputs = torch.zeros(30, 3, dtype=torch.float64)
    inputs[:, 0] = torch.linspace(-2, 2, 30)
    weights = torch.nn.Linear(3, 1, bias=False).double()

    def loss(output, target):  # of the weight w of the first input: y² − 2y³/3 with y = w
        w = (output[:, 0] * inputs[:, 0]).sum() / inputs[:, 0].square().sum()
        return w**2 - 2 * w**3 / 3

    f = Objective(weights, loss, [(inputs, torch.zeros(30))])
    certificate = certify(f, torch.tensor([1.5, 0.7, -0.2], dtype=torch.float64), RHO)
    assert (certificate.kind, certificate.attractor, certificate.zero_modes) == (MINIMIZER, True, 2)


# --- the other functions that name a kind ------------------------------------------------------------


def test_basins_do_not_call_an_inflection_a_minimizer():
    def end(h):
        f = TorchFunction(lambda p: h(p[0]) + p[1] ** 2 - 2 * p[1] ** 3 / 3, dim=2)
        found = basins(f, rho=RHO, lr=0.1, window=(-1e-9, 1e-9, 1.4, 1.6), resolution=3, steps=400)
        (kind,) = {e.kind for e in found.ends}
        return kind

    assert end(lambda x: x**3) is SADDLE
    assert end(lambda x: x**4) is UNDECIDED
    assert end(lambda x: 0 * x) is MINIMIZER

    # SAM bounces about the origin across y; what is there along x is the question.
    def bounce(h):
        f = TorchFunction(lambda p: h(p[0]) + 2 * p[1] ** 2, dim=2)
        found = basins(f, rho=0.1, lr=0.1, window=(-1e-9, 1e-9, 0.01, 0.02), resolution=2, steps=200)
        (kind,) = {e.kind for e in found.ends}
        return kind

    assert bounce(lambda x: 0 * x) is Status.BOUNCING_MINIMIZER
    assert bounce(lambda x: x**3) is Status.SADDLE_TRAP
    assert bounce(lambda x: 100 * x**4) is Status.UNDECIDED


def test_an_orbits_neutral_multiplier_counts_as_a_family_only_where_there_is_one():
    def orbit(h):
        f = TorchFunction(lambda p: h(p[0]) + 2 * p[1] ** 2, dim=2)
        start = torch.zeros(2, dtype=torch.float64)
        return find_orbits(f, start, rho=0.5, lr=0.1, starts=1, steps=1)[0]

    assert orbit(lambda x: x**2).stable is True
    assert orbit(lambda x: 0 * x).stable is True  # may be moved along x
    degenerate = orbit(lambda x: x**3)
    assert degenerate.stable is None
    assert str(degenerate).startswith("undecided orbit of period 2")
    assert orbit(lambda x: -(x**2) / 10).stable is False


def test_the_interval_of_an_inflection_attracts_nowhere():
    f, x = behind(CASES["inflection"][0])
    assert radius_interval(f, x, RHO, rho_range=(1.2, 1.8)).attracting == []
    ring = radius_interval(Ring(), torch.tensor([0.5, 0.0]), RHO)
    assert ring.attracting == [(pytest.approx(1.0, abs=1e-6), pytest.approx(2.0, abs=1e-6))]


def test_beyond_dense_dimensions_the_tolerance_is_that_of_the_iteration():
    f, x = many(lambda t: 0 * t)
    found = critical_point(f, torch.zeros_like(x), unit=1.0, length=RHO, tolerance=1e-7)
    assert found.kind == "minimizer"
    sphere = TorchFunction(lambda p: (p @ p - 1) ** 2 / 4, dim=400)
    pole = torch.zeros(400, dtype=torch.float64)
    pole[7] = 1.0
    assert critical_point(sphere, pole, unit=1.0, length=RHO, tolerance=1e-7).kind == "minimizer"


# --- the decision ------------------------------------------------------------------------------------


def spectrum(*values, residuals=None):
    residual = torch.zeros(len(values), dtype=torch.float64) if residuals is None else torch.tensor(residuals)
    return Spectrum(torch.tensor(values, dtype=torch.complex128), residual.double(), 0)


# Eigenvalues, residuals, learning rate, momentum; then attracts, largest stable rate, zero modes, part of the reason.
DECISIONS = {
    "all right": ((4.0, 1.0), None, None, 0.0, True, 0.5, 0, ""),
    "rate too large": ((4.0, 1.0), None, 0.51, 0.0, False, 0.5, 0, ""),
    "rate small enough": ((4.0, 1.0), None, 0.49, 0.0, True, 0.5, 0, ""),
    "more with momentum": ((4.0, 1.0), None, 0.51, 0.5, True, 0.75, 0, ""),
    "complex": ((1 + 2j, 1 - 2j), None, 0.39, 0.0, True, 0.4, 0, ""),
    "complex, less with momentum": ((1 + 2j, 1 - 2j), None, 0.39, 0.9, False, 2 / 1.9 / (1.9**-2 + 400), 0, ""),
    "one left": ((4.0, -0.1), None, None, 0.0, False, 0.0, 0, ""),
    "zero modes": ((4.0, 1e-8, -1e-8, 0.0), None, None, 0.0, True, 0.5, 3, ""),
    "zero modes only": ((0.0, 0.0), None, 0.1, 0.0, None, None, 2, "all eigenvalues of M vanish"),
    "imaginary axis": ((4.0, 1j, -1j), None, None, 0.0, None, None, 0, "on the imaginary axis"),
    "at the edge": ((4.0, 1.0), None, 0.5, 0.0, None, 0.5, 0, "is the largest stable one"),
    "unsound": ((4.0, 1.0), [1e-9, 1e-3], None, 0.0, None, None, 0, "residual of an eigenvalue of M, 2.5e-04, exceeds"),
    "unsound zero mode": ((4.0, 0.0), [0.0, 1e-3], None, 0.0, None, None, 1, "exceeds the tolerance"),
    "soundly left": ((4.0, -1.0), [1e-3, 0.0], None, 0.0, False, 0.0, 0, ""),
    "unsoundly left": ((4.0, -1.0), [0.0, 1e-3], None, 0.0, None, None, 0, "exceeds the tolerance"),
}


@pytest.mark.parametrize("case", DECISIONS.values(), ids=DECISIONS)
def test_decisions(case):
    values, residuals, lr, momentum, attracts, bound, zero_modes, reason = case
    verdict, _ = decide(
        spectrum(*values, residuals=residuals), lr=lr, momentum=momentum, tolerance=1e-6, is_manifold=lambda: True
    )
    assert verdict.attractor is attracts
    assert verdict.max_stable_lr == (bound if bound is None else pytest.approx(bound))
    assert verdict.zero_modes == zero_modes
    assert reason in verdict.reason
    assert bool(verdict.reason) == (attracts is None)


@pytest.mark.parametrize(("lr", "attracts"), [(None, None), (0.49, None), (0.51, False)])
def test_zero_modes_that_are_no_manifolds_leave_open_what_they_decide(lr, attracts):
    settings = {"momentum": 0.0, "tolerance": 1e-6, "is_manifold": lambda: False}
    verdict, _ = decide(spectrum(4.0, 1.0, 0.0), lr=lr, **settings)
    assert (verdict.attractor, verdict.max_stable_lr, verdict.zero_modes) == (attracts, None, 1)
    assert "does not rest along zero modes of M (1)" in verdict.reason
    # What repels, repels whatever zero modes there are, and without any none is asked about.
    assert decide(spectrum(4.0, -1.0, 0.0), lr=lr, **settings)[0].attractor is False
    assert decide(spectrum(4.0, 1.0), lr=lr, **settings)[0].attractor is (lr is None or lr < 0.5)


def test_the_contraction_is_that_of_the_slowest_component():
    settings = {"tolerance": 1e-6, "is_manifold": lambda: True}
    assert decide(spectrum(4.0, 1.0, 0.0), lr=0.1, momentum=0.0, **settings)[0].contraction == pytest.approx(0.9)
    # With momentum 0.81 the roots of z² − (1.81 − lr·mu)·z + 0.81 are complex, of size 0.9, for lr·mu in 0.01…3.61.
    heavy, _ = decide(spectrum(4.0, 1.0), lr=0.1, momentum=0.81, **settings)
    assert heavy.contraction == pytest.approx(0.9)
    assert decide(spectrum(4.0), lr=None, momentum=0.0, **settings)[0].contraction is None

"""Planes: what they are laid through lies on them, coordinates are distances, and what spans no plane is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from samirage.landscape import (
    DoubleWell,
    Objective,
    Plane,
    Quadratic,
    Ring,
    ascent_line,
    gradient_plane,
    line,
    plane,
    random_plane,
    trajectory_plane,
)


def vectors(count: int, dim: int, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def test_a_plane_through_three_points_holds_them_and_measures_in_distances():
    p, q, r = vectors(3, 40)
    at = plane(p, q, r)
    feet, distance = at.locate(torch.stack([p, q, r]))
    assert distance.max() < 1e-12
    assert feet[1].tolist() == pytest.approx([float((q - p).norm()), 0.0], abs=1e-12)
    for i, a in enumerate((p, q, r)):
        for j, b in enumerate((p, q, r)):
            assert float((feet[i] - feet[j]).norm()) == pytest.approx(float((a - b).norm()), abs=1e-12)
    for (low, high), coordinates in zip(at.spans, feet.T, strict=True):
        assert low < float(coordinates.min()) < float(coordinates.max()) < high


def test_coordinates_and_distances_hold_for_oblique_directions_too():
    origin, u, v, off = vectors(4, 30)
    at = plane(origin, directions=(u, 0.5 * u + v))
    basis = np.stack([u.numpy(), (0.5 * u + v).numpy()], 1)
    solution, rest, *_ = np.linalg.lstsq(basis, (off - origin).numpy(), rcond=None)
    feet, distance = at.locate(off)
    assert feet.numpy() == pytest.approx(solution, abs=1e-12)
    assert float(distance) == pytest.approx(float(np.sqrt(rest[0])), abs=1e-12)
    assert torch.allclose(at.locate(at.points(feet))[0], feet)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4)).eval()


def test_random_directions_have_the_norm_of_every_filter_and_are_orthogonal():
    model = network()
    f = Objective(model, nn.CrossEntropyLoss(), [(torch.rand(5, 1, 4, 4), torch.arange(5) % 4)])
    at = random_plane(f, f.flat_parameters().double(), seed=1)
    first, second = at.directions
    assert abs(float(first @ second)) < 1e-12 * float(first.norm() * second.norm())
    for v in at.directions:
        for name, part in f.unflatten(v).items():
            weight = dict(model.named_parameters())[name].double()
            if weight.dim() == 1:  # biases and batch norm stand still
                assert not part.any()
            else:
                norms = weight.flatten(1).norm(dim=1)
                assert part.flatten(1).norm(dim=1).tolist() == pytest.approx(norms.tolist(), rel=1e-6)


def test_random_directions_repeat_with_their_seed_and_leave_the_users_random_numbers_alone():
    f = Quadratic([1.0, 2.0, 3.0])
    before = torch.random.get_rng_state()
    first, again, other = (random_plane(f, torch.zeros(3), seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first.basis, again.basis)
    assert not torch.equal(first.basis, other.basis)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_principal_components_are_those_of_numpy_and_say_what_they_explain():
    trajectory = torch.stack(vectors(12, 25)).cumsum(0)
    at = trajectory_plane(trajectory)
    _, singular, rows = np.linalg.svd((trajectory - trajectory.mean(0)).numpy(), full_matrices=False)
    assert at.explained == pytest.approx((singular**2 / (singular**2).sum())[:2])
    for ours, theirs in zip(at.basis, rows, strict=False):
        assert abs(float(ours @ torch.from_numpy(theirs))) == pytest.approx(1.0)
    assert torch.equal(at.origin, trajectory[-1])
    assert f"{at.explained[0]:.0%}" in at.labels[0]


def test_the_gradient_and_the_top_eigenvector_span_their_plane():
    diagonal = torch.linspace(-9.0, 8.0, 50, dtype=torch.float64)
    f, x = Quadratic(diagonal.tolist()), torch.ones(50, dtype=torch.float64)
    at = gradient_plane(f, x)
    grad, top = diagonal * x, torch.eye(50, dtype=torch.float64)[0]  # −9 is the largest in size
    for v in (grad, top):
        assert float(at.locate(x + v)[1]) < 1e-3
    assert float(at.locate(x + torch.eye(50, dtype=torch.float64)[30])[1]) > 0.5


def test_the_ascent_line_marks_where_sam_looks():
    f, x = DoubleWell(), torch.tensor([0.47093, -0.02220], dtype=torch.float64)
    along = ascent_line(f, x, rho=1.5)
    x_plus = along.points(torch.tensor([along.rho], dtype=torch.float64))
    assert x_plus.tolist() == pytest.approx(f.minimizers[0].tolist(), abs=1e-3)
    assert along.spans[0][0] < 0 < along.rho < along.spans[0][1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: plane(*(t * torch.ones(3) for t in (0.0, 1.0, 2.5))), "lie on one line"),
        (lambda: plane(torch.zeros(3), torch.zeros(3), torch.ones(3)), "lie on one line"),
        (lambda: plane(torch.zeros(3), directions=(torch.ones(3), -2 * torch.ones(3))), "parallel"),
        (lambda: plane(torch.zeros(3), directions=(torch.ones(3), torch.ones(2))), "must be like origin, 3 numbers"),
        (lambda: plane(torch.zeros(3), directions=(torch.ones(3), torch.zeros(3))), "direction 2 must not be 0"),
        (lambda: plane(torch.zeros(3), torch.ones(3)), "got 2 points and no directions"),
        (lambda: plane(torch.zeros(2, 2), torch.ones(3), torch.ones(3)), r"vector of shape \(d,\)"),
        (lambda: plane(torch.tensor([0.0, torch.nan]), torch.ones(2), torch.zeros(2)), "finite numbers only"),
        (lambda: plane(torch.zeros(2), directions=tuple(torch.eye(2)), spans=(1.0, -1.0)), "the smaller first"),
        (lambda: plane(torch.zeros(2), directions=tuple(torch.eye(2)), spans=(1.0, "a")), "spans must be"),
        (lambda: line(torch.zeros(2), torch.zeros(2)), "direction must not be 0"),
        (lambda: trajectory_plane(torch.zeros(2, 5)), "at least 3 points"),
        (lambda: trajectory_plane(torch.arange(4.0)[:, None] * torch.ones(4, 5)), "lie on one line"),
        (lambda: trajectory_plane(torch.full((4, 5), torch.inf)), "finite numbers only"),
        (lambda: ascent_line(Ring(), torch.zeros(2), rho=1.0), "no direction to look in"),
        (lambda: ascent_line(Ring(), torch.ones(2), rho=-1.0), "rho must be"),
        (lambda: gradient_plane(Ring(), torch.zeros(2)), "which is no direction"),
        (lambda: gradient_plane(Quadratic([2.0, 1.0]), torch.tensor([1.0, 0.0])), "eigenvector of the Hessian"),
        (lambda: Plane(torch.zeros(2), (torch.ones(2),), ((0.0, 1.0),), ("a",)), "a plane has 2 directions"),
        (lambda: Plane(torch.zeros(2), tuple(torch.eye(2)), ((0.0, 1.0),), ("a",)), "needs a span and a label"),
    ],
)
def test_what_spans_nothing_is_refused_in_one_sentence(make, said):
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="point 2 must be a floating-point torch tensor; got list"):
        plane(torch.zeros(2), [1.0, 2.0], torch.ones(2))
    with pytest.raises(TypeError, match="trajectory must be"):
        trajectory_plane([[1.0]])


def test_a_network_without_filters_has_no_random_directions_of_their_size():
    f = Objective(nn.Linear(1, 1), nn.MSELoss(), [(torch.rand(3, 1), torch.rand(3, 1))])
    with pytest.raises(ValueError, match="no filter of the network has two entries"):
        random_plane(f, f.flat_parameters())


def test_a_checkpoint_becomes_a_point_and_a_foreign_one_is_refused():
    f = Objective(network(), nn.CrossEntropyLoss(), [(torch.rand(5, 1, 4, 4), torch.arange(5) % 4)])
    assert torch.equal(f.flatten(network().state_dict()), f.flat_parameters())
    with pytest.raises(ValueError, match=r"must hold '0.weight' of shape \(3, 1, 3, 3\); got none"):
        f.flatten({})

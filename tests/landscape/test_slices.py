"""Slices against a plain loop, closed forms, and what other tools get wrong; and what they say of themselves."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from samirage.errors import UserError
from samirage.landscape import (
    Mark,
    Objective,
    Quadratic,
    Ring,
    TorchFunction,
    ascent_line,
    plane,
    random_plane,
    scan,
    trajectory_plane,
)

AXES = (torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
ORIGIN = torch.zeros(2, dtype=torch.float64)


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def examples(count: int = 20) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(count, 6, generator=generator, dtype=torch.float64), torch.arange(count) % 3
    return [(x[:7], y[:7]), (x[7:], y[7:])]


def objective() -> Objective:
    return Objective(model(), nn.CrossEntropyLoss(), examples())


@pytest.mark.parametrize("at_once", [1, 3, None])
def test_a_slice_is_what_a_plain_loop_finds(at_once):
    f, net = objective(), model()
    start = nn.utils.parameters_to_vector(net.parameters()).detach()
    first, second = torch.randn(2, len(start), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    at = plane(start, directions=(first, second), spans=((-1.0, 2.0), (-0.5, 0.5)))
    found = scan(f, at, rho=0.3, steps=(4, 3), at_once=at_once)
    x, y = (torch.cat(parts) for parts in zip(*examples(), strict=True))

    def loss_and_grad(vector):
        nn.utils.vector_to_parameters(vector, net.parameters())
        loss = nn.functional.cross_entropy(net(x), y)
        grads = torch.autograd.grad(loss, list(net.parameters()))
        return loss.item(), torch.cat([g.flatten() for g in grads])

    for a in np.linspace(-1, 2, 4):
        for b in np.linspace(-0.5, 0.5, 3):
            here = found.sel(first=a, second=b, method="nearest")
            point = start + a * first + b * second
            loss, grad = loss_and_grad(point)
            loss_sam, grad_plus = loss_and_grad(point + 0.3 * grad / grad.norm())
            assert float(here.loss) == pytest.approx(loss, rel=1e-12)
            assert float(here.loss_sam) == pytest.approx(loss_sam, rel=1e-12)
            assert float(here.grad_norm) == pytest.approx(float(grad.norm()), rel=1e-10)
            assert float(here.grad_plus_norm) == pytest.approx(float(grad_plus.norm()), rel=1e-10)
            assert float(here.shift_ratio) == pytest.approx(float(grad_plus.norm() / grad.norm()), rel=1e-10)
            basis = np.stack([first.numpy(), second.numpy()], 1)
            for name, vector in (("descent", grad), ("descent_sam", grad_plus)):
                projected, *_ = np.linalg.lstsq(basis, -vector.numpy(), rcond=None)
                assert here[name].values == pytest.approx(projected, abs=1e-10)


def test_the_surrogate_of_the_ring_has_its_closed_form():
    found = scan(Ring(), plane(ORIGIN, directions=AXES, spans=(-1.7, 1.7)), rho=1.5, steps=18)  # avoids 0 and the ring
    distance = np.hypot(found.first, found.second)
    seen = xr.where(distance < 1, abs(distance - 1.5), distance + 1.5)  # inwards inside of the ring, outwards outside
    assert np.allclose(found.loss_sam, ((seen**2 - 1) ** 2 / 4).transpose(*found.loss.dims), atol=1e-12)
    assert np.allclose(found.grad_plus_norm, (abs(seen**2 - 1) * seen).transpose(*found.loss.dims), atol=1e-12)


def test_the_surrogate_of_a_quadratic_has_its_closed_form():
    hessian = np.diag([4.0, 1.0, 0.5])
    basis = torch.tensor([[1.0, 0.0, 1.0], [0.3, 1.0, 0.0]], dtype=torch.float64)
    origin = torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)
    found = scan(Quadratic([4.0, 1.0, 0.5]), plane(origin, directions=tuple(basis)), rho=0.7, steps=(5, 4))
    for a in found.first.values:
        for b in found.second.values:
            x = origin.numpy() + a * basis[0].numpy() + b * basis[1].numpy()
            grad = hessian @ x
            u = grad / np.linalg.norm(grad)
            expected = x @ grad / 2 + 0.7 * np.linalg.norm(grad) + 0.7**2 / 2 * u @ hessian @ u
            assert float(found.loss_sam.sel(first=a, second=b)) == pytest.approx(expected, rel=1e-12)


def test_a_line_shows_the_ridge_that_sam_looks_across():
    x = torch.tensor([0.5, 0.0], dtype=torch.float64)
    found = scan(Ring(), ascent_line(Ring(), x, rho=1.5), rho=1.5, steps=61)
    assert float(found.loss.sel(first=0.5, method="nearest")) == pytest.approx(0.25)  # the maximizer, half a step on
    assert float(found.loss.sel(first=1.5, method="nearest")) == pytest.approx(0.0, abs=1e-12)
    assert found.attrs["kind"] == "line"


# --- what other tools get wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 5, 21, 41])
def test_the_centre_of_the_grid_is_the_point_itself_and_no_row_is_shifted(steps):
    f = objective()
    x = f.flat_parameters()
    at = random_plane(f, x)
    found = scan(f, at, steps=steps, at_once=1)
    assert float(found.loss.sel(first=0.0, second=0.0)) == float(f(x))  # bit for bit
    f_linear = TorchFunction(lambda x: x[0] + 100 * x[1], 2)  # every row the same but for a constant
    ramp = scan(f_linear, plane(ORIGIN, directions=AXES), steps=(5, 4)).loss.values
    assert np.allclose(ramp - ramp[:, :1], np.linspace(-1, 1, 5) + 1)
    assert np.allclose(ramp[:, 0], -1 + 100 * np.linspace(-1, 1, 4))


def test_a_grid_that_is_not_square_keeps_rows_and_columns_apart():
    f = TorchFunction(lambda x: x[0] + 100 * x[1], 2)
    found = scan(f, plane(ORIGIN, directions=AXES, spans=((0.0, 3.0), (0.0, 5.0))), steps=(4, 6))
    assert found.loss.dims == ("second", "first")
    assert found.loss.values.tolist() == [[a + 100.0 * b for a in range(4)] for b in range(6)]


def test_random_directions_are_orthogonal_and_the_slice_says_how_much():
    f = objective()
    found = scan(f, random_plane(f, f.flat_parameters()), steps=2)
    assert abs(found.attrs["cosine_of_directions"]) < 1e-12


class Watched(nn.Module):
    """A network with batch norm, dropout and a buffer that every forward pass would change."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.layers(x)


def test_the_model_stays_as_it_is_in_every_bit_and_so_do_its_views_and_the_random_numbers():
    net = Watched().double()
    net(examples()[0][0])  # running statistics that are not those of a new layer
    net.eval()
    net.layers[2].train()  # a mode of its own
    next(net.parameters()).grad = torch.ones(8, 6, dtype=torch.float64)
    alias = net.layers[0].weight.data
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    random_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    f = Objective(net, nn.CrossEntropyLoss(), examples())
    scan(f, random_plane(f, f.flat_parameters()), rho=0.5, steps=3, at_once=2)
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert alias.data_ptr() == net.layers[0].weight.data_ptr()
    assert torch.equal(next(net.parameters()).grad, torch.ones(8, 6, dtype=torch.float64))
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert net.calls == 1


def test_batch_norm_buffers_are_not_perturbed_so_that_no_variance_turns_negative():
    net = Watched().double().eval()
    with torch.no_grad():
        net.layers[1].running_var.fill_(1e-3)  # a random direction of the usual size would make some negative
    f = Objective(net, nn.CrossEntropyLoss(), examples())
    found = scan(f, random_plane(f, f.flat_parameters(), spans=(-3.0, 3.0)), rho=0.5, steps=5)
    assert bool(np.isfinite(found.loss).all())
    assert "running statistics" in found.attrs["batch_norm"]
    with torch.no_grad():
        expected = nn.functional.cross_entropy(net(torch.cat([x for x, _ in examples()])), torch.arange(20) % 3)
    assert float(found.loss.sel(first=0, second=0)) == pytest.approx(float(expected), rel=1e-12)


def test_no_noise_is_added_and_a_gap_stays_a_gap():
    f = TorchFunction(lambda x: torch.log(x.sum()) + 0 * x[1], 2)  # NaN where the sum is negative, −∞ where it is 0
    found = scan(f, plane(ORIGIN, directions=AXES), rho=0.1, steps=5)
    total = found.first + found.second
    assert bool((found.loss.isnull() == (total < 1e-12)).all())
    assert np.allclose(found.loss.where(total > 1e-12), np.log(total.where(total > 1e-12)), equal_nan=True)
    gaps = int((found.loss.isnull() | found.loss_sam.isnull()).sum())
    assert found.attrs["note"] == f"{gaps} of 25 grid points have no finite loss: they are gaps"
    constant = scan(Quadratic([0.0, 0.0]), plane(ORIGIN, directions=AXES), steps=4).loss
    assert float(constant.max()) == float(constant.min()) == 0.0


# --- what a slice says of itself -----------------------------------------------------------------------------------


def test_marks_tell_their_distance_and_their_true_loss_beside_the_planes():
    f = Quadratic([2.0, 2.0, 2.0])
    origin = torch.zeros(3, dtype=torch.float64)
    axes = tuple(torch.eye(3, dtype=torch.float64)[:2])
    off, run = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.1]])
    marks = [Mark("x_h", "hallucinated", off), Mark("SAM", "path", run)]
    found = scan(f, plane(origin, directions=axes), rho=1.0, steps=2, marks=marks)
    table = found.drop_dims(["first", "second", "axis"]).to_dataframe()
    assert table.mark_name.tolist() == ["minimizer", "x_h", "SAM", "SAM", "SAM"]
    assert table.mark_kind.tolist() == ["minimizer", "hallucinated", "path", "path", "path"]
    assert table.mark_distance.tolist() == pytest.approx([0.0, 2.0, 0.0, 0.5, 0.1])
    assert table.mark_first.tolist() == pytest.approx([0.0, 1.0, 0.0, 0.0, 0.0])
    assert table.mark_loss.tolist() == pytest.approx([0.0, 5.0, 1.0, 0.5, 0.01])
    assert table.mark_loss_on_slice.tolist() == pytest.approx([0.0, 1.0, 1.0, 0.25, 0.0])
    assert float(table.mark_loss_sam[1]) == pytest.approx((5.0**0.5 + 1) ** 2)


def test_a_plane_of_a_trajectory_says_what_it_explains_and_a_slice_what_it_was_made_of():
    f = objective()
    walk = torch.randn(6, f.dim, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = scan(f, trajectory_plane(walk), rho=0.1, steps=2, variant="unnormalized")
    assert found.attrs["explained_variance"] == pytest.approx(trajectory_plane(walk).explained)
    assert sum(found.attrs["explained_variance"]) < 0.9
    assert found.attrs["batch_norm"] == "none in the model"
    assert (found.attrs["examples"], found.attrs["rho"], found.attrs["variant"]) == (20, 0.1, "unnormalized")
    assert found.loss.attrs["units"] == "loss"
    assert "variance" in found.first.attrs["long_name"]


def test_a_fixed_subset_is_the_first_examples_every_time():
    x, y = (torch.cat(parts) for parts in zip(*examples(), strict=True))
    part = objective().subset(9)
    assert part.examples == 9
    expected = nn.functional.cross_entropy(model()(x[:9]), y[:9]).item()
    assert float(part(part.flat_parameters())) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="from 1 to 20; got 21"):
        objective().subset(21)


# --- going on after an interruption --------------------------------------------------------------------------------


class Breaks(Exception):
    pass


class Breaking(Quadratic):
    """A quadratic that fails at its n-th call, and counts its calls."""

    calls = 0
    most = 10**9

    def value_and_grad(self, x):
        self.calls += 1
        if self.calls > self.most:
            raise Breaks
        return super().value_and_grad(x)


def test_an_interrupted_scan_goes_on_and_ends_in_the_same_bits(tmp_path):
    at, out = plane(ORIGIN, directions=AXES), tmp_path / "slice.nc"
    whole = scan(Quadratic([4.0, 1.0]), at, rho=0.5, steps=6, at_once=4)
    f = Breaking([4.0, 1.0])
    f.most = 7
    with pytest.raises(Breaks):
        scan(f, at, rho=0.5, steps=6, at_once=4, out=out)
    f.calls, f.most = 0, 10**9
    found = scan(f, at, rho=0.5, steps=6, at_once=4, out=out)
    assert 2 < f.calls < 2 * 36 / 4  # fewer than from the start
    xr.testing.assert_identical(found, whole)
    f.calls = 0
    again = scan(f, at, rho=0.5, steps=6, at_once=4, out=out)
    assert f.calls == 2  # f^SAM at its mark and the mark's foot: no grid point
    xr.testing.assert_identical(again, whole)
    with xr.open_dataset(out, engine="h5netcdf") as stored:
        assert np.array_equal(stored.loss_sam.values, whole.loss_sam.values)
        assert stored.loss.attrs["long_name"] == "f"


def test_a_file_of_another_scan_is_not_overwritten(tmp_path):
    at, out = plane(ORIGIN, directions=AXES), tmp_path / "slice.nc"
    scan(Quadratic([4.0, 1.0]), at, rho=0.5, steps=3, out=out)
    for f, rho in ((Quadratic([4.0, 1.0]), 0.6), (Quadratic([4.0, 1.1], [0.1, 0.2]), 0.5)):
        with pytest.raises(UserError, match="holds another slice"):
            scan(f, at, rho=rho, steps=3, out=out)
    out.write_text("no NetCDF")
    with pytest.raises(UserError, match="cannot be read"):
        scan(Quadratic([4.0, 1.0]), at, rho=0.5, steps=3, out=out)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": 1}, "steps must be"),
        ({"steps": (3, 3, 3)}, "steps must be"),
        ({"rho": -1.0}, "rho must be"),
        ({"rho": None, "fields": "all"}, "needs a radius"),
        ({"fields": "everything"}, "fields must be one of"),
        ({"memory_gb": 0.0}, "memory_gb must be"),
        ({"memory_gb": 1e-6, "steps": 100}, r"a grid of 100 × 100 points needs .* take fewer steps"),
        ({"memory_gb": 1e-9, "steps": 2}, "needs"),
        ({"at_once": 0}, "at_once must be"),
    ],
)
def test_what_cannot_be_scanned_is_refused_in_one_sentence(arguments, said):
    with pytest.raises(ValueError, match=said) as caught:
        scan(Ring(), plane(ORIGIN, directions=AXES), **{"rho": 0.5, "steps": 3, **arguments})
    assert "\n" not in str(caught.value)


def test_a_vector_beyond_the_budget_is_refused():
    long = torch.zeros(1000, dtype=torch.float64)
    at = plane(long, directions=tuple(torch.eye(1000, dtype=torch.float64)[:2]))
    with pytest.raises(ValueError, match="one grid point needs"):
        scan(Quadratic([1.0] * 1000), at, steps=2, memory_gb=1e-5)


def test_marks_that_fit_no_plane_are_refused():
    at = plane(ORIGIN, directions=AXES)
    with pytest.raises(ValueError, match="the mark 'a' must be like origin, 2 numbers"):
        scan(Ring(), at, rho=0.5, steps=2, marks=[Mark("a", "point", torch.zeros(3))])
    with pytest.raises(ValueError, match="kind must be one of minimizer"):
        Mark("a", "summit", torch.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(d,\) or \(n, d\)"):
        Mark("a", "point", torch.zeros(0))


def test_no_data_is_refused():
    with pytest.raises(ValueError, match="holds no examples"):
        Objective(model(), nn.CrossEntropyLoss(), [])

"""Half precision: random rounding without bias, and autocast."""

import math

import pytest
import torch

from samirage import SAM
from samirage.optim.half_precision import round_at_random
from tests.optim.problems import Cubic, take

HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("value", [1.001, -1.001, 0.99999, -3.3, 300.7, 1e-3, 3e-7])  # 3e-7: subnormal in float16
def test_rounding_goes_to_a_neighbour_and_is_right_on_average(dtype, value):
    n = 40_000
    exact = torch.full((n,), value)
    rounded = round_at_random(exact, dtype, torch.Generator().manual_seed(1)).double()
    nearest = exact.to(dtype).double()[0]
    values = rounded.unique()
    assert len(values) == 2
    low, high = values.tolist()
    assert low < exact[0].item() < high
    assert nearest.item() in (low, high)
    fraction = (exact[0].item() - low) / (high - low)
    spread = (high - low) * math.sqrt(fraction * (1 - fraction) / n)
    # Four standard errors, and the noise's own resolution of 2^-13 of a spacing.
    assert abs(rounded.mean().item() - exact[0].item()) < 4 * spread + 2**-13 * (high - low)


@pytest.mark.parametrize("dtype", HALF)
def test_rounding_keeps_what_the_dtype_holds(dtype):
    generator = torch.Generator().manual_seed(1)
    held = torch.cat([torch.randn(1000, generator=generator), torch.tensor([0.0, 1.0, -2.0, 0.5])]).to(dtype)
    assert torch.equal(round_at_random(held.float(), dtype, generator), held)


class Narrow:
    """A linear loss with a gradient that stays the same, over weights too coarse for the perturbation."""

    def __init__(self, dtype, rho, n=50_000, **options):
        generator = torch.Generator().manual_seed(4)
        self.weight = torch.nn.Parameter((0.5 * torch.randn(n, generator=generator)).to(dtype))
        self.direction = torch.randn(n, generator=generator).to(dtype)
        self.optimizer = SAM(torch.optim.SGD([self.weight], lr=0.0), rho=rho, **options)
        g = self.direction.double()
        self.intended = rho * g / g.norm()

    def backward(self):
        (self.weight * self.direction).sum().backward()

    def displacement(self):
        """Make a step, and return what the second pass saw."""
        home = self.weight.detach().double()
        self.optimizer.zero_grad()
        self.backward()
        with self.optimizer.perturbed():
            seen = self.weight.detach().double() - home
            self.backward()
        self.optimizer.step()
        return seen


@pytest.mark.parametrize(("dtype", "rho"), [(torch.bfloat16, 0.15), (torch.float16, 0.02)])
def test_the_perturbation_of_half_precision_weights_is_right_on_average(dtype, rho):
    problem = Narrow(dtype, rho)
    home = problem.weight.detach().clone()
    nearest = (home.double() + problem.intended).to(dtype).double() - home.double()
    share = nearest @ problem.intended / rho**2
    assert share < 0.8  # rounding to nearest loses much of it
    seen = [problem.displacement()]
    record = problem.optimizer.record
    assert record.radius.item() == pytest.approx(seen[0].norm().item(), rel=1e-4)
    cosine = torch.cosine_similarity(seen[0], problem.intended, dim=0).item()
    assert record.alignment.item() == pytest.approx(cosine, rel=1e-4)
    seen += [problem.displacement() for _ in range(29)]
    assert not torch.equal(seen[0], seen[1])
    shares = torch.stack(seen) @ problem.intended / rho**2
    # The share has mean 1; its spread over the 30 steps gives the standard error.
    assert abs(shares.mean() - 1) < 4 * shares.std() / math.sqrt(30)
    assert shares.std() / math.sqrt(30) < 0.02
    # The gradient is constant, so cos(g, g⁺) = 1 and s = ‖g‖; the estimates carry the same noise.
    g = problem.direction.double().norm().item()
    assert problem.optimizer.record.cosine.item() == pytest.approx(1, abs=4 * shares.std().item())
    assert problem.optimizer.record.slope_plus.item() == pytest.approx(g, rel=4 * shares.std().item())
    assert torch.equal(problem.weight, home)


def test_random_rounding_leaves_the_random_numbers_of_the_user_alone_and_repeats_itself():
    displacements = []
    for _ in range(2):
        problem = Narrow(torch.bfloat16, 5.0)
        torch.manual_seed(3)
        displacements.append(problem.displacement())
        after = torch.rand(3)
        torch.manual_seed(3)
        assert torch.equal(after, torch.rand(3))
    assert torch.equal(*displacements)


def test_one_warning_where_rounding_hides_the_perturbation():
    problem = Narrow(torch.bfloat16, 0.03)
    with pytest.warns(UserWarning, match="rounding the weights to half precision hides the perturbation: its length"):
        problem.displacement()
    assert problem.optimizer.record.alignment < 0.5
    for _ in range(3):
        problem.displacement()


def test_no_warning_where_the_perturbation_survives():
    problem = Narrow(torch.bfloat16, 20.0)
    for _ in range(3):
        problem.displacement()
    assert problem.optimizer.record.alignment > 0.99
    assert problem.optimizer.record.radius.item() == pytest.approx(20, rel=0.01)


def test_alignment_is_not_measured_in_full_precision():
    problem = Cubic()
    optimizer = SAM(torch.optim.SGD(problem.groups(), lr=0.1), rho=0.7)
    take("closure", optimizer, problem)
    assert optimizer.record.alignment.isnan()


@pytest.mark.parametrize("variant", ["sam", "asam", "unnormalized"])
@pytest.mark.parametrize("size", [1e-6, 1.0])
def test_fp16_gradients_near_the_end_of_their_range(variant, size):
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 1.5], dtype=torch.float16))
    direction = torch.tensor([1.0, 2.0, -1.0, 0.5]) * size
    rho = 0.5 / size if variant == "unnormalized" else 0.5
    optimizer = SAM(torch.optim.SGD([w], lr=0.0), rho=rho, variant=variant)
    g, x = direction.half().double(), w.detach().double()
    e = {"sam": rho * g / g.norm(), "asam": rho * x**2 * g / (x * g).norm(), "unnormalized": rho * g}[variant]
    w.grad = direction.half()
    with optimizer.perturbed():
        seen = w.detach().double() - x
        w.grad = direction.half()
    optimizer.step()
    assert (seen - e).abs().max() < 2**-9  # a spacing of float16 around 2
    assert optimizer.record.cosine.item() == pytest.approx(1, abs=0.01)
    assert optimizer.record.grad_norm.item() == pytest.approx(g.norm().item(), rel=1e-6)


@pytest.mark.parametrize("style", ["closure", "perturbed"])
def test_an_autocast_block_around_the_whole_step_sees_the_perturbed_weights(style):
    # autocast caches its casts of the weights until the block ends, so pass 2 would see those of pass 1.
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 4)
    x = torch.randn(16, 8)
    optimizer = SAM(torch.optim.SGD(layer.parameters(), lr=0.0), rho=5.0)
    losses = []

    class Problem:
        def backward(self):
            loss = layer(x).float().square().mean()
            losses.append(loss.item())
            loss.backward()
            return loss

        def closure(self, optimizer):
            def closure():
                optimizer.zero_grad()
                return self.backward()

            return closure

    with torch.autocast("cpu", torch.bfloat16):
        take(style, optimizer, Problem())
        Problem().backward()
    at_x, at_x_plus, back = losses
    assert at_x_plus > 2 * at_x
    assert back == at_x
    assert optimizer.record.shift_ratio > 1.2


@pytest.mark.parametrize("seed", [0, 1])
def test_rounding_does_not_use_the_random_numbers_that_made_the_weights(seed):
    # With one seed for both, the first rounding shared the numbers of the initialisation, and e was nearly three times
    # as long along g as it should be.
    torch.manual_seed(seed)
    weight = torch.empty(200_000).uniform_(-0.5, 0.5).bfloat16().requires_grad_()
    optimizer = SAM(torch.optim.SGD([weight], lr=0.0), rho=0.2)
    home, along = weight.detach().double(), []
    for _ in range(2):
        optimizer.zero_grad()
        weight.float().abs().sum().backward()
        direction = weight.grad.double() / weight.grad.double().norm()
        with optimizer.perturbed():
            along.append(((weight.detach().double() - home) @ direction).item() / 0.2)
            weight.float().abs().sum().backward()
        optimizer.step()
    # The standard error is about sqrt(rho·spacing)/(rho·n^(1/4)) = 0.01.
    assert along == pytest.approx([1.0, 1.0], abs=0.05)

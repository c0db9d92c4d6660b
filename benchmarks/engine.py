"""The ensemble engine against the speed limit of the hardware, and against a loop over seeds.

The task is SAM, full batch, 784-32-10 tanh network, float32. The loop trains one network after another with
pytorch-optimizer's SAM around SGD, as one would without the engine. Both see the same images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from pytorch_optimizer import SAM as PeerSAM
from torch import Tensor, nn

from benchmarks.timing import medians_in_turn
from samirage.lab.data.datasets import load
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.models import MLP, softmax_squared
from samirage.lab.engine.stacked import MLPStack, ModuleStack

SEEDS = 80
LOOP_SEEDS = 4  # the loop takes as long for every seed, so a few suffice
WIDTHS = (784, 32, 10)
RHO, LR = 0.5, 1.0
GEMM_SIZE = 4096


@dataclass(frozen=True)
class EngineResult:
    """What one run measured.

    Attributes:
        images: Training images.
        gemm_gflop_per_s: Rate of a large float32 matrix product on the same threads.
        wide_gflop_per_s: Rate of the engine's MLP path: operations executed in its matrix products, by total time.
        general_gflop_per_s: Rate of its path for any module, likewise; None where it was not measured.
        engine_seconds: Time of the MLP path per seed and SAM step.
        loop_seconds: Time of the loop per seed and SAM step.
    """

    images: int
    gemm_gflop_per_s: float
    wide_gflop_per_s: float
    general_gflop_per_s: float | None
    engine_seconds: float
    loop_seconds: float


def images_and_labels(count: int) -> tuple[Tensor, Tensor]:
    """Return so many MNIST digits as rows; those of `mnist-mini`, repeated where they do not suffice."""
    digits = load("mnist-mini")
    x = torch.tensor(digits.train_images.reshape(len(digits.train_images), -1), dtype=torch.float32) / 255
    labels = torch.tensor(digits.train_labels)
    repeats = -(-count // len(x))
    return x.repeat(repeats, 1)[:count].contiguous(), labels.repeat(repeats)[:count].contiguous()


def networks(count: int) -> list[nn.Module]:
    """Return so many freshly initialised networks."""
    torch.manual_seed(0)
    return [MLP(WIDTHS) for _ in range(count)]


def loop(x: Tensor, labels: Tensor, steps: int) -> Callable[[], None]:
    """Return a function that takes some SAM steps with one network after another."""
    modules = networks(LOOP_SEEDS)
    optimizers = [PeerSAM(module.parameters(), torch.optim.SGD, rho=RHO, lr=LR) for module in modules]

    def task() -> None:
        for module, optimizer in zip(modules, optimizers, strict=True):
            for _ in range(steps):
                torch.autograd.backward(softmax_squared(module(x), labels))
                optimizer.first_step(zero_grad=True)
                torch.autograd.backward(softmax_squared(module(x), labels))
                optimizer.second_step(zero_grad=True)

    return task


def measure(images: int, *, steps: int, rounds: int, general: bool) -> EngineResult:
    """Measure engine, loop and hardware limit in one go.

    Args:
        images: Training images.
        steps: SAM steps in a row, of engine and loop alike.
        rounds: Rounds to take the median over.
        general: Whether to measure the path for any module as well.

    Returns:
        Rates and times.
    """
    x, labels = images_and_labels(images)
    wide = MLPStack(networks(SEEDS), softmax_squared, x, labels)
    recipe = Recipe(steps=steps, lr=LR, rho=RHO)
    a = torch.randn(GEMM_SIZE, GEMM_SIZE)
    product = torch.empty_like(a)
    tasks: dict[str, Callable[[], object]] = {
        "gemm": partial(torch.mm, a, a, out=product),
        "wide": partial(train, wide, recipe),
        "loop": loop(x, labels, steps),
    }
    operations = {"gemm": 2 * GEMM_SIZE**3, "wide": 2 * steps * wide.flops(images)}
    if general:
        anything = ModuleStack(networks(SEEDS), softmax_squared, x, labels)
        tasks["general"] = partial(train, anything, recipe)
        operations["general"] = 2 * steps * anything.flops(images)
    seconds = medians_in_turn(tasks, rounds=rounds)
    rate = {name: count / seconds[name] / 1e9 for name, count in operations.items()}
    return EngineResult(
        images=images,
        gemm_gflop_per_s=rate["gemm"],
        wide_gflop_per_s=rate["wide"],
        general_gflop_per_s=rate.get("general"),
        engine_seconds=seconds["wide"] / SEEDS / steps,
        loop_seconds=seconds["loop"] / LOOP_SEEDS / steps,
    )

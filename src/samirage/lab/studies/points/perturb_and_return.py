"""Knocked off a hallucinated point: does SAM come back? The protocol of Figure 3 of arXiv 2509.21818 on real networks.

A network is trained by SAM, polished, certified, perturbed, and trained on by SAM. Three perturbations are told apart:
a random one, to which a network of many parameters is nearly blind; one against the ascent direction; and one along the
way on which the shift ratio grows fastest. Plain gradient steps from the same point are the control.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from samirage.criteria import HALLUCINATED_GRAD_FRACTION, HALLUCINATED_SHIFT_RATIO
from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.models import LOSSES
from samirage.lab.engine.stacked import AbstractStack, stack
from samirage.lab.results.constants import END_FRACTION, JUDGED_BY
from samirage.lab.tasks.mnist import LEARNING_RATES, Digits
from samirage.landscape import Objective
from samirage.points import Certificate, certify, polish
from samirage.points.equation import jacobian
from samirage.sam import Status, displacement, is_at_hallucinated_point
from samirage.sam.medians import median

PERTURBATIONS: Final = ("random", "downhill", "steepest")
RETURN_STEPS: Final = 1000
_AIM: Final = 1e-6  # shift ratio at which polishing stops
_POLISHES: Final = 24
_PRODUCTS: Final = 60  # per step of polishing
_SIZES: Final = {"random": 0.01, "downhill": 0.1, "steepest": 0.1}  # of the perturbations, relative to ‖x‖
_PIECES: Final = 10  # in which the steepest perturbation follows its bending way
_POINTS: Final = 100  # of a stored curve
STATUSES: Final = tuple(Status)


@dataclass(frozen=True)
class ReturnSettings:
    """How the networks are trained and watched.

    Attributes:
        loss: Name of the loss, one of `LOSSES`.
        rho: Perturbation radius.
        steps: SAM's steps before polishing.
        return_steps: SAM's steps after the perturbation.
    """

    loss: str
    rho: float
    steps: int
    return_steps: int = RETURN_STEPS


def returns(
    digits: Digits, settings: ReturnSettings, seeds: Sequence[int], advance: Callable[[int], None]
) -> xr.Dataset:
    """Run the protocol for one network per seed.

    Args:
        digits: The data.
        settings: How to train.
        seeds: Seeds of the networks.
        advance: Called with the number of passes done since the last call.

    Returns:
        Curves of shift ratio, gradient, loss and distance from the polished point (`seed`, `perturbation`, `step`),
        those of the control without a perturbation, what the certificate says, and whether each run ended at a
        hallucinated point.
    """
    lr = LEARNING_RATES[settings.loss]
    members = digits.members(settings.loss, seeds)
    course = train(members, Recipe(steps=settings.steps, lr=lr, rho=settings.rho), lambda step, passes: advance(passes))
    # From here on in float64: 1e-5 of a gradient is near the rounding of float32.
    x, labels = digits.x.double(), digits.labels
    modules = [module.double().eval() for module in members.modules()]
    objectives = [Objective(module, LOSSES[settings.loss], [(x, labels)]) for module in modules]
    trained = [f.flat_parameters() for f in objectives]
    polished = [_polished(f, start, settings.rho) for f, start in zip(objectives, trained, strict=True)]
    certificates = [certify(f, p, settings.rho, lr) for f, p in zip(objectives, polished, strict=True)]
    starts = [
        p + _perturbation(kind, f, p, settings.rho, seed)
        for f, p, seed in zip(objectives, polished, seeds, strict=True)
        for kind in PERTURBATIONS
    ]
    shape = (len(seeds), len(PERTURBATIONS))
    towards = [p for p in polished for _ in PERTURBATIONS]
    recipe = Recipe(steps=settings.return_steps, lr=lr, rho=settings.rho)
    data = _followed(stack(_at(modules, objectives, starts, len(PERTURBATIONS)), LOSSES[settings.loss], x, labels),
                     recipe, towards, advance)  # fmt: skip
    plain = Recipe(steps=settings.return_steps, lr=lr)
    control = _followed(stack(_at(modules, objectives, polished, 1), LOSSES[settings.loss], x, labels),
                        plain, polished, advance)  # fmt: skip
    early = median(course["grad_norm"][: max(1, round(END_FRACTION * settings.steps))]).double()
    window = max(1, round(END_FRACTION * settings.return_steps))
    ended = is_at_hallucinated_point(
        median(data["shift_ratio"][-window:]),
        median(data["grad_norm"][-window:]),
        early.repeat_interleave(len(PERTURBATIONS)),
        max_shift_ratio=HALLUCINATED_SHIFT_RATIO,
        min_grad_fraction=HALLUCINATED_GRAD_FRACTION,
    )
    stride = -(-settings.return_steps // _POINTS)
    kept = [*range(0, settings.return_steps, stride)]
    kept += [settings.return_steps - 1] if kept[-1] != settings.return_steps - 1 else []
    results: dict[str, tuple[Any, ...]] = {
        name: (("seed", "perturbation", "step"), _numpy(data[name][kept].T.reshape(*shape, -1).float()))
        for name in ("shift_ratio", "grad_norm", "loss", "distance")
    }
    results |= {
        f"control_{name}": (("seed", "step"), _numpy(control[name][kept].T.float()))
        for name in ("loss", "distance", "grad_norm")
    }
    results |= {
        "back": (("seed", "perturbation"), _numpy(ended.reshape(shape)), dict(JUDGED_BY)),
        "trained_shift_ratio": ("seed", _numpy(course["shift_ratio"][-1])),
        "polish_distance": ("seed", np.array([float((p - t).norm()) for p, t in zip(polished, trained, strict=True)])),
        "size": ("seed", np.array([float(p.norm()) for p in polished])),
        **_certified(certificates),
    }
    return xr.Dataset(
        results,
        coords={"seed": np.array(seeds), "perturbation": np.array(PERTURBATIONS, dtype=object), "step": np.array(kept)},
        attrs={
            "loss_name": settings.loss,
            "rho": settings.rho,
            "lr": lr,
            "parameters": objectives[0].dim,
            "statuses": [status.value for status in STATUSES],
        },
    )


def _polished(f: Objective, x: Tensor, rho: float) -> Tensor:
    """Polish step by step, no further than asked: beyond, a plateau only grows flatter."""
    for _ in range(_POLISHES):
        if _shift_ratio(f, x, rho) <= _AIM:
            break
        x = polish(f, x, rho, tolerance=0.0, max_steps=1, max_products=_PRODUCTS).x
    return x


def _shift_ratio(f: Objective, x: Tensor, rho: float) -> float:
    grad = f.grad(x)
    return float(f.grad(x + displacement(x, grad, rho)).norm() / grad.norm())


def _perturbation(kind: str, f: Objective, x: Tensor, rho: float, seed: int) -> Tensor:
    length = _SIZES[kind] * float(x.norm())
    if kind == "random":
        v: Tensor = torch.randn(f.dim, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
        return length / float(v.norm()) * v
    if kind == "downhill":
        grad = f.grad(x)
        return -length / float(grad.norm()) * grad
    y = x
    for _ in range(_PIECES):
        linear, grad_plus = jacobian(f, y, rho)
        steepest = linear.update_transpose(grad_plus)
        y = y + length / _PIECES * steepest / steepest.norm()
    return y - x


def _at(
    modules: Sequence[nn.Module], objectives: Sequence[Objective], points: Sequence[Tensor], each: int
) -> list[nn.Module]:
    """The networks with other parameters: `each` points to a network, one after the other."""
    made = []
    for i, point in enumerate(points):
        module = deepcopy(modules[i // each])
        module.load_state_dict(objectives[i // each].unflatten(point), strict=False)
        made.append(module)
    return made


def _followed(
    members: AbstractStack, recipe: Recipe, towards: Sequence[Tensor], advance: Callable[[int], None]
) -> dict[str, Tensor]:
    """Train, and note how far each member is from a point before each step."""
    goal = torch.stack(list(towards))
    distances = []

    def measure() -> None:
        flat = torch.stack([torch.cat([p.reshape(-1) for p in state.values()]) for state in members.states()])
        distances.append((flat - goal).norm(dim=1))

    def after_step(step: int, passes: int) -> None:
        if step + 1 < recipe.steps:
            measure()
        advance(passes)

    measure()
    course = train(members, recipe, after_step)
    return {**course, "distance": torch.stack(distances)}


def _certified(certificates: Sequence[Certificate]) -> dict[str, tuple[str, NDArray[Any]]]:
    def column(read: Callable[[Certificate], float]) -> tuple[str, NDArray[Any]]:
        return "seed", np.array([read(c) for c in certificates])

    return {
        "polished_shift_ratio": column(lambda c: c.shift_ratio),
        "certified_grad_norm": column(lambda c: c.grad_norm),
        "certified_loss": column(lambda c: c.loss),
        "certified_loss_plus": column(lambda c: c.loss_plus),
        "kind": ("seed", np.array([STATUSES.index(c.kind) for c in certificates], dtype=np.int8)),
        "attractor": column(lambda c: np.nan if c.attractor is None else float(c.attractor)),
        "largest_mu": column(lambda c: float(c.mu.abs()[0])),
        "lowest_curvature_plus": column(lambda c: c.hessian_plus_ends[0]),
        "highest_curvature_plus": column(lambda c: c.hessian_plus_ends[1]),
        "certificate_residual": column(lambda c: c.residual),
    }


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()

"""Proofs of hallucinated points, each with claims that are wrong beside it: what is true is proved, the rest is not."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from samirage.lab.engine.ensemble import Recipe, train
from samirage.lab.engine.functions import Particles
from samirage.lab.studies.points.small_networks import digit_network, find_point
from samirage.landscape import BumpOnBowl, DoubleWell, Moat, MultiWell, Ring
from samirage.points import Proof, check_record, find_hallucinated, prove

_OFF: Final = 1e-3  # distance of the shifted point: far more than any box is wide
_WRONG_RADIUS: Final = 1 + 1e-6
_UNSTABLE: Final = 1.02  # by the largest stable learning rate
_STABLE: Final = 0.5
_STEPS: Final = range(0, 1001, 10)
_PERTURBATION: Final = 0.01  # relative to rho

# Name -> function, radius, learning rate at which attraction is proved (None: it repels, or belongs to a manifold).
ANALYTIC: Final[dict[str, tuple[Callable[[], Any], float, float | None]]] = {
    "double-well": (DoubleWell, 1.5, 0.1),
    "ring": (Ring, 1.5, 0.1),
    "multi-well": (MultiWell, 1.5, 0.05),
    "bump-on-bowl": (BumpOnBowl, 1.9, None),
    "moat": (Moat, 1.5, None),
}


@dataclass(frozen=True)
class Subject:
    """What a proof is about.

    Attributes:
        f: The function.
        x: A hallucinated point, polished, shape (d,); None if none was found.
        rho: Its radius.
        lr: Learning rate at which attraction is to be proved; None where it is not.
        unstable_lr: One at which SAM is repelled; None where it is not asked.
        saddle: A hallucinated point at the same radius that sees a saddle; None where none is known.
        find_seconds: Time that it took to find it.
    """

    f: Any
    x: Tensor | None
    rho: float
    lr: float | None
    unstable_lr: float | None
    saddle: Tensor | None
    find_seconds: float


def analytic_subject(name: str) -> Subject:
    """Return the point of an analytic function that is proved.

    Args:
        name: One of `ANALYTIC`.

    Returns:
        The subject, with a point that was found.
    """
    make, rho, lr = ANALYTIC[name]
    f = make()
    begun = perf_counter()
    point = find_hallucinated(f, f.minimizers[0], rho=rho, methods=["superlevel", "sphere"])[0]
    seconds = perf_counter() - begun
    unstable = _UNSTABLE * point.max_stable_lr if lr is not None and point.max_stable_lr else None
    sees_saddle = [p for s in f.saddles[:1] for p in find_hallucinated(f, s, rho=rho, methods=["sphere"])]
    return Subject(f, point.x, rho, lr, unstable, sees_saddle[0].x if sees_saddle else None, seconds)


def network_subject(*, side: int, hidden: int, images: int) -> Subject:
    """Return the point of a small network that is proved, at half its largest stable learning rate if it attracts.

    Args:
        side: The images are reduced to `side·side` pixels.
        hidden: Width of the hidden layer.
        images: Number of images.

    Returns:
        The subject; without a point where SAM came to none.
    """
    begun = perf_counter()
    found = find_point(digit_network(side=side, hidden=hidden, images=images))
    seconds = perf_counter() - begun
    point = found.point
    stable = 0.0 if point is None else point.max_stable_lr or 0.0
    lr, unstable = (_STABLE * stable, _UNSTABLE * stable) if stable > 0 else (None, None)
    return Subject(found.f, None if point is None else point.x, found.rho, lr, unstable, None, seconds)


def prove_and_plant(subject: Subject) -> xr.Dataset:
    """Prove what is true of a point, let the checker confirm it, and try to prove what is wrong.

    Args:
        subject: The point.

    Returns:
        Of the proof: whether it succeeded and was confirmed, its bounds, its times; and for each wrong claim
        (dimension `planted`) whether it was "proved"; and (dimension `step`) how far SAM is from the point after it was
        perturbed by a hundredth of `rho`, and its shift ratio: NaN where attraction was not asked for.
    """
    f, x, rho = subject.f, subject.x, subject.rho
    results: dict[str, Any] = {
        "parameters": f.dim,
        "found": x is not None,
        "find_seconds": subject.find_seconds,
        "proved": False,
        "attraction_proved": False,
        "confirmed": False,
        "prove_seconds": np.nan,
        "check_seconds": np.nan,
        "half_width": np.nan,
        "grad_norm_above": np.nan,
        "curvature_above": np.nan,
        "contraction": np.nan,
        "basin_radius": np.nan,
    }
    statement, planted = "", {}
    course = np.full((2, len(_STEPS)), np.nan)
    if x is not None:
        begun = perf_counter()
        proof = prove(f, x, rho, lr=subject.lr)
        results["prove_seconds"] = perf_counter() - begun
        results |= _figures(proof)
        statement = str(proof)
        if proof.proved:
            begun = perf_counter()
            check = check_record(proof.record("the subject"), make=lambda name, arguments: f)
            results["check_seconds"] = perf_counter() - begun
            results["confirmed"] = check.confirmed
        planted = _planted(subject)
        course = _return(subject)
    data: dict[str, Any] = {
        **results,
        "planted_proved": ("planted", np.array(list(planted.values()), dtype=bool)),
        "distance": ("step", course[0]),
        "shift_ratio": ("step", course[1]),
    }
    attributes = {
        "function": type(f).__name__,
        "rho": rho,
        "lr": np.nan if subject.lr is None else subject.lr,
        "size": np.nan if x is None else float(x.norm()),
        "statement": statement,
    }
    return xr.Dataset(
        data, coords={"planted": np.array(list(planted), dtype=object), "step": np.array(_STEPS)}, attrs=attributes
    )


def _figures(proof: Proof) -> dict[str, Any]:
    attraction = proof.attraction
    return {
        "proved": proof.proved,
        "attraction_proved": attraction is not None,
        "half_width": float((proof.box[:, 1] - proof.box[:, 0]).max() / 2),
        "grad_norm_above": np.nan if proof.grad_norm is None else proof.grad_norm[0],
        "curvature_above": np.nan if proof.min_curvature is None else proof.min_curvature,
        "contraction": np.nan if attraction is None else attraction.factor,
        "basin_radius": np.nan if attraction is None else attraction.basin_radius,
    }


def _planted(subject: Subject) -> dict[str, bool]:
    """Try to prove what is wrong: name of the wrong claim -> whether it was proved."""
    f, x, rho = subject.f, subject.x, subject.rho
    assert x is not None
    direction = torch.ones_like(x) / x.numel() ** 0.5
    tried = {
        "wrong radius": prove(f, x, rho * _WRONG_RADIUS).proved,
        "shifted point": prove(f, x + _OFF * direction, rho).proved,
    }
    if subject.saddle is not None:
        tried["indefinite H⁺"] = prove(f, subject.saddle, rho).proved
    if subject.unstable_lr is not None:
        tried["attraction beyond the stable lr"] = prove(f, x, rho, lr=subject.unstable_lr).proved
    return tried


def _return(subject: Subject) -> NDArray[np.float64]:
    """Run SAM from beside the point; distance and shift ratio at every `_STEPS`."""
    f, x, rho, lr = subject.f, subject.x, subject.rho, subject.lr
    assert x is not None
    if lr is None:
        return np.full((2, len(_STEPS)), np.nan)
    v = torch.randn(f.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    beside = Particles(f, (x + _PERTURBATION * rho * v / v.norm())[None])
    distance = [float((beside.params[0][0] - x).norm())]

    def after_step(step: int, passes: int) -> None:
        distance.append(float((beside.params[0][0] - x).norm()))

    course = train(beside, Recipe(steps=_STEPS[-1] + 1, lr=lr, rho=rho), after_step)
    return np.array([distance[:: _STEPS.step], course["shift_ratio"][:: _STEPS.step, 0].tolist()])

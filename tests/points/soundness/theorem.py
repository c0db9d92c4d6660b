"""What a proof, a record or a printed sentence claims, as one kind of data that the oracle can judge."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from soundness.exact import mp, norm, vector

RECORD_KEYS: Final = {
    "format",
    "statement",
    "function",
    "arguments",
    "rho",
    "reduction",
    "free",
    "centre",
    "half_width",
    "grad_norm_above",
    "min_curvature",
    "attraction",
}
REDUCTIONS: Final = ("none", "rotation", "least squares")


class NoTheorem(ValueError):
    """What was read says nothing that could be true."""


@dataclass(frozen=True)
class Attracts:
    """SAM with `lr` converges from within `basin`; in some norm each step contracts by `factor`, all over a box."""

    lr: float
    basin: float
    factor: float | None
    half_width: float | None
    spectral: float | None


@dataclass(frozen=True)
class Theorem:
    """One hallucinated point, or one family of them, in a box.

    `low` and `high` are the ends of the box in the free coordinates; for `"rotation"` those of the distance from 0.
    """

    reduction: str
    rho: float
    centre: list[Any]
    low: list[Any]
    high: list[Any]
    free: tuple[int, ...]
    grad_above: float
    grad_below: float | None
    min_curvature: float | None
    x_plus_box: list[tuple[float, float]] | None
    attraction: Attracts | None


def of_proof(proof: Any) -> Theorem:
    """Read the fields of a `Proof`."""
    centre = vector(proof.centre.tolist())
    free = tuple(proof.free)
    low, high = (vector(proof.box[list(free), side].tolist()) for side in (0, 1))
    if proof.reduction == "rotation":
        half = mp.mpf(float(proof.box[0, 1] - proof.box[0, 0])) / 2
        low, high = [norm(centre) - half], [norm(centre) + half]
    a = proof.attraction
    return Theorem(
        proof.reduction,
        proof.rho,
        centre,
        low,
        high,
        free,
        proof.grad_norm[0],
        proof.grad_norm[1],
        proof.min_curvature,
        None if proof.x_plus_box is None else [tuple(ends) for ends in proof.x_plus_box.tolist()],
        None if a is None else Attracts(a.lr, a.basin_radius, a.factor, a.half_width, getattr(a, "spectral", None)),
    )


def of_record(content: Mapping[str, Any], dim: int) -> Theorem:
    """Read a record as strictly as one can.

    Raises:
        NoTheorem: If a field is missing, unknown, or not of its type.
    """
    if set(content) != RECORD_KEYS:
        raise NoTheorem(f"its keys are {sorted(set(content) ^ RECORD_KEYS)} too many or too few")
    if content["format"] != "samirage-proof/1":
        raise NoTheorem("another format")
    reduction, free = content["reduction"], content["free"]
    if reduction not in REDUCTIONS:
        raise NoTheorem("another reduction")
    if not isinstance(free, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in free):
        raise NoTheorem("free is no list of whole numbers")
    if sorted(set(free)) != free or not all(0 <= i < dim for i in free):
        raise NoTheorem("free is not in order, or names no coordinate")
    if reduction != "least squares" and free != list(range(dim)):
        raise NoTheorem("free are not all coordinates")
    if not isinstance(content["centre"], list) or len(content["centre"]) != dim:
        raise NoTheorem("centre is no point")
    centre = vector([_real("centre", c) for c in content["centre"]])
    half = mp.mpf(_positive("half_width", content["half_width"]))
    low, high = [centre[i] - half for i in free], [centre[i] + half for i in free]
    if reduction == "rotation":
        low, high = [norm(centre) - half], [norm(centre) + half]
    curvature = content["min_curvature"]
    return Theorem(
        reduction,
        _positive("rho", content["rho"]),
        centre,
        low,
        high,
        tuple(free),
        _positive("grad_norm_above", content["grad_norm_above"]),
        None,
        None if curvature is None else _positive("min_curvature", curvature),
        None,
        _attracts(content["attraction"]),
    )


def _attracts(claim: Any) -> Attracts | None:
    if claim is None:
        return None
    if not isinstance(claim, dict):
        raise NoTheorem("attraction is no object")
    needed = {"lr", "factor", "half_width", "basin_radius"}
    if not (needed <= set(claim) <= needed | {"spectral"}):
        raise NoTheorem("attraction has other keys")
    values = {key: _positive(key, value) for key, value in claim.items()}
    return Attracts(
        values["lr"], values["basin_radius"], values["factor"], values["half_width"], values.get("spectral")
    )


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NoTheorem(f"{name} is no finite number: {value!r}")
    return value


def _positive(name: str, value: Any) -> float:
    if not _real(name, value) > 0:
        raise NoTheorem(f"{name} is not above 0: {value!r}")
    return value


_NUMBER = r"(\d[\d.]*(?:e[+-]?\d+)?)"
_PATTERNS: Final = {
    "rho": rf"x \+ {_NUMBER}·[gu]\(x\)",
    "half_width": rf"half-width {_NUMBER}",
    "distance": rf"in {_NUMBER} ± {_NUMBER}",
    "grad_above": rf"‖g‖ is above {_NUMBER}",
    "min_curvature": rf"(?:every eigenvalue of H⁺|the curvature along the ray) exceeds {_NUMBER}",
    "lr": rf"lr = {_NUMBER}",
    "basin": rf"within {_NUMBER}",
    "factor": rf"the distance by {_NUMBER} or",
}


def _number(text: str) -> float:
    return float(text.rstrip("."))


def of_sentence(text: str, fields: Theorem) -> Theorem:
    """Read the numbers of a sentence, each as the float that its digits read back to; the point is that of the fields.

    Raises:
        NoTheorem: If a number that the fields have is not in the sentence.
    """
    found = {key: re.search(pattern, text) for key, pattern in _PATTERNS.items()}

    def number(key: str, group: int = 1) -> float:
        match = found[key]
        if match is None:
            raise NoTheorem(f"the sentence gives no {key}")
        return _number(match[group])

    if fields.reduction == "rotation":
        middle, half = mp.mpf(number("distance")), mp.mpf(number("distance", 2))
        low, high = [middle - half], [middle + half]
    else:
        half = mp.mpf(number("half_width"))
        low, high = [fields.centre[i] - half for i in fields.free], [fields.centre[i] + half for i in fields.free]
    a = fields.attraction
    return Theorem(
        fields.reduction,
        number("rho") if found["rho"] or fields.reduction != "rotation" else fields.rho,
        fields.centre,
        low,
        high,
        fields.free,
        number("grad_above"),
        None,
        None if fields.min_curvature is None else number("min_curvature"),
        None,
        None if a is None else Attracts(number("lr"), number("basin"), number("factor"), None, None),
    )

"""What a proof, a record or a printed sentence claims, as one kind of data that the oracle can judge."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.points.soundness.exact import norm, vector

FORMAT: Final = "samirage-proof/2"
REDUCTIONS: Final = ("none", "rotation", "least squares")
_ATTRACTION_KEYS: Final = {"lr", "factor", "half_width", "basin_radius"}
_KEYS: Final = {
    *("format", "statement", "function", "arguments", "rho", "reduction", "free", "centre", "half_width"),
    *("grad_norm_above", "min_curvature", "attraction"),
}


class NoTheorem(ValueError):
    """What was read says nothing that could be true."""


@dataclass(frozen=True)
class Attracts:
    """SAM with `lr` converges from within `basin`; in some norm each step contracts by `factor`, all over a box."""

    lr: float
    basin: float
    factor: float
    half_width: float


@dataclass(frozen=True)
class Theorem:
    """One hallucinated point, or one family of them, in a box.

    `half_width` is that of the box in the free coordinates; for `"rotation"` that of a range of distances from 0.
    """

    reduction: str
    rho: float
    centre: tuple[float, ...]
    half_width: float
    free: tuple[int, ...]
    grad_above: float
    min_curvature: float | None = None
    attraction: Attracts | None = None
    grad_below: float | None = None
    x_plus_box: tuple[tuple[float, float], ...] | None = None

    @property
    def middle(self) -> list[Any]:
        """The middle of the box: the point, or for `"rotation"` its distance from 0."""
        centre = vector(self.centre)
        return [norm(centre)] if self.reduction == "rotation" else centre


def of_proof(proof: Any) -> Theorem:
    """Read the fields of a `Proof` that has a theorem."""
    told = proof.theorem
    a = told.attraction
    ends = proof.x_plus_box
    return Theorem(
        told.reduction,
        told.rho,
        told.centre,
        told.half_width,
        told.free,
        told.grad_norm_above,
        told.min_curvature,
        None if a is None else Attracts(a.lr, a.basin_radius, a.factor, a.half_width),
        proof.grad_norm[1],
        None if ends is None else tuple((low, high) for low, high in ends.tolist()),
    )


def of_record(content: Any, dim: int) -> Theorem:
    """Read a record as strictly as one can.

    Raises:
        NoTheorem: If a field is missing, unknown, or not of its type.
    """
    if not isinstance(content, dict) or set(content) != _KEYS:
        raise NoTheorem("it has not the keys of a record")
    if content["format"] != FORMAT:
        raise NoTheorem("another format")
    reduction, free, centre = content["reduction"], content["free"], content["centre"]
    if reduction not in REDUCTIONS:
        raise NoTheorem("another reduction")
    if not isinstance(free, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in free):
        raise NoTheorem("free is no list of whole numbers")
    if sorted(set(free)) != free or not free or not all(0 <= i < dim for i in free):
        raise NoTheorem("free is not in order, or names no coordinate")
    if not isinstance(centre, list) or len(centre) != dim:
        raise NoTheorem("centre is no point")
    curvature = content["min_curvature"]
    if reduction == "least squares":
        if (curvature, content["attraction"]) != (None, None):
            raise NoTheorem("curvature or attraction of a whole family")
    elif free != list(range(dim)) or curvature is None:
        raise NoTheorem("free are not all coordinates, or no curvature")
    return Theorem(
        reduction,
        _positive("rho", content["rho"]),
        tuple(_real("centre", c) for c in centre),
        _positive("half_width", content["half_width"]),
        tuple(free),
        _positive("grad_norm_above", content["grad_norm_above"]),
        None if curvature is None else _positive("min_curvature", curvature),
        _attracts(content["attraction"]),
    )


def _attracts(claim: Any) -> Attracts | None:
    if claim is None:
        return None
    if not isinstance(claim, dict) or set(claim) != _ATTRACTION_KEYS:
        raise NoTheorem("attraction is no object with its keys")
    values = {key: _positive(key, value) for key, value in claim.items()}
    return Attracts(values["lr"], values["basin_radius"], values["factor"], values["half_width"])


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NoTheorem(f"{name} is no finite number")
    return value


def _positive(name: str, value: Any) -> float:
    if not _real(name, value) > 0:
        raise NoTheorem(f"{name} is not above 0")
    return value


_NUMBER: Final = r"(-?\d[\d.]*(?:e[+-]?\d+)?)"


def _pattern(text: str) -> re.Pattern[str]:
    """Compile a sentence: `<name>` is a number, `<point>` the point, `<held>` a list, and `[…]` may be absent."""
    escaped = re.escape(text)
    escaped = escaped.replace(r"<point>", r"the given point(?: \((?P<point>[^()]*)\))?")
    escaped = escaped.replace(r"<held>", r"(?P<held>\d+(?:, \d+)*)")
    escaped = escaped.replace(r"\[", "(?:").replace(r"\]", ")?")
    return re.compile(re.sub(r"(?<!\?P)<(\w+)>", lambda m: _NUMBER.replace("(", f"(?P<{m[1]}>", 1), escaped))


_SENTENCES: Final = {
    "none": _pattern(
        "The box of half-width <half_width> about <point> holds exactly one zero of g(x + <rho>·g(x)/‖g(x)‖). In the "
        "box ‖g‖ exceeds <grad_above>[, and at the zero x⁺ is a strict minimizer of f: every eigenvalue of H⁺ exceeds "
        "<min_curvature>].[ With lr = <lr>, SAM converges to it from every start within the distance <basin> of it; in "
        "a suitable norm, each step from within the box of half-width <width> multiplies the distance from it by "
        "<factor> or less.]"
    ),
    "rotation": _pattern(
        "f depends on the distance from the origin alone, so the theorem is about that distance: within <half_width> "
        "of the distance of <point> there is exactly one t such that every x with ‖x‖ = t is a hallucinated point, a "
        "zero of g(x + <rho>·g(x)/‖g(x)‖) with g(x) ≠ 0. At all distances in that range ‖g‖ exceeds <grad_above>[, and "
        "where ‖x‖ = t, x⁺ is a minimizer of f: the second derivative of f there, along the line through the origin, "
        "exceeds <min_curvature>].[ With lr = <lr>, SAM brings ‖x‖ to t from every start at which ‖x‖ is within "
        "<basin> of t; where ‖x‖ is within <width> of the distance of the given point, each step multiplies |‖x‖ − t| "
        "by <factor> or less.]"
    ),
    "least squares": _pattern(
        "f is the sum of the squares of its residuals. In the box of half-width <half_width> about <point>[, with the "
        "coordinates <held> (counted from 0) held,] exactly one x makes all of them vanish at x⁺ = x + "
        "<rho>·g(x)/‖g(x)‖. There g⁺ = 0, and x⁺ is a global minimizer of f[, not an isolated one]. In the box ‖g‖ "
        "exceeds <grad_above>."
    ),
}


def of_sentence(text: str, fields: Theorem) -> Theorem:
    """Read a sentence, each number as the float that its digits read back to.

    Args:
        text: The sentence.
        fields: The theorem that belongs to it: tells the point, where that is too long for a sentence.

    Raises:
        NoTheorem: If it is none of the three sentences, or about another point.
    """
    matches = {reduction: pattern.fullmatch(text) for reduction, pattern in _SENTENCES.items()}
    reduction, match = next(((name, found) for name, found in matches.items() if found), ("", None))
    if match is None:
        raise NoTheorem("it is none of the known sentences")
    dim = len(fields.centre)
    try:
        number = {
            key: float(value) for key, value in match.groupdict().items() if key not in {"point", "held"} and value
        }
        point = tuple(float(part) for part in match["point"].split(", ")) if match["point"] else fields.centre
    except ValueError:
        raise NoTheorem("its numbers cannot be read") from None
    if len(point) != dim:
        raise NoTheorem("its point has other coordinates")
    held = match.groupdict().get("held")
    free = tuple(i for i in range(dim) if str(i) not in (held or "").split(", "))
    if reduction == "least squares" and ("not an isolated one" in text) != (held is not None):
        raise NoTheorem("it is isolated if and only if no coordinate is held")
    attracts = None
    if "lr" in number:
        attracts = Attracts(number["lr"], number["basin"], number["factor"], number["width"])
    return Theorem(
        reduction,
        number["rho"],
        point,
        number["half_width"],
        free,
        number["grad_above"],
        number.get("min_curvature"),
        attracts,
    )


def plain(theorem: Theorem) -> Theorem:
    """Return what a sentence or a record can say of a theorem."""
    return replace(theorem, grad_below=None, x_plus_box=None)


def as_record(theorem: Theorem, function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a theorem, but for its statement."""
    a = theorem.attraction
    return {
        "format": FORMAT,
        "statement": "",
        "function": function,
        "arguments": dict(arguments),
        "rho": theorem.rho,
        "reduction": theorem.reduction,
        "free": list(theorem.free),
        "centre": list(theorem.centre),
        "half_width": theorem.half_width,
        "grad_norm_above": theorem.grad_above,
        "min_curvature": theorem.min_curvature,
        "attraction": None
        if a is None
        else {"lr": a.lr, "factor": a.factor, "half_width": a.half_width, "basin_radius": a.basin},
    }

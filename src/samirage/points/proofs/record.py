"""What a proof states: the fields of a theorem, the sentence that they make, and the record of both as JSON text.

Prover and checker share this file and no other: it computes nothing. The sentence is a function of the fields, so that
whoever checks the fields has checked the sentence. Every number in it is written as the shortest text that reads back
to the same binary64 number.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, NoReturn

FORMAT: Final = "samirage-proof/2"

Reduction = Literal["none", "rotation", "least squares"]

_LISTED: Final = 8  # up to how many coordinates the sentence itself names; the record always holds all


@dataclass(frozen=True)
class Attraction:
    """That SAM converges to the point from everywhere near it.

    In a norm `‖v‖² = vᵀQv`, each step from a point within `half_width` of the centre (in each coordinate) multiplies
    the distance from the hallucinated point by `factor` or less. Every eigenvalue of the derivative of SAM's map at
    the hallucinated point is therefore at most `factor` in absolute value.

    Attributes:
        lr: Learning rate.
        factor: Contraction per step, below 1.
        half_width: Half-width of the box in which this holds.
        basin_radius: From within this Euclidean distance of the point, SAM converges to it.
    """

    lr: float
    factor: float
    half_width: float
    basin_radius: float


@dataclass(frozen=True)
class Theorem:
    """What is proved of a function `f` with gradient `g`; SAM looks from `x` to `x⁺ = x + rho·g/‖g‖`.

    Attributes:
        reduction: `"none"`: about one isolated point. `"rotation"`: `f` depends on `‖x‖` alone, and the theorem is
            about that distance. `"least squares"`: `f` is a sum of squares that vanish at `x⁺`, and the theorem is
            about the slice in which all coordinates but the free ones are held.
        rho: Perturbation radius.
        centre: The given point.
        half_width: Half-width of the box about it.
        free: The coordinates in which the box has a width, in order: all but for least squares.
        grad_norm_above: `‖g‖` exceeds this, above 0, all over the box.
        min_curvature: Every eigenvalue of the Hessian at `x⁺` exceeds this, above 0 (for `"rotation"`: the second
            derivative along the line through the origin); None when that is not stated.
        attraction: That SAM converges there; None when that is not stated.
    """

    reduction: Reduction
    rho: float
    centre: tuple[float, ...]
    half_width: float
    free: tuple[int, ...]
    grad_norm_above: float
    min_curvature: float | None = None
    attraction: Attraction | None = None

    @property
    def statement(self) -> str:
        """The theorem in words."""
        return _SENTENCES[self.reduction](self)


@dataclass(frozen=True)
class Record:
    """A theorem with the function that it is about.

    Attributes:
        function: Name of a built-in function, or `"module:name"`.
        arguments: What it is called with: plain data.
        statement: The sentence as it was read or is to be written.
        theorem: The fields.
    """

    function: str
    arguments: Mapping[str, Any]
    statement: str
    theorem: Theorem


# --- the sentence ------------------------------------------------------------------------------------


def _point(theorem: Theorem) -> str:
    listed = ", ".join(map(repr, theorem.centre))
    return f"the given point ({listed})" if len(theorem.centre) <= _LISTED else "the given point"


def _isolated(theorem: Theorem) -> str:
    text = (
        f"The box of half-width {theorem.half_width!r} about {_point(theorem)} holds exactly one zero of "
        f"g(x + {theorem.rho!r}·g(x)/‖g(x)‖). In the box ‖g‖ exceeds {theorem.grad_norm_above!r}"
    )
    if theorem.min_curvature is not None:
        text += (
            f", and at the zero x⁺ is a strict minimizer of f: every eigenvalue of H⁺ exceeds {theorem.min_curvature!r}"
        )
    text += "."
    if theorem.attraction is not None:
        a = theorem.attraction
        text += (
            f" With lr = {a.lr!r}, SAM converges to it from every start within the distance {a.basin_radius!r} of it; "
            f"in a suitable norm, each step from within the box of half-width {a.half_width!r} multiplies the distance "
            f"from it by {a.factor!r} or less."
        )
    return text


def _rotated(theorem: Theorem) -> str:
    text = (
        "f depends on the distance from the origin alone, so the theorem is about that distance: within "
        f"{theorem.half_width!r} of the distance of {_point(theorem)} there is exactly one t such that every x with "
        f"‖x‖ = t is a hallucinated point, a zero of g(x + {theorem.rho!r}·g(x)/‖g(x)‖) with g(x) ≠ 0. At all "
        f"distances in that range ‖g‖ exceeds {theorem.grad_norm_above!r}"
    )
    if theorem.min_curvature is not None:
        text += (
            ", and where ‖x‖ = t, x⁺ is a minimizer of f: the second derivative of f there, along the line through the "
            f"origin, exceeds {theorem.min_curvature!r}"
        )
    text += "."
    if theorem.attraction is not None:
        a = theorem.attraction
        text += (
            f" With lr = {a.lr!r}, SAM brings ‖x‖ to t from every start at which ‖x‖ is within {a.basin_radius!r} of "
            f"t; where ‖x‖ is within {a.half_width!r} of the distance of the given point, each step multiplies "
            f"|‖x‖ − t| by {a.factor!r} or less."
        )
    return text


def _sliced(theorem: Theorem) -> str:
    held = [str(i) for i in range(len(theorem.centre)) if i not in theorem.free]
    fixed = f", with the coordinates {', '.join(held)} (counted from 0) held," if held else ""
    return (
        f"f is the sum of the squares of its residuals. In the box of half-width {theorem.half_width!r} about "
        f"{_point(theorem)}{fixed} exactly one x makes all of them vanish at x⁺ = x + {theorem.rho!r}·g(x)/‖g(x)‖. "
        f"There g⁺ = 0, and x⁺ is a global minimizer of f{', not an isolated one' if held else ''}. In the box ‖g‖ "
        f"exceeds {theorem.grad_norm_above!r}."
    )


_SENTENCES: Final = {"none": _isolated, "rotation": _rotated, "least squares": _sliced}


# --- the record --------------------------------------------------------------------------------------


def write_record(function: str, arguments: Mapping[str, Any], theorem: Theorem) -> str:
    """Return a theorem as JSON text that `read_record` reads back exactly.

    Args:
        function: Name of the function that it is about.
        arguments: What the function is made with: plain data.
        theorem: The theorem.

    Returns:
        The text.

    Raises:
        ValueError: If the record would not be one that can be read back: arguments that are no plain data, say.
    """
    content = {
        "format": FORMAT,
        "statement": theorem.statement,
        "function": function,
        "arguments": dict(arguments),
        "rho": theorem.rho,
        "reduction": theorem.reduction,
        "free": list(theorem.free),
        "centre": list(theorem.centre),
        "half_width": theorem.half_width,
        "grad_norm_above": theorem.grad_norm_above,
        "min_curvature": theorem.min_curvature,
        "attraction": None if theorem.attraction is None else vars(theorem.attraction),
    }
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the arguments of a recorded function must be plain data; got {arguments!r}: {error}"
        ) from None
    read_record(text)
    return text


def read_record(text: str) -> Record:
    """Read a record, and refuse whatever is not exactly one.

    Args:
        text: What `write_record` returned.

    Returns:
        The record: all numbers are finite and in their ranges; whether the theorem is true is another question.

    Raises:
        ValueError: If it is no JSON, has another version, unknown, missing or repeated keys, or a value of another type
            or out of its range.
    """
    try:
        content = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite, parse_int=_whole
        )
        return _record(content)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)
    raise ValueError(f"this is no record of a proof, as `samirage prove --out FILE` writes it: {problem}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"its numbers must be finite; got {text}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"its numbers must be finite; got {text[:40]}")
    return number


def _whole(text: str) -> int:
    if len(text) > 400:  # more than any binary64 number has before its point
        raise ValueError(f"its numbers must be finite; got a whole number of {len(text)} digits")
    return int(text)


def _keys(content: Any, legal: set[str], name: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{name} must be an object with the keys {', '.join(sorted(legal))}")
    if missing := legal - set(content):
        raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    if unknown := set(content) - legal:
        raise ValueError(f"{name} has the unknown keys {', '.join(sorted(map(repr, unknown)))}")


def _number(content: Mapping[str, Any], key: str, above: float = 0.0) -> float:
    value = _real(content[key], key)
    if not value > above:
        raise ValueError(f"{key} must be a number above {above!r}; got {value!r}")
    return value


def _real(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number; got {value!r:.60}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number != value:
        raise ValueError(f"{name} must be a binary64 number; got {value!r:.60}")
    return number


def _record(content: Any) -> Record:
    if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
        raise ValueError(f"its format is {content['format']!r:.60}, and this program reads {FORMAT!r}")
    named = {field.name for field in fields(Theorem)}
    _keys(content, {"format", "statement", "function", "arguments"} | named, "it")
    for key in ("statement", "function", "reduction"):
        if not isinstance(content[key], str):
            raise ValueError(f"{key} must be a text; got {content[key]!r:.60}")
    if not isinstance(content["arguments"], dict):
        raise ValueError(f"arguments must be an object; got {content['arguments']!r:.60}")
    return Record(content["function"], content["arguments"], content["statement"], _theorem(content))


def _theorem(content: Mapping[str, Any]) -> Theorem:
    reduction, free = content["reduction"], content["free"]
    if reduction not in _SENTENCES:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, _SENTENCES))}; got {reduction!r:.60}")
    if not isinstance(content["centre"], list) or not content["centre"]:
        raise ValueError(f"centre must be a list of numbers; got {content['centre']!r:.60}")
    centre = tuple(_real(value, "centre") for value in content["centre"])
    count = len(centre)
    places = isinstance(free, list) and all(type(i) is int and 0 <= i < count for i in free)
    if not (places and free and free == sorted(set(free))):
        raise ValueError(f"free must list coordinates from 0 to {count - 1} in order; got {free!r:.60}")
    curvature, attraction = content["min_curvature"], content["attraction"]
    if reduction == "least squares":
        if curvature is not None or attraction is not None:
            raise ValueError("min_curvature and attraction must be null where the reduction is 'least squares'")
    else:
        if len(free) != count:
            raise ValueError(f"free must list all coordinates where the reduction is {reduction!r}")
        if count < 2 and reduction == "rotation":
            raise ValueError("there are no rotations of one coordinate")
        curvature = _number(content, "min_curvature")
    width = _number(content, "half_width")
    return Theorem(
        reduction=reduction,
        rho=_number(content, "rho"),
        centre=centre,
        half_width=width,
        free=tuple(free),
        grad_norm_above=_number(content, "grad_norm_above"),
        min_curvature=curvature,
        attraction=None if attraction is None else _attraction(attraction, width),
    )


def _attraction(content: Any, width: float) -> Attraction:
    _keys(content, {field.name for field in fields(Attraction)}, "attraction")
    factor = _number(content, "factor")
    if not factor < 1:
        raise ValueError(f"factor must be below 1; got {factor!r}")
    return Attraction(
        lr=_number(content, "lr"),
        factor=factor,
        half_width=_number(content, "half_width", above=width),
        basin_radius=_number(content, "basin_radius"),
    )

"""Random changes of a true record: of every field and digit, of types, order, keys and nesting, and of the text."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from samirage.points.proofs.record import Attraction, Theorem

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """A changed record.

    Attributes:
        text: The record, changed.
        path: Where it was changed; empty: in the text as a whole.
        what: How, for people.
    """

    text: str
    path: Path
    what: str


_TEXTS: Final = (
    "",
    "none",
    "rotation",
    "least squares",
    "0.1",
    "nan",
    "\x00",
    "1e-3",
    "None",
    "ring",
    "double-well",
    "x" * 300,
)
_NUMBERS: Final = (0.0, -0.0, 1.0, -1.0, 1e-300, 5e-324, 1e308, math.inf, -math.inf, math.nan)
_ODD: Final = (10**400, -(10**30), 2**53 + 1)


def mutate(record: dict[str, Any], rng: random.Random) -> Mutation:
    """Return the record with one random change; the record itself stays as it is."""
    if rng.random() < 0.1:
        return _of_text(record, rng)
    changed = json.loads(json.dumps(record))
    path = _random_path(record, rng)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    before = parent[key]
    what = rng.choice(_operations(before))(parent, key, rng)
    if path[0] != "statement" and rng.random() < 0.6:
        restate(changed)
        what += ", restated"
    return Mutation(json.dumps(changed, ensure_ascii=rng.random() < 0.5), path, f"{what}: was {_short(before)}")


def restate(record: dict[str, Any]) -> None:
    """Write the statement that belongs to the other fields, if there is one: a forger has the program too."""
    try:
        a = record["attraction"]
        theorem = Theorem(
            reduction=record["reduction"],
            rho=record["rho"],
            centre=tuple(record["centre"]),
            half_width=record["half_width"],
            free=tuple(record["free"]),
            grad_norm_above=record["grad_norm_above"],
            min_curvature=record["min_curvature"],
            attraction=None if a is None else Attraction(**a),
        )
        record["statement"] = theorem.statement
    except (KeyError, TypeError, AttributeError, ValueError):
        return


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "…"


def _random_path(record: dict[str, Any], rng: random.Random) -> Path:
    """Choose a field, then go down at random: no field is rare because others are long."""
    path: list[str | int] = [rng.choice(list(record))]
    value = record[path[0]]
    while isinstance(value, dict | list) and value and rng.random() < 0.85:
        path.append(rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value)))
        value = value[path[-1]]
    return tuple(path)


Operation = Callable[[Any, Any, random.Random], str]


def _operations(value: Any) -> list[Operation]:
    general: list[Operation] = [_delete, _other_type, _extra_key, _nest]
    if isinstance(value, bool) or value is None:
        return [_other_type, _other_type, _from_nothing, _delete]
    if isinstance(value, float | int):
        return [_nudge, _nudge, _digit, _digit, _digit, _scale, _scale, _replace_number, *general]
    if isinstance(value, str):
        return [_character, _digit_in_text, _digit_in_text, _replace_text, _append_text, *general]
    if isinstance(value, list):
        return [_shuffle, _drop, _repeat, _add, *general]
    return [_extra_key, _extra_key, _rename, _reorder, *general]


def _delete(parent: Any, key: Any, rng: random.Random) -> str:
    del parent[key]
    return "deleted"


def _other_type(parent: Any, key: Any, rng: random.Random) -> str:
    value = parent[key]
    others = [None, True, False, str(value), [value], {"value": value}, [], {}, "0x1p-1", rng.choice(_ODD)]
    if isinstance(value, float) and value == int(value):
        others.append(int(value))
    parent[key] = rng.choice(others)
    return f"now {_short(parent[key])}"


def _nest(parent: Any, key: Any, rng: random.Random) -> str:
    deep: Any = parent[key]
    depth = rng.choice((1, 2, 2000))
    for _ in range(depth if depth < 10 else 300):
        deep = [deep]
    parent[key] = deep
    return "nested"


def _extra_key(parent: Any, key: Any, rng: random.Random) -> str:
    inside = parent[key] if isinstance(parent[key], dict) else parent
    name = rng.choice(("note", "proved", "x_plus_box", "Rho", "rho ", "half-width", "spectral_radius", "tolerance"))
    if isinstance(inside, list):
        inside.insert(key, rng.choice((0, 0.5, "more")))
        return "an entry more"
    inside[name] = rng.choice((True, 0.5, "more", None, {"deep": []}))
    return f"an extra key {name!r}"


def _from_nothing(parent: Any, key: Any, rng: random.Random) -> str:
    """Where nothing is claimed, claim something."""
    parent[key] = rng.choice((
        0.1, 1e-9,
        {"lr": 0.05, "spectral": 0.9, "factor": 0.95, "half_width": 1e-4, "basin_radius": 1e-5},
        {"lr": 0.01, "factor": 0.95, "half_width": 1e-4, "basin_radius": 1e-5},
    ))  # fmt: skip
    return f"now {_short(parent[key])}"


def _nudge(parent: Any, key: Any, rng: random.Random) -> str:
    value = parent[key]
    if isinstance(value, int):
        parent[key] = value + rng.choice((-1, 1))
    else:
        parent[key] = math.nextafter(value, rng.choice((-math.inf, math.inf)))
    return f"now {parent[key]!r}"


def _scale(parent: Any, key: Any, rng: random.Random) -> str:
    factor = rng.choice(
        (1 + 1e-12, 1 - 1e-12, 1 + 1e-9, 1 - 1e-7, 1.001, 0.999, 1.1, 0.9, 2, 0.5, 10, 0.1, 1e6, 1e-6, -1)
    )
    parent[key] = parent[key] * factor
    return f"now {parent[key]!r}"


def _replace_number(parent: Any, key: Any, rng: random.Random) -> str:
    parent[key] = rng.choice(_NUMBERS)
    return f"now {parent[key]!r}"


def _digit(parent: Any, key: Any, rng: random.Random) -> str:
    text = _changed_digit(repr(parent[key]), rng)
    parent[key] = json.loads(text) if _is_json(text) else text
    return f"now {text}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _changed_digit(text: str, rng: random.Random) -> str:
    places = [i for i, c in enumerate(text) if c.isdigit()]
    if not places:
        return text + rng.choice("0123456789")
    i = rng.choice(places)
    return text[:i] + rng.choice([c for c in "0123456789" if c != text[i]]) + text[i + 1 :]


def _digit_in_text(parent: Any, key: Any, rng: random.Random) -> str:
    parent[key] = _changed_digit(parent[key], rng)
    return f"now {_short(parent[key])}"


def _character(parent: Any, key: Any, rng: random.Random) -> str:
    text = parent[key]
    i = rng.randrange(len(text) + 1)
    parent[key] = text[:i] + rng.choice((" ", "NOT ", "é", "", "0")) + text[i + rng.choice((0, 1, 7)) :]
    if parent[key] == text:
        parent[key] += "."
    return f"now {_short(parent[key])}"


def _replace_text(parent: Any, key: Any, rng: random.Random) -> str:
    parent[key] = rng.choice([t for t in _TEXTS if t != parent[key]])
    return f"now {_short(parent[key])}"


def _append_text(parent: Any, key: Any, rng: random.Random) -> str:
    parent[key] += rng.choice((" ", " It attracts from everywhere.", "\n"))
    return "longer"


def _shuffle(parent: Any, key: Any, rng: random.Random) -> str:
    before = list(parent[key])
    rng.shuffle(parent[key])
    if parent[key] == before:
        parent[key].reverse()
    return "in another order"


def _drop(parent: Any, key: Any, rng: random.Random) -> str:
    if parent[key]:
        parent[key].pop(rng.randrange(len(parent[key])))
    return "an entry less"


def _repeat(parent: Any, key: Any, rng: random.Random) -> str:
    if parent[key]:
        parent[key].append(rng.choice(parent[key]))
    return "an entry twice"


def _add(parent: Any, key: Any, rng: random.Random) -> str:
    parent[key].append(rng.choice((0, 1, 0.5, -1, 99, None, "1", [])))
    return "an entry more"


def _rename(parent: Any, key: Any, rng: random.Random) -> str:
    inside = parent[key]
    if inside:
        name = rng.choice(list(inside))
        inside[rng.choice((name.upper(), name + "_", " " + name))] = inside.pop(name)
        return f"the key {name!r} renamed"
    inside["more"] = 1
    return "an extra key"


def _reorder(parent: Any, key: Any, rng: random.Random) -> str:
    parent[key] = dict(reversed(list(parent[key].items())))
    return "its keys in another order"


def _of_text(record: dict[str, Any], rng: random.Random) -> Mutation:
    text = json.dumps(record, indent=1, ensure_ascii=False)
    kind = rng.choice(
        ("cut", "byte", "tail", "twice", "wrapped", "digits", "whole", "nan", "unordered", "rename", "drop")
    )
    what = kind
    if kind == "cut":
        text = text[: rng.randrange(len(text))]
    elif kind == "byte":
        i = rng.randrange(len(text))
        text = text[:i] + chr(rng.choice((0, 34, 44, 48, 92, 123, 0xD800, 0x1F600))) + text[i + 1 :]
    elif kind == "tail":
        text += rng.choice(("{}", "\n\n", "x", "\x00"))
    elif kind == "twice":
        key = rng.choice(list(record))
        other = {"rho": 1.25, "half_width": 1e-3, "statement": "f is convex."}.get(key, record[key])
        text = "{" + f"{json.dumps(key)}: {json.dumps(other)}, " + text.lstrip("{")
        what = f"the key {key!r} twice"
    elif kind == "wrapped":
        text = rng.choice(
            (f"[{text}]", json.dumps(text), "[" * 100_000, "null", "3", '"samirage-proof/1"', "", "{}", "[]")
        )
    elif kind == "digits":
        text = _changed_digit(text, rng)
    elif kind == "whole":
        text = text.replace(".0", "") if ".0" in text else text + " "
    elif kind == "nan":
        text = text.replace(repr(record["rho"]), rng.choice(("NaN", "Infinity", "1e999", "9" * 5000, "-0")))
    elif kind == "unordered":
        items = list(record.items())
        rng.shuffle(items)
        text = json.dumps(dict(items))
    else:
        key = rng.choice(list(record))
        kept = {k: v for k, v in record.items() if k != key}
        text = json.dumps({**kept, key.capitalize(): record[key]} if kind == "rename" else kept)
        what = f"{kind} {key!r}"
    return Mutation(text, (), what)

"""Methods of training by name, once: what each is made of, its label, and how it is drawn. Needs no torch.

`samirage.lab.engine.recipe` makes recipes of the pieces, and the page draws the labels. To add a method, add its line.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

RECOMMENDED: Final = "guard+decay"
"""The method of study `guard` that its claims are about."""

COLOURS: Final[Mapping[str, tuple[str, str]]] = {
    "sgd": ("#75757d", "#a3a3ab"),
    "sam": ("#d4660a", "#f59a4c"),
    "switch": ("#1f4f9e", "#a8c8ff"),
    "decay": ("#a0468c", "#e3a3d3"),
    "guard": ("#0b7a5e", "#5fd6b4"),
}
"""Name → colour on light and on dark; safe for the common colour blindnesses, and apart in lightness."""

_MOMENTUM: Final = 0.9


@dataclass(frozen=True)
class Method:
    """One method: what it adds to SAM, and how it is named and drawn.

    Attributes:
        label: Its name in plots and tables.
        pieces: What it adds to SAM: name of a piece, as `samirage.lab.engine.recipe.PIECES` has it → its settings.
        colour: Its colour on light; empty where plots choose one.
        marker: Its marker, as matplotlib names them; empty where plots choose one.
        dashes: Its dashes, in units of the line width; none for a solid line.
    """

    label: str
    pieces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    colour: str = ""
    marker: str = ""
    dashes: tuple[float, ...] = ()


_SGD, _SAM, _SWITCH, _DECAY, _GUARD = (light for light, _ in COLOURS.values())

# Those of which every study takes some; the methods differ in hue, in marker, and in dashes.
_USUAL: Final[Mapping[str, Method]] = {
    "sgd": Method("Plain gradient descent", {}, _SGD, "D"),
    "sam": Method("SAM only", {}, _SAM, "o"),
    "switch": Method("Switch: plain first, then SAM", {"switch": {}}, _SWITCH, "s"),
    "decay": Method("SAM, radius decays to 0", {"decay": {}}, _DECAY, "v", (1.5, 1.0)),
    "guard": Method("SAM with guard", {"guard": {}}, _GUARD, "^", (4.0, 1.5)),
    "guard+switch": Method("Switch with guard", {"guard": {}, "switch": {}}, _GUARD, "P"),
    "guard+decay": Method("Guard, radius decays to 0", {"guard": {}, "decay": {}}, _GUARD, "d"),
    "guard+switch+decay": Method(
        "Switch with guard, radius decays to 0", {"guard": {}, "switch": {}, "decay": {}}, _GUARD, "X"
    ),
}

# Those of study `decay`: how the radius varies along the training.
_SCHEDULES: Final[Mapping[str, Method]] = {
    "linear": Method("Linear to 0", {"decay": {}}),
    "cosine": Method("Cosine to 0", {"decay": {"shape": "cosine"}}),
    "tenth": Method("Linear to a tenth", {"decay": {"to": 0.1}}),
    "rise": Method("Linear rise from 0", {"rise": {}}),
}

# Those of study `variants`.
_VARIANTS: Final[Mapping[str, Method]] = {
    "asam": Method("ASAM", {"variant": {"variant": "asam"}}),
    "unnormalized": Method("Unnormalized SAM", {"variant": {"variant": "unnormalized"}}),
    "gsam": Method("GSAM", {"gsam": {}}),
    "looksam": Method("LookSAM, every 5 steps", {"looksam": {"k": 5}}),
    "momentum": Method(f"SAM with momentum {_MOMENTUM}", {"momentum": {"momentum": _MOMENTUM}}),
}

# Those that study `alternatives` holds the guard against.
_ALTERNATIVES: Final[Mapping[str, Method]] = {
    "kappa0.3": Method("Guard, kappa 0.3", {"guard": {"kappa": 0.3}}),
    "kappa0.5": Method("Guard, kappa 0.5", {"guard": {"kappa": 0.5}}),
    "kappa0.9": Method("Guard, kappa 0.9", {"guard": {"kappa": 0.9}}),
    "slope0.3": Method("Guard by the slope alone, kappa 0.3", {"slope-guard": {"kappa": 0.3}}),
    "gain": Method("Guard by the ascent gain", {"gain-guard": {}}),
    "growth1.02": Method("Guard, growth 1.02", {"guard": {"growth": 1.02}}),
    "growth1.2": Method("Guard, growth 1.2", {"guard": {"growth": 1.2}}),
    "momentum-guard": Method(f"Guard with momentum {_MOMENTUM}", {"momentum": {"momentum": _MOMENTUM}, "guard": {}}),
    "criterion": Method("Warm start until the slope agrees", {"criterion": {}}),
    "criterion-guard": Method("Guard, warm start until the slope agrees", {"criterion": {}, "guard": {}}),
}

# Stored results have them, though nothing trains so any more.
_FORMER: Final[Mapping[str, Method]] = {
    "search": Method("Guard that searches, 5 retries"),
    "jump": Method("SAM with jump"),
}
_WITHOUT_SWITCH: Final = ("criterion", "criterion-guard")  # they are warm starts themselves


def _after_switch(method: Method) -> Method:
    return Method(f"{method.label}, after the switch", {**method.pieces, "switch": {}})


_SINGLE: Final[Mapping[str, Method]] = {**_USUAL, **_SCHEDULES, **_VARIANTS, **_ALTERNATIVES, **_FORMER}

METHODS: Final[Mapping[str, Method]] = {
    **{
        f"{name}+switch": _after_switch(_SINGLE[name])
        for name in ("sam", "momentum", *_ALTERNATIVES, *_FORMER)
        if name not in _WITHOUT_SWITCH
    },
    **_SINGLE,
}
"""Name → method."""


def method_named(name: str) -> Method:
    """Return a method by the name that results give; one that nobody knows is labelled by its name.

    Args:
        name: Its name, such as one of `METHODS`.

    Example:
        >>> method_named("momentum+switch").label, method_named("mine").label
        ('SAM with momentum 0.9, after the switch', 'mine')
    """
    return METHODS.get(name) or Method(name)


def labels_of(names: Iterable[str]) -> dict[str, str]:
    """Return the labels of methods, by their names.

    Args:
        names: Their names.

    Example:
        >>> labels_of(["gsam"])
        {'gsam': 'GSAM'}
    """
    return {name: method_named(name).label for name in names}

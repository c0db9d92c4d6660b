"""Functions by name: what the command line and the records of proofs call the built-in ones and a user's own."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from samirage import landscape
from samirage.landscape import Smooth

BUILT_IN: Final[dict[str, Callable[..., Smooth]]] = {
    "bump-on-bowl": landscape.BumpOnBowl,
    "double-well": landscape.DoubleWell,
    "moat": landscape.Moat,
    "multi-well": landscape.MultiWell,
    "quadratic": landscape.Quadratic,
    "ring": landscape.Ring,
}


def make_function(name: str, arguments: Mapping[str, Any] | None = None) -> Smooth:
    """Make a function from its name.

    Args:
        name: A built-in one, or `"module:factory"`: a callable that returns one. The module is imported, which runs it.
        arguments: What to call it with, by name.

    Returns:
        The function.

    Raises:
        ValueError: If there is none of this name, or it cannot be called so.

    Example:
        >>> make_function("ring", {"radius": 2.0}).minimizers
        [tensor([2., 0.], dtype=torch.float64)]
    """
    factory = BUILT_IN.get(name)
    if factory is None:
        module, _, attribute = name.partition(":")
        if not attribute:
            raise ValueError(f"unknown function {name!r}: use one of {', '.join(BUILT_IN)}, or module:factory")
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise ValueError(f"the module of {name!r} cannot be imported: {error}") from None
        except AttributeError:
            raise ValueError(f"the module {module!r} has no {attribute!r}") from None
    if not callable(factory):
        raise ValueError(f"{name!r} must be a callable that returns a function; got {type(factory).__name__}")
    try:
        made: Smooth = factory(**dict(arguments or {}))
    except TypeError as error:
        raise ValueError(f"{name} cannot be called with {dict(arguments or {})}: {error}") from None
    if not isinstance(getattr(made, "dim", None), int):
        raise ValueError(f"{name} must return a function of landscapes, with a `dim`; got {type(made).__name__}")
    return made

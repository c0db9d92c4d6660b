"""Functions by name: what the command line and the records of proofs call the built-in ones and a user's own."""

import importlib
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

from samirage import landscape
from samirage.landscape import AbstractFormula, Smooth, TanhNetwork

BUILT_IN: Final[dict[str, Callable[..., Smooth]]] = {
    "bump-on-bowl": landscape.BumpOnBowl,
    "double-well": landscape.DoubleWell,
    "moat": landscape.Moat,
    "multi-well": landscape.MultiWell,
    "quadratic": landscape.Quadratic,
    "ring": landscape.Ring,
}


def make_function(name: str, arguments: Mapping[str, Any] | None = None) -> Smooth:
    """Make a function from its name. The name must be trusted: it can be that of any code.

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
        if ":" not in name:
            raise ValueError(f"unknown function {name!r}: use one of {', '.join(BUILT_IN)}, or module:factory")
        factory = _imported(name)
    return _made(name, factory, arguments)


def built_in_function(name: str, arguments: Mapping[str, Any] | None = None) -> Smooth:
    """Make one of the built-in functions, and no other: names from a file that somebody else wrote are safe here.

    Args:
        name: Its name.
        arguments: What to call it with, by name.

    Returns:
        The function.

    Raises:
        ValueError: If there is none of this name, or it cannot be called so.

    Example:
        >>> built_in_function("os:system", {"command": "true"})
        Traceback (most recent call last):
            ...
        ValueError: the record names the function 'os:system', which is not built in, and nothing was run: ...
    """
    factory = BUILT_IN.get(name)
    if factory is None:
        raise ValueError(
            f"the record names the function {name!r}, which is not built in, and nothing was run: built in are "
            f"{', '.join(BUILT_IN)}; a function of your own must be named in the command too, --function MODULE:NAME"
        )
    return _made(name, factory, arguments)


def own_function(name: str) -> Callable[[str, Mapping[str, Any]], Smooth]:
    """Return what makes one function of the user's own from a record, for `check_record`.

    Args:
        name: `"module:name"`, from the user and not from the record. It must be a class with a formula, or a function
            that the module itself defines; what the module merely imported is not called.

    Returns:
        Takes a name and arguments, as a record has them; refuses any other name.

    Raises:
        ValueError: If the name has another form.

    Example:
        >>> make = own_function("samirage.landscape.functions:Ring")
        >>> make("samirage.landscape.functions:Ring", {"dim": 3}).dim
        3
        >>> own_function("os:system")("os:system", {"command": "true"})
        Traceback (most recent call last):
            ...
        ValueError: 'os:system' must be a class with a formula, or a function defined in that module; got ...
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise ValueError(f"a function of your own is named MODULE:NAME; got {name!r}")

    def make(recorded: str, arguments: Mapping[str, Any]) -> Smooth:
        if recorded != name:
            raise ValueError(f"the record is about the function {recorded!r}, and you allowed {name!r}")
        factory = _imported(name)
        is_class = isinstance(factory, type) and issubclass(factory, AbstractFormula | TanhNetwork)
        if not (is_class or (isinstance(factory, FunctionType) and factory.__module__ == module)):
            raise ValueError(
                f"{name!r} must be a class with a formula, or a function defined in that module; got "
                f"{getattr(factory, '__name__', type(factory).__name__)}"
            )
        return _made(name, factory, arguments)

    return make


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ValueError(f"the module of {name!r} cannot be imported: {error}") from None
    except AttributeError:
        raise ValueError(f"the module {module!r} has no {attribute!r}") from None


def _made(name: str, factory: Any, arguments: Mapping[str, Any] | None) -> Smooth:
    if not callable(factory):
        raise ValueError(f"{name!r} must be a callable that returns a function; got {type(factory).__name__}")
    given = dict(arguments or {})
    try:
        made: Smooth = factory(**given)
    except (TypeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be called with {given}: {error}") from None
    if not isinstance(getattr(made, "dim", None), int):
        raise ValueError(f"{name} must return a function of landscapes, with a `dim`; got {type(made).__name__}")
    return made

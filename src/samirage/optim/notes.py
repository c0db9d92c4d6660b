"""What an optimizer notes down from one moment of a step to the next, so that torch.compile can trace it.

While torch.compile traces, it takes an optimizer for something fixed: what a method assigns to an attribute of the
optimizer is lost at the end. (So it is in torch 2.13.) It does keep track of other objects. So all that a step assigns
is kept in one beside the optimizer, and reached through descriptors.
"""

from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Notes:
    """The object beside the optimizer; it holds what was assigned."""


class Noted(Generic[T]):
    """An attribute whose value is in the `Notes` of its owner, `owner._notes`.

    Args:
        initial: Its value before the first assignment.

    Example:
        >>> class Counter:
        ...     count = Noted(0)
        ...     def __init__(self):
        ...         self._notes = Notes()
        >>> counter = Counter()
        >>> counter.count += 1
        >>> counter.count, vars(counter._notes)
        (1, {'count': 1})
    """

    def __init__(self, initial: T) -> None:
        self._initial = initial

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, cls: type) -> "Noted[T]": ...

    @overload
    def __get__(self, owner: object, cls: type) -> T: ...

    def __get__(self, owner: Any, cls: type) -> "Noted[T] | T":
        """Return the value; on the class, the descriptor itself."""
        if owner is None:
            return self
        value: T = getattr(owner._notes, self._name, self._initial)
        return value

    def __set__(self, owner: Any, value: T) -> None:
        """Note the value down."""
        setattr(owner._notes, self._name, value)

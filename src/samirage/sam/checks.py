"""The checks of an argument, once for all rooms: a complaint names it, and says what is legal and what was given."""

import math
from numbers import Integral, Real
from typing import Any


def checked_count(name: str, value: Any, *, least: int = 1) -> int:
    """Return a whole number, such as a number of steps.

    Args:
        name: Where it stands, such as `"WarmStart steps"`.
        value: What was given. True and False are no numbers here, though Python counts with them.
        least: The least that is legal.

    Returns:
        The number.

    Raises:
        ValueError: If it is not a whole number, or below `least`.

    Example:
        >>> checked_count("steps", 3)
        3
        >>> checked_count("steps", True)
        Traceback (most recent call last):
        ValueError: steps must be a whole number of at least 1; got True
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}")
    return int(value)


def checked_number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Return a finite number within a range.

    Args:
        name: Where it stands, such as `"Guard kappa"`.
        value: What was given. True and False are no numbers here.
        above: What it must be above.
        least: The least that is legal.
        below: What it must be below.
        most: The most that is legal.

    Returns:
        The number.

    Raises:
        ValueError: If it is not a number, not finite, or outside of the range.

    Example:
        >>> checked_number("kappa", 0.5, above=0, below=1)
        0.5
        >>> checked_number("kappa", 1, above=0, below=1)
        Traceback (most recent call last):
        ValueError: kappa must be above 0 and below 1; got 1
    """
    if is_number(value) and math.isfinite(value) and above < value < below and least <= value <= most:
        return float(value)
    lower = [f"above {above:g}"] * math.isfinite(above) + [f"at least {least:g}"] * math.isfinite(least)
    upper = [f"below {below:g}"] * math.isfinite(below) + [f"at most {most:g}"] * math.isfinite(most)
    legal = " and ".join(lower + upper)
    if not (lower and upper):
        legal = "a finite number " + legal.replace("at ", "of at ")
    raise ValueError(f"{name} must be {legal}; got {value!r}")


def is_number(value: object) -> bool:
    """Tell whether a value is a real number, and not True or False.

    Args:
        value: Any object.

    Returns:
        Whether it is one.

    Example:
        >>> is_number(2), is_number(True), is_number("2")
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)

"""The outcome of a proof, and the rounding of its bounds to short numbers, always to the safe side."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from samirage.points.proofs.balls import Floats
from samirage.points.proofs.record import Attraction, Reduction, Theorem, write_record


@dataclass(frozen=True, eq=False)
class Proof:
    """The outcome of `prove`: a theorem about a box, or the reason why there is none.

    Attributes:
        proved: Whether all that was asked is proved.
        reason: Why something is not proved; empty when all is.
        rho: Perturbation radius: exactly the number that the float holds.
        centre: The given point, shape (d,).
        box: Lower and upper ends, shape (d, 2), of the box about the given point that holds the hallucinated point.
        x_plus_box: The same for `x⁺`; None when nothing is proved, and for rotations.
        grad_norm: Lower and upper bound of `‖g‖` over the box; None when the gradient may vanish there.
        theorem: All that is proved, which may be less than what was asked; None when nothing is.
    """

    proved: bool
    reason: str
    rho: float
    centre: Floats
    box: Floats
    x_plus_box: Floats | None
    grad_norm: tuple[float, float] | None
    theorem: Theorem | None

    @property
    def statement(self) -> str:
        """What is proved, in plain words; empty when nothing is."""
        return "" if self.theorem is None else self.theorem.statement

    @property
    def min_curvature(self) -> float | None:
        """Every eigenvalue of `H⁺` exceeds this, above 0; None when not proved. See `Theorem` for rotations."""
        return None if self.theorem is None else self.theorem.min_curvature

    @property
    def attraction(self) -> Attraction | None:
        """That SAM converges there; None when not asked or not proved."""
        return None if self.theorem is None else self.theorem.attraction

    @property
    def reduction(self) -> Reduction:
        """How a whole family of points was reduced to one; `"none"` for an isolated point, and without a theorem."""
        return "none" if self.theorem is None else self.theorem.reduction

    @property
    def free(self) -> tuple[int, ...]:
        """The coordinates in which the box has a width: all but for least squares."""
        return tuple(range(len(self.centre))) if self.theorem is None else self.theorem.free

    def __str__(self) -> str:
        return self.statement if self.proved else " ".join(filter(None, [f"NOT PROVED: {self.reason}", self.statement]))

    def record(self, function: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Return the proof as JSON text, which `samirage prove --check FILE` checks by other means.

        Floats are written so that they read back exactly; the statement repeats the content in words.

        Args:
            function: Name of a built-in function, or `"module:name"`, of which a checker makes the function.
            arguments: What to call it with: plain data.

        Returns:
            The text.

        Raises:
            ValueError: If the proof did not succeed, or the arguments are no plain data.
        """
        if not self.proved or self.theorem is None:
            raise ValueError(f"only what is proved can be recorded, and this is not: {self.reason}")
        return write_record(function, arguments or {}, self.theorem)


def rounded_down(value: float, digits: int = 5) -> float:
    """Return a number of few decimal digits that is not above the given one.

    Args:
        value: A finite number.
        digits: How many significant digits.

    Example:
        >>> rounded_down(0.1234567), rounded_down(-0.1234567, digits=2)
        (0.12345, -0.13)
    """
    # The decimal number is at most `value`, which is a float, and rounding to nearest keeps the order.
    return float(Context(prec=digits, rounding=ROUND_FLOOR).plus(Decimal(value)))


def rounded_up(value: float, digits: int = 5) -> float:
    """Return a number of few decimal digits that is not below the given one.

    Args:
        value: A finite number.
        digits: How many significant digits.

    Example:
        >>> rounded_up(0.1234567), rounded_up(-0.1234567, digits=2)
        (0.12346, -0.12)
    """
    return float(Context(prec=digits, rounding=ROUND_CEILING).plus(Decimal(value)))

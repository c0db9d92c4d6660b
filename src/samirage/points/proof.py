"""What a proof says, in words and as a record that another program can check again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from samirage.points.balls import Floats

FORMAT: Final = "samirage-proof/1"

Reduction = Literal["none", "rotation", "least squares"]


@dataclass(frozen=True)
class Attraction:
    """That SAM converges to the point from everywhere near it.

    In the norm `‖v‖² = vᵀQv`, `Q` the solution of `Q − DTᵀQDT/s² = I`, each step brings every start within
    `half_width` of the centre (in each coordinate) nearer to the point, by `factor` at least.

    Attributes:
        lr: Learning rate.
        spectral: `s`: a bound of the eigenvalues of `DT` at the point, below 1.
        factor: Contraction per step, below 1.
        half_width: Half-width of the box in which this holds.
        basin_radius: From within this Euclidean distance of the point, SAM converges to it.
    """

    lr: float
    spectral: float
    factor: float
    half_width: float
    basin_radius: float


@dataclass(frozen=True, eq=False)
class Proof:
    """The outcome of `prove`: a theorem about a box, or the reason why there is none.

    Attributes:
        proved: Whether all that was asked is proved.
        statement: What is proved, in plain words; empty when nothing is.
        reason: Why something is not proved; empty when all is.
        rho: Perturbation radius: exactly the number that the float holds.
        centre: The given point, shape (d,).
        box: Lower and upper ends, shape (d, 2), of the box about the given point that holds the hallucinated point.
        x_plus_box: The same for `x⁺`; None when nothing is proved.
        grad_norm: Lower and upper bound of `‖g‖` over the box; None when the gradient may vanish there.
        min_curvature: Every eigenvalue of `H⁺` exceeds this, above 0; None when not proved.
        attraction: That SAM converges there; None when not asked or not proved.
        reduction: How a whole family of points was reduced to one: `"rotation"` for functions of the distance from the
            origin, `"least squares"` for sums of squares that vanish at `x⁺`, `"none"` for an isolated point.
        free: The coordinates in which the box has a width: all but for least squares.
    """

    proved: bool
    statement: str
    reason: str
    rho: float
    centre: Floats
    box: Floats
    x_plus_box: Floats | None
    grad_norm: tuple[float, float] | None
    min_curvature: float | None
    attraction: Attraction | None
    reduction: Reduction
    free: tuple[int, ...]

    def __str__(self) -> str:
        return self.statement if self.proved else " ".join(filter(None, [f"NOT PROVED: {self.reason}", self.statement]))

    def record(self, function: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Return the proof as JSON text, which `samirage prove --check FILE` checks by other means.

        Floats are written so that they read back exactly; the statement repeats the content in words.

        Args:
            function: Name of a built-in function, or `"module:factory"`, from which a checker makes the function.
            arguments: What to call it with: plain data.

        Returns:
            The text.

        Raises:
            ValueError: If the proof did not succeed.
        """
        if not self.proved:
            raise ValueError(f"only what is proved can be recorded, and this is not: {self.reason}")
        assert self.grad_norm is not None
        content = {
            "format": FORMAT,
            "statement": self.statement,
            "function": function,
            "arguments": dict(arguments or {}),
            "rho": self.rho,
            "reduction": self.reduction,
            "free": list(self.free),
            "centre": self.centre.tolist(),
            "half_width": self._half_width(),
            "grad_norm_above": 0.999 * self.grad_norm[0],  # room for wider enclosures
            "min_curvature": self.min_curvature,
            "attraction": None if self.attraction is None else vars(self.attraction),
        }
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def _half_width(self) -> float:
        return float((self.box[:, 1] - self.box[:, 0]).max() / 2)

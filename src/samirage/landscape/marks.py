"""Things to overlay on a slice: points and trajectories, with how far they lie off it and their true loss."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samirage.landscape.planes import Flat, check_vectors
from samirage.landscape.smooth import Smooth, surrogate_value

Kind = Literal["minimizer", "maximizer", "saddle", "hallucinated", "point", "path", "set"]
_NUMBERS_AT_ONCE: Final = 2**20  # in vectors of marks that are evaluated together
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Mark:
    """One point, the points of one trajectory in their order, or those of one curve.

    Attributes:
        name: What it is called, such as `"x_h"` or `"SAM"`.
        kind: What it is: `"minimizer"`, `"maximizer"`, `"saddle"`, `"hallucinated"`, any other `"point"`; or several
            points, joined by a line: the `"path"` of a run, or a `"set"`.
        points: Shape (d,), or (n, d).

    Raises:
        ValueError: If the kind is unknown, or the points are not of such a shape.
    """

    name: str
    kind: Kind
    points: Tensor

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if not isinstance(self.points, Tensor) or self.points.dim() not in {1, 2} or not self.points.numel():
            given = f"shape {tuple(self.points.shape)}" if isinstance(self.points, Tensor) else repr(self.points)
            raise ValueError(f"points of the mark {self.name!r} must be of shape (d,) or (n, d); got {given}")


def known_marks(f: Smooth) -> list[Mark]:
    """Return the critical points that an analytic function names; none for a network.

    Args:
        f: The function.

    Example:
        >>> from samirage.landscape import DoubleWell
        >>> [(mark.kind, len(mark.points)) for mark in known_marks(DoubleWell())]
        [('minimizer', 2), ('minimizer', 2), ('saddle', 2)]
    """
    kinds: tuple[Kind, ...] = ("minimizer", "maximizer", "saddle")
    return [Mark(kind, kind, x) for kind in kinds for x in getattr(f, f"{kind}s", [])]


def mark_table(
    f: Smooth, where: Flat, marks: Sequence[Mark], *, rho: float | None, variant: Any = "sam"
) -> dict[str, tuple[str, Any]]:
    """Return what a slice says of its marks, a row for each point.

    Args:
        f: The function.
        where: The plane or line.
        marks: The marks.
        rho: Perturbation radius, where `f^SAM` is asked for too.
        variant: Perturbation rule.

    Returns:
        Variables over the dimension `mark`: name and kind; the coordinates of the point's foot; the point's distance
        from the plane; its loss, and the loss at its foot, which is what the plane shows; the same of `f^SAM`.
    """
    points = []
    for mark in marks:
        rows = mark.points.reshape(-1, mark.points.shape[-1]).to(where.origin)
        check_vectors({"origin": where.origin, f"the mark {mark.name!r}": rows[0]})
        points.append(rows)
    x = torch.cat(points) if points else where.origin.new_empty(0, where.dim)
    feet, distance = where.locate(x)
    on_plane = where.points(feet)

    def column(values: Tensor) -> tuple[str, Any]:
        values = values.double().cpu()
        return "mark", torch.where(values.isfinite(), values, torch.nan).numpy()

    def text(words: Iterable[str]) -> NDArray[np.str_]:
        return np.array(list(words), dtype=np.str_)

    counts = [len(rows) for rows in points]
    table: dict[str, tuple[str, Any]] = {
        "mark_name": ("mark", text(mark.name for mark, n in zip(marks, counts, strict=True) for _ in range(n))),
        "mark_kind": ("mark", text(mark.kind for mark, n in zip(marks, counts, strict=True) for _ in range(n))),
        **{f"mark_{axis}": column(feet[:, i]) for i, axis in enumerate(("first", "second")[: feet.shape[1]])},
        "mark_distance": column(distance),
        "mark_loss": column(_each(f, x)),
        "mark_loss_on_slice": column(_each(f, on_plane)),
    }
    if rho is not None:
        table["mark_loss_sam"] = column(_each(f, x, rho, variant))
        table["mark_loss_sam_on_slice"] = column(_each(f, on_plane, rho, variant))
    return table


def _each(f: Smooth, x: Tensor, rho: float | None = None, variant: Any = "sam") -> Tensor:
    """The losses, some points at a time: their vectors may be long."""
    some = torch.split(x, max(1, _NUMBERS_AT_ONCE // x.shape[1]))
    values = [
        f(rows) if rho is None else surrogate_value(f, rows, rho=rho, variant=variant) for rows in some if len(rows)
    ]
    return torch.cat(values) if values else x.new_empty(0)

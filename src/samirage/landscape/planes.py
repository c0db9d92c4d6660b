"""Planes and lines in the space of parameters: where to look at a landscape, and how far the things shown lie off it.

A plane is `x(a, b) = origin + a·first + b·second`. Its directions need not be orthonormal: coordinates of a point, and
of a vector, are those of its orthogonal projection, by the normal equations of the two directions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_COLLINEAR: Final = 1e-6  # sine of an angle below which two directions count as one: float32 tells no smaller one
_MARGIN: Final = 0.25  # of the extent of what a plane was laid through, on every side

Span = tuple[float, float]
"""The two ends of an axis, the smaller first."""


@dataclass(frozen=True, eq=False)
class Flat:
    """A line or a plane: a point, one or two directions, and how far to look along them.

    Attributes:
        origin: The point with coordinates 0, shape (d,).
        directions: One or two vectors of shape (d,), linearly independent; coordinates count in units of their length.
        spans: For each of them, the smallest and the largest coordinate.
        labels: For each of them, what its axis is called.
        explained: For each of them, the share of the variance of a trajectory that it explains; empty where there is
            none.

    Raises:
        TypeError: If a point or direction is not a floating-point tensor.
        ValueError: If shapes, dtypes or devices differ, a number is not finite, the directions are linearly dependent,
            or a span does not run from a smaller to a larger number.
    """

    origin: Tensor
    directions: tuple[Tensor, ...]
    spans: tuple[Span, ...]
    labels: tuple[str, ...]
    explained: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        named = {"origin": self.origin, **{f"direction {i + 1}": v for i, v in enumerate(self.directions)}}
        check_vectors(named)
        for name, v in list(named.items())[1:]:
            if not float(v.norm()) > 0:
                raise ValueError(f"{name} must not be 0: it shows the same point everywhere")
        if len(self.directions) == 2 and sine(*self.directions) < _COLLINEAR:
            raise ValueError("the two directions are parallel, so that they span a line and no plane: give two others")
        for span in self.spans:
            if not (len(span) == 2 and all(map(math.isfinite, span)) and span[0] < span[1]):
                raise ValueError(f"a span must be two finite numbers, the smaller first; got {span!r}")
        if not len(self.directions) == len(self.spans) == len(self.labels):
            raise ValueError(
                f"every direction needs a span and a label; got {len(self.directions)} directions, {len(self.spans)} "
                f"spans and {len(self.labels)} labels"
            )

    @property
    def dim(self) -> int:
        """Number of coordinates `d` of the space around it."""
        return len(self.origin)

    @property
    def basis(self) -> Tensor:
        """The directions as rows, shape (1 or 2, d)."""
        return torch.stack(self.directions)

    def points(self, coordinates: Tensor) -> Tensor:
        """Return the points with these coordinates, shape (…, d).

        Args:
            coordinates: Shape (…, 1) for a line, (…, 2) for a plane.
        """
        rows = coordinates.to(self.origin).reshape(-1, len(self.directions))
        points = torch.addmm(self.origin, rows, self.basis)  # without a copy of as many vectors in between
        return points.reshape(*coordinates.shape[:-1], self.dim)

    def project(self, vectors: Tensor) -> Tensor:
        """Return the coordinates of the orthogonal projections of vectors, float64, shape (…, 1 or 2).

        Args:
            vectors: Shape (…, d).
        """
        # Accumulated in float64, but without copies of all vectors in it.
        gram = self.basis.double() @ self.basis.double().mT
        products = torch.stack([(vectors * v).sum(-1, dtype=torch.float64) for v in self.directions], -1)
        projected: Tensor = torch.linalg.solve(gram, products[..., None])[..., 0]
        return projected

    def locate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return where points lie: coordinates of their feet, shape (…, 1 or 2), and distances from it, shape (…).

        Args:
            points: Shape (…, d).
        """
        apart = points.double() - self.origin.double()
        feet = self.project(apart)
        distance: Tensor = (apart - feet @ self.basis.double()).norm(dim=-1)
        return feet, distance


class Plane(Flat):
    """A plane: `x(a, b) = origin + a·first + b·second`, over a rectangle of coordinates. See `Flat`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.directions) != 2:
            raise ValueError(f"a plane has 2 directions; got {len(self.directions)}")


@dataclass(frozen=True, eq=False)
class Line(Flat):
    """A line: `x(t) = origin + t·direction`, over an interval. See `Flat`.

    Attributes:
        rho: The coordinate at which SAM looks, if it is the line along `u`; None for other lines.
    """

    rho: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.directions) != 1:
            raise ValueError(f"a line has 1 direction; got {len(self.directions)}")


def plane(
    *points: Tensor,
    directions: tuple[Tensor, Tensor] | None = None,
    spans: tuple[Span, Span] | Span | None = None,
    labels: tuple[str, str] | None = None,
) -> Plane:
    """Lay a plane through three points, or through one point along two directions.

    Through three points `p, q, r` the axes are orthonormal: the first runs from `p` to `q`, the second at right angles
    to it, towards `r`; coordinates are distances. Two given directions are taken as they are.

    Args:
        *points: Three points of shape (d,) that do not lie on one line; or one.
        directions: Two directions of shape (d,), with one point.
        spans: Smallest and largest coordinate of both axes, or of each. By default, with three points, what holds them
            with a quarter of their extent around them; with one point, −1 to 1.
        labels: What the axes are called.

    Returns:
        The plane.

    Raises:
        TypeError: If a point or direction is not a floating-point tensor.
        ValueError: If there are not three points or one with two directions, they do not fit each other, or lie on one
            line.

    Example:
        >>> p, q, r = torch.zeros(3), torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])
        >>> at = plane(p, q, r)
        >>> at.locate(r), at.locate(torch.tensor([1.0, 1.0, 3.0]))[1]
        ((tensor([1., 1.], dtype=torch.float64), tensor(0., dtype=torch.float64)), tensor(3., dtype=torch.float64))
    """
    if directions is None and len(points) == 3:
        return _through(*points, spans=spans, labels=labels)
    if directions is None or len(points) != 1:
        raise ValueError(
            f"give three points, or one point and directions=(first, second); got {len(points)} points and "
            f"{'no' if directions is None else 'two'} directions"
        )
    first, second = directions
    return Plane(
        points[0], (first, second), _spans(spans, (-1.0, 1.0)), labels or ("first direction", "second direction")
    )


def _through(
    p: Tensor, q: Tensor, r: Tensor, *, spans: tuple[Span, Span] | Span | None, labels: tuple[str, str] | None
) -> Plane:
    check_vectors({"point 1": p, "point 2": q, "point 3": r})
    if not float((q - p).norm()) > 0 or not float((r - p).norm()) > 0 or sine(q - p, r - p) < _COLLINEAR:
        raise ValueError(
            "the three points lie on one line, so that they span no plane: give others, or one point and two directions"
        )
    first, second = orthonormal(q - p, r - p)
    around = _around(torch.stack([first, second]).double() @ torch.stack([p - p, q - p, r - p]).double().mT)
    return Plane(p, (first, second), _spans(spans, around), labels or ("distance along 1 → 2", "distance towards 3"))


def line(
    origin: Tensor, direction: Tensor, *, span: Span = (-1.0, 1.0), label: str = "distance", rho: float | None = None
) -> Line:
    """Lay a line through a point. Coordinates are distances: the direction is scaled to length 1.

    Args:
        origin: The point, shape (d,).
        direction: The direction, shape (d,), not 0.
        span: Smallest and largest coordinate.
        label: What the axis is called.
        rho: The coordinate at which SAM looks, if it looks along this line.

    Returns:
        The line.

    Raises:
        TypeError: If a point or direction is not a floating-point tensor.
        ValueError: If they do not fit each other, or the direction is 0.

    Example:
        >>> line(torch.zeros(2), torch.tensor([0.0, 5.0])).points(torch.tensor([2.0]))
        tensor([0., 2.])
    """
    check_vectors({"origin": origin, "direction": direction})
    length = direction.double().norm()
    if not float(length) > 0:
        raise ValueError("the direction must not be 0: it shows the same point everywhere")
    return Line(origin, ((direction.double() / length).to(direction),), (span,), (label,), rho=rho)


def trajectory_plane(
    trajectory: Tensor, *, centre: Tensor | None = None, spans: tuple[Span, Span] | Span | None = None
) -> Plane:
    """Lay a plane along the two directions in which a trajectory varies most: its first two principal components.

    Args:
        trajectory: Points along the way, shape (n, d), at least 3 of them.
        centre: The point with coordinates 0, shape (d,); by default the last of the trajectory. The components are
            those of the deviations from the mean, wherever the centre lies.
        spans: Smallest and largest coordinate of both axes, or of each; by default what holds the trajectory.

    Returns:
        The plane; `explained` holds the shares of the variance.

    Raises:
        TypeError: If the trajectory is not a floating-point tensor.
        ValueError: If it has fewer than 3 points, or they lie on one line.

    Example:
        >>> zigzag = torch.tensor([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [4.0, 0.0, 0.0]])
        >>> [round(share, 2) for share in trajectory_plane(zigzag).explained]
        [0.92, 0.08]
    """
    if not isinstance(trajectory, Tensor) or not trajectory.is_floating_point():
        raise TypeError(f"trajectory must be a floating-point torch tensor; got {type(trajectory).__name__}")
    if trajectory.dim() != 2 or len(trajectory) < 3:
        raise ValueError(f"trajectory must be at least 3 points, shape (n, d); got shape {tuple(trajectory.shape)}")
    if not bool(trajectory.isfinite().all()):
        raise ValueError("trajectory must hold finite numbers only")
    deviations = (trajectory - trajectory.double().mean(0)).double()
    # By the n × n matrix of products: d may be in the millions.
    variances, weights = torch.linalg.eigh(deviations @ deviations.mT)
    if not float(variances[-2]) > _COLLINEAR**2 * float(variances[-1]):
        raise ValueError("the points of the trajectory lie on one line, so that they span no plane")
    first, second = (weights[:, -1] @ deviations, weights[:, -2] @ deviations)
    # The sign of a component is arbitrary: the trajectory runs to the right and up.
    went = trajectory[-1].double() - trajectory[0].double()
    first, second = (v * (-1 if float(v @ went) < 0 else 1) / v.norm() for v in (first, second))
    origin = trajectory[-1] if centre is None else centre
    check_vectors({"trajectory": trajectory[0], "centre": origin})
    total = float(variances.clamp(min=0).sum())
    explained = (float(variances[-1]) / total, float(variances[-2]) / total)
    around = _around(torch.stack([first, second]) @ (trajectory.double() - origin.double()).mT)
    labels = tuple(f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(explained))
    return Plane(origin, (first.to(trajectory), second.to(trajectory)), _spans(spans, around), labels, explained)


# --- parts ---------------------------------------------------------------------------------------------------------


def check_vectors(named: dict[str, Tensor]) -> None:
    """See that vectors are finite, and fit each other.

    Args:
        named: The vectors, by what to call them.

    Raises:
        TypeError: If one is not a floating-point tensor.
        ValueError: If one is not a vector, not finite, or differs in length, dtype or device from the first.
    """
    expected: tuple[str, Tensor] | None = None
    for name, v in named.items():
        if not isinstance(v, Tensor) or not v.is_floating_point():
            given = f"a tensor of {v.dtype}" if isinstance(v, Tensor) else type(v).__name__
            raise TypeError(f"{name} must be a floating-point torch tensor; got {given}")
        if v.dim() != 1 or len(v) < 1:
            raise ValueError(f"{name} must be a vector of shape (d,); got shape {tuple(v.shape)}")
        if not bool(v.isfinite().all()):
            raise ValueError(f"{name} must hold finite numbers only")
        if expected is None:
            expected = name, v
        elif (v.shape, v.dtype, v.device) != (expected[1].shape, expected[1].dtype, expected[1].device):
            raise ValueError(f"{name} must be like {expected[0]}, {_description(expected[1])}; got {_description(v)}")


def _description(v: Tensor) -> str:
    return f"{len(v)} numbers of {v.dtype} on {v.device}"


def sine(v: Tensor, w: Tensor) -> float:
    """Return the sine of the angle between two vectors that are not 0.

    Args:
        v: The one, shape (d,).
        w: The other.
    """
    one, other = v.double() / v.double().norm(), w.double() / w.double().norm()
    return float((other - (one @ other) * one).norm())


def orthonormal(v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return `v` scaled to length 1, and the part of `w` at right angles to it likewise.

    Args:
        v: A vector, shape (d,).
        w: Another, not parallel to it.
    """
    first = v.double() / v.double().norm()
    rest = w.double() - (first @ w.double()) * first
    rest = rest - (first @ rest) * first  # once more, against rounding
    return first.to(v), (rest / rest.norm()).to(w)


def _around(coordinates: Tensor) -> tuple[Span, Span]:
    """What holds the points, with a margin around them; coordinates of shape (2, n)."""
    low, high = coordinates.amin(1), coordinates.amax(1)
    margin = _MARGIN * float((high - low).max())
    first, second = ((float(a) - margin, float(b) + margin) for a, b in zip(low, high, strict=True))
    return first, second


def _spans(given: tuple[Span, Span] | Span | None, default: Sequence[float] | tuple[Span, Span]) -> tuple[Span, Span]:
    both = default if given is None else given
    first, second = both
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return (float(first[0]), float(first[1])), (float(second[0]), float(second[1]))
    if isinstance(first, int | float) and isinstance(second, int | float):
        return (float(first), float(second)), (float(first), float(second))
    raise ValueError(f"spans must be (low, high) for both axes, or ((low, high), (low, high)); got {given!r}")

"""Analytic landscapes with known critical points, on which SAM's hallucinations can be worked out.

The double well and the ring have the closed forms of the project's theory; `Moat` is in the manner of Figure 1 of
Park, Jang, Ryu and Yang (arXiv 2509.21818): a smooth function with a set of minimizers around an isolated maximizer.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

import torch
from torch import Tensor

from samirage.landscape.analytic import AbstractFormula, AbstractLeastSquares, Scalar

_MAX_WELLS_DIM: Final = 6  # 3^6 critical points are still a list that one can read


def _point(coordinates: Sequence[float]) -> Tensor:
    return torch.tensor(list(coordinates), dtype=torch.float64)


def _total(terms: Sequence[Scalar]) -> Scalar:
    """Sum in the terms' own arithmetic: Python's `sum` begins with an int, which costs a kernel."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def _above_0(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0; got {value!r}")
    return float(value)


def _whole(name: str, value: int, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        legal = "of at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name} must be a whole number {legal}; got {value!r}")
    return value


def _root(slope: Callable[[float], float], low: float, high: float) -> float:
    """Bisect to the last bit between two points at which the signs differ."""
    rising = slope(high) > 0
    while low < (middle := (low + high) / 2) < high:
        if (slope(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return low if abs(slope(low)) < abs(slope(high)) else high


class Quadratic(AbstractFormula):
    """A quadratic form about a centre: `f(x) = ½(x − centre)ᵀ·hessian·(x − centre)`.

    SAM cannot hallucinate on it, because `g⁺ = (1 + rho·H/‖g‖)·g`; it ends in a 2-cycle along the top eigenvector.

    Args:
        hessian: The symmetric matrix as rows, or its diagonal; finite numbers.
        centre: The critical point; the origin by default.

    Raises:
        ValueError: If the matrix is not square, symmetric and finite, or the centre does not fit it.

    Example:
        >>> f = Quadratic([4.0, 1.0])
        >>> f(torch.tensor([1.0, 2.0])), f.grad(torch.tensor([1.0, 2.0]))
        (tensor(4.), tensor([4., 2.]))
    """

    def __init__(
        self, hessian: Sequence[float] | Sequence[Sequence[float]] | Tensor = (4.0, 1.0), centre: Sequence[float] = ()
    ) -> None:
        matrix = torch.as_tensor(hessian, dtype=torch.float64)
        if matrix.dim() == 1:
            matrix = torch.diag(matrix)
        if matrix.dim() != 2 or len(matrix) == 0 or not torch.equal(matrix, matrix.mT):
            raise ValueError(f"hessian must be a symmetric matrix, or its diagonal; got {hessian!r}")
        if not bool(matrix.isfinite().all()):
            raise ValueError(f"hessian must hold finite numbers; got {hessian!r}")
        self._matrix: list[list[float]] = matrix.tolist()
        self._centre = [float(c) for c in centre] or [0.0] * len(matrix)
        if len(self._centre) != len(matrix) or not all(map(math.isfinite, self._centre)):
            raise ValueError(f"centre must be {len(matrix)} finite numbers; got {centre!r}")

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self._matrix)

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return the quadratic form in the arithmetic of the coordinates."""
        y = [a - c if c else a for a, c in zip(x, self._centre, strict=True)]
        terms = [
            y[i] ** 2 * (h / 2) if i == j else y[i] * y[j] * h
            for i, row in enumerate(self._matrix)
            for j, h in enumerate(row[: i + 1])
            if h
        ]
        return _total(terms or [x[0] * 0.0])

    def _kind(self) -> str:
        curvatures = torch.linalg.eigvalsh(_point([]).new_tensor(self._matrix))
        tolerance = 1e-12 * float(curvatures.abs().max())
        if curvatures[0] < -tolerance:
            return "saddle" if curvatures[-1] > tolerance else "maximizer"
        return "minimizer"

    @property
    def minimizers(self) -> list[Tensor]:
        """The centre, if no curvature is negative."""
        return [_point(self._centre)] if self._kind() == "minimizer" else []

    @property
    def maximizers(self) -> list[Tensor]:
        """The centre, if no curvature is positive and one is negative."""
        return [_point(self._centre)] if self._kind() == "maximizer" else []

    @property
    def saddles(self) -> list[Tensor]:
        """The centre, if curvatures of both signs meet there."""
        return [_point(self._centre)] if self._kind() == "saddle" else []


class Ring(AbstractFormula):
    """A sphere of minimizers around an isolated maximizer: `f(x) = (‖x‖² − radius²)²/4`.

    For `radius < rho < 2·radius` SAM ends, from every start, at `‖x‖ = rho − radius`: a set of hallucinated minimizers.

    Args:
        radius: Radius of the sphere of minimizers, above 0.
        dim: Number of coordinates, at least 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> f, x = Ring(), torch.tensor([0.5, 0.0])  # rho = 1.5 looks from here across the maximizer
        >>> f.grad(x).norm(), f.grad(x + 1.5 * f.grad(x) / f.grad(x).norm()).norm()
        (tensor(0.3750), tensor(0.))
    """

    def __init__(self, radius: float = 1.0, dim: int = 2) -> None:
        self._radius = _above_0("radius", radius)
        self._dim = _whole("dim", dim)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self._dim

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return `(‖x‖² − radius²)²/4` in the arithmetic of the coordinates."""
        return (_total([a**2 for a in x]) - self._radius * self._radius) ** 2 / 4

    @property
    def minimizers(self) -> list[Tensor]:
        """One point of the sphere."""
        return [_point([self._radius] + [0.0] * (self.dim - 1))]

    @property
    def maximizers(self) -> list[Tensor]:
        """The origin."""
        return [_point([0.0] * self.dim)]


class DoubleWell(AbstractFormula):
    """Two minima with a saddle between them: `f(x, y) = (x² − 1)²/4 + stiffness·y² + coupling·x·y`.

    With the defaults SAM has hallucinated attractors for rho in about (1.04, 2.06), although there is no maximizer:
    a ridge between two basins suffices.

    Args:
        stiffness: Half the curvature along y, above 0.
        coupling: How much the two coordinates mix; any finite number.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [x.tolist() for x in DoubleWell().minimizers]
        [[-1.0139..., 0.1901...], [1.0139..., -0.1901...]]
    """

    def __init__(self, stiffness: float = 0.4, coupling: float = 0.15) -> None:
        self._stiffness = _above_0("stiffness", stiffness)
        if not math.isfinite(coupling):
            raise ValueError(f"coupling must be a finite number; got {coupling!r}")
        self._coupling = float(coupling)

    @property
    def dim(self) -> int:
        """Two coordinates."""
        return 2

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return the double well in the arithmetic of the coordinates."""
        a, b = x
        return (a**2 - 1) ** 2 / 4 + b**2 * self._stiffness + a * b * self._coupling

    @property
    def minimizers(self) -> list[Tensor]:
        """The two minima: `x² = 1 + coupling²/(2·stiffness)`, `y = −coupling·x/(2·stiffness)`."""
        x = math.sqrt(1 + self._coupling**2 / (2 * self._stiffness))
        y = -self._coupling * x / (2 * self._stiffness)
        return [_point([-x, -y]), _point([x, y])]

    @property
    def saddles(self) -> list[Tensor]:
        """The origin."""
        return [_point([0.0, 0.0])]


class BumpOnBowl(AbstractFormula):
    """A bowl with a bump on its side: `f(x) = ½‖x‖² + height·exp(−‖x − centre‖²/(2·width²))`.

    All critical points lie on the line through the origin and the centre: the minimizer just on the far side of the
    origin; and, if the bump is steep enough, an isolated maximizer just beyond the centre and, further on, a saddle.

    Args:
        height: Height of the bump, above 0.
        width: Width of the bump, above 0.
        centre: Where the bump stands: at least one number, not all 0.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> f = BumpOnBowl()
        >>> len(f.minimizers), len(f.maximizers), len(f.saddles)
        (1, 1, 1)
    """

    def __init__(self, height: float = 2.0, width: float = 0.5, centre: Sequence[float] = (1.5, 0.0)) -> None:
        self._height = _above_0("height", height)
        self._width = _above_0("width", width)
        self._centre = [float(c) for c in centre]
        self._distance = math.hypot(*self._centre)
        if not (math.isfinite(self._distance) and self._distance > 0):
            raise ValueError(f"centre must be finite numbers, not all 0; got {centre!r}")

    @property
    def dim(self) -> int:
        """Number of coordinates, that of the centre."""
        return len(self._centre)

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return bowl plus bump in the arithmetic of the coordinates."""
        bowl = _total([a**2 for a in x])
        apart = _total([(a - c) ** 2 for a, c in zip(x, self._centre, strict=True)])
        return bowl / 2 + (apart * (-0.5 / self._width**2)).exp() * self._height

    def _on_axis(self, beyond_centre: float) -> Tensor:
        scale = 1 + beyond_centre / self._distance
        return _point([c * scale for c in self._centre])

    def _slope(self, s: float) -> float:
        """Slope along the axis at the distance s beyond the centre of the bump."""
        steepness = self._height / self._width**2
        return self._distance + s - steepness * s * math.exp(-0.5 * (s / self._width) ** 2)

    def _bump_roots(self) -> tuple[float, float] | None:
        """Where, beyond the centre, the slope vanishes: at the maximizer and at the saddle."""
        steepness = self._height / self._width**2

        def convexity(s: float) -> float:
            q = (s / self._width) ** 2
            return 1 - steepness * (1 - q) * math.exp(-0.5 * q)

        # For s > 0 the bump's own slope rises to its largest value within one width, then falls: none or two roots.
        if convexity(0.0) >= 0:
            return None
        steepest = _root(convexity, 0.0, self._width)
        if self._slope(steepest) >= 0:
            return None
        outside = self._width
        while self._slope(outside) <= 0:
            outside *= 2
        return _root(self._slope, 0.0, steepest), _root(self._slope, steepest, outside)

    @property
    def minimizers(self) -> list[Tensor]:
        """The minimum near the origin; in one dimension, that beyond the bump too."""
        outside = -2 * self._distance
        while self._slope(outside) >= 0:
            outside *= 2
        found = [self._on_axis(_root(self._slope, outside, -self._distance))]
        roots = self._bump_roots()
        if roots and self.dim == 1:
            found.append(self._on_axis(roots[1]))
        return found

    @property
    def maximizers(self) -> list[Tensor]:
        """The top of the bump, if it has one."""
        roots = self._bump_roots()
        return [self._on_axis(roots[0])] if roots else []

    @property
    def saddles(self) -> list[Tensor]:
        """The pass behind the bump, if it has one."""
        roots = self._bump_roots()
        return [self._on_axis(roots[1])] if roots and self.dim > 1 else []


class MultiWell(AbstractFormula):
    """A minimum at every corner of a cube, a maximizer in its middle: `f(x) = Σ_i (x_i² − 1)²/4`.

    Args:
        dim: Number of coordinates, from 1 to 6.

    Raises:
        ValueError: If `dim` is out of its range.

    Example:
        >>> len(MultiWell(3).minimizers), len(MultiWell(3).maximizers), len(MultiWell(3).saddles)
        (8, 1, 18)
    """

    def __init__(self, dim: int = 2) -> None:
        self._dim = _whole("dim", dim, _MAX_WELLS_DIM)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self._dim

    def formula(self, x: Sequence[Scalar]) -> Scalar:
        """Return the sum of one-dimensional double wells in the arithmetic of the coordinates."""
        return _total([(a**2 - 1) ** 2 for a in x]) / 4

    @property
    def minimizers(self) -> list[Tensor]:
        """The `2^d` corners of the cube."""
        return [_point(corner) for corner in product((-1.0, 1.0), repeat=self.dim)]

    @property
    def maximizers(self) -> list[Tensor]:
        """The origin."""
        return [_point([0.0] * self.dim)]

    @property
    def saddles(self) -> list[Tensor]:
        """All points with some, but not all, coordinates 0 and the others −1 or 1."""
        candidates = product((-1.0, 0.0, 1.0), repeat=self.dim)
        return [_point(c) for c in candidates if 0 < c.count(0.0) < self.dim]


class Moat(AbstractLeastSquares):
    """An egg-shaped curve of minimizers around an isolated maximizer, without symmetry about it.

    `f(x, y) = (h(x, y) − 1)²/4` with the convex `h(x, y) = 2·(exp(skew·x) − skew·x − 1)/(skew·width)² + (y/height)²`:
    the curve is `h = 1`, and the only other critical point is the maximizer at the origin. As `skew → 0` the curve
    becomes the ellipse with half-axes `width` and `height`.

    Args:
        width: Size of the curve along x, above 0.
        height: Size of the curve along y, above 0.
        skew: How far the curve is from an ellipse, above 0.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> f = Moat()
        >>> f(torch.stack([f.minimizers[0], f.maximizers[0]]))
        tensor([0.0000, 0.2500], dtype=torch.float64)
    """

    def __init__(self, width: float = 1.0, height: float = 0.8, skew: float = 0.6) -> None:
        self._width = _above_0("width", width)
        self._height = _above_0("height", height)
        self._skew = _above_0("skew", skew)

    @property
    def dim(self) -> int:
        """Two coordinates."""
        return 2

    def residuals(self, x: Sequence[Scalar]) -> Sequence[Scalar]:
        """Return `(h − 1)/2`, whose square is `f`, in the arithmetic of the coordinates."""
        a, b = x
        slanted = a * self._skew
        h = (slanted.exp() - slanted - 1) * (2 / (self._skew * self._width) ** 2) + b**2 * (1 / self._height**2)
        return [(h - 1) / 2]

    @property
    def minimizers(self) -> list[Tensor]:
        """One point of the curve."""
        return [_point([0.0, self._height])]

    @property
    def maximizers(self) -> list[Tensor]:
        """The origin."""
        return [_point([0.0, 0.0])]

"""Slices: `f`, `f^SAM` and their gradients over the grid of a plane or line, with what is needed to trust them.

A slice is an `xarray.Dataset` whose dimensions have names, so that rows and columns cannot be taken for each other, and
whose attributes state what a picture leaves out: how far overlaid points lie off the plane, what batch norm did, how
much of a trajectory its plane explains, where there are gaps.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samirage.errors import require
from samirage.landscape.marks import Mark, known_marks, mark_table
from samirage.landscape.pace import Pace, check_memory, points_that_fit
from samirage.landscape.partial import Partial
from samirage.landscape.planes import Flat
from samirage.landscape.smooth import Smooth
from samirage.sam import AbstractVariant, Variant, displacement

if TYPE_CHECKING:
    import xarray as xr

Fields = Literal["loss", "surrogate", "all"]
FIELDS: Final[tuple[Fields, ...]] = get_args(Fields)

AXES: Final = ("first", "second")
_VECTORS: Final = frozenset({"descent", "descent_sam"})

_TELL: Final = {  # of every variable: its name in words, its unit or what it is in
    "loss": ("f", "loss"),
    "loss_sam": ("f^SAM(x) = f(x + rho·u(x))", "loss"),
    "grad_norm": ("‖g‖", "loss per distance"),
    "grad_plus_norm": ("‖g⁺‖, the gradient at the perturbed point", "loss per distance"),
    "shift_ratio": ("shift ratio ‖g⁺‖/‖g‖", "1"),
    "descent": ("−g, projected onto the plane", "loss per distance, in coordinates of the plane"),
    "descent_sam": ("−g⁺, projected onto the plane", "loss per distance, in coordinates of the plane"),
    "mark_distance": ("distance of the point from the slice", "distance"),
    "mark_loss": ("f at the point itself", "loss"),
    "mark_loss_on_slice": ("f at the foot of the point, which the slice shows", "loss"),
    "mark_loss_sam": ("f^SAM at the point itself", "loss"),
    "mark_loss_sam_on_slice": ("f^SAM at the foot of the point, which the slice shows", "loss"),
}


def scan(
    f: Smooth,
    where: Flat,
    *,
    rho: float | None = None,
    fields: Fields | None = None,
    steps: int | tuple[int, int] = 41,
    variant: Variant | AbstractVariant = "sam",
    marks: Sequence[Mark] = (),
    memory_gb: float = 1.0,
    at_once: int | None = None,
    out: Path | None = None,
    progress: bool = False,
) -> "xr.Dataset":
    """Evaluate a function over the grid of a plane or line.

    Every grid point costs one value for `fields="loss"`; one gradient and one value for `"surrogate"`; two gradients
    for `"all"`. A grid with an odd number of steps over a span about 0 holds the origin itself.

    Args:
        f: The function: an `Objective` (of the whole data set, or `objective.subset(n)`), or an analytic one.
        where: A plane or a line. It computes in the dtype and on the device of its origin.
        rho: Perturbation radius, above 0; None (for `"loss"` alone) leaves SAM out.
        fields: What to compute: `"loss"`: `f`; `"surrogate"`: `f`, `f^SAM`, `‖g‖`; `"all"`: those, `‖g⁺‖`, the shift
            ratio, and `−g` and `−g⁺` projected onto the slice. By default `"all"`, or `"loss"` without a radius.
        steps: Grid points along every axis, or along each of two; at least 2.
        variant: Perturbation rule.
        marks: What to overlay. Critical points that `f` names come by themselves.
        memory_gb: Memory, in 10⁹ bytes, that points in work may fill.
        at_once: Points to evaluate as one batch; by default the fastest number that fits, by a short measurement. Give
            it where results must repeat bit for bit.
        out: A NetCDF file in which finished rows are kept: an interrupted scan goes on from it, a finished one is read.
        progress: Whether to show a bar, if rich is installed.

    Returns:
        Variables over `second` × `first` (a plane) or `first` (a line), vectors over `axis` too, the table of marks
        over `mark`. What is not finite is NaN; the attribute `note` counts such points.

    Raises:
        UserError: If xarray is not installed, or `out` holds another scan or cannot be written.
        ValueError: If an argument is out of its range, or the grid does not fit the memory.

    Example:
        >>> from samirage.landscape import Ring, plane
        >>> axes = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> at = plane(torch.zeros(2), directions=axes, spans=(-1.5, 1.5))
        >>> found = scan(Ring(), at, rho=1.5, steps=7)
        >>> seen = found.sel(first=0.5, second=0.0)  # f^SAM has a minimum where f has none
        >>> float(seen.loss_sam), float(seen.grad_norm), float(seen.grad_plus_norm)
        (0.0, 0.375, 0.0)
    """
    xarray = require("lab", "xarray")
    fields = _checked_fields(fields, rho)
    axes = _axes(where, steps)
    sizes = [len(axis) for axis in axes.values()]
    names = _variables(fields)
    _check_grid(where, sizes, names, memory_gb)
    all_marks = [*known_marks(f), *marks]
    if at_once is not None and (isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1):
        raise ValueError(f"at_once must be None or a whole number of at least 1; got {at_once!r}")

    grid = torch.cartesian_prod(*(torch.from_numpy(axis) for axis in reversed(axes.values()))).reshape(-1, len(axes))
    grid = grid.flip(1)  # rows of the second axis, columns of the first: the first coordinate runs fastest
    rows = {name: np.full((len(grid), len(axes)) if name in _VECTORS else len(grid), np.nan) for name in names}

    identity = _identity(f, where, axes, rho, fields, variant) if out is not None else ""
    with Partial(out, identity, rows, progress=progress) as partial:
        todo = partial.missing()
        fit = points_that_fit(f, where.origin, memory_gb, len(todo))
        pace, first = Pace(f, fit, len(todo), at_once), 0
        while first < len(todo):
            begun = perf_counter()
            chosen, width = pace.turn()
            some = todo[first : first + width]
            found = _figures(chosen, where, where.points(grid[some]), rho, fields, variant)
            partial.store(some, {name: values.double().cpu().numpy() for name, values in found.items()})
            pace.took(len(some), perf_counter() - begun)
            first += len(some)
        rows = partial.rows
    gaps = int((~np.isfinite(rows["loss_sam" if rho is not None else "loss"]) | ~np.isfinite(rows["loss"])).sum())
    dims = tuple(reversed(axes))
    shape = tuple(reversed(sizes))
    variables = {
        name: ((*dims, "axis"), _gaps(v).reshape(*shape, len(axes)))
        if name in _VECTORS
        else (dims, _gaps(v).reshape(shape))
        for name, v in rows.items()
    }
    table = mark_table(f, where, all_marks, rho=rho, variant=variant)
    coords = {**axes, "axis": list(axes)} if set(names) & _VECTORS else dict(axes)
    dataset: xr.Dataset = xarray.Dataset(
        {**variables, **table}, coords, _attributes(f, where, rho, variant, gaps, len(grid))
    )
    for name, variable in dataset.variables.items():
        if name in _TELL:
            variable.attrs.update(long_name=_TELL[name][0], units=_TELL[name][1])
        elif name in AXES:
            variable.attrs["long_name"] = where.labels[AXES.index(name)]
    partial.finish(dataset)
    return dataset


def _variables(fields: Fields) -> list[str]:
    more = {"loss": [], "surrogate": ["grad_norm", "loss_sam"]}
    return ["loss", *more.get(fields, ["grad_norm", "loss_sam", "grad_plus_norm", "shift_ratio", *sorted(_VECTORS)])]


def _figures(
    f: Smooth, where: Flat, x: Tensor, rho: float | None, fields: Fields, variant: Variant | AbstractVariant
) -> dict[str, Tensor]:
    """What is asked for at some points, shape (n, d)."""
    if fields == "loss":
        return {"loss": f(x)}
    assert rho is not None
    loss, grad = f.value_and_grad(x)
    grad_norm = torch.linalg.vector_norm(grad, dim=-1, dtype=torch.float64)
    x_plus = x + displacement(x, grad, rho, variant=variant)
    if fields == "surrogate":
        return {"loss": loss, "grad_norm": grad_norm, "loss_sam": f(x_plus)}
    loss_plus, grad_plus = f.value_and_grad(x_plus)
    grad_plus_norm = torch.linalg.vector_norm(grad_plus, dim=-1, dtype=torch.float64)
    return {
        "loss": loss,
        "grad_norm": grad_norm,
        "loss_sam": loss_plus,
        "grad_plus_norm": grad_plus_norm,
        "shift_ratio": grad_plus_norm / grad_norm,
        "descent": -where.project(grad),
        "descent_sam": -where.project(grad_plus),
    }


# --- what is said about it -----------------------------------------------------------------------------------------


def _attributes(
    f: Smooth, where: Flat, rho: float | None, variant: Variant | AbstractVariant, gaps: int, count: int
) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "kind": "plane" if len(where.directions) == 2 else "line",
        "dim": where.dim,
        "dtype": str(where.origin.dtype).removeprefix("torch."),
        "direction_lengths": [float(v.double().norm()) for v in where.directions],
        "examples": int(getattr(f, "examples", 0)),
        "batch_norm": str(getattr(f, "batch_norm", "none in the function")),
        "note": f"{gaps} of {count} grid points have no finite loss: they are gaps" if gaps else "",
    }
    if rho is not None:
        attributes |= {"rho": rho, "variant": variant}
    if len(where.directions) == 2:
        one, other = (v.double() / v.double().norm() for v in where.directions)
        attributes["cosine_of_directions"] = float(one @ other)
    if where.explained:
        attributes["explained_variance"] = list(where.explained)
    return attributes


def _identity(
    f: Smooth,
    where: Flat,
    axes: Mapping[str, NDArray[Any]],
    rho: float | None,
    fields: Fields,
    variant: Variant | AbstractVariant,
) -> str:
    """What tells this scan from others: the plane, the grid, what is asked for, and the function at the origin."""
    told = hashlib.sha256(f"{rho!r} {fields} {variant} {where.origin.dtype}".encode())
    for tensor in (where.origin, *where.directions, f(where.origin)):
        told.update(tensor.double().cpu().numpy().tobytes())
    for axis in axes.values():
        told.update(axis.tobytes())
    return told.hexdigest()


def _gaps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


# --- what is refused -----------------------------------------------------------------------------------------------


def _checked_fields(fields: Fields | None, rho: float | None) -> Fields:
    if fields is not None and fields not in FIELDS:
        raise ValueError(f"fields must be one of {', '.join(FIELDS)}; got {fields!r}")
    if rho is not None and not (math.isfinite(rho) and rho > 0):
        raise ValueError(f"rho must be a finite number above 0, or None; got {rho!r}")
    if rho is None and fields not in {None, "loss"}:
        raise ValueError(f"fields={fields!r} needs a radius: give rho, or fields='loss'")
    return fields or ("loss" if rho is None else "all")


def _axes(where: Flat, steps: int | tuple[int, int]) -> dict[str, NDArray[np.float64]]:
    each = steps if isinstance(steps, tuple) else (steps,) * len(where.directions)
    legal = all(isinstance(n, int) and not isinstance(n, bool) and n >= 2 for n in each)
    if len(each) != len(where.directions) or not legal:
        raise ValueError(f"steps must be a whole number of at least 2, or one for each axis; got {steps!r}")
    return {name: _axis(span, n) for name, span, n in zip(AXES, where.spans, each, strict=False)}


def _axis(span: tuple[float, float], count: int) -> NDArray[np.float64]:
    """Evenly spaced, both ends included; exactly antisymmetric about 0 if the span is, so that 0 itself is hit."""
    forth = np.linspace(span[0], span[1], count)
    middle: NDArray[np.float64] = (forth - np.linspace(-span[1], -span[0], count)[::-1]) / 2
    return middle


def _check_grid(where: Flat, sizes: Sequence[int], names: Sequence[str], memory_gb: float) -> None:
    if not (math.isfinite(memory_gb) and memory_gb > 0):
        raise ValueError(f"memory_gb must be a finite number above 0; got {memory_gb!r}")
    each = sum(len(sizes) if name in _VECTORS else 1 for name in names) + len(sizes)
    needed = 8 * each * math.prod(sizes)
    if needed > memory_gb * 1e9:
        grid = " × ".join(map(str, sizes))
        raise ValueError(
            f"a grid of {grid} points needs {needed / 1e9:.2g}·10⁹ bytes for its results alone, beyond "
            f"memory_gb={memory_gb:g}: take fewer steps, or raise it"
        )
    check_memory(where.origin, memory_gb)

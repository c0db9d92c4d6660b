"""The command `samirage landscape`: slices of a built-in function or a user's own model, as data and as pictures."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from samirage.cli.arguments import check_writable, seed
from samirage.cli.points import FUNCTION_HELP, explained, function_of, points_given
from samirage.errors import UserError, require

if TYPE_CHECKING:
    from samirage.landscape import Line, Plane, Smooth

_PICTURES: Final = (".pdf", ".svg", ".png")


def add_commands(commands: Any, radius: Callable[[str], float]) -> None:
    """Add the command to the command line.

    Args:
        commands: What argparse's `add_subparsers` returned.
        radius: Parses a finite number above 0.
    """
    landscape = commands.add_parser(
        "landscape",
        help="draw f and f^SAM on a plane, of a function or of a model of yours",
        description=(
            "Evaluate f and, with --rho, f^SAM, their gradients and the shift ratio on a plane or line; write them as "
            "NetCDF and draw them. A factory returns an Objective: your model with its loss and data."
        ),
        epilog="example: samirage landscape double-well --rho 1.5 --out double-well.nc --figure double-well.pdf",
    )
    landscape.add_argument("function", nargs="?", metavar="FUNCTION", help=FUNCTION_HELP)
    landscape.add_argument("--rho", type=radius, metavar="RHO", help="perturbation radius, above 0 (default: f alone)")
    landscape.add_argument(
        "--plane",
        choices=("random", "gradient", "axes", "ascent"),
        default=None,
        help="random: two directions, filter-normalised for networks (default for them); gradient: along the gradient "
        "and the top eigenvector; axes: the first two coordinates (default for functions); ascent: the line along u",
    )
    landscape.add_argument("--span", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of every axis (default: -1 1)")
    landscape.add_argument("--steps", type=int, default=41, metavar="N", help="grid points along an axis (default: 41)")
    landscape.add_argument("--seed", type=seed, default=0, metavar="N", help="of random directions (default: 0)")
    landscape.add_argument("--examples", type=int, metavar="N", help="use the first N examples (default: all)")
    landscape.add_argument("--memory-gb", type=float, default=1.0, metavar="GB", help="memory budget (default: 1)")
    landscape.add_argument(
        "--x",
        type=float,
        nargs="+",
        metavar="X",
        help="the point, one number per coordinate (default: the model's own)",
    )
    landscape.add_argument("--x-file", type=Path, metavar="FILE", help="the point, from a JSON file: a list of numbers")
    landscape.add_argument(
        "--arg", action="append", default=[], metavar="NAME=VALUE", help="an argument of the factory, its value in JSON"
    )
    landscape.add_argument(
        "--out", type=Path, default=Path("landscape.nc"), metavar="FILE",
        help="NetCDF file; an interrupted scan goes on from it (default: %(default)s)",
    )  # fmt: skip
    landscape.add_argument("--figure", type=Path, metavar="FILE", help="picture: .pdf, .svg or .png")
    landscape.set_defaults(run=_landscape)


def _landscape(options: argparse.Namespace, command: str) -> int:
    require("lab", "xarray")
    if options.figure is not None and options.figure.suffix not in _PICTURES:
        raise UserError(f"--figure must end in {', '.join(_PICTURES)}; got {options.figure}")
    if options.function is None:
        raise UserError("name a FUNCTION, such as `samirage landscape double-well --rho 1.5`")
    for option, path in (("--out", options.out), ("--figure", options.figure)):
        if path is not None:
            check_writable(path, option)
    from samirage.landscape import scan

    f, _ = function_of(options)
    with explained():
        if options.examples is not None:
            subset: Callable[[int], Smooth] | None = getattr(f, "subset", None)
            if subset is None:
                raise UserError("--examples needs a model with data; this function has none")
            f = subset(options.examples)
        found = scan(
            f, _where(f, options), rho=options.rho, steps=options.steps, memory_gb=options.memory_gb, out=options.out,
            progress=True,
        )  # fmt: skip
    print(f"The slice: {options.out}")
    if found.attrs["note"]:
        print(found.attrs["note"])
    if options.figure is not None:
        from samirage.report.plots.slice import save_slice

        save_slice(found, options.figure)
        print(f"The figure: {options.figure}")
    return 0


def _where(f: "Smooth", options: argparse.Namespace) -> "Plane | Line":
    """Lay the plane or line that was asked for.

    Raises:
        UserError: If it needs what was not given.
    """
    import torch

    from samirage.landscape import ascent_line, gradient_plane, plane, random_plane

    own: Callable[[], torch.Tensor] | None = getattr(f, "flat_parameters", None)
    given = points_given(options)
    x = torch.tensor(given, dtype=torch.float64) if given is not None else None
    if x is None:
        x = own() if own is not None else torch.zeros(f.dim, dtype=torch.float64)
    span = (options.span[0], options.span[1]) if options.span is not None else None
    kind = options.plane or ("random" if own is not None else "axes")
    if kind == "random":
        return random_plane(f, x, seed=options.seed, spans=span)
    if kind == "gradient":
        return gradient_plane(f, x, seed=options.seed, spans=span)
    if kind == "ascent":
        if options.rho is None:
            raise UserError("--plane ascent needs --rho, the distance at which SAM looks")
        return ascent_line(f, x, rho=options.rho, span=span)
    if f.dim < 2:
        raise UserError("--plane axes needs two coordinates, and this function has one: use --plane ascent")
    first, second = torch.eye(f.dim, dtype=x.dtype)[:2]
    return plane(x, directions=(first, second), spans=span or (-2.0, 2.0), labels=("x", "y"))

"""The commands about points, `samirage certify` and `samirage prove`, on built-in functions or a user's own."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samirage.cli.arguments import check_writable, fraction, nonnegative
from samirage.errors import UserError
from samirage.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from samirage.landscape import Smooth

FUNCTION_HELP = (
    "bump-on-bowl, double-well, moat, multi-well, quadratic, ring, or module:factory of your own, whose module is "
    "imported"
)


def add_commands(commands: Any, radius: Callable[[str], float]) -> None:
    """Add both commands to the command line.

    Args:
        commands: What argparse's `add_subparsers` returned.
        radius: Parses a finite number above 0.
    """
    certify = commands.add_parser(
        "certify",
        help="say what a point is to SAM: hallucinated or not, attracting or not",
        description="Certify what points are to SAM: evidence, no proof. Without --x the points are found first.",
        epilog="example: samirage certify double-well --rho 1.5 --lr 0.1",
    )
    _common(certify, radius)
    certify.add_argument(
        "--variant", choices=("sam", "asam", "unnormalized"), default="sam", help="perturbation rule (default: sam)"
    )
    certify.add_argument("--momentum", type=fraction, default=0.0, metavar="B", help="of the heavy ball (default: 0)")
    certify.add_argument("--weight-decay", type=nonnegative, default=0.0, metavar="W", help="coupled (default: 0)")
    certify.set_defaults(run=_certify)

    prove = commands.add_parser(
        "prove",
        help="prove that a hallucinated point exists, or check a recorded proof",
        description="Prove with ball arithmetic that a hallucinated point exists. Without --x it is found first. With "
        "--check, check a recorded proof by other means: nothing that the record names is imported or called unless it "
        "is built in or you name it with --function. Exit code 0: proved or confirmed, 1: not, 2: bad input.",
        epilog="examples: samirage prove double-well --rho 1.5 --lr 0.1 --out proof.json; samirage prove --check "
        "proof.json",
    )
    _common(prove, radius)
    prove.add_argument("--out", type=Path, metavar="FILE", help="where to write the record of the (first) proof")
    prove.add_argument("--check", type=Path, metavar="FILE", help="check a recorded proof by other means")
    prove.add_argument(
        "--function",
        dest="own",
        metavar="MODULE:NAME",
        help="with --check: the function of your own that the record is about; its module is imported, and it is "
        "called with the arguments in the record",
    )
    prove.set_defaults(run=_prove)


def _common(parser: argparse.ArgumentParser, radius: Callable[[str], float]) -> None:
    parser.add_argument("function", nargs="?", metavar="FUNCTION", help=FUNCTION_HELP)
    parser.add_argument("--rho", type=radius, metavar="RHO", help="perturbation radius, above 0")
    parser.add_argument("--lr", type=radius, metavar="LR", help="learning rate at which attraction is asked for")
    parser.add_argument(
        "--x", type=float, nargs="+", metavar="X", help="the point, one number per coordinate (default: find points)"
    )
    parser.add_argument("--x-file", type=Path, metavar="FILE", help="the point, from a JSON file: a list of numbers")
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the function, its value in JSON; may be repeated",
    )


def _certify(options: argparse.Namespace, command: str) -> int:
    _check_named(options)
    from samirage.points import certify

    f, _ = function_of(options)
    with explained():
        for x in _points(f, options):
            print(
                certify(
                    f,
                    x,
                    options.rho,
                    options.lr,
                    variant=options.variant,
                    momentum=options.momentum,
                    weight_decay=options.weight_decay,
                )
            )
    return 0


def _prove(options: argparse.Namespace, command: str) -> int:
    if options.check is not None:
        return _check(options)
    if options.own is not None:
        raise UserError("--function goes with --check; to prove something, name the function first")
    _check_named(options)
    if options.out is not None:
        check_writable(options.out, "--out")
    from samirage.points import prove

    f, arguments = function_of(options)
    with explained():
        proofs = [prove(f, x, options.rho, lr=options.lr) for x in _points(f, options)]
    for proof in proofs:
        print(proof)
    first = next((proof for proof in proofs if proof.proved), None)
    if options.out is not None and first is not None:
        write_whole(options.out, first.record(options.function, arguments).encode())
        print(f"The record: {options.out}")
    return 0 if first is not None else 1


def _check(options: argparse.Namespace) -> int:
    others = {"FUNCTION": "function", "--rho": "rho", "--lr": "lr", "--x": "x", "--x-file": "x_file", "--out": "out"}
    given = [name for name, place in others.items() if getattr(options, place) is not None]
    if given or options.arg:
        names = ", ".join([*given, *["--arg"] * bool(options.arg)])
        raise UserError(f"--check takes all from the record, and {names} would change nothing: leave it out")
    if not options.check.is_file():
        raise UserError(f"{options.check} is not a file: name one that `samirage prove --out FILE` wrote")
    from samirage.points import check_record, own_function

    with explained():
        check = check_record(options.check, None if options.own is None else own_function(options.own))
    print(check)
    return 0 if check.confirmed else 1


def function_of(options: argparse.Namespace) -> "tuple[Smooth, dict[str, Any]]":
    """Make the function that a command names, and return it with its arguments.

    Args:
        options: With `function` and `arg`.

    Raises:
        UserError: If it cannot be made.
    """
    from samirage.points import make_function

    arguments = {}
    for text in options.arg:
        name, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--arg takes NAME=VALUE, such as --arg radius=2.0; got {text!r}")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    with explained():
        return make_function(options.function, arguments), arguments


def _points(f: "Smooth", options: argparse.Namespace) -> "Iterator[Tensor]":
    """Yield the point that was given, the parameters of a network, or the points that are found.

    Raises:
        UserError: If no point is found.
    """
    import torch

    from samirage.points import find_hallucinated

    given = points_given(options)
    if given is not None:
        yield torch.tensor(given, dtype=torch.float64)
        return
    if hasattr(f, "flat_parameters"):
        yield f.flat_parameters().double()
        return
    found = find_hallucinated(f, rho=options.rho)
    if not found:
        raise UserError(f"{found.searched}; name a point with --x")
    print(found.searched)
    for point in found:
        print(f"x = {', '.join(map(repr, point.x.tolist()))} (by {', '.join(point.found_by)})")
        yield point.x


def points_given(options: argparse.Namespace) -> list[float] | None:
    """Return the point that a command names, if it names one.

    Args:
        options: With `x` and `x_file`.

    Raises:
        UserError: If a file cannot be read.
    """
    given: list[float] | None = options.x
    if options.x_file is not None:
        try:
            given = json.loads(options.x_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{options.x_file} cannot be read as a JSON list of numbers ({error})") from None
        if not isinstance(given, list) or not given or not all(type(one) in {int, float} for one in given):
            raise UserError(f"{options.x_file} must hold a JSON list of numbers, such as [0.5, -1.0]")
    return given


def _check_named(options: argparse.Namespace) -> None:
    if options.function is None or options.rho is None:
        raise UserError("name a FUNCTION and give --rho, such as `samirage prove double-well --rho 1.5`")


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the library refuses into the one sentence that the user reads.

    Raises:
        UserError: If it refuses.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error

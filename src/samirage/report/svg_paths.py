"""Outlines as SVG writes them, in few characters."""

import re
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 0.06  # points, of a line without a point that is left out
_PASSES = 4

_TOKEN = re.compile(r"[MLQCZz]|-?[\d.]+(?:e-?\d+)?")
_NUMBERS_OF = {"M": 2, "L": 2, "Q": 4, "C": 6, "Z": 0}

Points = NDArray[np.float64]


def compact_path(data: str) -> str:
    """Write SVG path data with relative coordinates and few decimals; rounding errors do not add up.

    The text depends on where the path begins only in its first two numbers, so that equal shapes have equal texts.
    Points of polylines that lie on the line of their neighbours, as far as one can see, are left out.

    Args:
        data: Path data with the absolute commands M, L, Q, C and Z.

    Returns:
        The same path, to within 0.3 points; 0.005 for paths with curves, which are markers.

    Example:
        >>> compact_path("M 10 20 L 10.26 19.5 L 12 19.5 z")
        'M10 20l.3-.5 1.7 0z'
        >>> compact_path("M 0 0 L 1 1 L 2 2 L 9 9 L 9 0")
        'M0 0l9 9 0-9'
    """
    if "C" in data or "Q" in data:
        return _curved(data)
    pieces = [piece for piece in data.upper().split("M") if piece.strip()]
    out: list[str] = []
    origin = last = np.zeros(2)
    for piece in pieces:
        closed = piece.rstrip().endswith("Z")
        points = np.array(piece.replace("L", " ").replace("Z", " ").split(), dtype=np.float64).reshape(-1, 2)
        if not out:
            origin = points[0]
            x, y = np.rint(origin * 10).astype(int).tolist()
            out.append(f"M{_number(x, 1)} {_number(y, 1)}")
        placed = np.rint((_thinned(points) - origin) * 10).astype(int)
        if len(out) > 1:
            out.append("m" + _written((placed[0] - last).tolist()))
        moved = np.diff(placed, axis=0)
        moved = moved[moved.any(axis=1)]  # a step too small to see
        if len(moved):
            out.append("l" + _written(moved.ravel().tolist()))
        # After z, the next piece is relative to where this one began.
        last = placed[0] if closed else placed[-1]
        out.append("z" if closed else "")
    return "".join(out)


def _thinned(points: Points) -> Points:
    """Leave out points that are on the line of their neighbours, to within the tolerance; no two in a row at once."""
    for _ in range(_PASSES):
        if len(points) < 3:
            break
        before, here, after = points[:-2], points[1:-1], points[2:]
        chord, offset = after - before, here - before
        length = np.hypot(chord[:, 0], chord[:, 1])
        across = np.abs(chord[:, 0] * offset[:, 1] - chord[:, 1] * offset[:, 0])
        along = (chord * offset).sum(axis=1)
        straight = (across <= _TOLERANCE * length) & (along >= 0) & (along <= length**2)
        # Every second one of a run of such points, so that what is left out is judged by neighbours that stay.
        starts = np.flatnonzero(straight & ~np.concatenate([[False], straight[:-1]]))
        run = np.zeros(len(straight), dtype=int)
        run[starts] = starts
        run = np.maximum.accumulate(run)
        drop = straight & ((np.arange(len(straight)) - run) % 2 == 0)
        if not drop.any():
            break
        points = points[np.concatenate([[True], ~drop, [True]])]
    return points


def _curved(data: str) -> str:
    tokens = _TOKEN.findall(data)
    out: list[str] = []
    x = y = 0
    command, last, index = "", "", 0
    while index < len(tokens):
        if tokens[index].isalpha():
            command, index = tokens[index].upper(), index + 1
        size = _NUMBERS_OF[command]
        numbers = [round(float(token) * 100) for token in tokens[index : index + size]]
        index += size
        if command == "Z":
            out.append("z")
            last = command
            continue
        if command == "M":
            out.append("M" + " ".join(_number(number, 2) for number in numbers))
            last = command
        else:
            moved = [n - (x if i % 2 == 0 else y) for i, n in enumerate(numbers)]
            if any(moved):
                text = _written(moved, 2)
                if command != last:
                    text = command.lower() + text
                elif not text.startswith("-"):
                    text = f" {text}"  # the letter of a repeated command may be left out
                out.append(text)
                last = command
        x, y = numbers[-2:]
    return "".join(out)


def _written(numbers: list[int], decimals: int = 1) -> str:
    """Write multiples of a decimal, with a space only where it is needed."""
    texts = [_number(number, decimals) for number in numbers]
    return texts[0] + "".join(
        text if text.startswith("-") or (text.startswith(".") and "." in before) else f" {text}"
        for before, text in pairwise(texts)
    )


@lru_cache(maxsize=1 << 14)
def _number(number: int, decimals: int) -> str:
    sign, size = ("-", -number) if number < 0 else ("", number)
    whole, part = divmod(size, 10**decimals)
    fraction = f".{part:0{decimals}d}".rstrip("0") if part else ""
    return f"{sign}{whole if whole or not fraction else ''}{fraction}"

"""Outlines in few characters: the same shape, read back by another reader of SVG paths than the one that wrote it."""

import re

import numpy as np
import pytest

from samirage.report.svg_paths import compact_path


def read(data: str) -> list[np.ndarray]:
    """The polylines of a path with the commands M, m, l and z, in absolute coordinates."""
    at, start = np.zeros(2), np.zeros(2)
    found: list[np.ndarray] = []
    for command, text in re.findall(r"([Mmlz])([^Mmlz]*)", data):
        numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", text)]
        steps = np.reshape(numbers, (-1, 2))
        if command == "z":
            at = start
            found[-1] = np.vstack([found[-1], start])
        elif command in "Mm":
            at = start = steps[0] if command == "M" else at + steps[0]
            found.append(at[None])
        else:
            line = at + np.cumsum(steps, axis=0)
            found[-1] = np.vstack([found[-1], line])
            at = line[-1]
    return found


def written(points: np.ndarray) -> str:
    return "M " + "\nL ".join(f"{x:.6f} {y:.6f}" for x, y in points)


def distance(points: np.ndarray, line: np.ndarray) -> float:
    """The largest distance of any point from a polyline."""
    a, b = line[:-1], line[1:]
    chord = b - a
    square = np.maximum((chord**2).sum(axis=1), 1e-30)
    t = np.clip(((points[:, None] - a) * chord).sum(axis=2) / square, 0, 1)
    return float(np.linalg.norm(points[:, None] - (a + t[..., None] * chord), axis=2).min(axis=1).max())


def noisy(seed: int) -> np.ndarray:
    return np.array([200.3, -71.4]) + np.cumsum(np.random.default_rng(seed).normal(size=(500, 2)), axis=0)


def smooth(seed: int) -> np.ndarray:
    t = np.linspace(0, 6, 800)
    return np.column_stack([90 * np.cos(t + seed), 70 * np.sin(1.3 * t)])


@pytest.mark.parametrize("shape", [noisy, smooth])
@pytest.mark.parametrize("seed", range(4))
def test_lines_keep_their_shape_in_less_than_half_the_characters(shape, seed: int) -> None:
    points = shape(seed)
    data = written(points)
    compact = compact_path(data)
    assert len(compact) < 0.45 * len(data)
    (line,) = read(compact)
    assert distance(points, line) < 0.3
    assert distance(line, points) < 0.3
    # Each point is rounded to 0.1 relative to the first, and the first to 0.1: errors of the steps do not add up.
    assert np.abs(line[[0, -1]] - points[[0, -1]]).max() <= 0.1001


def test_smooth_lines_lose_most_of_their_points() -> None:
    assert len(read(compact_path(written(smooth(0))))[0]) < 400


def test_a_spike_between_straight_stretches_is_kept() -> None:
    points = np.column_stack([np.arange(400) / 4, np.zeros(400)])
    points[217, 1] = 3.0
    (line,) = read(compact_path(written(points)))
    assert line[:, 1].max() == pytest.approx(3.0, abs=0.1)
    assert len(line) < 40


def test_a_line_that_turns_back_keeps_its_end() -> None:
    (line,) = read(compact_path("M 0 0 L 5 0 L 9 0 L 4 0 L 2 0"))
    assert line[:, 0].max() == 9


def test_pieces_and_closed_shapes_are_where_they_were() -> None:
    data = "M 10 10 L 20 10 L 20 20 z M 30 31 L 40 30 L 40 44 z M 1 2 L 3 9"
    found = read(compact_path(data))
    expected = [[[10, 10], [20, 10], [20, 20], [10, 10]], [[30, 31], [40, 30], [40, 44], [30, 31]], [[1, 2], [3, 9]]]
    assert [piece.round(6).tolist() for piece in found] == expected


def test_equal_shapes_have_equal_texts_wherever_they_begin() -> None:
    points = smooth(1)
    texts = {compact_path(written(points + offset)).partition("l")[2] for offset in ([0, 0], [3.217, -40.04])}
    assert len(texts) == 1


def test_curves_are_kept_as_they_are() -> None:
    assert compact_path("M 0 -1.5 C 0.4 -1.5 0.8 -1 1.1 -0.9 Q 2 2 3 3 z") == (
        "M0 -1.5c.4 0 .8.5 1.1.6q.9 2.9 1.9 3.9z"
    )


@pytest.mark.parametrize("data", ["M 5 6", "M 5 6 L 5 6", "M 5 6 L 5.01 6.01"])
def test_what_is_too_small_to_see_is_a_point(data: str) -> None:
    assert compact_path(data) == "M5 6"

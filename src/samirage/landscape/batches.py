"""The data of an objective, chunk by chunk: counted, moved, cast; reading it leaves every random state as it was."""

import importlib.util
import random
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Data = Any
"""A tensor whose first dimension counts examples, or a tuple, list or dict of such."""


@dataclass(frozen=True)
class Chunk:
    """Some examples of one batch.

    Attributes:
        inputs: What the model takes.
        targets: What the loss compares its outputs with.
        count: Number of examples.
    """

    inputs: Data
    targets: Data
    count: int


def check(batches: object) -> None:
    """Refuse what cannot be iterated over again.

    Args:
        batches: What the user gave.

    Raises:
        TypeError: If it is no iterable, or one that is used up by iterating over it.
    """
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches must be an iterable of (x, y) pairs; got {type(batches).__name__}")
    if isinstance(batches, Iterator):
        raise TypeError(
            f"batches must be iterable more than once, and a {type(batches).__name__} is not: give a list of (x, y) "
            "pairs or a DataLoader"
        )


def chunks(batches: Iterable[Any], *, size: int | None, device: torch.device, dtype: torch.dtype) -> Iterator[Chunk]:
    """Yield the examples of one pass over the data.

    Args:
        batches: The user's batches, pairs of inputs and targets.
        size: Most examples in one chunk; None for whole batches.
        device: Where tensors go.
        dtype: What floating-point tensors are cast to.

    Yields:
        The chunks, in order; batches without examples are left out.

    Raises:
        ValueError: If a batch is not a pair, or inputs and targets differ in length.
    """
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            given = f"{len(batch)} parts" if isinstance(batch, Sized) else type(batch).__name__
            raise ValueError(f"every batch must be a pair (x, y) of inputs and targets; got {given}")
        inputs, targets = batch
        lengths = {*_lengths(inputs), *_lengths(targets)}
        if len(lengths) != 1:
            raise ValueError(
                "the tensors of a batch must count the same number of examples in their first dimension; "
                f"got {', '.join(map(str, sorted(lengths))) or 'no tensor'}"
            )
        (count,) = lengths
        for first in range(0, count, size or max(count, 1)):
            part = slice(first, min(first + (size or count), count))
            yield Chunk(
                _moved(inputs, part, device, dtype), _moved(targets, part, device, dtype), part.stop - part.start
            )


def first_examples(batches: Iterable[Any], count: int) -> list[tuple[Data, Data]]:
    """Return the first so many examples as a list of batches.

    Args:
        batches: The user's batches.
        count: How many examples, at most as many as there are.
    """
    kept: list[tuple[Data, Data]] = []
    for inputs, targets in batches:
        length = next(_lengths(targets))
        kept.append((_part(inputs, count), _part(targets, count)) if length > count else (inputs, targets))
        count -= length
        if count <= 0:
            break
    return kept


def _part(data: Data, count: int) -> Data:
    if isinstance(data, Tensor):
        return data[:count] if data.dim() else data
    if isinstance(data, (tuple, list)):
        return type(data)(_part(value, count) for value in data)
    return {key: _part(value, count) for key, value in data.items()} if isinstance(data, dict) else data


def _leaves(data: Data) -> Iterator[Tensor]:
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, (tuple, list)):
        for part in data:
            yield from _leaves(part)
    elif isinstance(data, dict):
        yield from _leaves(list(data.values()))


def _lengths(data: Data) -> Iterator[int]:
    return (len(leaf) for leaf in _leaves(data) if leaf.dim())


def _moved(data: Data, part: slice, device: torch.device, dtype: torch.dtype) -> Data:
    if isinstance(data, Tensor):
        rows = data[part] if data.dim() else data
        return rows.detach().to(device, dtype if rows.is_floating_point() else rows.dtype)
    if isinstance(data, (tuple, list)):
        return type(data)(_moved(value, part, device, dtype) for value in data)
    if isinstance(data, dict):
        return {key: _moved(value, part, device, dtype) for key, value in data.items()}
    return data


@contextmanager
def unchanged_random_states(batches: object, device: torch.device, *, seeded: bool) -> Iterator[None]:
    """Put every random state back afterwards: torch's on CPU and device, NumPy's, Python's, the loader's own.

    Iterating over a `DataLoader` draws from torch's generator even where nothing is shuffled.

    Args:
        batches: The data; its attribute `generator` is restored too, if it has one.
        device: The device on which the model runs.
        seeded: Whether to begin with the same random numbers every time, so that a loader that shuffles always does so
            in the same way.

    Yields:
        Nothing.
    """
    generators = [getattr(part, "generator", None) for part in (batches, getattr(batches, "sampler", None))]
    own = [(g, g.get_state()) for g in generators if isinstance(g, torch.Generator)]
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            if seeded:
                torch.default_generator.manual_seed(0)
                np.random.seed(0)  # noqa: NPY002
                random.seed(0)
            yield
    finally:
        for generator, state in own:
            generator.set_state(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def with_progress(parts: Iterable[Chunk], *, label: str, total: int | None, shown: bool) -> Iterator[Chunk]:
    """Yield the same chunks, with a bar while they last, where one is wanted and rich is installed.

    Args:
        parts: The chunks.
        label: What is being computed.
        total: Number of chunks, if known.
        shown: Whether a bar is wanted.

    Yields:
        The chunks.
    """
    if shown and importlib.util.find_spec("rich"):
        from rich.progress import track

        yield from track(parts, description=label, total=total, transient=True)
    else:
        yield from parts

"""Random displacements, one generator per row: the same whatever the batch size and the other rows are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from audit.attack.norm import Norm
from audit.dataset import Floats, Ints

Stream = Literal["start", "noise"]
_STREAMS: dict[Stream, int] = {"start": 1, "noise": 2}


def displacements(norm: Norm, movable: Floats, rows: Ints, stream: Stream, attempt: int, seed: int) -> Floats:
    """A displacement of at most one epsilon for each row, [n, ...].

    A random start (`start`) is uniform in the ball; pure noise (`noise`) is uniform on its far edge, the
    corners for linf and the sphere for l2 and l1, where noise does most.

    Args:
        norm: the ball's norm.
        movable: one input row; 0 where a coordinate is fixed.
        rows: [n] row indices of the data set.
        stream: what it is for; each has draws of its own.
        attempt: restart or draw number.
        seed: seed of the audit.
    """
    free = movable.reshape(-1) > 0
    generators = _generators([seed, _STREAMS[stream], attempt], rows)
    out = np.zeros((len(rows), free.size), dtype=np.float32)
    out[:, free] = _DRAWS[norm](generators, (len(rows), int(free.sum())), edge=stream == "noise")
    return out.reshape(len(rows), *movable.shape)


def _generators(entropy: Sequence[int], rows: Ints) -> Iterator[np.random.Generator]:
    """A generator for each row: one Philox key, and the row as the top word of its counter.

    One generator is set anew for each row, which takes a seventh of the time that building one takes.
    """
    philox = np.random.Philox(key=np.random.SeedSequence(entropy).generate_state(2, np.uint64))
    generator, state = np.random.Generator(philox), philox.state
    for row in rows:
        state["state"]["counter"][:] = (0, 0, 0, row)
        philox.state = state
        yield generator


def _in_cube(generators: Iterator[np.random.Generator], shape: tuple[int, int], *, edge: bool) -> Floats:
    """[n, d] uniform in the cube from -1 to 1, or uniform over its corners."""
    if edge:
        words = -(-shape[1] // 64)
        packed = np.stack([g.bit_generator.random_raw(words) for g in generators]).view(np.uint8)
        corners: Floats = np.unpackbits(packed, axis=1, count=shape[1]).astype(np.float32)
        return corners * np.float32(2) - np.float32(1)
    values = np.empty(shape, np.float32)
    for row, generator in zip(values, generators, strict=True):
        generator.random(dtype=np.float32, out=row)
    return values * np.float32(2) - np.float32(1)


def _in_sphere(generators: Iterator[np.random.Generator], shape: tuple[int, int], *, edge: bool) -> Floats:
    """[n, d] uniform in the ball of radius 1, or uniform on its surface."""
    values, radius = np.empty(shape, np.float32), np.ones((shape[0], 1))
    for index, generator in enumerate(generators):
        generator.standard_normal(dtype=np.float32, out=values[index])
        radius[index] = 1.0 if edge else generator.random() ** (1 / shape[1])
    length = np.linalg.norm(values, axis=1, keepdims=True)
    factor: Floats = (radius / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)
    return values * factor


def _in_cross(generators: Iterator[np.random.Generator], shape: tuple[int, int], *, edge: bool) -> Floats:
    """[n, d] uniform in the l1 ball of radius 1, or uniform on its surface.

    Exponential draws divided by their sum are uniform on the simplex; signs of their own make it the surface.
    """
    values, radius = np.empty(shape, np.float32), np.ones((shape[0], 1))
    words = -(-shape[1] // 64)
    packed = np.empty((shape[0], words), np.uint64)
    for index, generator in enumerate(generators):
        generator.standard_exponential(dtype=np.float32, out=values[index])
        packed[index] = generator.bit_generator.random_raw(words)
        radius[index] = 1.0 if edge else generator.random() ** (1 / shape[1])
    signs = np.unpackbits(packed.view(np.uint8), axis=1, count=shape[1]).astype(np.float32) * 2 - 1
    length = values.sum(axis=1, keepdims=True, dtype=np.float64)
    factor: Floats = (radius / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)
    return values * signs * factor


_DRAWS: dict[Norm, Callable[..., Floats]] = {"linf": _in_cube, "l2": _in_sphere, "l1": _in_cross}

"""The user's features as parts of a model's input: columns, one-hot groups, parts of images or of series."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from audit.dataset import Dataset, Floats, Ints
from audit.errors import NotApplicable
from audit.explain.attribution import Doubles

Superpixels = Literal["slic", "quickshift"]
_SIDE_OF_LIME = 299
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Layout:
    """Which feature owns each element of an input row.

    Attributes:
        names: [M] names of the features.
        owner: feature index of each element: [D] for tables; [1, H, W] for images, where a cell takes all
            channels of a pixel together; [C, T] for series, where each channel has stretches of its own.
    """

    names: tuple[str, ...]
    owner: Ints


def layout(data: Dataset, grid: int = 4) -> Layout:
    """The features of a table, or parts of what has none.

    Images [N, C, H, W] are cut into `grid` x `grid` cells, each channel of series [N, C, T] into `grid`
    stretches of time.
    """
    if data.modality == "series":
        return _stretches(data, grid)
    if data.modality == "image":
        height, width = data.inputs.shape[-2:]
        return Layout(cell_names(grid, height, width), grid_cells(grid, height, width)[None])
    shape = data.inputs.shape[1:]
    if not data.features:
        count = int(np.prod(shape))
        names = tuple(f"column {index + 1}" for index in range(count))
        return Layout(names, np.arange(count, dtype=np.int64).reshape(shape))
    return Layout(tuple(item.name for item in data.features), data.feature_of_column().reshape(shape))


def _stretches(data: Dataset, grid: int) -> Layout:
    channels, steps = data.inputs.shape[1:]
    along = stretches(grid, steps)
    names = stretch_names(grid, steps)
    labelled = [item.name for item in data.features] if len(data.features) == channels else []
    labels = labelled or [f"channel {index + 1}" for index in range(channels)]
    owner = np.arange(channels, dtype=np.int64)[:, None] * len(names) + along
    return Layout(tuple(f"{label}, {name}" for label in labels for name in names), owner)


def stretches(grid: int, steps: int) -> Ints:
    """[T] index of the stretch of time of each step; a shorter series has one stretch a step."""
    return np.arange(steps, dtype=np.int64) * min(grid, steps) // steps


def stretch_names(grid: int, steps: int) -> tuple[str, ...]:
    """Names of the stretches of `stretches`, with their steps counted from 1."""
    owner = stretches(grid, steps)
    ends = [(np.flatnonzero(owner == part) + 1)[[0, -1]].tolist() for part in range(owner.max() + 1)]
    return tuple(f"step {first}" if first == last else f"steps {first}-{last}" for first, last in ends)


def grid_cells(grid: int, height: int, width: int) -> Ints:
    """[H, W] index of the raster cell of each pixel; a smaller image has one cell a pixel."""
    down, across = min(grid, height), min(grid, width)
    row = np.arange(height, dtype=np.int64) * down // height
    column = np.arange(width, dtype=np.int64) * across // width
    return row[:, None] * across + column[None, :]


def cell_names(grid: int, height: int, width: int) -> tuple[str, ...]:
    """Names of the cells of `grid_cells`, counted from 1 at the top left."""
    down, across = min(grid, height), min(grid, width)
    return tuple(f"row {r + 1}, column {c + 1}" for r in range(down) for c in range(across))


def superpixels(images: Floats, segments: int, kind: Superpixels = "slic") -> Ints:
    """[n, H, W] superpixels of each image [n, C, H, W], numbered from 0 without gaps.

    Sources: SLIC, Achanta et al. 2012; quickshift, Vedaldi and Soatto 2008; both as
    scikit-image computes them.

    Args:
        images: the images.
        segments: about how many superpixels `slic` finds; quickshift takes no number.
        kind: `slic` or `quickshift`.

    Raises:
        NotApplicable: scikit-image is not installed, or one superpixel is found in every image.
    """
    try:
        from skimage.segmentation import quickshift, slic
    except ImportError:
        raise NotApplicable(
            f"superpixels by {kind} need scikit-image, which is not installed; set 'segments' to 'grid'."
        ) from None

    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / max(high - low, TINY)
    found = []
    for image in scaled:
        colour = len(image) == 3  # noqa: PLR2004 - red, green and blue
        shared = {"image": image.transpose(1, 2, 0), "convert2lab": colour, "channel_axis": -1}
        if kind == "quickshift":
            labels = quickshift(**shared, **quickshift_settings(min(image.shape[1:])))  # type: ignore[no-untyped-call]
        else:
            labels = slic(**shared, n_segments=segments, start_label=0)
        found.append(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))
    numbered = np.stack(found).astype(np.int64)
    if (kind == "quickshift" or segments > 1) and not numbered.any():
        raise NotApplicable(f"{kind} finds one superpixel in every image; set 'segments' to 'grid'.")
    return numbered


def quickshift_settings(side: int) -> dict[str, float]:
    """The lime package's settings for its images of 299 pixels, scaled to images of `side` pixels.

    Taken as they are, an image of 32 pixels would hardly be cut at all.
    """
    scale = side / _SIDE_OF_LIME
    return {"kernel_size": max(1.0, 4 * scale), "max_dist": 200 * scale, "ratio": 0.2}


def sum_by_owner(values: Doubles, owner: Ints, count: int) -> Doubles:
    """[n, count] sums of `values` [n, ...] over the elements that each feature owns."""
    member = (owner.reshape(-1)[:, None] == np.arange(count)).astype(np.float64)
    sums: Doubles = values.reshape(len(values), -1) @ member
    return sums


def membership(parts: Layout, shape: tuple[int, ...]) -> Floats:
    """[elements, M] 1 where a flat element of an input row of this shape belongs to a feature."""
    owner = np.broadcast_to(parts.owner, shape).reshape(-1)
    member: Floats = (owner[:, None] == np.arange(len(parts.names))).astype(np.float32)
    return member


def spread_over_pixels(values: Doubles, segments: Ints) -> Floats:
    """[n, H, W] map in which the value of a segment is shared out evenly over its pixels.

    Args:
        values: [n, M] value of each segment.
        segments: [n, H, W] or [1, H, W] segment of each pixel.
    """
    count = values.shape[1]
    flat = np.broadcast_to(segments, (len(values), *segments.shape[1:])).reshape(len(values), -1)
    sizes = np.stack([np.bincount(row, minlength=count) for row in flat])
    per_pixel = values / np.maximum(sizes, 1)
    pixels = np.take_along_axis(per_pixel, flat, axis=1)
    return pixels.reshape(len(values), *segments.shape[1:]).astype(np.float32)

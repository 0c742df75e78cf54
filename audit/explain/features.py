"""The user's features as parts of a model's input: columns, one-hot groups, or parts of an image."""

from dataclasses import dataclass

import numpy as np

from audit.dataset import Dataset, Floats, Ints
from audit.explain.attribution import Doubles

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Layout:
    """Which feature owns each element of an input row.

    Attributes:
        names: [M] names of the features.
        owner: feature index of each element: the shape of an input row for tables; [1, H, W] for images,
            where a cell takes all channels of a pixel together.
    """

    names: tuple[str, ...]
    owner: Ints


def layout(data: Dataset, grid: int = 4) -> Layout:
    """The features of a table, or the cells of a `grid` x `grid` raster over images [N, C, H, W]."""
    if data.modality == "image":
        height, width = data.inputs.shape[-2:]
        return Layout(cell_names(grid, height, width), grid_cells(grid, height, width)[None])
    shape = data.inputs.shape[1:]
    if not data.features:
        count = int(np.prod(shape))
        names = tuple(f"column {index + 1}" for index in range(count))
        return Layout(names, np.arange(count, dtype=np.int64).reshape(shape))
    return Layout(tuple(item.name for item in data.features), data.feature_of_column().reshape(shape))


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


def superpixels(images: Floats, segments: int) -> Ints:
    """[n, H, W] about `segments` superpixels of each image [n, C, H, W], numbered from 0 without gaps.

    Source: SLIC, Achanta et al. 2012, as scikit-image computes it.
    """
    from skimage.segmentation import slic

    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / max(high - low, TINY)
    found = []
    for image in scaled:
        colour = len(image) == 3  # noqa: PLR2004 - red, green and blue
        labels = slic(
            image.transpose(1, 2, 0), n_segments=segments, convert2lab=colour, channel_axis=-1, start_label=0
        )
        found.append(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))
    return np.stack(found).astype(np.int64)


def sum_by_owner(values: Doubles, owner: Ints, count: int) -> Doubles:
    """[n, count] sums of `values` [n, ...] over the elements that each feature owns."""
    member = (owner.reshape(-1)[:, None] == np.arange(count)).astype(np.float64)
    sums: Doubles = values.reshape(len(values), -1) @ member
    return sums


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

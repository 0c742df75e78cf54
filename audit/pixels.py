"""Arrays of pixels as the images a network takes: float32, channels first, scaled to its input range."""

from pathlib import Path
from typing import Literal

import numpy as np

from audit.dataset import Floats
from audit.errors import LoadError
from audit.readers.raw import Array

Layout = Literal["auto", "NCHW", "NHWC"]
_CHANNELS = (1, 3, 4)
_GRAY_AXES = 3


def as_images(array: Array, layout: Layout, input_range: tuple[float, float] | None, path: Path) -> Floats:
    """[N, C, H, W] float32 images.

    Args:
        array: [N, H, W], [N, H, W, C] or [N, C, H, W]; 8-bit values are scaled, others are kept.
        layout: where the channels stand; `auto` takes the last axis where it is 1, 3 or 4 long.
        input_range: what 0 and 255 become; (0, 1) when None.
        path: the file, for the error.

    Raises:
        LoadError: no axis can be the channels.
    """
    if array.ndim == _GRAY_AXES:
        array, layout = array[:, None], "NCHW"
    if layout == "auto":
        layout = _layout(array.shape, path)
    if layout == "NHWC":
        array = np.moveaxis(array, -1, 1)
    if array.dtype != np.uint8:
        return np.ascontiguousarray(array, dtype=np.float32)
    low, high = (0.0, 1.0) if input_range is None else input_range
    # 256 values only: a table gives each its exact float32, inside the range
    table = (low + (high - low) * (np.arange(256) / 255)).astype(np.float32)
    return np.ascontiguousarray(table[array])


def _layout(shape: tuple[int, ...], path: Path) -> Literal["NCHW", "NHWC"]:
    if shape[-1] in _CHANNELS:
        return "NHWC"
    if shape[1] in _CHANNELS:
        return "NCHW"
    raise LoadError(
        f"{path}: images of shape {shape} have no axis of 1, 3 or 4 channels, first or last; "
        "[data] layout = 'NCHW' or 'NHWC' says where the channels stand."
    )

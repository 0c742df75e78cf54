"""The fifteen image corruptions of Hendrycks and Dietterich (2019), arXiv:1903.12261, batched in torch.

Constants are the published ones: those of CIFAR-10-C for images whose shorter side is below 85 pixels, those
of ImageNet-C from there on (85 is the geometric middle of 32 and 224). Radii are pixels in both sets, as
published. Results are floats and are not rounded to 8 bits. Severity is what the authors call so: it grows
with the errors models make. The pixels of glass blur and of the elastic transform do not change more at every
next severity (the elastic transform shears less and bends more). What differs from the published programs:

* frost lays a computed texture over the image, not photographs;
* glass blur moves all pixels of a round at once;
* the random draws of a row are the same at every severity, so a severity adds to the one below it.

The numbers are therefore close to, but not those of, the CIFAR-10-C and ImageNet-C files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit.dataset import Ints
from audit.errors import ConfigError, NotApplicable, nearest

if TYPE_CHECKING:
    from torch import Tensor

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 8
LARGE_FROM = 85
_CHANNELS = (1, 3)
_IMAGE_AXES = 4


@dataclass(frozen=True)
class Corruption:
    """One corruption.

    Attributes:
        family: `noise`, `blur`, `weather` or `digital`; the file its function stands in.
        small: constants by severity for images of a shorter side below 85 pixels.
        large: constants by severity for larger ones.
    """

    family: str
    small: Sequence[tuple[float, ...]]
    large: Sequence[tuple[float, ...]]


def _singles(*values: float) -> tuple[tuple[float], ...]:
    return tuple((value,) for value in values)


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption(
        "noise", _singles(0.04, 0.06, 0.08, 0.09, 0.10), _singles(0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    "shot_noise": Corruption("noise", _singles(500, 250, 100, 75, 50), _singles(60, 25, 12, 5, 3)),
    "impulse_noise": Corruption(
        "noise", _singles(0.01, 0.02, 0.03, 0.05, 0.07), _singles(0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    "defocus_blur": Corruption(
        "blur",
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": Corruption(
        "blur",
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": Corruption(
        "blur",
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": Corruption(
        "blur",
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": Corruption(
        "weather",
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": Corruption(
        "weather",
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "fog": Corruption(
        "weather",
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": Corruption(
        "weather", _singles(0.05, 0.1, 0.15, 0.2, 0.3), _singles(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    "contrast": Corruption(
        "digital", _singles(0.75, 0.5, 0.4, 0.3, 0.15), _singles(0.4, 0.3, 0.2, 0.1, 0.05)
    ),
    "elastic_transform": Corruption(
        "digital",
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    "pixelate": Corruption(
        "digital", _singles(0.95, 0.9, 0.85, 0.75, 0.65), _singles(0.6, 0.5, 0.4, 0.3, 0.25)
    ),
    "jpeg_compression": Corruption("digital", _singles(80, 65, 58, 50, 40), _singles(25, 18, 15, 10, 7)),
}


def corrupt(
    images: Tensor, name: str, severity: int, rows: Ints, seed: int, low: float, high: float
) -> Tensor:
    """Corrupted copies of images, in the same range and on the same device.

    A row's result depends on its pixels, its index, the seed, the name and the severity; not on the batch.

    Args:
        images: [n, C, H, W] float, one or three channels, both sides at least 8 pixels; not changed.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.
        rows: [n] indices of the rows in the data set.
        seed: seed of the audit.
        low: the smallest valid value (black).
        high: the largest valid value.

    Returns:
        [n, C, H, W] in [low, high].

    Raises:
        ConfigError: there is no such corruption or severity.
        NotApplicable: the images have other channels, or are too small.
    """
    from importlib import import_module

    from audit.draws import Draws

    known(name, severity)
    refuse_shape(tuple(images.shape))
    item = CORRUPTIONS[name]
    constants = (item.small if min(images.shape[2:]) < LARGE_FROM else item.large)[severity - 1]
    function: Callable[..., Any] = getattr(import_module(f"audit.shift.{item.family}"), name)
    unit = ((images - low) / (high - low)).clamp(0, 1)
    changed = function(unit, Draws(rows, seed, name, images.device), *constants)
    result: Tensor = changed.clamp(0, 1) * (high - low) + low
    return result


def known(name: str, severity: int) -> None:
    """Raise `ConfigError` unless there is such an image corruption and severity."""
    if name not in CORRUPTIONS:
        raise ConfigError(f"there is no image corruption '{name}'{nearest(name, list(CORRUPTIONS))}")
    if severity not in SEVERITIES:
        raise ConfigError(f"the severity {severity} is not one of 1, 2, 3, 4, 5.")


def refuse_shape(shape: tuple[int, ...]) -> None:
    """Raise `NotApplicable` unless these are images [n, C, H, W] that can be corrupted."""
    if len(shape) != _IMAGE_AXES or shape[1] not in _CHANNELS:
        raise NotApplicable(
            f"the inputs have the shape {list(shape[1:])}; corruptions need images [channels, height, width] "
            "of 1 or 3 channels."
        )
    if min(shape[2:]) < SMALLEST_SIDE:
        raise NotApplicable(
            f"the images have {shape[2]} x {shape[3]} pixels; corruptions need {SMALLEST_SIDE} in each "
            "direction."
        )

from pathlib import Path

import numpy as np
import pytest

from audit.errors import LoadError
from audit.pixels import as_images

PATH = Path("a.npz")


def test_every_8_bit_value_has_its_exact_place_in_the_range():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    found = as_images(values, "auto", None, PATH).ravel()
    np.testing.assert_array_equal(found, (np.arange(256) / 255).astype(np.float32))
    found = as_images(values, "auto", (0, 255), PATH).ravel()
    np.testing.assert_array_equal(found, np.arange(256, dtype=np.float32))
    assert found.dtype == np.float32


def test_channels_come_first_and_pixels_stay_in_place():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 5, 6, 3)).astype(np.float64)
    found = as_images(pixels, "auto", None, PATH)
    assert found.shape == (2, 3, 5, 6)
    assert found[1, 2, 3, 4] == pixels[1, 3, 4, 2]
    np.testing.assert_array_equal(as_images(found, "auto", None, PATH), found)


def test_a_stated_layout_wins_over_the_guess():
    pixels = np.zeros((2, 3, 8, 4))
    assert as_images(pixels, "auto", None, PATH).shape == (2, 4, 3, 8)
    assert as_images(pixels, "NCHW", None, PATH).shape == (2, 3, 8, 4)


def test_images_without_channels_are_refused():
    with pytest.raises(LoadError, match=r"a\.npz.*\(2, 7, 8, 9\).*layout"):
        as_images(np.zeros((2, 7, 8, 9)), "auto", None, PATH)

"""Filters against scipy, numpy and slow loops."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from audit.shift import filters


@pytest.fixture
def images():
    return torch.rand(3, 2, 11, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("mode", "theirs"), [("nearest", "edge"), ("mirror", "reflect"), ("reflect", "symmetric")]
)
@pytest.mark.parametrize("pad", [0, 1, 4, 13])
def test_borders_are_those_of_numpy(mode, theirs, pad):
    places = filters.border(5, pad, mode, torch.device("cpu")).numpy()
    np.testing.assert_array_equal(places, np.pad(np.arange(5), pad, mode=theirs))


@pytest.mark.parametrize("sigma", [0.05, 0.25, 0.7, 1.5, 4.0])
@pytest.mark.parametrize("mode", ["nearest", "reflect"])
def test_gaussian_is_scipys(images, sigma, mode):
    ours = filters.gaussian(images, sigma, truncate=3.0, mode=mode).numpy()
    theirs = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode=mode, truncate=3.0)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_correlate_is_scipys_for_a_kernel_larger_than_the_image(images):
    kernel = torch.rand(7, 21, generator=torch.Generator().manual_seed(1))
    ours = filters.correlate(images, kernel, "mirror").numpy()
    for row, channel in np.ndindex(3, 2):
        theirs = ndimage.correlate(images[row, channel].numpy(), kernel.numpy(), mode="mirror")
        np.testing.assert_allclose(ours[row, channel], theirs, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.06, 1.25, 2.25, 4.5])
def test_zoomed_is_scipys_zoom_of_the_published_cut(factor):
    image = torch.rand(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    side = math.ceil(32 / factor)
    start = (32 - side) // 2
    cut = image[0, :, start : start + side, start : start + side].numpy()
    large = ndimage.zoom(cut, (1, factor, factor), order=1)
    trim = (large.shape[1] - 32) // 2
    theirs = large[:, trim : trim + 32, trim : trim + 32]
    np.testing.assert_allclose(filters.zoomed(image, factor)[0].numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize(("radius", "sigma"), [(0.3, 0.4), (1, 0.2), (1.5, 0.1), (3, 0.1), (10, 0.5)])
def test_the_disk_is_the_published_one(radius, sigma):
    """The published program builds it on a large square, with a softening of 3 x 3 or 5 x 5 pixels."""
    reach = max(8, int(radius)) + 3
    grid = np.arange(-reach, reach + 1)
    inside = (grid[:, None] ** 2 + grid[None, :] ** 2 <= radius**2).astype(float)
    soft = 1 if radius <= 8 else 2
    bell = np.exp(-(np.arange(-soft, soft + 1) ** 2) / (2 * sigma**2))
    bell /= bell.sum()
    wanted = ndimage.correlate(inside / inside.sum(), np.outer(bell, bell), mode="constant")
    kernel = filters.disk(radius, sigma, torch.device("cpu")).numpy()
    trim = (len(wanted) - len(kernel)) // 2
    np.testing.assert_allclose(kernel, wanted[trim:-trim, trim:-trim], atol=1e-7)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("angle", [-117.0, -37.0, 0.0, 45.0, 90.0])
def test_along_line_is_a_slow_sum_over_steps(images, angle):
    radius, sigma = 4, 2.0
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    image = images[0, 0].numpy()
    wanted = np.zeros_like(image)
    for y, x in np.ndindex(image.shape):
        for step, weight in enumerate(weights):
            down = math.ceil(step * math.sin(math.radians(angle)) - 0.5)
            right = math.ceil(step * math.cos(math.radians(angle)) - 0.5)
            y_from = min(max(y + down, 0), image.shape[0] - 1)
            x_from = min(max(x + right, 0), image.shape[1] - 1)
            wanted[y, x] += weight * image[y_from, x_from]
    ours = filters.along_line(images, torch.tensor([angle, 10.0, 20.0]), radius, sigma)
    np.testing.assert_allclose(ours[0, 0].numpy(), wanted, atol=1e-6)

"""Digital corruptions against Pillow, numpy and scipy."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates

from audit.draws import Draws
from audit.shift.digital import contrast, elastic_transform, pixelate, sample

CPU = torch.device("cpu")


def draws(rows=3):
    return Draws(np.arange(rows), 0, "digital", CPU)


@pytest.fixture
def bytes_():
    return np.random.default_rng(0).integers(0, 256, (3, 3, 28, 37), dtype=np.uint8)


@pytest.mark.parametrize("kept", [0.95, 0.9, 0.75, 0.65, 0.4, 0.25])
def test_pixelate_is_pillows_box_filter_there_and_back(bytes_, kept):
    ours = pixelate(torch.tensor(bytes_) / 255, draws(), kept)
    for row in range(3):
        image = Image.fromarray(bytes_[row].transpose(1, 2, 0))
        small = image.resize((int(37 * kept), int(28 * kept)), Image.Resampling.BOX)
        theirs = np.asarray(small.resize((37, 28), Image.Resampling.BOX)).transpose(2, 0, 1)
        # Pillow rounds to whole levels after each of its four passes.
        assert np.abs(ours[row].numpy() * 255 - theirs).max() < 2


def test_contrast_pulls_each_channel_towards_its_own_mean(bytes_):
    images = bytes_ / 255
    mean = images.mean(axis=(2, 3), keepdims=True)
    ours = contrast(torch.tensor(images, dtype=torch.float32), draws(), 0.3).numpy()
    np.testing.assert_allclose(ours, (images - mean) * 0.3 + mean, atol=1e-6)


def test_sample_is_scipys_bilinear_reading():
    generator = np.random.default_rng(0)
    images = generator.random((2, 3, 9, 12)).astype(np.float32)
    ys, xs = generator.uniform(-6, 14, (2, 9, 12)), generator.uniform(-8, 19, (2, 9, 12))
    places = [torch.tensor(values, dtype=torch.float32) for values in (ys, xs)]
    for padding, mode in (("reflection", "mirror"), ("border", "nearest")):
        ours = sample(torch.tensor(images), *places, padding).numpy()
        for row, channel in np.ndindex(2, 3):
            theirs = map_coordinates(images[row, channel], [ys[row], xs[row]], order=1, mode=mode)
            np.testing.assert_allclose(ours[row, channel], theirs, atol=2e-5)


def test_an_elastic_transform_of_strength_0_is_none(bytes_):
    images = torch.tensor(bytes_) / 255
    torch.testing.assert_close(elastic_transform(images, draws(), 0, 0.1, 0), images, atol=1e-5, rtol=0)


def test_the_shear_moves_three_corners_by_what_was_drawn():
    """A picture of its own coordinates shows where each pixel came from."""
    ys, xs = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    came = elastic_transform(torch.stack([xs, ys]).expand(3, 2, 32, 32), draws(), 0, 0, 0.03)
    corners = np.array([[26, 26], [26, 6], [6, 6]], dtype=float)
    moves = (draws().uniform((3, 2), "corners").numpy() * 2 - 1) * 0.03 * 32
    for row in range(3):
        after = np.hstack([corners + moves[row], np.ones((3, 1))])
        back = np.linalg.solve(after, corners)
        for x, y in [(10, 12), (20, 20), (16, 9)]:
            np.testing.assert_allclose(came[row, :, y, x], np.array([x, y, 1]) @ back, atol=1e-3)


def test_the_bend_is_smooth_noise_of_its_height():
    """Away from the border, where reflection turns coordinates around."""
    ys, xs = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = torch.stack([xs, ys]).expand(3, 2, 64, 64)
    moved = (elastic_transform(image, draws(), 0.1, 0.04, 0) - image)[:, :, 12:-12, 12:-12]
    sigma, height = 0.04 * 64, 0.1 * 64
    # Uniform noise of variance 1/3 under a Gaussian of area 1 / (4 pi sigma^2).
    wanted = height * np.sqrt(1 / 3 / (4 * np.pi * sigma**2))
    assert moved.std().item() == pytest.approx(wanted, rel=0.25)
    steps = (moved[..., 1:] - moved[..., :-1]).abs().mean().item()
    assert steps < 0.5 * moved.std().item()

"""Weather: scikit-image as the oracle for brightness, the diamond-square algorithm restated slowly."""

import numpy as np
import pytest
import torch
from skimage.color import hsv2rgb, rgb2hsv

from audit.draws import Draws
from audit.shift.weather import brightness, fog, frost, plasma, snow

CPU = torch.device("cpu")


def draws(rows=4):
    return Draws(np.arange(rows), 0, "weather", CPU)


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("more", [0.05, 0.3])
def test_brightness_raises_the_value_of_hsv(images, more):
    images[0, :, :4] = 0
    hsv = rgb2hsv(images.permute(0, 2, 3, 1).double().numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    wanted = hsv2rgb(hsv).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(brightness(images, draws(), more).numpy(), wanted, atol=1e-5)


def test_brightness_of_a_grey_image_is_a_sum():
    grey = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    torch.testing.assert_close(brightness(grey, draws(1), 0.2), (grey + 0.2).clamp(max=1))


def slow_plasma(noise, side, decay):
    """Diamond-square on a torus, point by point, with the noise in the order of its use."""
    heights = np.zeros((side, side))
    noise = iter(noise)
    step, size = side, 1.0
    while step > 1:
        half = step // 2
        starts = range(0, side, step)
        for y in starts:
            for x in starts:
                corners = [heights[(y + a) % side, (x + b) % side] for a in (0, step) for b in (0, step)]
                heights[y + half, x + half] = sum(corners) / 4 + size * next(noise)
        for y in starts:
            for x in starts:
                ends = [heights[y, x], heights[y, (x + step) % side]]
                ends += [heights[y + half, x + half], heights[(y - half) % side, x + half]]
                heights[y, x + half] = sum(ends) / 4 + size * next(noise)
        for y in starts:
            for x in starts:
                ends = [heights[y, x], heights[(y + step) % side, x]]
                ends += [heights[y + half, x + half], heights[y + half, (x - half) % side]]
                heights[y + half, x] = sum(ends) / 4 + size * next(noise)
        step, size = half, size / decay**2
    return (heights - heights.min()) / (heights.max() - heights.min())


@pytest.mark.parametrize(("height", "width", "side"), [(16, 16, 16), (9, 13, 16), (8, 8, 8)])
def test_plasma_is_the_diamond_square_algorithm(height, width, side):
    ours = plasma(draws(), height, width, 1.7)
    noise = draws().uniform((side * side - 1,), "plasma") * 2 - 1
    for row in range(4):
        wanted = slow_plasma(noise[row].double().tolist(), side, 1.7)[:height, :width]
        np.testing.assert_allclose(ours[row, 0].numpy(), wanted, atol=1e-5)


def test_fog_is_the_published_sum_scaled_back_to_the_brightest_pixel(images):
    haze = plasma(draws(), 32, 32, 2.0)
    top = images.amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(fog(images, draws(), 1.5, 2.0), (images + 1.5 * haze) * top / (top + 1.5))


def test_frost_lays_one_texture_over_all_channels_and_lets_the_image_through(images):
    laid = frost(images, draws(), 0.8, 0.4) - 0.8 * images
    torch.testing.assert_close(laid[:, 0] / 0.84, laid[:, 2], atol=1e-5, rtol=1e-5)
    assert laid.min() >= 0.4 * 0.25 * 0.84 - 1e-6
    assert laid.max() <= 0.4 + 1e-6
    assert (laid.std(dim=(2, 3)) > 0.01).all()
    assert not torch.equal(laid[0], laid[1])


def test_snow_without_flakes_only_whitens(images):
    """A threshold above every flake leaves the published whitening."""
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)
    wanted = 0.9 * images + 0.1 * torch.maximum(images, grey * 1.5 + 0.5)
    torch.testing.assert_close(snow(images, draws(), 0.1, 0.2, 1, 9.0, 8, 3, 0.9), wanted)


def test_snow_falls_the_same_on_all_channels_and_turned_around():
    black = torch.zeros(4, 3, 32, 32)
    fallen = snow(black, draws(), 0.3, 0.3, 1.25, 0.65, 10, 4, 1.0)
    torch.testing.assert_close(fallen, fallen.flip(2, 3))
    assert torch.equal(fallen[:, 0], fallen[:, 2])
    assert fallen.min() >= 0
    assert 0.01 < fallen.mean() < 0.5

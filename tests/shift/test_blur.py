"""Blur: what it keeps, and slow restatements."""

import numpy as np
import pytest
import torch

from audit.draws import Draws
from audit.shift import filters
from audit.shift.blur import defocus_blur, glass_blur, motion_blur, zoom_blur

CPU = torch.device("cpu")


def draws(rows=4):
    return Draws(np.arange(rows), 0, "blur", CPU)


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_plain_image_stays_plain():
    plain = torch.full((4, 3, 20, 26), 0.3)
    for blurred in (
        defocus_blur(plain, draws(), 3, 0.5),
        glass_blur(plain, draws(), 0.7, 2, 2),
        motion_blur(plain, draws(), 10, 3.0),
        zoom_blur(plain, draws(), 1.26, 0.02),
    ):
        torch.testing.assert_close(blurred, plain)


def test_glass_without_blur_only_moves_pixels_and_by_no_more_than_its_reach():
    places = torch.arange(1024.0).view(1, 1, 32, 32).expand(4, 1, 32, 32)
    moved = glass_blur(places, draws(), 0.05, 2, 1).long()
    down = moved // 32 - torch.arange(32)[:, None]
    right = moved % 32 - torch.arange(32)[None, :]
    inside = (slice(None), slice(None), slice(3, 31), slice(3, 31))
    for steps in (down, right):
        assert steps[inside].unique().tolist() == [-2, -1, 0, 1]
        assert steps[:, :, :3].unique().tolist() == [0]
        assert steps[:, :, 31:].unique().tolist() == [0]
    assert not torch.equal(down[0], down[1])


def test_zoom_blur_is_the_mean_of_the_image_and_seven_enlargements(images):
    factors = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06]
    total = images + sum(filters.zoomed(images, factor) for factor in factors)
    torch.testing.assert_close(zoom_blur(images, draws(), 1.06, 0.01), total / 8)


def test_motion_blur_smears_a_dot_along_a_line_of_at_most_45_degrees():
    dot = torch.zeros(40, 1, 41, 41)
    dot[:, 0, 20, 20] = 1
    blurred = motion_blur(dot, draws(40), 8, 4.0)[:, 0]
    rows, ys, xs = torch.nonzero(blurred > 1e-6, as_tuple=True)
    assert (xs <= 20).all()  # pixels look to the right, so light spreads to the left
    assert ((ys - 20).abs() <= (xs - 20).abs() + 1).all()
    ends = [(ys[rows == row] - 20)[xs[rows == row].argmin()].item() for row in range(40)]
    assert min(ends) < -5
    assert max(ends) > 5
    torch.testing.assert_close(blurred.sum(dim=(1, 2)), torch.ones(40))


def test_defocus_spreads_a_dot_over_a_disk():
    dot = torch.zeros(1, 1, 31, 31)
    dot[0, 0, 15, 15] = 1
    blurred = defocus_blur(dot, draws(1), 5, 0.1)[0, 0]
    distance = torch.hypot(*torch.meshgrid(torch.arange(-15.0, 16), torch.arange(-15.0, 16), indexing="ij"))
    assert (blurred[distance <= 4.9] > 0.01).all()
    assert (blurred[distance > 5.1].abs() < 1e-9).all()

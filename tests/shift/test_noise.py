"""Noise: its distribution, value by value."""

import numpy as np
import pytest
import torch
from scipy import stats

from audit.draws import Draws
from audit.shift.noise import gaussian_noise, impulse_noise, shot_noise

CPU = torch.device("cpu")


def draws(rows):
    return Draws(np.arange(rows), 3, "noise", CPU)


def test_gaussian_noise_has_its_standard_deviation_and_no_bias():
    images = torch.full((100, 3, 16, 16), 0.4)
    noise = (gaussian_noise(images, draws(100), 0.08) - 0.4).numpy().ravel()
    assert stats.kstest(noise / 0.08, "norm").pvalue > 1e-3


@pytest.mark.parametrize("photons", [3, 60, 500])
@pytest.mark.parametrize("level", [0, 1, 51, 255])
def test_shot_noise_is_poisson_at_every_brightness(photons, level):
    images = torch.full((300, 1, 16, 16), level / 255)
    counts = (shot_noise(images, draws(300), photons) * photons).numpy().ravel()
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
    rate = photons * level / 255
    assert counts.mean() == pytest.approx(rate, abs=5 * np.sqrt(max(rate, 1e-9) / counts.size))
    assert counts.var() == pytest.approx(rate, rel=0.05, abs=1e-12)
    for value in range(int(rate), int(rate) + 3):
        seen = (counts.round() == value).mean()
        wanted = stats.poisson.pmf(value, rate)
        assert seen == pytest.approx(wanted, abs=5 * np.sqrt(wanted * (1 - wanted) / counts.size) + 1e-9)


@pytest.mark.parametrize("amount", [0.01, 0.27])
def test_impulse_noise_hits_its_share_half_black_half_white(amount):
    images = torch.full((200, 3, 16, 16), 0.5)
    values = impulse_noise(images, draws(200), amount)
    black, white = (values == 0).float().mean().item(), (values == 1).float().mean().item()
    assert black == pytest.approx(amount / 2, rel=0.1)
    assert white == pytest.approx(amount / 2, rel=0.1)
    assert ((values == 0.5) | (values == 0) | (values == 1)).all()


def test_what_a_small_share_of_impulses_hits_a_larger_share_hits_too():
    images = torch.full((20, 1, 16, 16), 0.5)
    small, large = (impulse_noise(images, draws(20), share) for share in (0.05, 0.2))
    assert torch.equal(large[small != 0.5], small[small != 0.5])

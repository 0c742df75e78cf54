"""Changes of signals: size, smoothness, ends, and no trace of the batch."""

import numpy as np
import pytest
import torch

from audit.draws import Draws
from audit.errors import ConfigError
from audit.shift.series import STRENGTHS, perturb, warped

ROWS = np.arange(300)
SPREAD = np.array([1.0, 5.0], np.float32)


@pytest.fixture
def signals():
    time = torch.linspace(0, 6, 64)
    one = torch.stack([time.sin(), 5 * (2 * time).cos()])
    return one + 0.1 * torch.rand(300, 2, 1, generator=torch.Generator().manual_seed(0))


def done(signals, name, strength, rows=ROWS, attempt=0, seed=0):
    return perturb(signals, name, strength, rows, attempt, seed, SPREAD)


def test_noise_is_so_many_standard_deviations_of_each_channel(signals):
    change = done(signals, "noise", 0.2) - signals
    np.testing.assert_allclose(change.std(dim=(0, 2)).numpy(), [0.2, 1.0], rtol=0.03)


def test_scaling_is_one_factor_for_a_channel_even_between_up_and_down(signals):
    factor = done(signals, "scaling", 0.5) / signals
    torch.testing.assert_close(factor, factor[..., :1].expand_as(factor), rtol=1e-4, atol=0)
    logs = factor[..., 0].log()
    assert logs.abs().max() <= np.log(1.5) + 1e-5
    assert logs.abs().max() > 0.95 * np.log(1.5)
    assert abs(logs.mean().item()) < 0.03
    assert not torch.equal(factor[:, 0, 0], factor[:, 1, 0])


@pytest.mark.parametrize("strength", [0.05, 0.4, 0.8])
def test_a_warp_keeps_the_ends_and_the_order_of_time_and_its_speed_stays_in_bounds(strength):
    places = warped(Draws(ROWS, 0, "warp", torch.device("cpu")), 64, strength)
    assert places.shape == (300, 64)
    assert (places[:, 0] == 0).all()
    torch.testing.assert_close(places[:, -1], torch.full((300,), 63.0))
    speed = places.diff(dim=1)
    assert (speed > 0).all()
    # Scaled so that the ends stay, a speed is at most (1 + s) / (1 - s).
    assert speed.max() <= (1 + strength) / (1 - strength) + 1e-3
    assert (speed.diff(dim=1).abs().max() < 0.5 * strength + 1e-3).all()


def test_a_warped_ramp_shows_the_places_and_a_warped_signal_is_interpolated(signals):
    ramp = torch.arange(64.0).expand(300, 2, 64)
    made = done(ramp, "time_warp", 0.4)
    places = warped(Draws(ROWS, 0, "time_warp 0", torch.device("cpu")), 64, 0.4)
    torch.testing.assert_close(made[:, 0], places, atol=1e-4, rtol=0)
    wanted = np.interp(places[7].numpy(), np.arange(64), signals[7, 1].numpy())
    np.testing.assert_allclose(done(signals, "time_warp", 0.4)[7, 1].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("name", list(STRENGTHS))
def test_strength_0_changes_nothing_more_changes_more_and_batches_do_not_matter(signals, name):
    torch.testing.assert_close(done(signals, name, 0.0), signals, atol=1e-4, rtol=0)
    sizes = [(done(signals, name, s) - signals).abs().mean().item() for s in STRENGTHS[name]]
    assert sorted(set(sizes)) == sizes
    rows = np.array([250, 4])
    part = done(signals[rows], name, 0.4, rows)
    torch.testing.assert_close(part, done(signals, name, 0.4)[rows], atol=1e-5, rtol=0)
    assert not torch.equal(done(signals, name, 0.4), done(signals, name, 0.4, attempt=1))
    assert not torch.equal(done(signals, name, 0.4), done(signals, name, 0.4, seed=1))


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("name", list(STRENGTHS))
def test_short_series_are_taken(name, length):
    made = perturb(torch.ones(4, 1, length), name, 0.4, np.arange(4), 0, 0, SPREAD[:1])
    assert made.shape == (4, 1, length)
    assert torch.isfinite(made).all()


def test_an_unknown_name_is_refused(signals):
    with pytest.raises(ConfigError, match="nearest is 'scaling'"):
        done(signals, "scalin", 0.1)

"""Smoothing against the closed form of a linear classifier, against scipy, and against the batch."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from audit.certify.smoothing import NONE, Smoothing, gaussian, largest_radius, radius, smooth
from audit.model import Model, Passes

HOW = Smoothing(sigma=0.5, selection=50, samples=2000, alpha=0.001, seed=3)


def linear(batch=256, weight=((-0.6, -0.8), (0.6, 0.8)), bias=(0.5, -0.5)):
    net = nn.Linear(2, 2)
    net.weight.data, net.bias.data = torch.tensor(weight), torch.tensor(bias)
    return Model(module=net.eval(), device=torch.device("cpu"), passes=Passes(batch=batch))


INPUTS = np.random.default_rng(0).uniform(-1, 2, (40, 2)).astype(np.float32)
UNIT = np.ones(2, np.float32)


def test_a_linear_classifier_is_certified_to_just_below_its_distance():
    """For a linear classifier the smoothed one is the same and its exact radius the distance to the plane."""
    found = smooth(linear(), INPUTS, UNIT, np.arange(40), HOW)
    signed = INPUTS @ np.array([0.6, 0.8]) - 0.5
    certain = found.classes != NONE
    assert certain.mean() > 0.8
    assert (found.classes[certain] == (signed > 0)[certain]).all()
    distance = np.abs(signed)
    assert (found.radii <= distance).all()  # each may fail with probability .001
    near = certain & (distance < 2 * HOW.sigma)  # further out the number of draws is what limits
    assert near.sum() > 10
    assert (distance - found.radii)[near].max() < 0.15
    assert (distance[~certain] < 0.1).all()


def test_the_radius_against_scipy():
    for hits, samples in ((1000, 1000), (990, 1000), (700, 1000), (60, 100)):
        least = stats.beta.ppf(0.001, hits, samples - hits + 1)
        wanted = 0.25 * stats.norm.ppf(least) if least > 0.5 else 0.0
        assert radius(hits, samples, 0.001, 0.25) == pytest.approx(wanted, rel=1e-9)
    assert radius(0, 100, 0.001, 0.25) == 0
    assert largest_radius(HOW) == pytest.approx(0.5 * stats.norm.ppf(0.001 ** (1 / 2000)), rel=1e-9)


def test_the_bound_holds_as_often_as_it_says():
    """The lower bound is above the true probability in at most alpha of all samples, by exact summation."""
    samples, alpha = 200, 0.05
    for p in (0.6, 0.8, 0.95):
        truth = stats.norm.ppf(p)
        wrong = sum(
            stats.binom.pmf(hits, samples, p)
            for hits in range(samples + 1)
            if radius(hits, samples, alpha, 1.0) > truth
        )
        assert 0 < wrong <= alpha


def test_rows_do_not_depend_on_the_batch_or_on_each_other():
    whole = smooth(linear(4096), INPUTS, UNIT, np.arange(40), HOW)
    small = smooth(linear(37), INPUTS, UNIT, np.arange(40), HOW)
    some = smooth(linear(), INPUTS, UNIT, np.array([7, 31]), HOW)
    assert np.array_equal(whole.radii, small.radii)
    assert np.array_equal(whole.classes, small.classes)
    assert np.array_equal(whole.radii[[7, 31]], some.radii)
    other = smooth(linear(), INPUTS, UNIT, np.arange(40), Smoothing(**{**vars(HOW), "seed": 4}))
    assert not np.array_equal(whole.radii, other.radii)


def test_the_noise_is_standard_normal_and_its_draws_are_independent():
    rows, draws = np.divmod(np.arange(4000), 1000)
    noise = gaussian((3, 2), rows, draws, 5)
    assert noise.shape == (4000, 3, 2)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.01
    flat = noise.reshape(4000, -1)
    assert np.abs(np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]) < 0.03
    assert len(np.unique(flat[:, 0])) > 3990


def test_a_fixed_coordinate_gets_no_noise():
    """Only the second input counts for the class, and it is fixed: every draw agrees."""
    model = linear(weight=((0.0, -1.0), (0.0, 1.0)), bias=(0.5, -0.5))
    found = smooth(model, INPUTS, np.array([1, 0], np.float32), np.arange(40), HOW)
    assert found.radii == pytest.approx(np.full(40, largest_radius(HOW)))
    assert np.array_equal(found.classes, INPUTS[:, 1] > 0.5)


def test_an_even_choice_abstains():
    found = smooth(
        linear(weight=((0.0, 1.0), (0.0, -1.0)), bias=(0.0, 0.0)), INPUTS * 0, UNIT, np.arange(3), HOW
    )
    assert found.classes.tolist() == [NONE] * 3
    assert found.radii.tolist() == [0.0] * 3


class Roots(nn.Module):
    """Not a number for negative inputs."""

    def forward(self, rows):
        return torch.stack([rows[:, 0].sqrt(), rows[:, 0] * 0], dim=1)


def test_outputs_that_are_not_finite_count_for_no_class():
    model = Model(module=Roots(), device=torch.device("cpu"))
    inputs = np.array([[0.0], [10.0], [-10.0]], np.float32)
    found = smooth(model, inputs, np.ones(1, np.float32), np.arange(3), HOW)
    assert found.classes.tolist() == [NONE, 0, NONE]
    assert 900 < found.lost[0] < 1150
    assert found.lost[1:].tolist() == [0, 2050]


def test_every_noisy_copy_is_counted():
    model = linear()
    smooth(model, INPUTS, UNIT, np.arange(4), HOW)
    assert model.passes.forward == 4 * 2050

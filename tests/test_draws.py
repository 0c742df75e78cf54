"""Draws by counter: the published generator restated with whole numbers, and no trace of the batch."""

import zlib

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from audit.draws import Draws

CPU = torch.device("cpu")
MASK = 2**64 - 1


def mixed(word):
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def slow(row, seed, purpose, part, count):
    """SplitMix64 in Python's own whole numbers."""
    name = zlib.crc32(f"{purpose}/{part}".encode())
    start = int(np.random.SeedSequence([seed, name]).generate_state(1, np.uint64)[0])
    state = mixed((start + row * 0xD1B54A32D192ED03) & MASK)
    return [mixed((state + index * 0x9E3779B97F4A7C15) & MASK) for index in range(1, count + 1)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10**9))
def test_words_are_those_of_splitmix(seed, row):
    draws = Draws(np.array([3, row]), seed, "fog", CPU)
    words = slow(row, seed, "fog", "x", 5)
    assert draws.integers(5, "x")[1].tolist() == [word >> 33 for word in words]
    assert draws.uniform((5,), "x")[1].tolist() == [(word >> 40) / 2**24 for word in words]


def test_the_first_words_of_splitmix_from_seed_0_are_the_published_ones():
    words = [mixed((index * 0x9E3779B97F4A7C15) & MASK) for index in (1, 2, 3)]
    assert words == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_draws_do_not_depend_on_the_batch_and_differ_by_row_seed_purpose_and_part():
    rows = np.arange(50)
    whole = Draws(rows, 7, "snow", CPU).normal((3, 4))
    part = Draws(rows[[30, 2]], 7, "snow", CPU).normal((3, 4))
    assert torch.equal(whole[[30, 2]], part)
    others = [
        Draws(rows, 8, "snow", CPU).normal((3, 4)),
        Draws(rows, 7, "frost", CPU).normal((3, 4)),
        Draws(rows, 7, "snow", CPU).normal((3, 4), "other"),
    ]
    for other in (*others, whole.roll(1, 0)):
        assert abs(np.corrcoef(whole.flatten(), other.flatten())[0, 1]) < 0.15


def test_uniform_and_normal_have_the_right_distribution_along_rows_and_across_them():
    draws = Draws(np.arange(2000), 1, "a", CPU)
    uniform, normal = draws.uniform((10,)).numpy(), draws.normal((10,)).numpy()
    for values in (uniform.ravel(), uniform[:, 0], uniform[0]):
        assert kstest(values, "uniform").pvalue > 1e-3
    assert kstest(normal.ravel(), "norm").pvalue > 1e-3
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(np.corrcoef(uniform[:-1, 0], uniform[1:, 0])[0, 1]) < 0.08
    assert abs(np.corrcoef(uniform[:, 0], uniform[:, 1])[0, 1]) < 0.08


def test_a_normal_draw_is_finite_even_for_the_least_and_the_greatest_uniform_number():
    values = Draws(np.arange(400), 0, "b", CPU).normal((2000,))
    assert torch.isfinite(values).all()
    assert 4 < values.abs().max() < 6

"""Counter-based random numbers: a published sequence, independence of the batch, and their distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from audit.attack.chance import below, flag, fractions, keys, normals, words

CPU = torch.device("cpu")
ROWS = np.arange(300)


def test_the_published_sequence_of_splitmix64():
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    drawn = words(torch.tensor([1234567]), 0, 4)[0].numpy().view(np.uint64)
    assert drawn.tolist() == expected


def test_a_place_in_a_stream_does_not_depend_on_what_else_is_asked():
    streams = keys(7, "square_step", 0, ROWS, CPU)
    whole = words(streams, 0, 60)
    assert torch.equal(whole[[250, 3], 20:50], words(streams[[250, 3]], 20, 30))
    alone = keys(7, "square_step", 0, ROWS[[250, 3]], CPU)
    assert torch.equal(alone, streams[[250, 3]])


def test_vectors_do_not_depend_on_what_else_is_asked():
    streams = keys(7, "jump_step", 1, ROWS[:5], CPU)
    assert torch.equal(normals(streams, 0, 8, 7)[:, 3:6], normals(streams, 3, 3, 7))


def test_seeds_purposes_attempts_and_rows_differ():
    def draw(seed=7, purpose="square_step", attempt=0, row=4):
        return int(words(keys(seed, purpose, attempt, np.array([row]), CPU), 0, 1))

    draws = {
        draw(),
        draw(seed=8),
        draw(purpose="square_start"),
        draw(purpose="jump_start"),
        draw(purpose="jump_step"),
        draw(attempt=1),
        draw(row=5),
    }
    assert len(draws) == 7


def test_fractions_are_uniform():
    drawn = fractions(words(keys(0, "square_step", 0, ROWS, CPU), 0, 100)).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("limit", [2, 3, 28])
def test_integers_are_equally_frequent(limit):
    drawn = below(words(keys(0, "square_step", 0, ROWS, CPU), 0, 100), limit).numpy().ravel()
    counts = np.bincount(drawn, minlength=limit)
    assert len(counts) == limit
    assert stats.chisquare(counts).pvalue > 1e-3


def test_low_bits_say_nothing_about_high_ones():
    bits = words(keys(0, "square_step", 0, ROWS, CPU), 0, 100)
    first, second = flag(bits, 0).numpy().ravel(), flag(bits, 1).numpy().ravel()
    high = fractions(bits).numpy().ravel()
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first, high)[0, 1]) < 0.02


@pytest.mark.parametrize("length", [1, 2, 7])
def test_normals_are_normal_and_independent(length):
    drawn = normals(keys(0, "jump_step", 0, ROWS, CPU), 0, 60, length).numpy()
    assert drawn.shape == (300, 60, length)
    assert np.isfinite(drawn).all()
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    between = np.corrcoef(drawn.reshape(-1, length).T) if length > 1 else np.ones((1, 1))
    assert np.abs(between - np.eye(length)).max() < 0.03

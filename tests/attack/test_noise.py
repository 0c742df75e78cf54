"""Random displacements lie where they should and depend on the row alone."""

import numpy as np
import pytest

from audit.attack.noise import displacements

ONES = np.ones((2, 3), np.float32)
ROWS = np.arange(400)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("stream", ["start", "noise"])
def test_a_row_gets_the_same_draw_whatever_its_neighbours_are(norm, stream):
    together = displacements(norm, ONES, ROWS, stream, 0, 7)
    alone = displacements(norm, ONES, ROWS[[250, 3]], stream, 0, 7)
    assert np.array_equal(together[[250, 3]], alone)


def test_seeds_attempts_and_streams_differ():
    def draw(norm="l2", stream="start", attempt=0, seed=7):
        return displacements(norm, ONES, ROWS[:1], stream, attempt, seed).tobytes()

    assert len({draw(), draw(attempt=1), draw(seed=8), draw(stream="noise")}) == 4


def test_a_random_start_is_uniform_in_the_ball():
    cube = displacements("linf", ONES, ROWS, "start", 0, 0)
    assert np.abs(cube).max() <= 1
    assert abs(np.abs(cube).mean() - 0.5) < 0.03
    sphere = np.linalg.norm(displacements("l2", ONES, ROWS, "start", 0, 0).reshape(400, -1), axis=1)
    assert sphere.max() <= 1 + 1e-6
    assert abs((sphere**6).mean() - 0.5) < 0.05  # the radius to the 6th is uniform in 6 dimensions


def test_noise_is_on_the_far_edge():
    assert set(np.unique(displacements("linf", ONES, ROWS, "noise", 0, 0))) == {-1, 1}
    sphere = displacements("l2", ONES, ROWS, "noise", 0, 0).reshape(400, -1)
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=1), 1, rtol=1e-5)


def test_fixed_coordinates_get_nothing_and_take_no_length():
    movable = np.array([0, 2.5, 0], np.float32)
    drawn = displacements("l2", movable, ROWS, "noise", 0, 0)
    assert (drawn[:, [0, 2]] == 0).all()
    np.testing.assert_allclose(np.abs(drawn[:, 1]), 1, rtol=1e-5)


@pytest.mark.parametrize("stream", ["start", "noise"])
def test_l1_draws_are_uniform(stream):
    drawn = displacements("l1", ONES, np.arange(4000), stream, 0, 0).reshape(4000, -1).astype(np.float64)
    length = np.abs(drawn).sum(axis=1)
    if stream == "noise":
        np.testing.assert_allclose(length, 1, rtol=1e-5)
    else:
        assert length.max() <= 1 + 1e-6
        assert abs((length**6).mean() - 0.5) < 0.02  # the radius to the 6th is uniform in 6 dimensions
    share = np.abs(drawn) / length[:, None]
    for threshold in (0.1, 0.3):  # on the simplex of 6 coordinates one is above t with (1 - t)^5
        np.testing.assert_allclose((share > threshold).mean(axis=0), (1 - threshold) ** 5, atol=0.03)
    np.testing.assert_allclose((drawn > 0).mean(axis=0), 0.5, atol=0.03)
    assert abs(np.corrcoef(np.sign(drawn[:, 0]), np.sign(drawn[:, 1]))[0, 1]) < 0.06


def test_fixed_coordinates_take_no_l1_length():
    drawn = displacements("l1", np.array([0, 2.5, 0], np.float32), ROWS, "noise", 0, 0)
    assert (drawn[:, [0, 2]] == 0).all()
    np.testing.assert_allclose(np.abs(drawn[:, 1]), 1, rtol=1e-5)

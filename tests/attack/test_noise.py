"""Random displacements lie where they should and depend on the row alone."""

import numpy as np
import pytest

from audit.attack.noise import displacements

ONES = np.ones((2, 3), np.float32)
ROWS = np.arange(400)


@pytest.mark.parametrize("norm", ["linf", "l2"])
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

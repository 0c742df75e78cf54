"""Turns and shifts against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from audit.shift.spatial import grid, moved


@pytest.fixture
def images():
    return torch.rand(3, 2, 9, 9, generator=torch.Generator().manual_seed(0))


def by(images, *move, padding="zeros", low=0.0):
    return moved(images, torch.tensor([move] * len(images), dtype=torch.float32), padding, low)


@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_quarter_turns_are_numpys_counter_clockwise(images, turns):
    wanted = np.rot90(images.numpy(), turns, axes=(2, 3))
    np.testing.assert_allclose(by(images, 90.0 * turns, 0, 0, padding="edge").numpy(), wanted, atol=1e-5)


def test_shifts_by_whole_pixels_are_exact_and_fill_with_the_lowest_value(images):
    made = by(images, 0, 2 / 9, -1 / 9, low=-3.0)
    torch.testing.assert_close(made[:, :, 2:, :-1], images[:, :, :-2, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(made[:, :, :1], torch.full((3, 2, 1, 9), -3.0))
    torch.testing.assert_close(made[..., -1:], torch.full((3, 2, 9, 1), -3.0))
    edge = by(images, 0, 2 / 9, 0, padding="edge")
    torch.testing.assert_close(edge[:, :, 0], images[:, :, 0], atol=1e-5, rtol=0)


def test_any_move_of_a_wide_image_is_scipys_reading_of_where_each_pixel_came_from():
    image = torch.rand(1, 1, 12, 20, generator=torch.Generator().manual_seed(1))
    angle, down, right = 23.0, 0.1, -0.07
    made = by(image, angle, down, right, padding="edge")[0, 0].numpy()
    turn = np.radians(angle)
    for y, x in np.ndindex(12, 20):
        # x to the right and y up around the middle; the shift is undone, then the turn.
        across, up = x - 9.5 - right * 20, -(y - 5.5 - down * 12)
        came_x = across * np.cos(turn) + up * np.sin(turn)
        came_up = -across * np.sin(turn) + up * np.cos(turn)
        wanted = map_coordinates(
            image[0, 0].numpy(), [[5.5 - came_up], [9.5 + came_x]], order=1, mode="nearest"
        )
        assert made[y, x] == pytest.approx(wanted[0], abs=1e-4)


def test_no_move_hands_the_row_back_bit_for_bit_and_rows_do_not_mix(images):
    moves = torch.tensor([[0.0, 0, 0], [10, 0.1, 0], [0, 0, 0]])
    made = moved(images, moves, "zeros", 0.0)
    assert torch.equal(made[[0, 2]], images[[0, 2]])
    alone = moved(images[1:2], moves[1:2], "zeros", 0.0)
    torch.testing.assert_close(made[1:2], alone, atol=1e-6, rtol=0)


def test_the_grid_has_every_combination_but_none_and_the_largest_first():
    moves = grid(30.0, 0.1, 9, 3)
    assert len(moves) == 9 * 3 * 3 - 1
    assert len(np.unique(moves, axis=0)) == len(moves)
    assert np.abs(moves[0]).tolist() == [30.0, 0.1, 0.1]
    assert np.abs(moves).max(axis=0).tolist() == [30.0, 0.1, 0.1]
    assert len(grid(30.0, 0.0, 9, 3)) == 8
    assert len(grid(0.0, 0.1, 9, 3)) == 8
    assert len(grid(30.0, 0.1, 4, 2)) == 16

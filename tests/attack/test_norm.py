"""Nothing that `project` returns lies outside the ball or the valid range."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from audit.attack.norm import Reach, ball, direction, displaced, project

NORMS = ("linf", "l2")
finite = st.floats(-5, 5, width=32)
rows = hnp.arrays(np.float32, (3, 4), elements=finite)


def reach(unit, low=-2.0, high=2.0):
    unit = torch.as_tensor(unit, dtype=torch.float32)
    return Reach(unit, torch.full_like(unit, low), torch.full_like(unit, high))


@settings(deadline=None, max_examples=150)
@given(
    centre=hnp.arrays(np.float32, (3, 4), elements=st.floats(-2, 2, width=32)),
    points=rows,
    epsilon=st.floats(0, 3, width=32),
    unit=hnp.arrays(np.float32, 4, elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])),
    norm=st.sampled_from(NORMS),
)
def test_projection_is_inside_ball_and_range(centre, points, epsilon, unit, norm):
    inside = ball(torch.from_numpy(centre), epsilon, norm, reach(unit))
    moved = project(inside, torch.from_numpy(points)).double().numpy()
    assert moved.min() >= -2
    assert moved.max() <= 2
    offset = np.abs(moved - centre)
    assert (offset[:, unit == 0] == 0).all()
    distance = offset[:, unit > 0] / unit[unit > 0]
    length = distance.max(axis=1, initial=0) if norm == "linf" else np.linalg.norm(distance, axis=1)
    assert (length <= epsilon * (1 + 1e-5) + 1e-5).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_inside_stays_where_it_is(norm):
    centre = torch.tensor([[0.5, -0.5]])
    near = torch.tensor([[0.55, -0.45]])
    assert torch.equal(project(ball(centre, 0.1, norm, reach([1.0, 1.0])), near), near)


@pytest.mark.parametrize("norm", NORMS)
def test_epsilon_0_changes_nothing_even_outside_the_range(norm):
    centre = torch.tensor([[9.0, 0.1]])
    inside = ball(centre, 0.0, norm, reach([1.0, 1.0]))
    assert torch.equal(project(inside, centre), centre)
    assert torch.equal(displaced(inside, torch.ones(1, 2)), centre)


def test_l2_projection_by_hand():
    inside = ball(torch.zeros(1, 2), 1.0, "l2", reach([1.0, 1.0]))
    torch.testing.assert_close(project(inside, torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))


def test_l2_distance_counts_in_units():
    inside = ball(torch.zeros(1, 2), 1.0, "l2", reach([2.0, 0.5], -9, 9))
    moved = project(inside, torch.tensor([[6.0, 2.0]]))  # (3, 4) in units
    torch.testing.assert_close(moved, torch.tensor([[1.2, 0.4]]))


def test_steepest_steps_by_hand():
    gradient = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    unit = torch.ones(2)
    assert direction("linf", gradient, unit).tolist() == [[1, -1], [0, 0]]
    torch.testing.assert_close(direction("l2", gradient, unit), torch.tensor([[0.6, -0.8], [0, 0]]))


def test_an_l2_step_survives_a_vanishing_gradient():
    step = direction("l2", torch.tensor([[3e-30, -4e-30]]), torch.ones(2))
    torch.testing.assert_close(step, torch.tensor([[0.6, -0.8]]))


@pytest.mark.parametrize("norm", NORMS)
def test_no_step_where_the_gradient_is_not_a_number_or_the_coordinate_is_fixed(norm):
    step = direction(norm, torch.tensor([[torch.nan, 2.0, 5.0]]), torch.tensor([1.0, 1.0, 0.0]))
    assert step.tolist() == [[0, 1, 0]]

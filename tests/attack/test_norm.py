"""Nothing that `project` returns lies outside the ball or the valid range."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from audit.attack.norm import L1_SHARE, Reach, ball, direction, displaced, distance, project, rising, within

NORMS = ("linf", "l2", "l1")
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
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
    length = [np.linalg.norm(row, ORDERS[norm]) if row.size else 0 for row in distance]
    assert (np.array(length) <= epsilon * (1 + 1e-5) + 1e-5).all()


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


def slowly(values, lowest, highest, radius):
    """The nearest point of an l1 ball and a box, found by halving an interval for the multiplier."""
    sizes = np.abs(values)
    room = np.where(values > 0, highest, -lowest)

    def at(lower):
        return np.minimum(np.maximum(sizes - lower, 0), room)

    below, above = 0.0, float(sizes.max(initial=0)) + 1
    if at(0).sum() <= radius:
        return np.sign(values) * at(0)
    for _ in range(200):
        middle = (below + above) / 2
        below, above = (middle, above) if at(middle).sum() > radius else (below, middle)
    return np.sign(values) * at(above)


@settings(deadline=None, max_examples=200)
@given(
    points=hnp.arrays(np.float32, (3, 6), elements=finite),
    centre=hnp.arrays(np.float32, (3, 6), elements=st.floats(-2, 2, width=32)),
    epsilon=st.sampled_from([0.0, 0.125, 1.0, 3.0, 20.0]),
    unit=hnp.arrays(np.float32, 6, elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])),
)
def test_the_l1_projection_is_the_nearest_point(points, centre, epsilon, unit):
    moved = project(ball(torch.from_numpy(centre), epsilon, "l1", reach(unit)), torch.from_numpy(points))
    free = unit > 0
    scale = unit[free].astype(np.float64)
    for row, middle, end in zip(points, centre, moved.double().numpy(), strict=True):
        start = middle[free].astype(np.float64)
        expected = slowly((row[free] - start) / scale, (-2 - start) / scale, (2 - start) / scale, epsilon)
        np.testing.assert_allclose((end[free] - start) / scale, expected, atol=1e-5)


def test_no_feasible_point_is_nearer_than_the_l1_projection():
    draw = np.random.default_rng(0)
    point, centre = draw.normal(size=(1, 5)) * 2, draw.uniform(-1, 1, (1, 5))
    inside = ball(torch.from_numpy(centre).float(), 1.5, "l1", reach(np.ones(5), -1.2, 1.2))
    moved = project(inside, torch.from_numpy(point).float()).double().numpy()
    others = centre + draw.uniform(-1, 1, (200_000, 5)) * 1.5
    others = others[(np.abs(others - centre).sum(1) <= 1.5) & (np.abs(others) <= 1.2).all(1)]
    assert len(others) > 1000
    # The angle between what is left and every way into the convex set is at least a right one.
    assert ((others - moved) @ (point - moved)[0]).max() <= 1e-5


def test_l1_projection_by_hand():
    inside = ball(torch.zeros(1, 2), 1.0, "l1", reach([1.0, 1.0]))
    torch.testing.assert_close(project(inside, torch.tensor([[1.0, -0.6]])), torch.tensor([[0.7, -0.3]]))
    tight = ball(torch.zeros(1, 2), 1.0, "l1", reach([1.0, 1.0], -2, 0.5))
    torch.testing.assert_close(project(tight, torch.tensor([[2.0, 0.6]])), torch.tensor([[0.5, 0.5]]))
    units = ball(torch.zeros(1, 2), 1.0, "l1", reach([2.0, 0.5], -9, 9))
    torch.testing.assert_close(project(units, torch.tensor([[2.0, 0.3]])), torch.tensor([[1.4, 0.15]]))


def test_an_l1_projection_of_very_many_coordinates_stays_inside():
    torch.manual_seed(0)
    centre = torch.rand(2, 20_000)
    inside = ball(centre, 12.0, "l1", reach(torch.ones(20_000), 0.0, 1.0))
    moved = project(inside, centre + torch.randn_like(centre)).double()
    length = (moved - centre.double()).abs().sum(1)
    assert (length <= 12 * (1 + 1e-5)).all()
    assert (length >= 12 * (1 - 1e-4)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_radius_for_each_row(norm):
    torch.manual_seed(0)
    centre, points = torch.rand(4, 5), torch.rand(4, 5) * 4
    radii = torch.tensor([0.0, 0.1, 0.5, 9.0])
    wide = ball(centre, float("inf"), norm, reach([1.0, 2.0, 0.0, 0.5, 1.0]))
    together = within(wide, points, radii)
    for row, radius in enumerate(radii.tolist()):
        part = slice(row, row + 1)
        alone = project(ball(centre[part], radius, norm, reach([1.0, 2.0, 0.0, 0.5, 1.0])), points[part])
        torch.testing.assert_close(together[part], alone)


def test_an_infinite_ball_is_the_valid_range():
    inside = ball(torch.zeros(1, 2), float("inf"), "l2", reach([1.0, 0.0]))
    assert project(inside, torch.tensor([[7.0, 7.0]])).tolist() == [[2, 0]]


def test_an_l1_step_moves_the_largest_slopes_alone():
    gradient, unit = torch.tensor([[3.0, -4.0, 1.0, 9.0], [0.0, 0.0, 0.0, 9.0]]), torch.tensor([1.0, 1, 1, 0])
    assert direction("l1", gradient, unit, 0.01).tolist() == [[0, -1, 0, 0], [0, 0, 0, 0]]
    assert direction("l1", gradient, unit, 0.5).tolist() == [[0.5, -0.5, 0, 0], [0, 0, 0, 0]]  # 1.5 up to 2
    each = direction("l1", gradient[[0, 0]], unit, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(each, torch.tensor([[0, -1, 0, 0], [1 / 3, -1 / 3, 1 / 3, 0]]))


def test_l1_slopes_are_compared_per_unit():
    step = direction("l1", torch.tensor([[3.0, -4.0]]), torch.tensor([2.0, 1.0]))
    assert step.tolist() == [[2, 0]]


def test_the_share_of_coordinates_of_an_l1_step():
    step = direction("l1", torch.arange(1.0, 1001.0)[None], torch.ones(1000))
    assert int((step > 0).sum()) == round(1000 * L1_SHARE)
    assert step.sum().item() == pytest.approx(1)


def test_only_ways_that_stay_between_the_corners_rise():
    inside = ball(torch.zeros(1, 4), 1.0, "l1", reach(np.ones(4)))
    points = torch.tensor([[1.0, -1.0, 1.0, 0.0]])
    assert rising(inside, points, torch.tensor([[5.0, -5.0, -5.0, 5.0]])).tolist() == [[0, 0, -5, 5]]


def test_distances_by_hand():
    offset, unit = torch.tensor([[3.0, -8.0, 7.0]]), torch.tensor([1.0, 2.0, 0.0])
    assert [distance(norm, offset, unit).item() for norm in NORMS] == [4, 5, 7]


def test_an_l2_projection_uses_the_length_that_the_range_leaves():
    inside = ball(torch.zeros(1, 3), 1.0, "l2", reach(np.ones(3), -2, 0.6))
    moved = project(inside, torch.tensor([[9.0, 3.0, 3.0]]))
    rest = (1 - 0.6**2) ** 0.5 / 2**0.5  # what .6 leaves of the length, shared by the two that are free
    torch.testing.assert_close(moved, torch.tensor([[0.6, rest, rest]]), rtol=1e-5, atol=0)

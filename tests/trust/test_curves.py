"""Deletion and insertion: a model worked out by hand, a slow restatement, and what random rankings gain."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.model import Model, log_odds
from audit.trust.curves import Masked, answers, curves, gains, order_of, points, random_orders

OWNER = torch.arange(4)


class Sum(nn.Module):
    """The log-odds of class 1 are 4 a + 2 b + c + 0 d."""

    def forward(self, rows):
        weighted = rows @ torch.tensor([4.0, 2.0, 1.0, 0.0])
        return torch.stack([torch.zeros(len(rows)), weighted], dim=1)


def model_of(network, batch=64):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def masked(network, rows, fill, batch=64, owner=OWNER):
    model = model_of(network, batch)
    return Masked(model, rows, torch.ones(len(rows), dtype=torch.long), owner, fill)


def small_network(inputs=4):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, 2))


def test_a_sum_worked_out_by_hand():
    rows = torch.ones(1, 4)
    orders = np.array([[[0, 1, 2, 3]], [[3, 2, 1, 0]]])
    found = answers(masked(Sum(), rows, torch.zeros(1, 1, 4)), orders, 4)
    assert found.deletion[0, 0] == pytest.approx([7, 3, 1, 0, 0])
    assert found.insertion[0, 0] == pytest.approx([0, 4, 6, 7, 7])
    assert found.deletion[1, 0] == pytest.approx([7, 7, 6, 4, 0])
    scaled = curves(found, [0, 1], by_size=False)
    down, up = scaled.areas()
    assert down[0, 0] == pytest.approx((3.5 + 3 + 1 + 0 + 0) / 4 / 7)
    assert up[0, 0] == pytest.approx((0 + 4 + 6 + 7 + 3.5) / 4 / 7)
    gain = gains(scaled, 0, [1], scaled.usable)
    centre = (down[1, 0] + up[1, 0]) / 2
    assert gain.deletion == pytest.approx([centre - down[0, 0]])
    assert gain.insertion == pytest.approx([up[0, 0] - centre])
    assert gain.total == pytest.approx([(up[0, 0] - down[0, 0]) / 2])


def test_by_size_follows_the_distance_from_the_rows_own_answer():
    """d moves nothing; by size, deleting a (which raises the answer when it goes) counts like a fall."""
    rows = torch.tensor([[-1.0, 0.0, 0.0, 1.0]])
    orders = np.array([[[0, 1, 2, 3]], [[3, 2, 1, 0]]])
    found = answers(masked(Sum(), rows, torch.zeros(1, 1, 4)), orders, 4)
    signed, sized = (curves(found, [0, 1], by_size=by_size) for by_size in (False, True))
    assert gains(signed, 0, [1], signed.usable).total[0] < 0
    assert gains(sized, 0, [1], sized.usable).total[0] > 0
    assert sized.deletion[0, 0] == pytest.approx([1, 0, 0, 0, 0])


def slow_value(model, row, kept, fill, owner):
    """The mean answer over the fills, one row at a time."""
    values = []
    for other in fill:
        mixed = row.clone()
        for element, part in np.ndenumerate(owner):
            if not kept[part]:
                mixed[..., *element] = other[..., *element]
        values.append(log_odds(model.scores(mixed[None]), torch.tensor([1])).item())
    return np.mean(values)


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_curves_equal_a_slow_restatement(batch):
    torch.manual_seed(0)
    rows, fill = torch.randn(3, 6), torch.randn(2, 3, 6)
    owner = torch.tensor([0, 1, 1, 2, 3, 3])
    orders = random_orders(3, 4, 5, 0)
    asked = masked(small_network(6), rows, fill, batch, owner)
    with torch.no_grad():
        found = answers(asked, orders, 4)
        for which in range(5):
            for row in range(3):
                for k in range(5):
                    first = set(orders[which, row, :k].tolist())
                    for curve, kept in (
                        (found.insertion, [part in first for part in range(4)]),
                        (found.deletion, [part not in first for part in range(4)]),
                    ):
                        slow = slow_value(asked.model, rows[row], kept, fill[:, row], owner.numpy())
                        assert curve[which, row, k] == pytest.approx(slow, abs=1e-5)


def test_the_reverse_of_a_ranking_swaps_its_curves():
    torch.manual_seed(1)
    order = random_orders(6, 4, 3, 1)
    both = np.concatenate([order, order[:, :, ::-1]])
    found = answers(masked(small_network(), torch.randn(6, 4), torch.zeros(1, 1, 4)), both, 4)
    assert found.deletion[:3] == pytest.approx(found.insertion[3:, :, ::-1], abs=1e-6)


def test_random_rankings_with_their_reverses_gain_nothing():
    torch.manual_seed(2)
    orders = random_orders(20, 4, 10, 2)
    found = answers(masked(small_network(), torch.randn(20, 4), torch.zeros(1, 1, 4)), orders, 4)
    scaled = curves(found, range(10), by_size=False)
    total = [gains(scaled, index, range(10), scaled.usable).total for index in range(10)]
    down, up = scaled.areas()
    reverse = [(down[i] - up[i]) / 2 for i in range(10)]
    assert np.mean([*total, *reverse]) == pytest.approx(0, abs=1e-12)
    assert all((gains(scaled, i, range(10), scaled.usable).beaten >= 0).all() for i in range(10))


def test_the_best_ranking_beats_all_that_are_not_as_good():
    rows = torch.ones(1, 4)
    orders = np.concatenate([np.array([[[0, 1, 2, 3]]]), random_orders(1, 4, 30, 0)])
    found = answers(masked(Sum(), rows, torch.zeros(1, 1, 4)), orders, 4)
    scaled = curves(found, range(1, 31), by_size=False)
    drawn = {tuple(order[0]) for order in orders[1:]} | {tuple(order[0][::-1]) for order in orders[1:]}
    assert (0, 1, 2, 3) in drawn, "a tie with the best must not count as beaten"
    best = gains(scaled, 0, range(1, 31), scaled.usable)
    assert 0.8 < best.beaten[0] < 1
    worst = gains(curves(answers(masked(Sum(), rows, torch.zeros(1, 1, 4)), orders[:, :, ::-1], 4),
                         range(1, 31), by_size=False), 0, range(1, 31), scaled.usable)  # fmt: skip
    assert worst.beaten[0] == 0
    assert worst.total[0] == pytest.approx(-best.total[0])


def test_rows_that_do_not_answer_are_not_usable():
    class Half(nn.Module):
        def forward(self, rows):
            answer = torch.where(rows[:, 3] > 0, rows[:, 0], 1.0)
            answer = torch.where(rows[:, 3] > 5, torch.nan, answer)
            return torch.stack([torch.zeros(len(rows)), answer], dim=1)

    rows = torch.tensor([[2.0, 1, 1, 1], [2.0, 1, 1, -1], [2.0, 1, 1, 9]])
    fill = torch.tensor([[[0.0, 0, 0, -1]]])
    found = curves(answers(masked(Half(), rows, fill), random_orders(3, 4, 4, 0), 4), range(4), by_size=False)
    assert found.usable.tolist() == [True, False, False]


def test_passes_are_those_of_the_points_between_the_ends():
    asked = masked(Sum(), torch.ones(5, 4), torch.zeros(3, 1, 4))
    answers(asked, random_orders(5, 4, 6, 0), 4)
    assert asked.model.passes.forward == 5 * 3 * (2 + 2 * 6 * 3)


@pytest.mark.parametrize(("features", "steps"), [(1, 8), (4, 8), (7, 3), (16, 8), (13, 8), (784, 8)])
def test_points_are_the_same_from_both_ends(features, steps):
    at = points(features, steps)
    assert at.tolist() == (features - at)[::-1].tolist()
    assert (at[0], at[-1]) == (0, features)
    assert len(at) <= 2 * steps + 1


def test_order_is_by_signed_value_and_random_orders_are_permutations():
    assert order_of(np.array([[0.1, -5.0, 3.0]])).tolist() == [[2, 0, 1]]
    orders = random_orders(4, 6, 5, 0)
    assert (np.sort(orders, axis=2) == np.arange(6)).all()
    assert len({tuple(row) for block in orders for row in block}) > 15
    assert np.array_equal(orders, random_orders(4, 6, 5, 0))


def test_images_are_masked_in_all_channels():
    rows, owner = torch.ones(1, 3, 2, 2), torch.tensor([[[0, 0], [1, 1]]])

    class Look(nn.Module):
        def forward(self, images):
            self.seen = images
            return torch.stack([images.sum(dim=(1, 2, 3)), 0 * images[:, 0, 0, 0]], dim=1)

    network = Look()
    asked = masked(network, rows, torch.zeros(1, 1, 3, 2, 2), owner=owner)
    values = asked.values(np.array([[[True, False]]]))
    assert values == pytest.approx(np.array([[-6.0]]))
    assert network.seen[0, :, 0].eq(1).all()
    assert network.seen[0, :, 1].eq(0).all()


def test_no_ranking_stretches_the_range_that_it_is_measured_by():
    """Only the controls set a row's range: a method that drives the answer further gets no smaller gain."""
    rows = torch.tensor([[1.0, -1.0, 0.5, 0.0]])
    controls = np.array([[[0, 1, 2, 3]], [[3, 0, 1, 2]]])
    best = np.array([[[0, 2, 3, 1]]])
    network = masked(Sum(), rows, torch.zeros(1, 1, 4))
    alone = curves(answers(network, controls, 4), [0, 1], by_size=False)
    found = curves(answers(network, np.concatenate([controls, best]), 4), [0, 1], by_size=False)
    assert found.size == pytest.approx(alone.size)
    assert found.deletion[:2] == pytest.approx(alone.deletion)
    reached = np.concatenate([found.deletion[2], found.insertion[2]], axis=1)
    assert reached.min() < 0 or reached.max() > 1

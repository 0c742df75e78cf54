"""The nearest misclassified point: exact for linear models, and always a point that verifies."""

import numpy as np
import pytest
import torch
from networks import LeNet
from scipy.optimize import brentq, linprog
from torch import nn

from audit.attack.loop import Pgd, pgd
from audit.attack.minimum import Minimum, minimum
from audit.attack.norm import Reach, ball
from audit.attack.space import Space
from audit.attack.verify import ACCEPTED, inside_ball, verify
from audit.model import Model, Passes, state_hash

DUALS = {"linf": 1, "l2": 2, "l1": np.inf}
UNIT = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0, 1.0])


def target(net, batch=256, **fields):
    return Model(module=net, device=torch.device("cpu"), passes=Passes(batch=batch), **fields)


def plane():
    """Two classes on either side of w x + b = 0."""
    torch.manual_seed(0)
    net = nn.Linear(6, 2)
    with torch.no_grad():
        net.weight[0] = 0
        net.bias[:] = torch.tensor([0.0, 0.1])
    return net.eval(), net.weight[1].detach(), 0.1


def reach(low, high, unit=UNIT):
    return Reach(unit, torch.full_like(unit, low), torch.full_like(unit, high))


def curved():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 5)).eval()


def cloud(net):
    x = torch.from_numpy(np.random.default_rng(1).random((60, 8), dtype=np.float32))
    with torch.no_grad():
        return x, net(x).argmax(1), Reach(torch.ones(8), torch.zeros(8), torch.ones(8))


@pytest.mark.parametrize("norm", DUALS)
def test_the_distance_to_a_plane(norm):
    net, weight, bias = plane()
    x = torch.randn(20, 6)
    gap = (x @ weight + bias).abs() / torch.linalg.vector_norm(weight * UNIT, DUALS[norm])
    label = (x @ weight + bias > 0).long()
    found = minimum(target(net), label, ball(x, np.inf, norm, reach(-100, 100)), Minimum(norm=norm)).distance
    assert (found >= gap * (1 - 1e-5)).all()
    assert (found <= gap * 1.01).all()


def exact(norm, slope, need, room):
    """The least norm of u with slope @ u >= need and 0 <= u <= room; slopes are above 0. Infinite if none."""
    if slope @ room < need:
        return np.inf
    if norm == "l2":  # the nearest point is a multiple of the slope, cut to the room
        times = brentq(lambda t: slope @ np.minimum(t * slope, room) - need, 0, 1e6)
        return float(np.linalg.norm(np.minimum(times * slope, room)))
    count = len(slope)
    if norm == "l1":
        return linprog(np.ones(count), -slope[None], [-need], bounds=[(0, top) for top in room]).fun
    cost = np.append(np.zeros(count), 1)
    below = np.c_[np.eye(count), -np.ones(count)]
    bounds = [*((0, top) for top in room), (0, None)]
    return linprog(
        cost, np.r_[[np.append(-slope, 0)], below], np.append(-need, np.zeros(count)), bounds=bounds
    ).fun


@pytest.mark.parametrize("norm", DUALS)
def test_the_distance_where_the_valid_range_is_in_the_way(norm):
    net, weight, bias = plane()
    x = torch.rand(30, 6)
    value = (x @ weight + bias).double().numpy()
    label = torch.from_numpy((value > 0).astype(np.int64))
    found = minimum(target(net), label, ball(x, np.inf, norm, reach(0, 1)), Minimum(norm=norm)).distance
    free = (UNIT > 0).numpy()
    slope = (weight * UNIT).double().numpy()[free]
    expected = []
    for row, height in zip(x.double().numpy()[:, free], value, strict=True):
        upwards = slope * -np.sign(height) > 0
        room = np.where(upwards, 1 - row, row) / UNIT.double().numpy()[free]
        expected.append(exact(norm, np.abs(slope), abs(height), room))
    expected = np.array(expected)
    # Some rows use up the room of a coordinate, and one could never leave its class.
    assert (expected > np.abs(value) / np.linalg.norm(slope, DUALS[norm]) * 1.02).sum() > 3
    reachable = np.isfinite(expected)
    assert torch.equal(found.isfinite(), torch.from_numpy(reachable))
    ratio = found.double().numpy()[reachable] / expected[reachable]
    assert ratio.min() >= 1 - 1e-5
    assert ratio.max() <= {"linf": 1.02, "l2": 1.02, "l1": 1.08}[norm]
    assert np.median(ratio) <= 1.01


@pytest.mark.parametrize("norm", DUALS)
@pytest.mark.parametrize("batch", [256, 7])
def test_every_distance_verifies(norm, batch):
    net = curved()
    x, y, around = cloud(net)
    before = state_hash(net)
    found = minimum(target(net, batch), y, ball(x, np.inf, norm, around), Minimum(norm=norm, steps=40))
    assert found.distance.isfinite().all()
    rows, points = x.numpy(), found.points.numpy()
    space = Space(
        scale="input", unit=np.ones(8, np.float32), low=0 * rows[0], high=0 * rows[0] + 1, epsilons=()
    )
    for row, radius in enumerate(found.distance.tolist()):
        part = slice(row, row + 1)
        code = verify(target(net), points[part], rows[part], y[part].numpy(), space, norm, radius)
        assert code.tolist() == [ACCEPTED]
        assert not inside_ball(points[part], rows[part], space, norm, radius * 0.999)[0]
    assert state_hash(net) == before


@pytest.mark.parametrize("norm", DUALS)
def test_neither_the_batch_nor_the_neighbours_change_anything(norm):
    net = curved()
    x, y, around = cloud(net)
    inside, attack = ball(x, np.inf, norm, around), Minimum(norm=norm, steps=25)
    whole = minimum(target(net), y, inside, attack)
    small = minimum(target(net, batch=7), y, inside, attack)
    torch.testing.assert_close(whole.distance, small.distance, rtol=1e-4, atol=1e-5)
    some = torch.tensor([40, 3, 17])
    alone = minimum(target(net), y[some], inside.take(some), attack)
    torch.testing.assert_close(whole.distance[some], alone.distance, rtol=1e-4, atol=1e-5)


def test_rows_that_are_wrong_are_at_distance_0_and_cost_one_pass():
    net = curved()
    x, y, around = cloud(net)
    y[:10] = (y[:10] + 1) % 5
    model = target(net)
    found = minimum(model, y, ball(x, np.inf, "l2", around), Minimum(steps=9))
    assert (found.distance == 0).nonzero().flatten().tolist() == list(range(10))
    assert torch.equal(found.points[:10], x[:10])
    assert (model.passes.backward, model.passes.forward) == (60 + 8 * 50, 60 + 9 * 50)
    model = target(net)
    assert (minimum(model, y[:10], ball(x[:10], np.inf, "l2", around), Minimum()).distance == 0).all()
    assert model.passes.forward == 10


def test_no_step_finds_only_what_is_wrong_by_itself():
    net = curved()
    x, y, around = cloud(net)
    y[0] = (y[0] + 1) % 5
    found = minimum(target(net), y, ball(x, np.inf, "l2", around), Minimum(steps=0))
    assert found.distance[0] == 0
    assert found.distance[1:].isinf().all()


def test_nothing_is_found_beyond_epsilon_or_where_nothing_may_move():
    net, weight, bias = plane()
    x = torch.randn(20, 6)
    value = x @ weight + bias
    gap = value.abs() / (weight * UNIT).norm()
    label = (value > 0).long()
    middle = float(gap.median().detach())
    found = minimum(target(net), label, ball(x, middle, "l2", reach(-100, 100)), Minimum())
    assert torch.equal(
        found.distance[gap > middle * 1.01].isinf(), torch.ones_like(gap[gap > middle * 1.01], dtype=bool)
    )
    assert found.distance[gap < middle * 0.98].isfinite().all()
    assert (found.distance[found.distance.isfinite()] <= middle * (1 + 1e-5)).all()
    fixed = ball(x, np.inf, "l2", reach(-100, 100, UNIT * 0))
    assert minimum(target(net), label, fixed, Minimum(steps=5)).distance.isinf().all()


def test_a_row_without_a_gradient_is_noted_and_a_first_step_aside_may_help():
    class Step(nn.Module):
        """Flat below .5, then rising."""

        def forward(self, x):
            return torch.cat([x[:, :1] * 0 + 0.1, torch.relu(x[:, :1] - 0.5)], 1)

    x = torch.zeros(1, 1)
    inside = ball(x, np.inf, "l2", Reach(torch.ones(1), torch.zeros(1), torch.ones(1)))
    stuck = minimum(target(Step()), torch.tensor([0]), inside, Minimum())
    assert stuck.distance.isinf().all()
    assert stuck.zero.tolist() == [True]
    assert torch.equal(stuck.points, x)
    freed = minimum(target(Step()), torch.tensor([0]), inside, Minimum(), torch.tensor([[0.9]]))
    assert freed.distance.item() == pytest.approx(0.6, rel=0.01)
    assert freed.zero.tolist() == [False]


def test_a_gradient_that_is_not_a_number_is_noted():
    class Sick(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum(1) * 0 + 1, torch.sqrt(x[:, 0] * 0)], 1)

    x = torch.full((2, 2), 0.5)
    inside = ball(x, np.inf, "linf", Reach(torch.ones(2), torch.zeros(2), torch.ones(2)))
    found = minimum(target(Sick()), torch.tensor([0, 0]), inside, Minimum(norm="linf", steps=5))
    assert found.nan.all()
    assert found.distance.isinf().all()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.12), ("l2", 1.5)])
def test_it_finds_what_pgd_finds_on_a_real_network(shared_data, norm, epsilon):
    net = LeNet()
    net.load_state_dict(
        torch.load(shared_data / "mnist" / "lenet.pth", weights_only=True, map_location="cpu")
    )
    with np.load(shared_data / "mnist" / "mnist_test.npz") as file:
        x = torch.from_numpy(file["images"][:60, None].astype(np.float32) / 255)
        y = torch.from_numpy(file["labels"][:60].astype(np.int64))
    one = torch.ones_like(x[0])
    around = Reach(one, one * 0, one)
    model = target(net.eval(), output="log_probabilities")
    near = minimum(model, y, ball(x, np.inf, norm, around), Minimum(norm=norm, steps=60))
    walk = Pgd(norm=norm, steps=40, loss="margin", random_start=False)
    walked = pgd(model, y, ball(x, epsilon, norm, around), walk, None).fooled
    assert 10 < walked.sum() < 50
    assert near.distance.isfinite().all()
    assert (near.distance <= epsilon).sum() >= walked.sum() - 1


class Doubled(nn.Module):
    """A network that computes in double precision."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, rows):
        return self.net(rows.double())


@pytest.mark.parametrize("norm", DUALS)
def test_a_network_of_double_precision_is_searched_as_one_of_single(norm):
    x, y, reach = cloud(curved())
    inside, attack = ball(x, np.inf, norm, reach), Minimum(norm=norm, steps=30)
    single = minimum(target(curved()), y, inside, attack)
    double = minimum(target(Doubled(curved())), y, inside, attack)
    assert double.points.dtype == double.distance.dtype == torch.float32
    torch.testing.assert_close(double.distance, single.distance, rtol=0.05, atol=0)

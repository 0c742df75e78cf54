"""HopSkipJump: against distances known by hand, on a network that tells labels alone, against ART."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from networks import LeNet
from torch import nn

from audit.attack.hopskipjump import HopSkipJump, donors, hopskipjump
from audit.attack.norm import Reach
from audit.attack.space import Space
from audit.attack.verify import ACCEPTED, verify
from audit.model import Model, Passes, state_hash

NORMS = ("linf", "l2")


class Side(nn.Module):
    """Says 1 where weights . x > bar, else 0; a label and nothing more."""

    def __init__(self, weights, bar=0.0):
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))
        self.bar, self.largest = bar, 0

    def forward(self, rows):
        self.largest = max(self.largest, len(rows))
        return ((rows * self.weights).flatten(1).sum(1) > self.bar).long()


def target(network, batch=256, classes=("a", "b")):
    return Model(
        module=network.eval(),
        device=torch.device("cpu"),
        output="labels",
        classes=classes,
        passes=Passes(batch=batch),
    )


def reach(shape, unit=1.0, low=-4.0, high=4.0):
    return Reach(torch.full(shape, unit), torch.full(shape, low), torch.full(shape, high))


def walk(model, rows, around, attack, others=None, seed=0, numbers=None):
    labels = torch.zeros(len(rows), dtype=torch.long)
    numbers = np.arange(len(rows)) if numbers is None else numbers
    return hopskipjump(model, labels, rows, around, attack, numbers, seed, others)


WEIGHTS = np.random.default_rng(0).normal(size=12)


def rows_below(count, seed=1):
    """Rows of class 0 at different distances from the boundary of WEIGHTS."""
    draw = np.random.default_rng(seed).normal(size=(count, 12)) * 0.3
    wanted = -np.linspace(0.3, 2.0, count)
    shift = (wanted - draw @ WEIGHTS) / (WEIGHTS @ WEIGHTS)
    return torch.from_numpy((draw + shift[:, None] * WEIGHTS).astype(np.float32))


def true_distance(rows, norm, unit=1.0):
    """From each row to the plane, in units: the dual norm of the slope."""
    slope = np.abs(WEIGHTS * unit)
    return np.abs(rows.numpy() @ WEIGHTS) / (slope.sum() if norm == "linf" else np.linalg.norm(slope))


@pytest.mark.parametrize("norm", NORMS)
def test_the_distance_to_a_plane(norm):
    rows = rows_below(8)
    found = walk(target(Side(WEIGHTS)), rows, reach((12,)), HopSkipJump(norm=norm, iterations=30))
    truth = true_distance(rows, norm)
    assert (found.distance.numpy() >= truth * (1 - 1e-4)).all()
    assert (found.distance.numpy() <= truth * 1.1).all()


@pytest.mark.parametrize("norm", NORMS)
def test_distance_counts_in_units_and_fixed_coordinates_stay(norm):
    rows = rows_below(6)
    unit = np.tile([2.0, 0.5, 0.0], 4).astype(np.float32)
    around = Reach(torch.from_numpy(unit), torch.full((12,), -9.0), torch.full((12,), 9.0))
    found = walk(target(Side(WEIGHTS)), rows, around, HopSkipJump(norm=norm, iterations=30))
    truth = true_distance(rows, norm, unit)
    assert (found.distance.numpy() >= truth * (1 - 1e-4)).all()
    assert (found.distance.numpy() <= truth * 1.15).all()
    assert torch.equal(found.points[:, unit == 0], rows[:, unit == 0])


@pytest.mark.parametrize("norm", NORMS)
def test_more_iterations_are_never_further(norm):
    rows = rows_below(8)
    distances = [
        walk(target(Side(WEIGHTS)), rows, reach((12,)), HopSkipJump(norm=norm, iterations=i)).distance
        for i in (0, 1, 5, 15)
    ]
    for fewer, more in pairwise(distances):
        assert (more <= fewer).all()
    assert (distances[-1] < 0.9 * distances[0]).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_walks_the_same_way_whatever_its_batch_is(norm):
    rows, others = rows_below(9), torch.from_numpy(np.random.default_rng(5).normal(size=(20, 12))).float()
    model = target(Side(WEIGHTS))
    attack = HopSkipJump(norm=norm, iterations=4, evaluations=40)
    whole = walk(model, rows, reach((12,)), attack, donors(model, others))
    for part, batch in ((slice(0, 1), 256), (slice(1, 9), 7), (slice(0, 9), 50)):
        small = target(Side(WEIGHTS), batch=batch)
        some = walk(
            small, rows[part], reach((12,)), attack, donors(small, others), numbers=np.arange(9)[part]
        )
        torch.testing.assert_close(some.distance, whole.distance[part], rtol=1e-4, atol=0)
        assert torch.equal(some.queries, whole.queries[part])
        assert small.module.largest <= batch


def test_a_step_that_overshoots_is_halved():
    """Class 1 is a slab thinner than the first steps are long; its near side is 2 away."""

    class Slab(nn.Module):
        def forward(self, rows):
            return ((rows[:, 0] > 2) & (rows[:, 0] < 2.3)).long()

    model = target(Slab())
    start = donors(model, torch.tensor([[2.1, 3.0]]))
    found = walk(model, torch.zeros(1, 2), reach((2,)), HopSkipJump(starts=0, iterations=25), start)
    assert 2 <= found.distance.item() <= 2.1


def test_every_pass_is_counted_and_the_budget_holds():
    rows, model = rows_below(5), target(Side(WEIGHTS))
    for budget in (300, 1000):
        model.passes.forward = 0
        attack = HopSkipJump(iterations=50, budget=budget)
        found = walk(model, rows, reach((12,)), attack)
        assert int(found.queries.sum()) == model.passes.forward
        assert (found.queries <= budget).all()
        assert (found.queries > budget / 2).all()
    assert model.passes.backward == 0


def test_the_start_costs_no_more_than_stated():
    rows, model = rows_below(5), target(Side(WEIGHTS))
    others = donors(model, rows_below(30, seed=3))
    model.passes.forward = 0
    found = walk(model, rows, reach((12,)), HopSkipJump(norm="linf", iterations=0), others)
    assert int(found.queries.sum()) == model.passes.forward
    assert (found.queries <= HopSkipJump().starts + 43).all()


def test_where_nothing_is_misclassified_the_distance_is_infinite():
    rows, model = rows_below(4), target(Side(WEIGHTS, bar=1e9))
    found = walk(model, rows, reach((12,)), HopSkipJump(starts=6), donors(model, rows_below(3)))
    assert found.distance.isinf().all()
    assert torch.equal(found.points, rows)
    assert found.queries.tolist() == [6] * 4


def test_other_rows_are_a_start_where_random_points_are_none():
    """Class 1 is a corner that a random point meets once in 10**12."""
    rows, bar = torch.zeros(3, 12), 12 * 3.8
    model = target(Side(np.ones(12), bar=bar))
    alone = walk(model, rows, reach((12,)), HopSkipJump())
    assert alone.distance.isinf().all()
    corner = torch.cat([torch.full((2, 12), 3.9), torch.zeros(4, 12)])
    found = walk(model, rows, reach((12,)), HopSkipJump(iterations=3), donors(model, corner))
    np.testing.assert_allclose(found.distance.numpy(), bar / np.sqrt(12), rtol=1e-3)


def test_a_row_keeps_its_own_value_where_it_may_not_move():
    """The donor is of class 1 by a column that the row may not change: it is no start."""
    around = Reach(torch.tensor([1.0, 0.0]), torch.full((2,), -4.0), torch.full((2,), 4.0))
    model = target(Side(np.array([0.0, 1.0])))
    given = donors(model, torch.tensor([[0.0, 2.0]]))
    assert given.classes.tolist() == [1]
    found = walk(model, torch.tensor([[0.0, -2.0]]), around, HopSkipJump(), given)
    assert found.distance.isinf().all()


def test_scores_that_are_not_numbers_are_no_success():
    class Sick(nn.Module):
        def forward(self, rows):
            return torch.full((len(rows), 2), torch.nan)

    model = Model(module=Sick(), device=torch.device("cpu"))
    assert walk(model, torch.zeros(2, 3), reach((3,)), HopSkipJump()).distance.isinf().all()


def test_seeds_differ_and_repeat():
    rows, model = rows_below(3), target(Side(WEIGHTS))
    one, same, other = (
        walk(model, rows, reach((12,)), HopSkipJump(iterations=2), seed=seed).distance for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.fixture(scope="module")
def lenet(shared_data):
    stored = np.load(shared_data / "mnist" / "mnist_test.npz")
    images = (stored["images"][:60].astype(np.float32) / 255)[:, None]
    network = LeNet()
    network.load_state_dict(torch.load(shared_data / "mnist" / "lenet.pth", map_location="cpu"))
    return network.eval(), images, stored["labels"][:60].astype(np.int64)


class LabelsOnly(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).argmax(1)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.35), ("l2", 3.2)])
def test_labels_alone_fool_most_rows(lenet, norm, epsilon):
    """A random point of the ball fools none of them; FGSM needs .15 to .2 for the median row."""
    network, images, labels = lenet
    hidden = LabelsOnly(network)
    model, before = target(hidden, classes=tuple("0123456789")), state_hash(hidden)
    around = reach((1, 28, 28), low=0.0, high=1.0)
    rows, true = torch.from_numpy(images[:10]), torch.from_numpy(labels[:10])
    others = donors(model, torch.from_numpy(images[10:]))
    attack = HopSkipJump(norm=norm, iterations=6)
    found = hopskipjump(model, true, rows, around, attack, np.arange(10), 0, others)
    assert state_hash(hidden) == before
    assert (found.distance <= epsilon).sum() >= 8
    space = Space(
        scale="input",
        unit=np.ones((1, 28, 28), np.float32),
        low=np.zeros((1, 28, 28), np.float32),
        high=np.ones((1, 28, 28), np.float32),
        epsilons=(),
    )
    for number in range(10):
        one = slice(number, number + 1)
        reached = float(found.distance[number])
        code = verify(model, found.points[one].numpy(), images[one], labels[one], space, norm, reached)
        assert code.tolist() == [ACCEPTED]


def test_it_comes_as_near_as_art(lenet):
    network, images, labels = lenet

    class Cast(nn.Module):
        def forward(self, rows):
            return network(rows.float())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART warns about optional packages while it is imported
        from art.attacks.evasion import HopSkipJump as Theirs
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(Cast(), nn.NLLLoss(), (1, 28, 28), 10, clip_values=(0.0, 1.0))
        other = Theirs(classifier, norm=2, max_iter=3, max_eval=1000, init_eval=100, verbose=False)
        state = np.random.get_state()  # noqa: NPY002 - ART draws from the global generator
        np.random.seed(0)  # noqa: NPY002
        points = other.generate(images[:6], labels[:6])
        np.random.set_state(state)  # noqa: NPY002
    theirs = np.linalg.norm((points - images[:6]).reshape(6, -1), axis=1)
    model = Model(module=network, device=torch.device("cpu"), output="log_probabilities")
    around = reach((1, 28, 28), low=0.0, high=1.0)
    attack = HopSkipJump(iterations=3)
    rows, true = torch.from_numpy(images[:6]), torch.from_numpy(labels[:6])
    ours = hopskipjump(model, true, rows, around, attack, np.arange(6), 0).distance.numpy()
    fooled = theirs > 0
    assert fooled.sum() >= 4
    assert np.median(ours[fooled]) <= 1.1 * np.median(theirs[fooled])

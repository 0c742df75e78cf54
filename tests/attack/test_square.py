"""Square: worked out by hand on linear models, on a real network, and against ART."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import fgsm_trained
from torch import nn

from audit.attack import square as module
from audit.attack.norm import Reach, ball
from audit.attack.space import Space
from audit.attack.square import Square, square
from audit.attack.verify import inside_ball, inside_range
from audit.errors import NotApplicable
from audit.model import Model, Passes, state_hash

WIDE = 10.0


class Linear(nn.Module):
    """Two classes; class 1 where weights . x > 0."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, rows):
        value = (rows * self.weights).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(value), value], 1)


def target(network, **fields):
    return Model(module=network.eval(), device=torch.device("cpu"), **fields)


def reach(shape, unit=1.0, low=-WIDE, high=WIDE):
    return Reach(torch.full(shape, unit), torch.full(shape, low), torch.full(shape, high))


def on_one_side(weights, margins):
    """Rows of class 0 at given margins: weights . x = -margin."""
    weights = torch.as_tensor(weights, dtype=torch.float32)
    return torch.stack([-m * weights / weights.square().sum() for m in margins])


def search(model, rows, epsilon, attack, around=None, labels=None, seed=0, numbers=None):
    labels = torch.zeros(len(rows), dtype=torch.long) if labels is None else labels
    numbers = np.arange(len(rows)) if numbers is None else numbers
    inside = ball(rows, epsilon, attack.norm, around or reach(rows.shape[1:]))
    return square(model, labels, inside, attack, numbers, seed)


@pytest.mark.parametrize("shape", [(12,), (2, 6), (1, 4, 4), (3, 4, 5)])
def test_linf_reaches_the_best_corner_and_no_more(shape):
    weights = np.random.default_rng(0).normal(size=shape)
    most = 0.1 * np.abs(weights).sum()
    rows = on_one_side(weights, [0.5 * most, 0.99 * most, 1.01 * most, 2 * most])
    model = target(Linear(weights))
    found = search(model, rows, 0.1, Square(queries=1000))
    assert found.fooled.tolist() == [True, True, False, False]
    corner = rows[3] + 0.1 * torch.as_tensor(weights, dtype=torch.float32).sign()
    torch.testing.assert_close(found.points[3], corner)


def test_l2_fools_what_a_bump_can_reach_and_nothing_out_of_reach():
    across = np.linspace(0, np.pi, 10)
    weights = np.outer(np.sin(across), np.sin(across))[None]
    most = 0.5 * np.linalg.norm(weights)
    rows = on_one_side(weights, [0.25 * most, 0.5 * most, 1.01 * most])
    found = search(target(Linear(weights)), rows, 0.5, Square(norm="l2", queries=1500))
    assert found.fooled.tolist() == [True, True, False]
    assert (found.points[2] - rows[2]).norm() <= 0.5 * (1 + 1e-5)


def test_units_and_fixed_coordinates_by_hand():
    weights, unit = torch.tensor([1.0, 1.0, 5.0]), torch.tensor([2.0, 0.5, 0.0])
    rows = torch.tensor([[-0.24, 0.0, 0.0], [-0.26, 0.0, 0.0]])  # .1 x (2 + .5) = .25 is the most
    around = Reach(unit, torch.full((3,), -WIDE), torch.full((3,), WIDE))
    found = search(target(Linear(weights)), rows, 0.1, Square(queries=200), around)
    assert found.fooled.tolist() == [True, False]
    assert torch.equal(found.points[:, 2], rows[:, 2])


def test_a_query_is_never_spent_on_the_point_already_known():
    """One coordinate has two corners: the second query must ask about the other one."""
    rows = torch.full((50, 1), -0.05)
    found = search(target(Linear([1.0])), rows, 0.1, Square(queries=2))
    assert found.fooled.all()


def test_one_pass_for_each_query_of_a_row_that_stands():
    model = target(Linear(np.ones(6)))
    found = search(model, torch.full((7, 6), -5.0), 0.1, Square(queries=50))
    assert not found.fooled.any()
    assert (model.passes.forward, model.passes.backward) == (7 * 50, 0)


def test_a_fooled_row_asks_no_more():
    model = target(Linear(np.ones(6)))
    rows = torch.cat([torch.full((1, 6), -5.0), torch.full((7, 6), -0.01)])
    search(model, rows, 0.1, Square(queries=400))
    together, model.passes.forward = model.passes.forward, 0
    alone = []
    for number in range(8):
        search(model, rows[[number]], 0.1, Square(queries=400), numbers=np.array([number]))
        alone.append(model.passes.forward - sum(alone))
    assert sum(alone) == together
    assert alone[0] == 400
    assert max(alone[1:]) < 400


def curved(shape, seed=0):
    torch.manual_seed(seed)
    size = int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 24), nn.Tanh(), nn.Linear(24, 4)).eval()


CASES = [("linf", (9,)), ("linf", (2, 8)), ("linf", (2, 6, 6)), ("l2", (2, 6, 6))]


@pytest.mark.parametrize(("norm", "shape"), CASES)
def test_a_row_finds_the_same_whatever_its_batch_is(norm, shape, monkeypatch):
    rows = torch.from_numpy(np.random.default_rng(1).random((30, *shape), dtype=np.float32))
    model = target(curved(shape))
    with torch.no_grad():
        labels = model.scores(rows).argmax(1)
    attack, epsilon = Square(norm=norm, queries=120), 0.08 if norm == "linf" else 0.4
    around = reach(shape, low=0.0, high=1.0)
    whole = search(model, rows, epsilon, attack, around, labels)
    assert 0 < whole.fooled.sum() < 30
    for part in (slice(0, 1), slice(1, 12), slice(12, 30)):
        numbers = np.arange(30)[part]
        some = search(model, rows[part], epsilon, attack, around, labels[part], numbers=numbers)
        assert torch.equal(some.fooled, whole.fooled[part])
        assert torch.equal(some.late, whole.late[part])
        torch.testing.assert_close(some.points, whole.points[part], atol=1e-5, rtol=0)
    monkeypatch.setitem(module._QUERIES_BETWEEN_COMPACTIONS, "cpu", 20)
    monkeypatch.setattr(module, "_WORDS_AT_ONCE", 100)
    seldom = search(model, rows, epsilon, attack, around, labels)
    assert torch.equal(seldom.fooled, whole.fooled)
    torch.testing.assert_close(seldom.points, whole.points, atol=1e-5, rtol=0)


def test_seeds_and_attempts_search_elsewhere():
    model, rows = target(curved((9,))), torch.rand(5, 9, generator=torch.Generator().manual_seed(0))
    inside = ball(rows, 1e-6, "linf", reach((9,)))
    labels = model.scores(rows).argmax(1)
    numbers = np.arange(5)
    points = [
        square(model, labels, inside, Square(queries=1), numbers, seed, attempt).points.detach().numpy()
        for seed, attempt in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert np.array_equal(points[0], points[1])
    assert not np.array_equal(points[0], points[2])
    assert not np.array_equal(points[0], points[3])


@settings(deadline=None, max_examples=40)
@given(
    case=st.sampled_from(CASES),
    epsilon=st.sampled_from([0.0, 0.03, 0.4, 3.0]),
    seed=st.integers(0, 1000),
    fixed=st.booleans(),
)
def test_points_stay_inside_ball_and_range(case, epsilon, seed, fixed):
    norm, shape = case
    draw = np.random.default_rng(seed)
    rows = draw.random((4, *shape), dtype=np.float32)
    unit = draw.choice(np.array([0.5, 1, 2], np.float32), shape)
    if fixed:
        unit[..., ::2] = 0
    space = Space(
        scale="input",
        unit=unit,
        low=np.zeros(shape, np.float32),
        high=np.ones(shape, np.float32),
        epsilons=(),
    )
    model = target(curved(shape))
    labels = model.scores(torch.from_numpy(rows)).argmax(1)
    around, attack = space.reach(model), Square(norm=norm, queries=25)
    points = search(model, torch.from_numpy(rows), epsilon, attack, around, labels, seed).points.numpy()
    assert inside_ball(points, rows, space, norm, epsilon).all()
    assert inside_range(points, rows, space).all()
    assert np.isfinite(points).all()


def test_the_point_kept_has_the_highest_margin_seen():
    seen = []

    class Spy(Linear):
        def forward(self, rows):
            scores = super().forward(rows)
            seen.append(scores[:, 1])
            return scores

    weights = np.random.default_rng(4).normal(size=(1, 5, 5))
    model = target(Spy(weights))
    found = search(
        model, torch.full((3, 1, 5, 5), -5.0) * torch.tensor(weights).sign(), 0.1, Square(queries=60)
    )
    best = torch.stack(seen).amax(0)
    torch.testing.assert_close(model.scores(found.points)[:, 1], best)


def test_epsilon_0_asks_about_the_row_itself():
    rows = torch.tensor([[-0.1], [0.1]])
    model = target(Linear([1.0]))
    found = search(model, rows, 0.0, Square())
    assert found.fooled.tolist() == [False, True]
    assert torch.equal(found.points, rows)
    assert model.passes.forward == 2


def test_late_rows_fall_in_the_last_quarter():
    shape = (2, 6, 6)
    rows = torch.from_numpy(np.random.default_rng(1).random((60, *shape), dtype=np.float32))
    model = target(curved(shape))
    labels = model.scores(rows).argmax(1)
    queries = []
    for number in range(60):
        model.passes.forward = 0
        found = search(
            model,
            rows[[number]],
            0.07,
            Square(queries=20),
            None,
            labels[[number]],
            numbers=np.array([number]),
        )
        queries.append(model.passes.forward if found.fooled.item() else 0)
    whole = search(model, rows, 0.07, Square(queries=20), None, labels)
    assert whole.late.tolist() == [q > 15 for q in queries]
    assert not whole.zero.any()
    assert not whole.nan.any()


@pytest.mark.parametrize("shape", [(9,), (2, 8), (1, 2, 8)])
def test_l2_of_anything_but_images_is_refused(shape):
    with pytest.raises(NotApplicable, match=r"images \[C, H, W\] of at least 3 x 3"):
        search(target(curved(shape)), torch.zeros(1, *shape), 0.1, Square(norm="l2"))


def test_the_schedule_is_that_of_the_paper():
    """Restated from the published code's `p_selection`."""

    def theirs(p_init, it, n_iters):
        it = int(it / n_iters * 10000)
        for limit, divisor in (
            (10, 1),
            (50, 2),
            (200, 4),
            (500, 8),
            (1000, 16),
            (2000, 32),
            (4000, 64),
            (6000, 128),
            (8000, 256),
        ):
            if it <= limit:
                return p_init / divisor
        return p_init / 512

    for queries in (20, 1000, 10_000):
        attack = Square(queries=queries, p_init=0.8)
        assert [attack.share(q) for q in range(1, queries)] == [
            theirs(0.8, q, queries) for q in range(1, queries)
        ]


@pytest.mark.parametrize("side", [2, 3, 5, 7])
def test_bumps_are_those_of_the_paper(side):
    """Restated from the published code, one cell at a time."""

    def rectangle(height, width):
        rise = np.zeros((height, width))
        top, left = height // 2, width // 2
        for ring in range(max(height // 2 + 1, width // 2 + 1)):
            for row in range(max(top, 0), min(top + 2 * ring + 1, height)):
                for column in range(max(0, left), min(left + 2 * ring + 1, width)):
                    rise[row, column] += 1 / (ring + 1) ** 2
            top, left = top - 1, left - 1
        return rise / np.sqrt((rise**2).sum())

    whole = np.concatenate([rectangle(side // 2, side), -rectangle(side - side // 2, side)])
    np.testing.assert_allclose(module._bumps(side).numpy(), whole / np.sqrt((whole**2).sum()), rtol=1e-5)


def test_a_network_that_writes_into_its_input_changes_no_point():
    class Greedy(Linear):
        def forward(self, rows):
            return super().forward(rows.clamp_(-3, 3))

    rows = torch.full((3, 6), -5.0)
    found = search(target(Greedy(np.ones(6))), rows, 0.1, Square(queries=10))
    assert (found.points - rows).abs().max() <= 0.1 + 1e-6


def test_the_memory_layout_does_not_matter():
    weights = np.random.default_rng(4).normal(size=(3, 5, 5))
    rows = torch.full((3, 3, 5, 5), -5.0) * torch.tensor(weights).sign().float()
    model = target(Linear(weights))
    plain = search(model, rows, 0.1, Square(queries=60)).points
    other = search(model, rows.contiguous(memory_format=torch.channels_last), 0.1, Square(queries=60)).points
    assert torch.equal(plain, other)


def test_scores_that_are_not_numbers_fool_nobody():
    class Sick(nn.Module):
        def forward(self, rows):
            return torch.full((len(rows), 3), torch.nan)

    found = search(target(Sick()), torch.zeros(3, 6), 0.1, Square(queries=5))
    assert not found.fooled.any()
    assert found.points.isfinite().all()


@pytest.fixture(scope="module")
def mnist(shared_data):
    stored = np.load(shared_data / "mnist" / "mnist_test.npz")
    images = torch.from_numpy(stored["images"][:100].astype(np.float32) / 255)[:, None]
    network = fgsm_trained()
    network.load_state_dict(torch.load(shared_data / "mnist" / "fgsm_trained.pth", map_location="cpu"))
    return network.eval(), images, torch.from_numpy(stored["labels"][:100].astype(np.int64))


def test_it_breaks_what_was_trained_against_one_step(mnist):
    """Reference: .835 of the first 200 stand after 1,000 queries of torchattacks; PGD-50 leaves .905."""
    network, images, labels = mnist
    model = target(network, passes=Passes(batch=100))
    before = state_hash(network)
    found = search(model, images, 0.3, Square(queries=1000), reach((1, 28, 28), low=0.0, high=1.0), labels)
    assert state_hash(network) == before
    assert 0.75 <= 1 - found.fooled.float().mean() <= 0.87
    assert torch.equal(model.scores(found.points).argmax(1) != labels, found.fooled)
    assert model.passes.forward <= 100 * 1000 + 100


def test_it_is_as_strong_as_art(mnist):
    network, images, labels = mnist
    images, labels = images[:50], labels[:50]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART warns about optional packages while it is imported
        from art.attacks.evasion import SquareAttack
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            network, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0.0, 1.0)
        )
        other = SquareAttack(classifier, norm=np.inf, eps=0.3, max_iter=120, nb_restarts=1, verbose=False)
        state = np.random.get_state()  # noqa: NPY002 - ART draws from the global generator
        np.random.seed(0)  # noqa: NPY002
        points = other.generate(images.numpy(), nn.functional.one_hot(labels, 10).numpy())
        np.random.set_state(state)  # noqa: NPY002
    theirs = int((network(torch.from_numpy(points).float()).argmax(1) != labels).sum())
    around = reach((1, 28, 28), low=0.0, high=1.0)
    ours = int(search(target(network), images, 0.3, Square(queries=120), around, labels).fooled.sum())
    assert theirs > 0
    assert abs(ours - theirs) <= 5

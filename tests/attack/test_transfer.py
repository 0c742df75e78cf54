"""Transfer: imitations learn the model's answers, leave it alone, and lead to examples that it falls for."""

import warnings

import numpy as np
import pytest
import torch
from networks import LeNet
from torch import nn

from audit.attack.loop import Pgd, guess
from audit.attack.noise import displacements
from audit.attack.norm import Reach, ball
from audit.attack.space import Space
from audit.attack.transfer import Imitation, substitute, transfer
from audit.attack.verify import inside_ball, inside_range
from audit.model import Model, state_hash

MARGIN = Pgd(loss="margin")


def target(network, **fields):
    return Model(module=network.eval(), device=torch.device("cpu"), **fields)


def reach(shape, low=0.0, high=1.0):
    return Reach(torch.ones(shape), torch.full(shape, low), torch.full(shape, high))


def plane(weights):
    """Two classes; class 1 where weights . x > 0."""
    network = nn.Linear(len(weights), 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0] * len(weights), weights]))
    return network


class Quantised(nn.Module):
    """Sees 8 levels of each input: the gradient is exactly zero."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, rows):
        return self.network((rows * 7).round() / 7)


class LabelsOnly(Quantised):
    def forward(self, rows):
        return self.network(rows).argmax(1)


def test_a_known_answer_where_the_imitation_is_the_model():
    """.1 x (3 + 1) = .4 is the most that the score can rise."""
    model = target(plane([3.0, -1.0]))
    rows = torch.tensor([[-0.13, 0.0], [-0.134, 0.0], [0.0, 0.35], [0.0, 0.45]])
    inside = ball(rows, 0.1, "linf", reach((2,), -9, 9))
    found = transfer(
        model, target(plane([3.0, -1.0])), torch.zeros(4).long(), inside, MARGIN, np.arange(4), 0
    )
    assert found.fooled.tolist() == [True, False, True, False]
    assert torch.equal(model.scores(found.points).argmax(1) == 1, found.fooled)
    assert not found.zero.any()
    assert not found.nan.any()


def test_the_model_judges_and_not_the_imitation():
    rows = torch.full((3, 2), -0.01)
    inside, labels = ball(rows, 0.1, "linf", reach((2,), -9, 9)), torch.zeros(3).long()
    attack = Pgd(loss="margin", random_start=False)
    model, opposite = target(plane([1.0, 1.0])), target(plane([-1.0, -1.0]))
    assert not transfer(model, opposite, labels, inside, attack, np.arange(3), 0).fooled.any()
    assert transfer(model, model, labels, inside, attack, np.arange(3), 0).fooled.all()


def test_the_walk_goes_on_past_the_boundary_of_the_imitation():
    """The imitation falls at .05 and the model at .09: a walk that stopped at .05 would fool nobody."""
    near = nn.Linear(1, 2)
    far = nn.Linear(1, 2)
    for network, bar in ((near, 0.05), (far, 0.09)):
        with torch.no_grad():
            network.weight.copy_(torch.tensor([[0.0], [1.0]]))
            network.bias.copy_(torch.tensor([0.0, -bar]))
    inside = ball(torch.zeros(1, 1), 0.1, "linf", reach((1,), -9, 9))
    attack = Pgd(loss="margin", random_start=False)
    assert transfer(
        target(far), target(near), torch.zeros(1).long(), inside, attack, np.arange(1), 0
    ).fooled.all()


def test_passes_are_counted_where_they_are_spent():
    model, imitation = target(plane([1.0, 1.0])), target(plane([1.0, 1.0]))
    rows = torch.full((5, 2), -5.0)
    inside = ball(rows, 0.1, "linf", reach((2,), -9, 9))
    transfer(model, imitation, torch.zeros(5).long(), inside, Pgd(steps=8, loss="margin"), np.arange(5), 0)
    assert (model.passes.forward, model.passes.backward) == (5 * 4, 0)
    assert (imitation.passes.forward, imitation.passes.backward) == (5 * 8, 5 * 8)


def test_epsilon_0_asks_about_the_row_itself():
    model = target(plane([1.0]))
    inside = ball(torch.tensor([[-0.1], [0.1]]), 0.0, "linf", reach((1,), -9, 9))
    found = transfer(model, model, torch.zeros(2).long(), inside, MARGIN, np.arange(2), 0)
    assert found.fooled.tolist() == [False, True]
    assert (model.passes.forward, model.passes.backward) == (2, 0)


def curved(shape, outputs=3, seed=0):
    torch.manual_seed(seed)
    size = int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 24), nn.Tanh(), nn.Linear(24, outputs)).eval()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_row_finds_the_same_whatever_its_batch_is(norm):
    model, imitation = target(curved((6,))), target(curved((6,), seed=1))
    draws = np.random.default_rng(2).random((40, 6), dtype=np.float32)
    rows = torch.from_numpy(draws)
    with torch.no_grad():
        labels = model.scores(rows).argmax(1)
    around, epsilon = reach((6,)), 0.3 if norm == "linf" else 0.6
    attack = Pgd(norm=norm, loss="margin", steps=6)

    def run(part):
        inside = ball(rows[part], epsilon, norm, around)
        return transfer(model, imitation, labels[part], inside, attack, np.arange(40)[part], 0)

    whole = run(slice(0, 40))
    assert 0 < whole.fooled.sum() < 40
    for part in (slice(0, 1), slice(1, 15), slice(15, 40)):
        assert torch.equal(run(part).fooled, whole.fooled[part])
        torch.testing.assert_close(run(part).points, whole.points[part], atol=1e-5, rtol=0)
    space = Space(
        scale="input",
        unit=np.ones(6, np.float32),
        low=np.zeros(6, np.float32),
        high=np.ones(6, np.float32),
        epsilons=(),
    )
    points = whole.points.numpy()
    assert inside_ball(points, draws, space, norm, epsilon).all()
    assert inside_range(points, draws, space).all()


def cloud(shape, rows=200):
    return np.random.default_rng(3).random((rows, *shape), dtype=np.float32)


def test_a_copy_leaves_the_model_and_the_generators_alone():
    network, inputs = curved((6,)), cloud((6,))
    model, before = target(network), state_hash(network)
    drawn, numpy_drawn = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    made = substitute(model, inputs, reach((6,)), 0)
    assert (made.kind, made.reason) == ("copy", "")
    assert state_hash(network) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.random.get_state()[1].tobytes() == numpy_drawn  # noqa: NPY002
    assert not torch.equal(made.model.module[1].weight, network[1].weight)
    assert all(weights.grad is None for weights in made.model.module.parameters())
    assert made.agreement > 0.9


def test_training_is_counted_apart_from_the_model():
    model, inputs = target(curved((6,))), cloud((6,))
    made = substitute(model, inputs, reach((6,)), 0, Imitation(copy_epochs=2))
    assert (model.passes.forward, model.passes.backward) == (200, 0)
    assert made.model.passes.backward == 2 * 200 + 32
    assert made.model.passes.forward == 2 * 200 + 32 + 200


@pytest.mark.parametrize("shape", [(6,), (2, 20), (1, 9, 9), (2, 3, 4, 2)])
@pytest.mark.parametrize("wrapper", [Quantised, LabelsOnly])
def test_a_network_of_our_own_learns_rows_series_and_images(shape, wrapper):
    teacher, size = curved(shape, seed=4), int(np.prod(shape))
    with torch.no_grad():
        teacher[1].weight.mul_(3 / np.sqrt(size) * 4)
    output, classes = ("labels", tuple("abc")) if wrapper is LabelsOnly else ("logits", ())
    model = target(wrapper(teacher), output=output, classes=classes)
    before = state_hash(model.module)
    drawn = torch.get_rng_state()
    made = substitute(model, cloud(shape), reach(shape), 0, Imitation(epochs=15))
    assert made.kind == "network"
    assert ("labels alone" if wrapper is LabelsOnly else "is zero") in made.reason
    assert made.agreement > 0.85
    assert model.passes.forward == 2 * 200
    assert state_hash(model.module) == before
    assert torch.equal(torch.get_rng_state(), drawn)


def test_the_model_is_asked_again_a_stride_away():
    asked = []

    class Spy(LabelsOnly):
        def forward(self, rows):
            asked.append(rows.clone())
            return super().forward(rows)

    inputs = cloud((6,)) * 0.5 + 0.25
    model = target(Spy(curved((6,))), output="labels", classes=tuple("abc"))
    substitute(model, inputs, reach((6,), -1.0, 2.0), 0, Imitation(epochs=2, stride=0.02))
    first, second = asked
    torch.testing.assert_close(first, torch.from_numpy(inputs))
    moved = (second - first).abs()  # .02 of a range that is 3 wide
    torch.testing.assert_close(moved, torch.full_like(moved, 0.06), atol=1e-6, rtol=0)


@pytest.mark.parametrize("network", [curved((6,)), Quantised(curved((6,)))])
def test_the_seed_alone_decides(network):
    def weights(seed):
        made = substitute(target(network), cloud((6,), 70), reach((6,)), seed, Imitation(epochs=2))
        return torch.cat([w.detach().flatten() for w in made.model.module.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_what_cannot_be_copied_is_imitated():
    class Stubborn(Quantised):
        def forward(self, rows):
            return self.network(rows)

        def __deepcopy__(self, memo):
            raise TypeError("planted")

    class Shared(Stubborn):
        def __deepcopy__(self, memo):
            return self

    for kind, words in ((Stubborn, "cannot be copied (TypeError)"), (Shared, "share its weights")):
        network = kind(curved((6,))).eval()
        before = state_hash(network)
        made = substitute(target(network), cloud((6,)), reach((6,)), 0)
        assert made.kind == "network"
        assert words in made.reason
        assert state_hash(network) == before


def test_a_copy_that_hides_its_gradient_is_imitated():
    class Hiding(Quantised):
        def forward(self, rows):
            return self.network(rows).detach()

    made = substitute(target(Hiding(curved((6,)))), cloud((6,)), reach((6,)), 0)
    assert made.kind == "network"
    assert "cannot be trained" in made.reason


def test_a_torchscript_model_is_imitated():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated; users still have such files
        network = torch.jit.script(curved((6,)))
    before = state_hash(network)
    made = substitute(target(network), cloud((6,)), reach((6,)), 0)
    assert (made.kind, made.reason) == ("copy", "")
    assert made.agreement > 0.9
    assert state_hash(network) == before


def test_a_network_without_weights_is_its_own_copy():
    class Sum(nn.Module):
        def forward(self, rows):
            return torch.stack([rows[:, 0], rows[:, 1]], 1)

    made = substitute(target(Sum()), cloud((2,)), reach((2,)), 0)
    assert (made.kind, made.agreement) == ("copy", 1.0)


@pytest.fixture(scope="module")
def lenet(shared_data):
    stored = np.load(shared_data / "mnist" / "mnist_test.npz")
    images = (stored["images"][:300].astype(np.float32) / 255)[:, None]
    network = LeNet()
    network.load_state_dict(torch.load(shared_data / "mnist" / "lenet.pth", map_location="cpu"))
    return network.eval(), images, stored["labels"][:100].astype(np.int64)


@pytest.mark.parametrize(
    ("wrapper", "kind", "epsilon", "least"), [(None, "copy", 0.15, 0.4), (Quantised, "network", 0.3, 0.3)]
)
def test_it_beats_random_noise_on_a_real_network(lenet, wrapper, kind, epsilon, least):
    network, images, labels = lenet
    module = wrapper(network) if wrapper else network
    model, before = target(module, output="log_probabilities"), state_hash(module)
    rows, true, numbers = torch.from_numpy(images[:100]), torch.from_numpy(labels), np.arange(100)
    inside = ball(rows, epsilon, "linf", reach((1, 28, 28)))
    made = substitute(model, images, reach((1, 28, 28)), 0)
    assert made.kind == kind
    assert made.agreement > 0.95
    fooled = transfer(model, made.model, true, inside, MARGIN, numbers, 0).fooled
    corner = displacements("linf", np.ones((1, 28, 28), np.float32), numbers, "noise", 0, 0)
    noise = guess(model, true, inside, torch.from_numpy(corner)).fooled
    assert fooled.float().mean() > least > 2 * noise.float().mean()
    assert state_hash(module) == before

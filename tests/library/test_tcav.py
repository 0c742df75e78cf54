"""TCAV against captum's own class, and on a network whose use of a concept is known."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.dataset import Dataset
from audit.library.tcav import Concept, direction, random_direction, tcav
from audit.model import Model, state_hash
from audit.products.attributions import attributions


def data_and_network():
    """Log-odds of class 1 rise with column 0, fall with column 1, and ignore the others."""
    inputs = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    network = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(5) * 0.5)
        network[2].weight.zero_()
        network[2].weight[1, 0], network[2].weight[1, 1] = 3.0, -3.0
        network[2].bias.zero_()
    labels = np.zeros(300, dtype=np.int64)
    data = Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), favourable=1)
    return data, network.eval()


def measured(concepts, **settings):
    data, network = data_and_network()
    model = Model(module=network, device=torch.device("cpu"))
    before = state_hash(network)
    explained = attributions(model, data, 0).explained(rows=64, output="log_odds", target="favourable")
    found = tcav(model, data, 0, explained, concepts(data), **settings)
    assert state_hash(network) == before
    return found


def of_column(column):
    return lambda data: Concept(
        data.inputs[data.inputs[:, column] > 0.8], data.inputs[data.inputs[:, column] < 0.2]
    )


def test_concepts_for_and_against_a_decision_are_told_apart_and_an_ignored_one_pushes_neither_way():
    found = measured(lambda data: {f"{k}": of_column(k)(data) for k in range(3)}, controls=30)
    assert found.usable.all()
    assert found.pushed["0"].mean() == 1
    assert found.pushed["1"].mean() == 0
    assert all(item.right / item.held_out > 0.9 for item in found.directions.values())
    assert abs(found.directions["0"].vector[0]) > 0.9
    assert found.controls.shape == (30, 64)
    assert found.strength["0"].mean() > 4 * np.abs(found.controls.mean(axis=1)).max()
    assert found.strength["1"].mean() < -4 * np.abs(found.controls.mean(axis=1)).max()
    assert abs(found.strength["2"].mean()) < found.strength["0"].mean() / 5
    assert found.place == "input of '2'"


def test_the_direction_is_the_normal_of_the_plane_and_its_accuracy_is_held_out():
    random = np.random.default_rng(0)
    inside, outside = random.normal(size=(90, 4)) + np.array([3, 0, 0, 0]), random.normal(size=(90, 4))
    found = direction(inside, outside, np.random.default_rng(1))
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    assert found.vector[0] > 0.95
    assert found.held_out == 60
    assert found.distance == pytest.approx(3, abs=0.5)
    chance = [random_direction(outside, 45, random) for _ in range(40)]
    assert np.mean([item.right / item.held_out for item in chance]) == pytest.approx(0.5, abs=0.06)


def test_a_layer_that_never_varies_has_no_direction():
    found = direction(np.ones((30, 3)), np.ones((30, 3)), np.random.default_rng(0))
    assert not found.vector.any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # captum's own
@pytest.mark.filterwarnings("ignore::UserWarning")  # the same
def test_the_score_is_captums_for_the_same_direction(tmp_path):
    from captum.concept import TCAV, Classifier
    from captum.concept import Concept as Examples

    data, network = data_and_network()
    concept = of_column(0)(data)
    found = measured(lambda _: {"first": concept}, layer="1", controls=20)
    vector = torch.from_numpy(found.directions["first"].vector).float()

    class Fixed(Classifier):
        def __init__(self):
            pass

        def train_and_eval(self, dataloader, **_):
            return {"accs": torch.tensor(1.0)}

        def weights(self):
            return torch.stack([vector, -vector])

        def classes(self):
            return [0, 1]

    def loaded(rows):
        return torch.utils.data.DataLoader(torch.from_numpy(rows), batch_size=50)

    pair = [Examples(0, "first", loaded(concept.examples)), Examples(1, "others", loaded(concept.others))]
    oracle = TCAV(network, ["1"], classifier=Fixed(), save_path=str(tmp_path))
    model = Model(module=network, device=torch.device("cpu"))
    explained = attributions(model, data, 0).explained(rows=64, output="log_odds", target="favourable")
    scores = oracle.interpret(explained.inputs, [pair], target=1)
    share = scores["0-1"]["1"]["sign_count"][0].item()
    assert found.pushed["first"].mean() == pytest.approx(share)

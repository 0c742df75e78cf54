"""Influence as evidence: planted wrong labels stand first, and what was given is checked."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.influence import influence
from audit.dataset import Dataset
from audit.errors import LoadError, NotApplicable, NotEvaluable
from audit.model import Model

PLANTED = (5, 40, 77)


def trained(folder):
    """A network fitted to clean labels, and a training file in which three labels are wrong."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(120, 3)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int64)
    inputs[list(PLANTED), 0] += np.sign(inputs[list(PLANTED), 0]) * 2
    network = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[-2.0, 0, 0], [2.0, 0, 0]]))
        network[0].bias.zero_()
    labels[list(PLANTED)] = 1 - labels[list(PLANTED)]
    np.savez(folder / "train.npz", inputs=inputs, labels=labels)
    tested = random.normal(size=(50, 3)).astype(np.float32)
    data = Dataset(
        inputs=tested, labels=(tested[:, 0] > 0).astype(np.int64), modality="tabular", classes=("no", "yes")
    )
    return data, network.eval()


def measured(folder, pair, **settings):
    data, network = pair
    model = Model(module=network, device=torch.device("cpu"))
    return influence.measure(model, data, 0, folder, **influence.settings(settings))


def test_planted_wrong_labels_are_found(tmp_path):
    found = measured(tmp_path, trained(tmp_path), path="train.npz")
    rows = found.tables[0].rows
    assert {row[0] for row in rows} == set(PLANTED)
    assert all(row[1] != row[2] for row in rows)
    known = {item.name: item for item in found.measures}
    assert known["contradicted_label_share"].statistics == {"x": 3, "n": 120}
    assert known["same_label_share"].value == 1
    assert 0 < known["influence_concentration"].value < 1


def test_without_training_data_it_does_not_apply(tmp_path):
    with pytest.raises(NotApplicable, match="no training data"):
        measured(tmp_path, trained(tmp_path))


def test_a_model_that_is_sure_of_everything_has_no_influences(tmp_path):
    data, network = trained(tmp_path)
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.copy_(torch.tensor([0.0, 2000.0]))
    with pytest.raises(NotEvaluable, match="no training row has any influence"):
        measured(tmp_path, (data, network), path="train.npz")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros(3, dtype=np.int64), "it must be 120 class indices"),
        (np.zeros(120), "it must be 120 class indices"),
        (np.full(120, 7), "the model has classes 0 to 1"),
    ],
)
def test_labels_that_cannot_be_used_are_named(tmp_path, labels, reason):
    pair = trained(tmp_path)
    with np.load(tmp_path / "train.npz") as archive:
        inputs = archive["inputs"]
    np.savez(tmp_path / "train.npz", inputs=inputs, labels=labels)
    with pytest.raises(LoadError, match=reason):
        measured(tmp_path, pair, path="train.npz")

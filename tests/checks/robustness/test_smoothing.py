"""robustness.smoothing: the closed form of a linear classifier, and what the reader must be told."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.robustness.smoothing import smoothing
from audit.dataset import Dataset
from audit.model import Model, state_hash
from audit.products.predictions import predictions
from audit.stats import interval_at


def hyperplane(rows=300, labels=None):
    """Images of two pixels; class 1 above x + y = 1."""
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    layer.bias.data = torch.tensor([1.0, -1.0])
    module = nn.Sequential(nn.Flatten(), layer).eval()
    inputs = np.random.default_rng(1).random((rows, 1, 1, 2)).astype(np.float32)
    truth = (inputs.sum((1, 2, 3)) > 1).astype(np.int64)
    data = Dataset(
        inputs=inputs,
        labels=truth if labels is None else np.full(rows, labels),
        modality="image",
        classes=("below", "above"),
    )
    model = Model(
        module=module, device=torch.device("cpu"), input_range=(0.0, 1.0), classes=("below", "above")
    )
    return model, data


def measured(model, data, seed=0, **settings):
    before = state_hash(model.module)
    evidence = smoothing.measure(model, data, predictions(model, data), seed, **smoothing.settings(settings))
    assert state_hash(model.module) == before
    for item in evidence.measures:
        assert interval_at(item, item.level) == (item.low, item.high)
    return evidence


def of(evidence, name):
    return [m for m in evidence.measures if m.name == name]


def test_certified_accuracy_is_just_below_the_exact_distance():
    model, data = hyperplane(rows=100)
    evidence = measured(model, data, radii=[0.0, 0.1, 0.2], sigma=0.2, samples=2000, rows=100)
    distance = np.abs(data.inputs.sum((1, 2, 3)) - 1) / np.sqrt(2)
    for item in of(evidence, "certified_accuracy"):
        length = item.settings["radius"]
        assert item.value <= (distance >= length).mean()
        assert item.value >= (distance >= length + 0.06).mean()
        assert item.settings["sigma"] == 0.2
    assert of(evidence, "clean_accuracy")[0].value == 1
    zero = of(evidence, "certified_accuracy")[0]
    assert zero.value == pytest.approx(1 - of(evidence, "abstention_rate")[0].value)  # none is wrong here
    (average,) = of(evidence, "average_certified_radius")
    assert distance.mean() - 0.05 < average.value < distance.mean()


def test_a_classifier_that_is_always_wrong_certifies_nothing():
    model, data = hyperplane(labels=1)
    below = data.inputs.sum((1, 2, 3)) < 0.7
    data = Dataset(**{**vars(data), "inputs": data.inputs[below], "labels": data.labels[below]})
    evidence = measured(model, data, samples=500, rows=None)
    assert {m.value for m in of(evidence, "certified_accuracy")} == {0.0}
    assert of(evidence, "average_certified_radius")[0].value == 0
    (table,) = evidence.tables
    assert all(row[3] > 0 for row in table.rows)


def test_defaults_and_what_is_told():
    model, data = hyperplane()
    evidence = measured(model, data, samples=100)
    assert {m.settings["sigma"] for m in of(evidence, "certified_accuracy")} == {0.25}
    assert [m.settings["radius"] for m in of(evidence, "certified_accuracy")] == [0.0, 0.125, 0.25, 0.5]
    assert {m.n for m in of(evidence, "certified_accuracy")} == {100}
    told = " ".join(evidence.caveats)
    for words in (
        "not for the model as it is used alone",
        "wrong with probability 0.001",
        "A length counts raw input units",
        "100 of 300 rows",
        "100 samples can certify at most 0.3",
        "Nobody has stated why these radii",
    ):
        assert words in told
    (figure,) = evidence.figures
    assert figure.data["series"][0]["x"] == [0.0, 0.125, 0.25, 0.5]


def test_the_table_counts_every_row_once():
    model, data = hyperplane()
    (table,) = measured(model, data, samples=200, radii=[0.0, 0.1]).tables
    for _, rows, held, wrong, abstained in table.rows:
        assert held + wrong + abstained <= rows
    assert sum(table.rows[0][2:]) == table.rows[0][1]


def test_the_batch_does_not_change_the_answer():
    model, data = hyperplane()
    first = measured(model, data, samples=200)
    model.passes.batch = 33
    assert measured(model, data, samples=200).measures == first.measures
    assert measured(model, data, seed=1, samples=200).measures != first.measures


def test_tabular_noise_counts_standard_deviations():
    model, data = hyperplane()
    flat = nn.Sequential(*list(model.module)[1:]).eval()
    table = Dataset(**{**vars(data), "inputs": data.inputs.reshape(-1, 2), "modality": "tabular"})
    plain = Model(module=flat, device=torch.device("cpu"), classes=("below", "above"))
    evidence = measured(plain, table, samples=200)
    assert {m.settings["sigma"] for m in of(evidence, "certified_accuracy")} == {0.25}
    assert any("standard deviations of each column" in caveat for caveat in evidence.caveats)

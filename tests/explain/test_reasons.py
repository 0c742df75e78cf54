"""Principal reasons: exact shares of a linear model, and places that hold in every run."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.dataset import Feature
from audit.explain.reasons import NONE, UNSTABLE, leading, shapley_runs, stable_reasons, typical_row
from audit.model import Model, log_odds

CPU = torch.device("cpu")
ALL = np.ones(3, dtype=bool)


def test_the_typical_row_has_means_and_a_category_that_somebody_has():
    features = (
        Feature(name="age", columns=(0,)),
        Feature(name="job", kind="categorical", columns=(1, 2), categories=("a", "b"), dropped="none"),
    )
    rows = np.array([[1, 0, 0], [3, 0, 0], [8, 1, 0], [0, 0, 1], [4, 0, 0]], dtype=np.float32)
    assert typical_row(features, rows, "mean").tolist() == pytest.approx([3.2, 0, 0])
    assert typical_row(features, rows, "median").tolist() == [3, 0, 0]
    assert typical_row(features, rows[2:3], "mean").tolist() == [8, 1, 0]


def test_the_shares_of_a_linear_model_are_weight_times_distance_from_the_reference():
    weights = torch.tensor([2.0, -1.0, 0.5])
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.copy_(torch.stack([weights * 0, weights]))
        net.bias.zero_()
    model = Model(module=net.eval(), device=CPU)
    random = np.random.default_rng(0)
    rows, references = (torch.tensor(random.normal(size=(n, 3)).astype(np.float32)) for n in (6, 2))
    found = shapley_runs(model, rows, references, torch.arange(3), 3, 1, 64, 0)
    for run in range(2):
        expected = ((rows - references[run]) * weights).numpy()
        assert found.values[run] == pytest.approx(expected, abs=1e-5)
        assert found.gaps[run] == pytest.approx(expected.sum(axis=1), abs=1e-5)
    with torch.no_grad():
        direct = log_odds(model.module(references), torch.tensor([1, 1]))
    assert found.reference == pytest.approx(direct.numpy(), abs=1e-6)
    assert found.exact


def test_leading_features_pull_down_most_first_and_none_is_made_up():
    values = np.array([[-1.0, -3.0, 2.0], [0.5, 0.0, -1e-9], [-1.0, -2.0, -3.0]])
    assert leading(values, ALL, 2).tolist() == [[1, 0], [NONE, NONE], [2, 1]]
    assert leading(values, np.array([True, False, True]), 2).tolist() == [[0, NONE], [NONE, NONE], [2, 0]]
    assert leading(values, ALL, 5)[0].tolist() == [1, 0, NONE, NONE, NONE]


def test_a_place_counts_only_where_all_runs_agree():
    first = np.array([[-3.0, -2.0, -1.0], [-3.0, -2.0, 1.0]])
    second = np.array([[-3.0, -1.0, -2.0], [-3.0, -2.0, -1.0]])
    assert stable_reasons(np.stack([first, second]), ALL, 3).tolist() == [
        [0, UNSTABLE, UNSTABLE],
        [0, 1, UNSTABLE],
    ]
    assert stable_reasons(np.stack([first, first]), ALL, 3).tolist() == [[0, 1, 2], [0, 1, NONE]]


def test_many_features_are_sampled_and_runs_differ():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(14, 16), nn.Tanh(), nn.Linear(16, 2))
    model = Model(module=net.eval(), device=CPU)
    rows = torch.tensor(np.random.default_rng(0).normal(size=(4, 14)).astype(np.float32))
    found = shapley_runs(model, rows, torch.zeros(2, 14), torch.arange(14), 14, 1, 100, 0)
    assert not found.exact
    assert not np.allclose(found.values[0], found.values[1])
    assert found.values.sum(axis=2) == pytest.approx(found.gaps, abs=1e-5)

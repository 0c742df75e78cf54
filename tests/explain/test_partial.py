"""Partial dependence and accumulated local effects against scikit-learn, a linear model, and slow loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.inspection import partial_dependence
from sklearn.neural_network import MLPClassifier
from torch import nn

from audit.dataset import Dataset, Feature
from audit.errors import ConfigError, NotApplicable
from audit.explain.partial import (
    accumulated,
    bin_edges,
    explained_class,
    features_of,
    in_user_units,
    individual_curves,
    local_effects,
    places_of,
)
from audit.model import Model

CPU = torch.device("cpu")


class Formula(nn.Module):
    """Two logits: 0 and a formula of the columns."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, rows):
        found = self.formula(rows)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def model_of(formula):
    return Model(module=Formula(formula).eval(), device=CPU)


def rows_of(count=60, columns=3, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float32))


def test_both_curves_of_a_linear_model_have_its_weight_as_slope():
    weights = torch.tensor([2.0, -3.0, 0.5])
    model, rows = model_of(lambda x: x @ weights), rows_of()
    for column, weight in enumerate(weights.tolist()):
        places = places_of(Feature(name="f", columns=(column,)), rows.double().numpy(), 8)
        curve = individual_curves(model, rows, (column,), places.inputs, 1, "log_odds").mean(axis=0)
        assert np.diff(curve) / np.diff(places.values) == pytest.approx(weight, rel=1e-4)
        found = local_effects(model, rows, column, 8, 1, "log_odds")
        assert np.diff(found.curve) / np.diff(found.edges) == pytest.approx(weight, rel=1e-4)
        assert found.high - found.low == pytest.approx(0, abs=1e-4)


def test_the_individual_curves_are_those_of_a_loop_at_any_batch():
    model, rows = model_of(lambda x: x[:, 0] * x[:, 1] + x[:, 2] ** 2), rows_of(7)
    places = np.array([[-1.0], [0.0], [2.0]])
    slow = [[float(p[0]) * float(r[1]) + float(r[2]) ** 2 for p in places] for r in rows]
    for batch in (1, 4, 256):
        model.passes.batch = batch
        found = individual_curves(model, rows, (0,), places, 1, "log_odds")
        assert found == pytest.approx(np.array(slow), abs=1e-5)
    assert model.passes.forward == 3 * 7 * 3


def test_partial_dependence_is_that_of_scikit_learn():
    rows = rows_of(80).numpy()
    net = MLPClassifier((8,), max_iter=60, random_state=0, solver="lbfgs")
    net.fit(rows, (rows[:, 0] * rows[:, 1] > 0).astype(int))
    weights = [torch.tensor(w, dtype=torch.float32) for w in (*net.coefs_, *net.intercepts_)]
    model = model_of(lambda x: (torch.relu(x @ weights[0] + weights[2]) @ weights[1] + weights[3])[:, 0])
    grid = np.linspace(-2, 2, 9)
    theirs = partial_dependence(
        net, rows.astype(np.float64), [1], custom_values={1: grid}, kind="both", method="brute"
    )
    ours = individual_curves(model, torch.tensor(rows), (1,), grid[:, None], 1, "probability")
    assert ours == pytest.approx(theirs["individual"][0], abs=1e-4)
    assert ours.mean(axis=0) == pytest.approx(theirs["average"][0], abs=1e-4)


def test_correlated_features_part_the_two_curves():
    random = np.random.default_rng(0)
    first = random.uniform(-1, 1, 800)
    rows = torch.tensor(np.stack([first, first + random.normal(0, 0.02, 800)], axis=1).astype(np.float32))
    model = model_of(lambda x: x[:, 0] * x[:, 1])
    places = places_of(Feature(name="a", columns=(0,)), rows.double().numpy(), 10)
    curve = individual_curves(model, rows, (0,), places.inputs, 1, "log_odds").mean(axis=0)
    found = local_effects(model, rows, 0, 10, 1, "log_odds")
    # d/dx1 of x1 x2 where x2 = x1 is x1, so the local effect is x1^2 / 2; the partial dependence is flat.
    assert np.ptp(curve) < 0.15
    truth = found.edges**2 / 2
    assert found.curve - found.curve[5] == pytest.approx(truth - truth[5], abs=0.02)


def test_accumulated_effects_are_those_of_a_slow_computation():
    random = np.random.default_rng(3)
    counts = np.array([4, 1, 6])
    place = np.repeat([0, 1, 2], counts)
    change = random.normal(size=11) + place
    curve, low, high = accumulated(change, place, counts)
    means = [change[place == k].mean() for k in range(3)]
    raw = [0.0, means[0], means[0] + means[1], sum(means)]
    centre = sum(n * (raw[k] + raw[k + 1]) / 2 for k, n in enumerate(counts)) / 11
    assert curve == pytest.approx([value - centre for value in raw])
    assert (low < curve).all()
    assert (curve < high).all()


def test_the_interval_of_the_accumulated_effect_covers():
    random = np.random.default_rng(1)
    counts = np.full(5, 12)
    place = np.repeat(np.arange(5), counts)
    truth = np.concatenate([[0], np.cumsum(np.arange(5.0))])
    truth -= np.mean([(truth[k] + truth[k + 1]) / 2 for k in range(5)])
    held = []
    for _ in range(400):
        _, low, high = accumulated(place + random.normal(size=60) * (1 + place), place, counts)
        held.append((low <= truth) & (truth <= high))
    share = np.mean(held, axis=0)
    assert ((share > 0.9) & (share < 0.99)).all()


def test_edges_are_values_that_were_seen_and_no_bin_is_empty():
    values = np.array([0.0, 0, 0, 0, 1, 5, 5, 9])
    assert set(bin_edges(values, 6)) <= set(values)
    mostly = np.concatenate([np.zeros(95), np.arange(1.0, 6.0)])
    assert bin_edges(mostly, 5).tolist() == [0, 1, 2, 3, 4, 5]
    assert bin_edges(np.arange(100.0), 4).tolist() == [0, 24, 49, 74, 99]
    rows = torch.tensor(np.stack([values, values], axis=1).astype(np.float32))
    found = local_effects(model_of(lambda x: x[:, 0]), rows, 0, 6, 1, "log_odds")
    assert (found.counts > 0).all()
    assert found.counts.sum() == len(values)
    with pytest.raises(NotApplicable, match="one value"):
        local_effects(model_of(lambda x: x[:, 0]), rows * 0, 0, 6, 1, "log_odds")


def test_a_category_is_put_at_each_of_its_columns_and_at_the_dropped_one():
    feature = Feature(name="job", kind="categorical", columns=(1, 2), categories=("a", "b"), dropped="none")
    places = places_of(feature, np.zeros((3, 3)), 5)
    assert places.names == ("a", "b", "none")
    assert places.inputs.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_units_and_classes_are_the_users():
    age = Feature(name="age", columns=(0,), unit=10.0, zero=40.0)
    assert in_user_units(age, np.array([-1.0, 0.5])).tolist() == [30, 45]
    assert in_user_units(Feature(name="x", unit=None), np.array([3.0])).tolist() == [3]
    data = Dataset(inputs=np.zeros((2, 3), np.float32), modality="tabular", classes=("no", "yes"))
    assert [item.name for item in features_of(data)] == ["column 1", "column 2", "column 3"]
    assert explained_class(data, "", 2) == (1, "yes")
    assert explained_class(data, "no", 2) == (0, "no")
    with pytest.raises(ConfigError, match="'ys' is not a class; the nearest is 'yes'"):
        explained_class(data, "ys", 2)
    with pytest.raises(NotApplicable, match="3 classes"):
        explained_class(data, "", 3)
    with pytest.raises(NotApplicable, match="one output"):
        explained_class(data, "", 1)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), min_size=1, max_size=6))
def test_accumulated_effects_are_zero_on_average_and_step_by_the_means(bins):
    change = np.concatenate([np.array(values) for values in bins])
    counts = np.array([len(values) for values in bins])
    curve, low, high = accumulated(change, np.repeat(np.arange(len(bins)), counts), counts)
    scale = 1e-9 * (1 + np.abs(change).sum())
    assert abs(np.average((curve[:-1] + curve[1:]) / 2, weights=counts)) < scale
    assert np.diff(curve) == pytest.approx([np.mean(values) for values in bins], abs=scale)
    assert (low <= curve + scale).all()
    assert (curve <= high + scale).all()

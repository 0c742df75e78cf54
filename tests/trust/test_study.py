"""What an explanation is put through: which features are compared, and how."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.nearby import Nearby
from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.explain.attribution import Attribution
from audit.explain.explained import Explained
from audit.explain.features import layout
from audit.model import Model, state_hash
from audit.trust.similarity import rank_correlation
from audit.trust.study import (
    Subject,
    agreement,
    at_points_nearby,
    between_seeds,
    is_slope,
    under_random_weights,
    values_of,
)

INPUTS = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
DATA = Dataset(inputs=INPUTS, labels=np.zeros(30, np.int64), modality="tabular", classes=("a", "b"))


def said(values, **fields):
    count = len(values)
    nothing = np.zeros(count)
    return Attribution(
        method="x", features=("a", "b", "c"), rows=np.arange(count), values=values, unit="",
        targets=np.zeros(count, np.int64), fx=nothing, **fields,
    )  # fmt: skip


def subject(explain, network=None):
    model = Model(module=network or nn.Linear(3, 2), device=torch.device("cpu"))
    rows = torch.tensor(INPUTS[:6])
    explained = Explained(np.arange(6), rows, torch.zeros(6, dtype=torch.long), np.zeros(6), "log_odds")
    return Subject(model, DATA, explained, layout(DATA), explain, 0, 2)


def test_values_are_in_the_features_of_the_data():
    values = np.ones((2, 3))
    assert values_of(said(values), layout(DATA)) is values
    with pytest.raises(NotApplicable, match="speaks of 2 features and the data have 3"):
        values_of(said(np.ones((2, 2))), layout(DATA))
    images = Dataset(
        inputs=np.zeros((1, 1, 8, 8), np.float32), labels=np.zeros(1, np.int64), modality="image",
        classes=("a", "b"),
    )  # fmt: skip
    found = values_of(said(np.ones((1, 5)), maps=np.ones((1, 8, 8), np.float32)), layout(images))
    assert found == pytest.approx(np.full((1, 16), 4))


@pytest.mark.parametrize(("method", "values", "slope"), [
    ("lime", [[1.0, -1]], True), ("saliency", [[1.0, 0]], True), ("other", [[1.0, 0]], True),
    ("kernel_shap", [[1.0, -1]], False),
])  # fmt: skip
def test_slopes_say_how_much_and_not_which_way(method, values, slope):
    assert is_slope(subject(None), method, np.array(values)) is slope


def test_every_draw_of_weights_explains_its_own_rows_and_none_stays():
    network = nn.Linear(3, 2)
    before = state_hash(network)
    seen, states = [], set()

    def explain(method, part):
        assert state_hash(network) != before
        states.add(state_hash(network))
        seen.append(part.tolist())
        return said(network.weight[0].detach().numpy().astype(float)[None].repeat(len(part), axis=0))

    values = np.random.default_rng(1).normal(size=(6, 3))
    found = under_random_weights(subject(explain, network), "x", values, 4)
    assert [row for part in seen for row in part] == list(range(6))
    assert len(found) == 4
    assert len(states) == 4
    assert state_hash(network) == before


def test_other_seeds_are_averaged():
    others = {1: np.array([[1.0, 2, 3]] * 6), 2: np.array([[-3.0, 2, 1]] * 6)}
    found, signs = between_seeds(subject(lambda method, seed: said(others[seed])), "x", others[1], 2)
    assert found.rank == pytest.approx(np.zeros(6))
    assert found.overlap == pytest.approx(np.full(6, 0.5))
    assert signs == pytest.approx(np.full(6, (0 + 2 / 6) / 2))


def test_a_sign_that_flips_leaves_the_ranking_of_sizes():
    values = np.array([[3.0, 0, 0]] * 6)
    found, signs = between_seeds(subject(lambda method, seed: said(-values)), "x", values, 1)
    assert found.rank == pytest.approx(np.ones(6))
    assert signs == pytest.approx(np.ones(6))


def test_agreement_is_of_magnitudes():
    values = np.random.default_rng(2).normal(size=(5, 6))
    found = agreement(values, -values, 3)
    assert found.rank == pytest.approx(np.ones(5))
    assert rank_correlation(values, -values) == pytest.approx(-np.ones(5))


def test_rows_without_a_point_nearby_are_no_sign_of_stability():
    """What stands there is the row itself, whose explanation is of course the same."""
    values = np.random.default_rng(1).normal(size=(6, 3))
    reached = np.array([True, False, True, True, False, True])
    steps = np.where(reached, 1.0, 0.0)
    nearby = Nearby(
        rows=np.arange(6), points=INPUTS[:6], steps=steps, epsilon=0.1, norm="linf", rejected={},
        forward_rows=0, backward_rows=0,
    )  # fmt: skip
    found = at_points_nearby(subject(lambda method, inputs: said(values)), "x", values, nearby)
    assert found.rank == pytest.approx(np.where(reached, 1.0, np.nan), nan_ok=True)
    assert found.overlap == pytest.approx(np.where(reached, 1.0, np.nan), nan_ok=True)

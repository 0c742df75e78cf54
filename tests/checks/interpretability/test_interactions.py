"""Interactions as evidence: the planted product leads, a sum has none, and it says so."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.interactions import interactions
from audit.dataset import Dataset, Feature
from audit.errors import NotApplicable, NotEvaluable
from audit.model import Model
from audit.stats import interval_at

CPU = torch.device("cpu")


class Formula(nn.Module):
    """Two logits: 0 and a formula of the columns."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, rows):
        found = self.formula(rows)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def table(rows=300, columns=5):
    inputs = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(columns))
    labels = np.zeros(rows, np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def measured(formula, data=None, **settings):
    model = Model(module=Formula(formula).eval(), device=CPU)
    found = interactions.measure(model, data or table(), 0, **interactions.settings(settings))
    return found, model


def test_the_planted_product_is_first_and_alone():
    found, model = measured(lambda x: 3 * x[:, 0] + x[:, 1] * x[:, 3] - x[:, 2])
    first, second = found.measures[:2]
    assert set(first.group.values()) == {"f1", "f3"}
    assert first.value == pytest.approx(1, abs=0.25)
    assert second.value < 1e-4
    assert first.low > 0.5
    assert interval_at(first, 0.95) == (first.low, first.high)
    assert "work together most" in found.figures[0].title
    table_of = found.tables[0].rows
    assert table_of[0][-1] == pytest.approx(1, abs=0.05)
    # 5 features and 10 pairs at 100 rows with 50 others; total effects at 100 rows; one row for the classes.
    assert model.passes.forward == 15 * 100 * 50 + 100 * 6 + 1


def test_a_sum_has_no_interaction_and_the_title_says_so():
    found, _ = measured(lambda x: 3 * x[:, 0] + torch.sin(x[:, 1]) - x[:, 2] ** 2)
    assert max(item.value for item in found.measures) < 1e-5
    assert found.figures[0].title.startswith("No two of the leading features work together")


def test_only_the_leading_features_are_paired_and_a_pure_product_leads():
    found, _ = measured(lambda x: 2 * x[:, 1] * x[:, 3] + 0.1 * x[:, 0] + 0.05 * x[:, 2], top=2)
    assert len(found.measures) == 1
    assert set(found.measures[0].group.values()) == {"f1", "f3"}


def test_probability_bends_what_log_odds_add_up():
    found, _ = measured(lambda x: 2 * x[:, 0] + 2 * x[:, 1], output="probability")
    assert found.measures[0].value > 0.02
    assert set(found.measures[0].group.values()) == {"f0", "f1"}
    assert found.measures[0].unit == "probability"


def test_too_little_is_refused():
    with pytest.raises(NotApplicable, match="1 feature"):
        measured(lambda x: x[:, 0], table(columns=1))
    with pytest.raises(NotEvaluable, match="3 rows are too few"):
        measured(lambda x: x[:, 0], table(rows=3))
    with pytest.raises(NotEvaluable, match="not finite"):
        measured(lambda x: x[:, 0] * torch.nan)

"""Interactions: a product is found with its known strength, a sum has none, and loops agree."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.explain.interactions import dependence, pair_interactions, total_effects
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


def drawn(rows, columns=4, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32))


def test_dependence_is_that_of_a_loop_at_any_batch():
    rows, background = drawn(5), drawn(6, seed=1)
    model = model_of(lambda x: x[:, 0] * x[:, 1] + x[:, 2] ** 3)
    slow = [
        [np.mean([float(r[0] * (r[1] if 1 in s else b[1]) + b[2] ** 3) for b in background]) for r in rows]
        for s in ((0,), (0, 1))
    ]
    for batch in (1, 5, 8192):
        model.passes.batch = batch
        found = dependence(model, rows, background, torch.arange(4), ((0,), (0, 1)), 1, "log_odds")
        assert found == pytest.approx(np.array(slow), abs=1e-5)


def test_a_sum_over_features_has_no_interaction_at_all():
    model = model_of(lambda x: 2 * x[:, 0] - x[:, 1] ** 2 + torch.sin(x[:, 2]) + x[:, 3])
    found = pair_interactions(
        model, drawn(30), drawn(20, seed=1), torch.arange(4), (0, 1, 2, 3), 1, "log_odds"
    )
    assert np.abs(found.joint).max() < 1e-5
    assert found.h_squared() == pytest.approx(0, abs=1e-9)


def test_a_product_is_found_with_its_strength_and_alone():
    model = model_of(lambda x: 0.5 * x[:, 0] * x[:, 2] + 3 * x[:, 1])
    found = pair_interactions(
        model, drawn(400), drawn(200, seed=1), torch.arange(4), (0, 1, 2, 3), 1, "log_odds"
    )
    strength = dict(zip(found.pairs, np.sqrt((found.joint**2).mean(axis=1)), strict=True))
    # x0 x2 of independent standard normals has a standard deviation of 1.
    assert strength[0, 2] == pytest.approx(0.5, abs=0.08)
    assert max(value for pair, value in strength.items() if pair != (0, 2)) < 1e-5
    assert found.h_squared()[found.pairs.index((0, 2))] == pytest.approx(1, abs=0.1)


def test_the_total_effect_sees_a_feature_that_acts_in_a_product_alone():
    model = model_of(lambda x: x[:, 0] * x[:, 2] + 0.2 * x[:, 1])
    found = total_effects(model, drawn(2000), drawn(2000, seed=1), torch.arange(4), 4, 1, "log_odds")
    # Jansen: E (change)^2 = 2 * total variance; that of x0 in x0 x2 is 1, of 0.2 x1 it is 0.04.
    assert found == pytest.approx([2**0.5, 0.2 * 2**0.5, 2**0.5, 0], abs=0.1)

"""Attention rollout as evidence: planted attention is found, equal attention stands out nowhere."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.attention import attention
from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.model import Model, state_hash

CPU = torch.device("cpu")


class Looks(nn.Module):
    """Series [N, T, 2] whose attention goes to positions with a large second channel."""

    def __init__(self, sharp):
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, bias=True, batch_first=True)
        with torch.no_grad():
            self.attention.in_proj_weight.zero_()
            # The query is 1 by its bias; the key is the second channel.
            self.attention.in_proj_bias.zero_()
            self.attention.in_proj_bias[0] = 1
            self.attention.in_proj_weight[2, 1] = sharp
            self.attention.in_proj_weight[4:] = torch.eye(2)
            self.attention.out_proj.weight.copy_(torch.eye(2))

    def forward(self, rows):
        return (rows + self.attention(rows, rows, rows)[0]).mean(dim=1)


def series(rows=30, length=5, planted=3):
    inputs = np.random.default_rng(0).normal(size=(rows, length, 2)).astype(np.float32)
    inputs[:, :, 1] = 0
    inputs[:, planted, 1] = 1
    return Dataset(inputs=inputs, labels=np.zeros(rows, np.int64), modality="series", classes=("a", "b"))


def measured(net, data=None, **settings):
    model = Model(module=net.eval(), device=CPU)
    before = state_hash(model.module)
    found = attention.measure(model, data or series(), 0, **attention.settings(settings))
    assert state_hash(model.module) == before
    return found


def shares(found):
    return {item.group["feature"]: item.value for item in found.measures if item.name == "attention_share"}


def test_the_planted_position_is_first_with_the_share_worked_out_by_hand():
    found = measured(Looks(4.0))
    # Softmax of (0, 0, 0, s, 0) with s = 4 / sqrt(2); half of what is read stays where it is.
    weight = np.exp(4 / 2**0.5) / (4 + np.exp(4 / 2**0.5))
    assert shares(found)["position 4"] == pytest.approx(weight / 2 + 0.1, abs=1e-5)
    assert shares(found)["position 1"] == pytest.approx((1 - weight) / 8 + 0.1, abs=1e-5)
    assert found.figures[0].title == "The answer draws most from position 4"
    assert sum(shares(found).values()) == pytest.approx(1)
    assert any("not what it makes of what it sees" in text for text in found.caveats)


def test_equal_attention_stands_out_nowhere():
    found = measured(Looks(0.0))
    assert list(shares(found).values()) == pytest.approx([0.2] * 5)
    assert found.figures[0].title == "No position stands out in attention"
    (concentration,) = [item for item in found.measures if item.name == "attention_concentration"]
    assert concentration.value == pytest.approx(0, abs=1e-6)


def test_the_last_position_is_read_where_that_is_asked():
    found = measured(Looks(0.0), read="last")
    assert shares(found)["position 5"] == pytest.approx(0.6)
    assert any("by the setting 'last'" in text for text in found.caveats)


def test_a_model_without_gradients_is_read_evenly():
    net = Looks(1.0)
    model = Model(module=net.eval(), device=CPU, capabilities=frozenset({"logits", "modules"}))
    found = attention.measure(model, series(), 0, **attention.settings({}))
    assert any("by the setting 'mean'" in text for text in found.caveats)
    assert model.passes.backward == 0


def test_tokens_that_are_no_positions_are_called_tokens():
    class Patched(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, rows):
            tokens = rows.reshape(len(rows), 3, 4)
            return self.attention(tokens, tokens, tokens)[0].mean(dim=1)[:, :2]

    torch.manual_seed(0)
    found = measured(Patched(), series(length=6))
    assert set(shares(found)) == {"token 1", "token 2", "token 3"}
    assert any("not known here" in text for text in found.caveats)


def test_a_network_without_attention_is_sent_to_another_method():
    with pytest.raises(NotApplicable, match=r"no nn.MultiheadAttention.*interpretability.shap"):
        measured(nn.Sequential(nn.Flatten(), nn.Linear(10, 2)))

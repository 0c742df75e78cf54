"""Attention rollout against a slow product in numpy, with the network as it was afterwards."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.errors import NotApplicable
from audit.explain.rollout import attention_layers, captured, rolled, rollout
from audit.model import Model, state_hash

CPU = torch.device("cpu")


class Encoder(nn.Module):
    """Series [N, T, C] to logits by a transformer encoder that is read in one of three ways."""

    def __init__(self, read="mean", first=True, layers=2):
        super().__init__()
        torch.manual_seed(0)
        block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=first)
        self.encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(4, 2)
        self.read, self.first = read, first

    def forward(self, series):
        tokens = series if self.first else series.transpose(0, 1)
        tokens = self.encoder(tokens)
        tokens = tokens if self.first else tokens.transpose(0, 1)
        chosen = {"mean": tokens.mean(dim=1), "first": tokens[:, 0], "last": tokens[:, -1]}[self.read]
        return self.head(chosen)


def model_of(net):
    return Model(module=net.eval(), device=CPU)


def series(rows=5, length=6):
    return torch.tensor(np.random.default_rng(0).normal(size=(rows, length, 4)).astype(np.float32))


def attention_by_hand(net, tokens):
    """[N, T, T] attention of each layer, from its weights alone."""
    found = []
    for block in net.encoder.layers:
        weight, bias = block.self_attn.in_proj_weight, block.self_attn.in_proj_bias
        query, key = (
            (tokens @ weight[i * 4 : (i + 1) * 4].T + bias[i * 4 : (i + 1) * 4]).reshape(
                *tokens.shape[:2], 2, 2
            )
            for i in (0, 1)
        )
        scores = torch.einsum("nqhd,nkhd->nhqk", query, key) / 2**0.5
        found.append(scores.softmax(dim=-1).mean(dim=1).detach().double().numpy())
        tokens = block(tokens)
    return found


def test_the_rollout_is_the_slow_product():
    net, rows = Encoder("first"), series()
    model = model_of(net)
    before = state_hash(model.module)
    found = rollout(model, rows, torch.zeros(5, dtype=torch.long))
    first, second = attention_by_hand(net, rows)
    for i in range(5):
        total = (second[i] + np.eye(6)) / 2 @ ((first[i] + np.eye(6)) / 2)
        assert found.shares[i] == pytest.approx(total[0], abs=1e-5)
    assert found.layers == 2
    assert state_hash(model.module) == before
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("read", ["mean", "first", "last"])
def test_what_the_answer_reads_is_found_by_its_slope(read):
    model, classes = model_of(Encoder(read)), torch.ones(5, dtype=torch.long)
    by_itself = rollout(model, series(), classes)
    told = rollout(model, series(), classes, read)
    if read == "mean":
        assert by_itself.reading.min() > 0.02
    else:
        assert by_itself.reading == pytest.approx(told.reading, abs=1e-6)
        assert by_itself.shares == pytest.approx(told.shares, abs=1e-6)
    assert by_itself.shares.sum(axis=1) == pytest.approx(1)


def test_batch_second_layers_and_any_batch_give_the_same():
    rows, classes = series(), torch.zeros(5, dtype=torch.long)
    whole = rollout(model_of(Encoder("last")), rows, classes)
    other = model_of(Encoder("last", first=False))
    other.passes.batch = 2
    assert rollout(other, rows, classes).shares == pytest.approx(whole.shares, abs=1e-5)


def test_the_answers_do_not_change_while_attention_is_captured():
    model, rows = model_of(Encoder()), series()
    with torch.no_grad():
        plain = model.scores(rows)
        with captured(model) as seen:
            held = model.scores(rows)
    assert torch.allclose(plain, held, atol=1e-5)
    assert [tuple(call.weights.shape) for call in seen] == [(5, 6, 6)] * 2


def test_positional_arguments_and_a_failure_leave_no_trace():
    class Positional(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, rows):
            return self.attention(rows, rows, rows, None, False)[0].mean(dim=1)

    model = model_of(Positional())
    before = state_hash(model.module)
    assert rollout(model, series(), torch.zeros(5, dtype=torch.long)).layers == 1
    with pytest.raises((RuntimeError, AssertionError)), captured(model):
        model.scores(series()[..., :3])
    assert state_hash(model.module) == before
    assert torch.backends.mha.get_fastpath_enabled()


def test_rolling_out_uniform_attention_is_uniform_but_for_the_residual():
    found = rolled([torch.full((1, 4, 4), 0.25)])[0]
    assert found.diagonal().tolist() == [0.625] * 4
    assert found[0, 1] == 0.125


def test_networks_without_or_with_crossed_attention_are_not_applicable():
    with pytest.raises(NotApplicable, match=r"no nn.MultiheadAttention.*integrated_gradients"):
        attention_layers(model_of(nn.Linear(3, 2)))
    closed = Model(module=Encoder().eval(), device=CPU, capabilities=frozenset({"logits"}))
    with pytest.raises(NotApplicable, match="does not show"):
        attention_layers(closed)

    class Crossed(nn.Module):
        def __init__(self, axis):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1, batch_first=axis == 1)
            self.axis = axis

        def forward(self, rows):
            if self.axis == 1:
                return self.attention(rows[:, :2], rows, rows)[0].mean(dim=1)
            return self.attention(rows, rows, rows)[0].mean(dim=1)

    classes = torch.zeros(5, dtype=torch.long)
    with pytest.raises(NotApplicable, match=r"2 positions to 6 others"):
        rollout(model_of(Crossed(1)), series(), classes)
    with pytest.raises(NotApplicable, match="cannot be told"):
        rollout(model_of(Crossed(0)), series(), classes)


def test_an_answer_that_reads_no_position_reads_all_alike_and_inputs_may_be_written_into():
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, rows):
            rows += 1
            return self.attention(rows, rows, rows)[0][:, 0, :2] * 0 + rows[:, 0, :2]

    rows = series()
    kept = rows.clone()
    found = rollout(model_of(Deaf()), rows, torch.zeros(5, dtype=torch.long))
    assert found.reading == pytest.approx(1 / 6)
    assert torch.equal(rows, kept)

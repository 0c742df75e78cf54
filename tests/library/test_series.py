"""Library methods on series: each runs and adds up, or says why not and what to use instead."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.deep_lift import deep_lift
from audit.checks.interpretability.deep_shap import deep_shap
from audit.checks.interpretability.layer_conductance import layer_conductance
from audit.checks.interpretability.lrp import lrp
from audit.checks.interpretability.permutation_shap import permutation_shap
from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.library.copied import copied
from audit.model import Model, state_hash
from audit.products.attributions import attributions

STEPS, CHANNELS = 12, 2
RUN, REFUSED = "run", "refused"
CHECKS = {
    "deep_lift": deep_lift,
    "deep_shap": deep_shap,
    "lrp": lrp,
    "layer_conductance": layer_conductance,
    "permutation_shap": permutation_shap,
}
REASONS = {
    "lstm": "LSTM",
    "gru": "GRU",
    "transformer": "LayerNorm|MultiheadAttention",
    "convolution": "Conv1d",
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:The set_:PendingDeprecationWarning",  # shap colours its plots on import
)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(CHANNELS, 16, batch_first=True)
        self.last = nn.Linear(16, 2)

    def forward(self, x):
        return self.last(self.layer(x.transpose(1, 2))[0].mean(dim=1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(CHANNELS, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.last = nn.Linear(16, 2)

    def forward(self, x):
        return self.last(self.encoder(self.inside(x.transpose(1, 2))).mean(dim=1))


def convolution():
    return nn.Sequential(
        *(nn.Conv1d(CHANNELS, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * STEPS, 2))
    )


BUILDS = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "transformer": Encoder,
    "convolution": convolution,
}


def case(name):
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).normal(size=(40, CHANNELS, STEPS)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(40, np.int64), modality="series", classes=("a", "b"))
    return Model(module=BUILDS[name]().eval(), device=torch.device("cpu")), data


def expected(name, method):
    if method in {"layer_conductance", "permutation_shap"}:
        return RUN
    return RUN if name == "convolution" and method != "lrp" else REFUSED


@pytest.mark.parametrize("method", CHECKS)
@pytest.mark.parametrize("name", BUILDS)
def test_each_runs_and_passes_its_gate_or_names_another(name, method):
    model, data = case(name)
    before = state_hash(model.module)
    check = CHECKS[method]
    assert not check.modality or "series" in check.modality
    source = attributions(model, data, 0)
    products = {"model": model, "data": data, "attributions": source}
    ask = partial(check.measure, *(products[name] for name in check.asks), **check.settings({"rows": 6}))
    if expected(name, method) == REFUSED:
        with pytest.raises(NotApplicable, match=r"integrated_gradients .* use it instead") as refused:
            ask()
        assert any(word in str(refused.value) for word in REASONS[name].split("|"))
    else:
        found = ask()
        (share,) = [item for item in found.measures if item.name == "completeness_met_share"]
        assert share.value == 1
        assert not found.doubts
    assert state_hash(model.module) == before
    assert not model.module.training


@pytest.mark.parametrize("method", ["deep_lift", "deep_shap"])
def test_a_linear_network_over_time_has_the_values_known_in_closed_form(method):
    _, data = case("convolution")
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * STEPS, 2)).eval()
    model = Model(module=network, device=torch.device("cpu"))
    given = {"background": 40} if method == "deep_shap" else {}
    found = attributions(model, data, 0).of(method, rows=10, **given)
    weight = (network[1].weight[1] - network[1].weight[0]).detach().numpy()
    moved = (data.inputs - data.inputs.mean(axis=0))[found.rows].reshape(10, -1)
    slope = weight * (2 * found.targets - 1)[:, None]
    assert found.elements.reshape(10, -1) == pytest.approx(slope * moved, abs=1e-5)


def test_the_lime_package_names_what_explains_series():
    model, data = case("convolution")
    with pytest.raises(NotApplicable, match=r"interpretability\.shap and interpretability\.occlusion"):
        attributions(model, data, 0).of("lime_library", rows=2)


def test_a_copy_of_a_recurrent_network_runs_without_cudnn_and_puts_it_back():
    """Asked of a device on which it matters; nothing is computed there."""
    model, _ = case("lstm")
    elsewhere = replace(model, device=torch.device("cuda"))
    before = torch.backends.cudnn.enabled
    with copied(elsewhere, "it") as own:
        assert not torch.backends.cudnn.enabled
        assert not own.module.training
    assert torch.backends.cudnn.enabled == before
    with copied(replace(elsewhere, module=convolution()), "it"):
        assert torch.backends.cudnn.enabled == before

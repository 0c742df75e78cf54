"""robustness.certified: certified below attacked below clean, and a planted false certificate is told."""

import json

import numpy as np
import pytest
import torch
from networks import fgsm_trained, seeded
from torch import nn

from audit.check import Check
from audit.checks.robustness.certified import certified
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import NotApplicable
from audit.model import Model, Passes, state_hash
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions
from audit.record import canonical
from audit.stats import interval_at


def measured(model, data, seed=0, **settings):
    shared = adversaries(model, data, predictions(model, data), seed)
    before = state_hash(model.module)
    evidence = certified.measure(model, data, shared, **certified.settings(settings))
    assert state_hash(model.module) == before
    for item in evidence.measures:
        assert interval_at(item, item.level) == (item.low, item.high)
    json.dumps([str(canonical(item)) for item in evidence.tables])
    return evidence


def of(evidence, name, group=None):
    return [m for m in evidence.measures if m.name == name and dict(m.group) == (group or {})]


def hyperplane(net=None, rows=400):
    """Two classes on either side of x + y = 1, in raw units of [0, 1]."""
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    layer.bias.data = torch.tensor([1.0, -1.0])
    module = nn.Sequential(net or layer).eval()
    inputs = np.random.default_rng(1).random((rows, 2)).astype(np.float32)
    data = Dataset(
        inputs=inputs,
        labels=(inputs.sum(1) > 1).astype(np.int64),
        modality="tabular",
        classes=("below", "above"),
        sensitive={"side": Sensitive(name="side", groups=("l", "r"), codes=np.arange(rows) % 2)},
        features=tuple(Feature(name=n, columns=(i,), low=0.0, high=1.0) for i, n in enumerate("xy")),
    )
    model = Model(
        module=module, device=torch.device("cpu"), input_range=(0.0, 1.0), classes=("below", "above")
    )
    return model, data


def test_a_linear_classifier_is_known_exactly():
    model, data = hyperplane()
    evidence = measured(model, data, epsilon=[0.05, 0.2], scale="input", rows=None)
    distance = np.abs(data.inputs.sum(1) - 1) / 2
    for item in of(evidence, "certified_accuracy"):
        exact = (distance > item.settings["epsilon"]).mean()
        assert item.value == pytest.approx(exact, abs=1 / 400)
        (attacked,) = [m for m in of(evidence, "robust_accuracy") if m.settings == item.settings]
        assert item.value <= attacked.value
        assert attacked.value == pytest.approx(exact, abs=2 / 400)
    assert [m.value for m in of(evidence, "certificate_violations")] == [0, 0]
    assert not any(m.unreliable for m in evidence.measures)
    assert of(evidence, "clean_accuracy")[0].value == 1
    by_group = [of(evidence, "certified_accuracy", {"side": g})[0] for g in "lr"]
    assert sum(m.n for m in by_group) == 400


def test_standard_deviations_and_fixed_columns():
    """With the second column fixed only the first moves, by epsilon standard deviations of it."""
    model, data = hyperplane()
    fixed = Feature(name="y", columns=(1,), low=0.0, high=1.0, immutable=True)
    data = Dataset(**{**vars(data), "features": (data.features[0], fixed)})
    evidence = measured(model, data, epsilon=[0.3], rows=None)
    step = 0.3 * data.inputs[:, 0].std()
    others = np.clip(data.inputs[:, :1] + [[-step, step]], 0, 1) + data.inputs[:, 1:]
    exact = ((others > 1) == data.labels[:, None].astype(bool)).all(1).mean()
    assert of(evidence, "certified_accuracy")[0].value == pytest.approx(exact, abs=1 / 400)
    assert any("immutable: y" in caveat for caveat in evidence.caveats)


def test_certified_below_attacked_below_clean_on_the_published_network(shared_data):
    net = fgsm_trained().eval()
    path = shared_data / "mnist" / "certified.pth"
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    held = np.load(shared_data / "mnist" / "mnist_test.npz")
    data = Dataset(
        inputs=(held["images"][:, None] / 255).astype(np.float32),
        labels=held["labels"].astype(np.int64),
        modality="image",
        classes=tuple("0123456789"),
    )
    model = Model(module=net, device=torch.device("cpu"), input_range=(0.0, 1.0), passes=Passes(batch=128))
    evidence = measured(model, data, epsilon=[0.1], rows=100, justification="As in the paper.")
    clean, held_, attacked = (
        of(evidence, name)[0].value for name in ("clean_accuracy", "certified_accuracy", "robust_accuracy")
    )
    assert 0.85 < held_ <= attacked <= clean
    assert of(evidence, "certificate_violations")[0].value == 0
    (figure,) = evidence.figures
    assert [line["name"] for line in figure.data["series"]] == ["certified", "under attack"]
    assert "Why these values of epsilon: As in the paper." in evidence.caveats
    assert any("CROWN" in caveat for caveat in evidence.caveats)


def test_a_false_certificate_is_told(monkeypatch):
    """Planted: bounds that certify every row. The attack fools some, so no number may count."""
    monkeypatch.setattr("audit.certify.bounds.margins", lambda net, box, labels, *_: torch.ones(len(labels)))
    model, data = hyperplane()
    evidence = measured(model, data, epsilon=[0.2], scale="input", rows=None)
    (violations,) = of(evidence, "certificate_violations")
    (attacked,) = of(evidence, "robust_accuracy")
    assert violations.value == round((1 - attacked.value) * 400) > 0
    for name in ("certified_accuracy", "robust_accuracy", "certificate_violations"):
        assert all("certified rows were fooled" in m.unreliable for m in of(evidence, name))
    assert "none of these numbers may be relied on" in evidence.caveats[0]


class Curved(nn.Module):
    """An operator that no bounds are known for."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)

    def forward(self, rows):
        return torch.tanh(self.first(rows))


def test_an_operator_that_is_not_covered_is_named():
    model, data = hyperplane(seeded(Curved))
    with pytest.raises(NotApplicable, match="'tanh' is not covered"):
        measured(model, data)


@pytest.mark.parametrize("bounds", ["ibp", "crown_ibp", "crown"])
def test_looser_bounds_are_said_to_be(bounds):
    model, data = hyperplane()
    evidence = measured(model, data, bounds=bounds, rows=50)
    assert any(
        {"ibp": "(IBP)", "crown_ibp": "(CROWN-IBP)", "crown": "(CROWN)"}[bounds] in c
        for c in evidence.caveats
    )
    assert "50 of 400 rows were looked at, drawn by the seed of the audit." in evidence.caveats


def test_the_check_says_what_it_needs():
    assert isinstance(certified, Check)
    assert certified.needs == {"logits", "gradients"}
    assert certified.asks == ("model", "data", "adversaries")

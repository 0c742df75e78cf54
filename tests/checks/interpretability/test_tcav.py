"""TCAV as evidence: a concept that decides, one that does not, groups as concepts, refusals."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.interpretability.tcav import chance_share, tcav
from audit.dataset import Dataset, Sensitive
from audit.errors import LoadError, NotApplicable, NotEvaluable
from audit.model import Model
from audit.products.attributions import attributions


def data_and_network(**fields):
    """Log-odds of `yes` rise with column 0 and ignore column 2; members of group `a` have a high column 0."""
    inputs = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    network = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(5) * 0.5)
        network[2].weight.zero_()
        network[2].weight[1] = torch.tensor([3.0, 0.0, 0.0, 2.0, -2.0])
        network[2].bias.zero_()
    codes = (inputs[:, 0] < 0.5).astype(np.int64)
    data = Dataset(
        inputs=inputs,
        labels=np.zeros(400, dtype=np.int64),
        modality="tabular",
        classes=("no", "yes"),
        **{
            "favourable": 1,
            "sensitive": {"group": Sensitive(name="group", groups=("a", "b"), codes=codes)},
            **fields,
        },
    )
    return data, network.eval()


def measured(folder, pair=None, **settings):
    data, network = pair or data_and_network()
    model = Model(module=network, device=torch.device("cpu"))
    return tcav.measure(model, data, attributions(model, data, 0), 0, folder, **tcav.settings(settings))


def scores(found):
    return {item.group["concept"]: item for item in found.measures if item.name == "tcav_score"}


def test_groups_are_the_concepts_where_none_are_given(tmp_path):
    found = scores(measured(tmp_path, rows=100))
    assert found["group = a"].value == 1
    assert found["group = b"].value == 0
    assert not found["group = a"].unreliable
    assert found["group = a"].group["class"] == "yes"
    assert found["group = a"].statistics == {"x": 100, "n": 100}


def test_a_concept_made_of_noise_is_not_to_be_relied_on(tmp_path):
    random = np.random.default_rng(5)
    np.savez(tmp_path / "noise.npz", inputs=random.normal(size=(80, 5)).astype(np.float32))
    high = random.normal(size=(80, 5)).astype(np.float32)
    high[:, 0] += 3
    np.savez(tmp_path / "high.npz", inputs=high)
    found = measured(tmp_path, rows=100, concepts={"noise": "noise.npz", "high": "high.npz"})
    known = scores(found)
    assert "does not tell" in known["noise"].unreliable
    assert not known["high"].unreliable
    assert known["high"].value == 1
    conclusion = {row[0]: row[-1] for row in found.tables[0].rows}
    assert conclusion["high"] == "differs"
    assert len(found.tables[0].columns) == len(found.tables[0].rows[0])


def test_random_concepts_as_strong_in_either_direction_are_counted():
    chance = np.array([0.0, -0.9, 0.9, 0.1])
    assert chance_share(0.9, chance) == 3 / 5
    assert chance_share(-1.0, chance) == 1 / 5
    assert chance_share(0.0, chance) == 1.0


def test_each_predicted_class_has_its_own_score_where_no_outcome_is_favourable(tmp_path):
    found = measured(tmp_path, data_and_network(favourable=None), rows=200)
    groups = {tuple(item.group.values()): item.value for item in found.measures if item.name == "tcav_score"}
    assert groups[("group = a", "yes")] == 1
    assert groups[("group = a", "no")] == 0


def test_without_concepts_or_groups_it_does_not_apply(tmp_path):
    with pytest.raises(NotApplicable, match="no concepts are given"):
        measured(tmp_path, data_and_network(sensitive={}))


def test_concepts_that_cannot_be_used_are_named(tmp_path):
    np.savez(tmp_path / "few.npz", inputs=np.zeros((3, 5), dtype=np.float32))
    np.savez(tmp_path / "wide.npz", inputs=np.zeros((30, 6), dtype=np.float32))
    np.savez(tmp_path / "empty.npz", others=np.zeros(3))
    np.savez(tmp_path / "objects.npz", inputs=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(NotEvaluable, match="'c' has 3 examples"):
        measured(tmp_path, concepts={"c": "few.npz"})
    for name in ("wide", "empty", "objects", "text", "absent"):
        with pytest.raises(LoadError, match=f"{name}.npz"):
            measured(tmp_path, concepts={"c": f"{name}.npz"})

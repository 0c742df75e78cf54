"""The attack of Slack et al.: found where it is planted, and not where a model is honest."""

import tracemalloc

import numpy as np
import pytest
import torch
from scaffold import OneColumn, Scaffolded
from torch import nn

from audit.dataset import Dataset, Feature, sample_rows
from audit.model import Model
from audit.stats import mean
from audit.trust.scaffolding import Asked, leads, nearest_donors, off_manifold, perturbed

OWNER = np.array([0, 1, 2, 3, 4, 5, 6])


def people(rows=800, seed=0):
    """Sex and luck are coins; five columns lie close to a plane."""
    random = np.random.default_rng(seed)
    plane = random.normal(size=(rows, 2)) @ random.normal(size=(2, 5)) + 0.1 * random.normal(size=(rows, 5))
    coins = random.integers(2, size=(rows, 2)) * 2.0 - 1
    names = ("sex", "luck", "a", "b", "c", "d", "e")
    return Dataset(
        inputs=np.column_stack([coins, plane]).astype(np.float32),
        labels=(coins[:, 0] > 0).astype(np.int64),
        modality="tabular",
        classes=("no", "yes"),
        features=tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(names)),
    )


def asked(network, data, rows=64):
    model = Model(module=network.eval(), device=torch.device("cpu"))
    index = sample_rows(data, rows, 0)
    classes = model.predict(data.inputs[index]).argmax(dim=1)
    return Asked(model, data, index, classes, OWNER, "log_odds")


def low(values):
    return mean("lead", values.tolist()).low


def mlp(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def test_a_scaffolded_model_leads_with_another_feature_on_made_up_rows():
    data = people()
    network = Scaffolded(OneColumn(0), OneColumn(1), torch.from_numpy(data.inputs))
    found = leads(asked(network, data))["lime"]
    assert (found.on, found.off) == (0, 1)
    assert low(found.on_lead) > 0.5
    assert low(found.off_lead) > 0.3
    assert len(found.on_lead) == 32


@pytest.mark.parametrize("seed", range(4))
def test_honest_networks_do_not(seed):
    for found in leads(asked(mlp(seed), people())).values():
        assert found.on == found.off or low(found.on_lead) < 0.1 or low(found.off_lead) < 0.1


@pytest.mark.parametrize("network", [OneColumn(0), OneColumn(3), nn.Linear(7, 2)])
def test_a_model_that_adds_up_reacts_the_same_everywhere(network):
    for found in leads(asked(network, people())).values():
        assert found.on == found.off
        assert found.on_lead == pytest.approx(0)


def test_a_constant_model_has_no_lead():
    network = nn.Linear(7, 2)
    nn.init.zeros_(network.weight)
    for found in leads(asked(network, people())).values():
        assert (len(found.on_lead), found.left_out) == (0, 64)


def test_passes_are_as_stated():
    question = asked(OneColumn(0), people(), rows=20)
    before = question.model.passes.forward
    leads(question, draws=3, neighbours=2)
    assert question.model.passes.forward - before == 20 * 7 * (2 + 1) * (1 + 2 * 3)


def test_donors_are_the_nearest_rows_that_differ_in_the_feature():
    data = people(60)
    flat, index = data.inputs, np.array([0, 7, 31])
    found = nearest_donors(flat, index, OWNER, 2, 0)
    scaled = flat / flat.std(axis=0, dtype=np.float64)
    for position, row in enumerate(index):
        for feature in range(7):
            others = np.delete(np.arange(7), feature)
            distance = {
                other: ((scaled[row, others] - scaled[other, others]) ** 2).sum()
                for other in range(60)
                if abs(flat[row, feature] - flat[other, feature]) > 1e-3
            }
            assert found[position, feature].tolist() == sorted(distance, key=distance.get)[:2]


def test_a_feature_that_never_differs_has_no_donor():
    data = people(60)
    flat = data.inputs.copy()
    flat[:, 4] = 2
    found = nearest_donors(flat, np.array([3, 5]), OWNER, 3, 0)
    assert found[:, 4].tolist() == [[3] * 3, [5] * 3]


@pytest.mark.parametrize("kind", ["lime", "shap"])
def test_perturbed_rows_depend_on_the_seed_alone(kind):
    data = people()
    one, same, other = (perturbed(data, data.inputs[:5], OWNER, kind, 6, seed) for seed in (1, 1, 2))
    assert one.shape == (5, 6, 7)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    if kind == "shap":
        columns = [set(column.tolist()) for column in data.inputs.T]
        assert all(value in columns[j] for row in one.reshape(-1, 7) for j, value in enumerate(row.tolist()))


def test_rows_far_from_the_data_are_counted():
    flat = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    assert off_manifold(flat, flat[:40] + np.float32(50), 0) == (40, 40)
    far, count = off_manifold(flat, flat[:200], 0, pool=1000)
    assert (far, count) == (0, 200)
    fresh = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    assert off_manifold(flat, fresh, 0)[0] / 400 == pytest.approx(0.05, abs=0.04)


def test_donors_of_wide_tables_are_found_in_bounded_memory():
    """Distances [n, pool] of one feature at a time; all columns at once would take 410 MB here."""
    flat = np.random.default_rng(0).normal(size=(2000, 400)).astype(np.float32)
    tracemalloc.start()
    try:
        nearest_donors(flat, np.arange(64), np.arange(400), 2, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6


class Jagged(nn.Module):
    """Seven columns that do the same, each at another pace in every row: none leads but by chance."""

    def forward(self, rows):
        together = 30 * rows.sum(dim=1, keepdim=True)
        found = torch.sin(40 * rows + together + torch.arange(7)).sum(dim=1)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def test_being_chosen_does_not_make_a_feature_lead():
    """Compared on the rows that chose it, the feature of the largest share would lead every time."""
    on, off = [], []
    for seed in range(10):
        random = np.random.default_rng(seed)
        inputs = random.normal(size=(200, 7)).astype(np.float32)
        data = Dataset(
            inputs=inputs, labels=np.zeros(200, np.int64), modality="tabular", classes=("no", "yes")
        )
        found = leads(asked(Jagged(), data, rows=16), draws=1, seed=seed)["lime"]
        on.append(found.on_lead.mean())
        off.append(found.off_lead.mean())
    for values in (on, off):
        assert abs(np.mean(values)) < 3 * np.std(values, ddof=1) / 10**0.5

"""Conformal sets on rows whose truth is known: kept where nothing shifts, broken where something does."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.reliability.conformal import conformal
from audit.dataset import Dataset, Sensitive
from audit.errors import NotEvaluable
from audit.model import Model
from audit.products.predictions import predictions
from audit.record import plain
from audit.reliability.conformal import halves
from audit.stats import METHODS


def model():
    return Model(module=nn.Identity(), device=torch.device("cpu"), classes=("a", "b", "c", "d"))


def population(rows=4000, seed=0, noisy_group=0.0):
    """Labels drawn from softmax(logits); a share of the labels of group B are drawn blindly."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2.5, (rows, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.random((rows, 1)) < shares.cumsum(axis=1)).argmax(axis=1)
    code = (random.random(rows) < 0.3).astype(np.int64)
    blind = (code == 1) & (random.random(rows) < noisy_group)
    labels = np.where(blind, random.integers(0, 4, rows), labels)
    return Dataset(
        inputs=logits.astype(np.float32), labels=labels, modality="tabular", classes=("a", "b", "c", "d"),
        sensitive={"g": Sensitive(name="g", groups=("A", "B"), codes=code)},
    )  # fmt: skip


def run(data, seed=1, **settings):
    network = model()
    return conformal.measure(network, data, predictions(network, data), seed, **conformal.settings(settings))


def only(evidence, name, group=None, **where):
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and dict(m.settings) == where
    ]  # fmt: skip
    return found


@pytest.mark.parametrize("method", ["LAC", "APS"])
def test_exchangeable_rows_keep_the_promise_and_a_shift_breaks_it(method):
    evidence = run(population())
    kept = only(evidence, "coverage", method=method)
    assert kept.low - 0.02 < 0.9 < kept.high + 0.02
    where = {"method": method, "corruption": "numeric_noise", "severity": 5}
    broken = only(evidence, "coverage", **where)
    assert broken.high < 0.86
    assert only(evidence, "coverage_difference", **where).high < -0.03
    assert only(evidence, "coverage_difference", method=method, feature="g").low == 0


def test_the_shift_is_the_finding():
    assert run(population()).figures[0].title.startswith("The promised coverage of 0.9 is missed (")
    assert "numeric_noise, severity 5" in run(population()).figures[0].title


def test_false_alarms_are_as_rare_as_chance_allows():
    missed = 0
    for seed in range(40):
        evidence = run(population(1000, seed), seed=seed, severities=[1])
        missed += only(evidence, "coverage", method="LAC").high < 0.9
    assert missed <= 8


def test_coverage_and_size_restated_slowly():
    data = population(301)
    evidence = run(data, seed=5, alpha=0.2)
    shares = torch.tensor(data.inputs).double().softmax(dim=1).numpy()
    first, second = halves(301, 5)
    losses = sorted(1 - shares[i, data.labels[i]] for i in first)
    at = losses[int(np.ceil(151 * 0.8)) - 1]
    chosen = [[c for c in range(4) if 1 - shares[i, c] <= at + 1e-9] for i in second]
    held = [data.labels[i] in found for i, found in zip(second, chosen, strict=True)]
    coverage = only(evidence, "coverage", method="LAC")
    assert (coverage.statistics["x"], coverage.n) == (sum(held), 151)
    size = only(evidence, "mean_set_size", method="LAC")
    assert size.value == pytest.approx(np.mean([len(found) for found in chosen]))
    for index, name in enumerate(data.classes):
        mine = [h for h, i in zip(held, second, strict=True) if data.labels[i] == index]
        found = only(evidence, "coverage", {"class": name}, method="LAC")
        assert (found.statistics["x"], found.n) == (sum(mine), len(mine))


def test_a_group_for_which_the_promise_fails_is_found():
    evidence = run(population(noisy_group=0.5), severities=[1])
    assert only(evidence, "coverage", method="LAC").low > 0.85
    assert only(evidence, "coverage", {"g": "B"}, method="LAC").high < 0.85
    assert only(evidence, "coverage_difference", method="LAC", feature="g").low > 0.05


def test_every_number_can_be_derived_again_and_small_groups_are_not_judged():
    evidence = run(population(300))
    for item in evidence.measures:
        if item.method:
            assert METHODS[item.method](plain(item.statistics), 0.95) == (item.value, item.low, item.high)
    small = only(evidence, "coverage", {"class": "a"}, method="LAC")
    assert "fewer than the floor of 50" in small.too_few
    assert only(evidence, "coverage", method="LAC").too_few == ""


def test_sets_of_one_size_have_no_interval():
    data = population(400)
    labels = data.inputs.argmax(axis=1).astype(np.int64)
    sure = Dataset(**{**vars(data), "labels": labels, "inputs": (np.eye(4) * 50)[labels].astype(np.float32)})
    found = only(run(sure, severities=[1]), "mean_set_size", method="LAC")
    assert (found.value, found.low, found.high) == (1, None, None)


def test_the_chance_in_the_calibration_half_is_told_and_too_few_rows_refused():
    assert "Beta(1801, 200)" in run(population(), severities=[1]).caveats[0]
    with pytest.raises(NotEvaluable, match="5 rows to calibrate on are too few"):
        run(population(10))

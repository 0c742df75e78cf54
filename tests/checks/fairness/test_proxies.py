"""A planted proxy must come first; an input drawn at random must not be named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.fairness.proxies import proxies
from audit.dataset import Dataset, Feature, Sensitive
from audit.demo import applicants
from audit.errors import NotApplicable, NotEvaluable
from audit.measure import measure, set_up
from audit.model import Model
from audit.products.attributions import attributions
from audit.registry import installed_products

NAMES = ("income", "debt_ratio", "years_in_work", "late_payments", "district")


def sensitive(**columns):
    found = {}
    for name, values in columns.items():
        levels = sorted(set(values), key=lambda v: (v == "unknown", v))
        codes = np.array([levels.index(v) for v in values], np.int64)
        found[name] = Sensitive(name=name, groups=tuple(levels), codes=codes)
    return found


def dataset(inputs, names, **columns):
    features = tuple(Feature(name=name, columns=(index,)) for index, name in enumerate(names))
    return Dataset(
        inputs=np.asarray(inputs, np.float32), labels=np.zeros(len(inputs), np.int64), modality="tabular",
        classes=("no", "yes"), favourable=1, features=features, sensitive=sensitive(**columns),
    )  # fmt: skip


def linear(weights):
    layer = nn.Linear(len(weights), 2)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[0.0] * len(weights), weights])
        layer.bias[:] = 0
    return Model(module=layer.eval(), device=torch.device("cpu"), classes=("no", "yes"))


def run(data, weights=None, **settings):
    model = linear(weights or [1.0] * data.inputs.shape[1])
    return proxies.measure(data, attributions(model, data, 3), 3, **proxies.settings(settings))


def only(evidence, name, **settings):
    (found,) = [m for m in evidence.measures if m.name == name and settings.items() <= m.settings.items()]
    return found


@pytest.fixture(scope="module")
def demo():
    people = applicants(3000, seed=7)
    return dataset(people.inputs, NAMES, origin=people.origin, sex=people.sex)


@pytest.fixture(scope="module")
def found(demo):
    return run(demo, [0.02, -3.0, 0.03, -0.4, -0.8])


def test_the_planted_proxy_comes_first(found):
    first = next(m for m in found.measures if m.name == "association")
    assert first.settings == {"feature": "district", "attribute": "origin"}
    assert first.low > 0.5
    assert found.tables[0].rows[0][:2] == ["district", "origin"]
    assert found.tables[0].rows[0][-1] == "yes"
    assert any("'district' goes along with 'origin'" in caveat for caveat in found.caveats)


def test_clean_inputs_are_not_named(found):
    assert [row[-1] for row in found.tables[0].rows] == ["yes"] + ["no"] * 9
    assert sum(m.low > 0 for m in found.measures if m.name == "association") <= 2


def test_the_attribute_is_guessed_better_than_by_the_majority_only_where_it_is_planted(found):
    assert only(found, "attribute_accuracy", attribute="origin").low > 0.8
    assert only(found, "attribute_accuracy_gain", attribute="origin").low > 0.1
    assert only(found, "attribute_accuracy_gain", attribute="sex").low < 0
    gain = only(found, "attribute_accuracy_gain", attribute="origin").value
    parts = [
        only(found, name, attribute="origin").value
        for name in ("attribute_accuracy", "attribute_majority_rate")
    ]
    assert gain == pytest.approx(parts[0] - parts[1])


def test_random_inputs_are_not_named_over_many_draws():
    named = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        data = dataset(random.normal(size=(500, 4)), "abcd", g=random.choice(["x", "y", "z"], 500))
        rows = run(data, rows=500).tables[0].rows
        named += any(row[-1] == "yes" for row in rows)
    assert named <= 1


def test_reliance_is_the_share_of_the_attributions():
    """A linear model over independent inputs of equal spread: weights 3, 1 and 0."""
    random = np.random.default_rng(0)
    data = dataset(random.normal(size=(400, 3)), "abc", g=random.choice(["x", "y"], 400))
    evidence = run(data, [3.0, 1.0, 0.0])
    shares = {m.settings["feature"]: m for m in evidence.measures if m.name == "reliance"}
    assert sum(m.value for m in shares.values()) == pytest.approx(1)
    assert shares["a"].low > 0.6
    assert shares["c"].value == pytest.approx(0, abs=1e-6)


def test_without_attributions_the_association_is_still_measured(demo):
    class Refused:
        def of(self, method):
            raise NotApplicable("the model does not fit")

    evidence = proxies.measure(demo, Refused(), 3, **proxies.settings({}))
    assert not [m for m in evidence.measures if m.name == "reliance"]
    assert evidence.tables[0].rows[0][:2] == ["district", "origin"]
    assert any("could not be measured (kernel_shap: the model does not fit" in c for c in evidence.caveats)


def test_a_relation_that_is_not_monotone_is_found():
    random = np.random.default_rng(2)
    x = random.normal(size=2000)
    data = dataset(np.stack([x, random.normal(size=2000)], 1), "xz", g=np.where(abs(x) > 0.7, "far", "near"))
    assert run(data).tables[0].rows[0][0] == "x"


def test_the_attribute_itself_is_no_proxy_and_does_not_guess_itself():
    random = np.random.default_rng(4)
    codes = random.integers(0, 2, 600)
    inputs = np.stack([codes, random.normal(size=600)], 1)
    evidence = run(dataset(inputs, ("sex", "x"), sex=np.where(codes == 1, "M", "F")))
    assert evidence.tables[0].rows[0][-1] == "it is the attribute"
    assert only(evidence, "attribute_accuracy", attribute="sex").value < 0.6


def test_a_one_hot_group_is_one_input():
    random = np.random.default_rng(5)
    place = random.integers(0, 3, 900)
    inputs = np.concatenate([np.eye(3)[place], random.normal(size=(900, 1))], axis=1)
    base = dataset(inputs, "abcd", g=np.where(place == 2, "x", "y"))
    features = (
        Feature(name="region", kind="categorical", columns=(0, 1, 2)),
        Feature(name="z", columns=(3,)),
    )
    data = Dataset(**{**vars(base), "features": features})
    first = next(m for m in run(data).measures if m.name == "association")
    assert first.settings["feature"] == "region"
    assert first.value == pytest.approx(1, abs=0.01)


def test_a_constant_input_has_no_association():
    random = np.random.default_rng(6)
    inputs = np.stack([np.ones(300), random.normal(size=300)], 1)
    item = only(run(dataset(inputs, "ab", g=random.choice(["x", "y"], 300))), "association", feature="a")
    assert item.value is None
    assert "one value in all 300 rows" in item.reason


def test_unknown_and_small_groups_are_left_out():
    values = ["x"] * 200 + ["y"] * 200 + ["unknown"] * 100 + ["z"] * 3
    inputs = np.random.default_rng(7).normal(size=(503, 2))
    inputs[400:500] += 9
    evidence = run(dataset(inputs, "ab", g=values))
    assert only(evidence, "association", feature="a").n == 400
    assert only(evidence, "association", feature="a").value < 0.25


def test_it_needs_two_groups():
    data = dataset(np.zeros((50, 1)), "a", g=["x"] * 45 + ["y"] * 5)
    with pytest.raises(NotEvaluable, match="no sensitive feature has two known groups of 20 rows"):
        run(data)
    with pytest.raises(NotApplicable, match="names no sensitive feature"):
        run(dataset(np.zeros((50, 1)), "a"))


def priced(inputs, names, weights, **columns):
    """A regression whose target is the model's own answer, and the model."""
    data = dataset(inputs, names, **columns)
    layer = nn.Linear(len(weights), 1)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([weights])
        layer.bias[:] = 0
    known = {key: value for key, value in vars(data).items() if key != "labels"}
    targets = (data.inputs @ np.asarray(weights)).astype(np.float64)
    data = Dataset(**{**known, "classes": (), "favourable": None, "targets": targets})
    model = Model(module=layer.eval(), device=torch.device("cpu"), task="regression", output="values")
    return data, model


def test_a_model_that_predicts_a_number_is_looked_at_and_a_plant_is_found(demo):
    people = applicants(3000, seed=7)
    data, model = priced(people.inputs, NAMES, [0.02, -3.0, 0.03, -0.4, -0.8], origin=people.origin)
    bench = set_up(model, data, 3, installed_products())
    finding = measure(proxies, proxies.settings({}), bench, None)
    assert finding.status == "measured", finding.reason
    assert finding.tables[0].rows[0][:2] == ["district", "origin"]
    assert finding.tables[0].rows[0][-1] == "yes"
    assert [row[-1] for row in finding.tables[0].rows[1:]] == ["no"] * 4
    asked = {m.settings["feature"]: m.value for m in finding.measures if m.name == "association"}
    same = {
        m.settings["feature"]: m.value
        for m in run(demo).measures if m.name == "association" and m.settings["attribute"] == "origin"
    }  # fmt: skip
    assert asked == pytest.approx(same)
    reliance = [m for m in finding.measures if m.name == "reliance"]
    alone = [text for text in finding.caveats if text.endswith("so the associations stand alone.")]
    assert bool(alone) != bool(reliance)


def test_log_odds_of_a_model_that_predicts_numbers_are_no_reliance():
    """Two outputs of a regression are no classes, so what explains a class says nothing about them."""
    random = np.random.default_rng(0)
    data, _ = priced(random.normal(size=(300, 2)), "ab", [1.0, 2.0], g=random.choice(["x", "y"], 300))
    evidence = proxies.measure(data, attributions(linear([1.0, 2.0]), data, 3), 3, **proxies.settings({}))
    assert not [m for m in evidence.measures if m.name == "reliance"]
    assert "this explains a log-odds" in evidence.caveats[-1]


def test_attributions_of_the_predicted_number_are_used_where_there_are_some():
    class InUnits:
        def __init__(self, found):
            self.found = found

        def of(self, method):
            return replace(self.found.of(method), unit="kWh")

    random = np.random.default_rng(0)
    data, _ = priced(random.normal(size=(300, 2)), "ab", [1.0, 3.0], g=random.choice(["x", "y"], 300))
    explained = InUnits(attributions(linear([1.0, 3.0]), data, 3))
    evidence = proxies.measure(data, explained, 3, **proxies.settings({}))
    shares = {m.settings["feature"]: m.value for m in evidence.measures if m.name == "reliance"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["b"] > 0.6


def test_guessing_the_largest_group_for_everybody_is_no_certainty():
    """No gain for any of 120 people, 25 of the small group: 120 people do not show that it is 0 exactly."""
    random = np.random.default_rng(2)
    data = dataset(random.normal(size=(120, 1)), ["noise"], origin=["a"] * 95 + ["b"] * 25)
    gain = only(run(data), "attribute_accuracy_gain", attribute="origin")
    assert gain.value == 0
    assert gain.low < -0.05
    assert gain.high > 0.05
